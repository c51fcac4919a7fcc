"""Data that are read sample by sample: image folders, WebDataset shards, Hugging Face's sets, and tables of texts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from tempadvisor.errors import InputError
from tempadvisor.files import check_regular
from tempadvisor.folders import listed
from tempadvisor.images import decoded
from tempadvisor.inputs import Inputs, of_pictures
from tempadvisor.shards import is_shards, samples

_MOST_BYTES = 1 << 30  # of a table of texts
_FORM = "Give a CSV with the columns text and label."


def collected(name: str) -> Inputs | None:
    """Return what `name` names, an official test split left out; None where it is no data of this kind.

    Raises:
        InputError: it is, but broken.
    """
    path = Path(name)
    if name.startswith("hfds/"):
        from tempadvisor.sources import hub_set

        return hub_set(name)
    if is_shards(name):
        return _shards(name)
    if path.suffix.lower() == ".csv":
        return _texts(path)
    if path.is_dir() and not any(path.glob("*idx3-ubyte*")):
        return _folder(path)
    return None


def _folder(path: Path) -> Inputs:
    found = listed(path)
    return Inputs(
        name=path.name,
        labels=torch.tensor(found.labels[: found.test_start]),
        n_classes=len(found.classes),
        shape=_shape(found.files[0], str(found.files[0])),
        read=of_pictures(lambda row: (found.files[row], str(found.files[row]))),
        class_names=found.classes,
    )


def _shards(name: str) -> Inputs:
    found = samples(name)
    labels = torch.tensor([sample.label for sample in found])
    return Inputs(
        name=Path(name).name,
        labels=labels,
        n_classes=int(labels.max()) + 1,
        shape=_shape(found[0].image.read(), found[0].name),
        read=of_pictures(lambda row: (found[row].image.read(), found[row].name)),
    )


def _shape(source: bytes | Path, where: str) -> tuple[int, int, int]:
    channels, height, width = decoded(source, where).shape
    return channels, height, width


def _texts(path: Path) -> Inputs:
    """Read a table of texts with labels, which are class numbers, or names taken in their alphabetical order."""
    if check_regular(path, "a table of texts") > _MOST_BYTES:
        raise InputError(f"{path} must be at most {_MOST_BYTES >> 20} MiB of texts. It is larger.", code="too_large")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["text"], row["label"].strip()) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        raise InputError(f"{path} must be a table of texts. Its content is none. {_FORM}", code="bad_data") from None
    if not rows or not all(label for _, label in rows):
        raise InputError(f"{path} must have a label for each text. {_FORM}", code="bad_data")
    texts, said = zip(*rows, strict=True)
    numbered = all(label.isdecimal() and len(label) < 7 for label in said)
    names = None if numbered else tuple(sorted(set(said)))
    numbers = [int(label) for label in said] if names is None else [names.index(label) for label in said]

    def read(wanted: Sequence[int], _: object) -> list[str]:
        return [texts[row] for row in wanted]

    n_classes = max(numbers) + 1
    return Inputs(
        name=path.name, labels=torch.tensor(numbers), n_classes=n_classes, shape=None, read=read, class_names=names
    )
