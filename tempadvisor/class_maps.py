"""Class maps: which output of a teacher stands for which class of the data.

A teacher may know more classes than the data, or in another order; students learn the classes of the data, so the
teacher's logits are brought to these before anything is measured. Where no map is given and the labels contradict
the outputs, `gate.py` finds one, and `proposed` writes it for the user to look at.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tempadvisor.documents import write_text
from tempadvisor.errors import InputError, did_you_mean
from tempadvisor.files import check_regular

_MOST_BYTES = 1 << 24
_FORMS = "Give lines 'class,output', one class per line in the order of the outputs, or a JSON object of both."


def read_class_map(path: Path, class_names: Sequence[str] | None) -> tuple[int, ...]:
    """Return the output of the teacher that stands for each class of the data, in the order of its labels.

    Args:
        path: lines `class,output` (CSV, with or without that header); one class per line in the order of the
            teacher's outputs, as timm's class maps; or a JSON object {class: output} or {output: class}, as
            `label2id` and `id2label` of Hugging Face.
        class_names: of the data; None if its classes are the numbers 0 to K - 1.

    Raises:
        InputError: it cannot be read so, lacks a class, or names an output twice.
    """
    outputs = _outputs(path)
    if class_names is None:
        names = sorted(outputs, key=lambda name: (len(name), name))
        if names != [str(number) for number in range(len(names))]:
            raise InputError(
                f"{path} must map the classes 0 to K - 1, as the data has no names for them. "
                f"Got {did_you_mean('0', names)[:100]}",
                code="bad_class_map",
            )
        class_names = names
    for name in class_names:
        if name not in outputs:
            raise InputError(
                f"{path} must map every class of the data. It lacks {name[:100]}. "
                f"{did_you_mean(name, outputs)[:200]}",
                code="bad_class_map",
            )
    columns = tuple(outputs[name] for name in class_names)
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise InputError(
            f"{path} must give each class an output of its own. Got output {twice} twice.", code="bad_class_map"
        )
    return columns


def _outputs(path: Path) -> dict[str, int]:
    """Return the outputs by the name of their class, as a file has them."""
    if check_regular(path, "a class map") > _MOST_BYTES:
        raise InputError(
            f"{path} must be a class map of at most {_MOST_BYTES >> 20} MiB. It is larger. {_FORMS}",
            code="bad_class_map",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = _of_json(json.loads(text)) if path.suffix.lower() == ".json" else _of_lines(text)
    except (OSError, ValueError, TypeError, RecursionError, csv.Error):
        found = {}
    if len(found) < 2 or not all(0 <= output < 1_000_000 for output in found.values()):
        raise InputError(f"{path} must be a class map. Its content is none. {_FORMS}", code="bad_class_map")
    return found


def _of_json(content: Any) -> dict[str, int]:
    if isinstance(content, list):
        content = {name: output for output, name in enumerate(content)}
    if not isinstance(content, Mapping):
        raise TypeError(content)
    if all(isinstance(output, int) for output in content.values()):
        return {str(name): output for name, output in content.items()}
    if not all(isinstance(name, str) for name in content.values()):
        raise TypeError(content)
    return _unique([(name, int(output)) for output, name in content.items()])


def _of_lines(text: str) -> dict[str, int]:
    if "\0" in text:
        raise ValueError("binary")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    body = rows[1:] if rows and [cell.strip().lower() for cell in rows[0]] == ["class", "output"] else rows
    if body and all(len(row) == 2 and row[1].strip().isdecimal() for row in body):
        return _unique([(row[0], int(row[1])) for row in body])
    return _unique([(line.strip(), output) for output, line in enumerate(text.splitlines()) if line.strip()])


def _unique(pairs: list[tuple[str, int]]) -> dict[str, int]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a class twice")
    return dict(pairs)


def proposed(columns: Sequence[int], class_names: Sequence[str] | None, folder: Path) -> Path:
    """Write a class map and return its path, the same for the same map.

    Args:
        columns: the output of each class, up to the last one seen; a class beyond gets its own or the first left.
        class_names: of the data; numbers where there are none.
        folder: where it is written.
    """
    names = class_names or [str(label) for label in range(len(columns))]
    columns = list(columns)
    for label in range(len(columns), len(names)):
        left = (output for output in itertools.chain([label], itertools.count()) if output not in columns)
        columns.append(next(left))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("class", "output"), *zip(names, columns, strict=True)])
    stamp = hashlib.sha256(text.getvalue().encode(errors="surrogateescape")).hexdigest()[:8]
    path = folder / f"class-map-{stamp}.csv"
    write_text(path, text.getvalue())
    return path
