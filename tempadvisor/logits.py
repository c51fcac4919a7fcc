"""Where stored logits lie, and how to read any of their rows without loading the file.

`open_logits` opens `.npy`, `.npz`, `.safetensors` and `.csv`; the first three are memory-mapped, a CSV file is
indexed by line. Nothing is ever unpickled. What the numbers mean is not judged here: `gate.py` does that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tempadvisor.arrays import Array, Stored, npy_array, npz_arrays, safetensors_arrays
from tempadvisor.errors import InputError, OutOfScopeError, did_you_mean
from tempadvisor.files import check_regular

Rows = npt.NDArray[np.int64]

SUFFIXES = (".npz", ".npy", ".safetensors", ".csv")
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_LABEL_NAMES = ("labels", "label")
_LABEL_COLUMNS = (*_LABEL_NAMES, "target", "targets", "class", "y", "gt")  # of a CSV, in any case
_INDEX_COLUMNS = ("", "index", "id", "unnamed: 0")
_JUDGED_ROWS = 64  # of a CSV, to tell a column of labels or row numbers from logits
_TAKE = "Save them with np.savez(path, logits=logits, labels=labels)."


@dataclasses.dataclass(frozen=True, slots=True)
class StoredLogits:
    """Give random access to stored logits of shape (n_samples, n_classes) and their labels, where known.

    >>> stored = from_arrays(np.array([[1.0, 2.0], [3.0, 4.0]]), [0, 1])
    >>> stored.read(np.array([1, 0]))
    array([[1., 2.],
           [3., 4.]])
    """

    where: str
    n_samples: int
    n_classes: int
    labels: Rows | None
    _read: Callable[[Rows], Array]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what a safetensors file says of itself

    def read(self, rows: Rows) -> Array:
        """Return the logits of `rows`, in file order (ascending), as a float32 or float64 block (len(rows), C)."""
        return self._read(np.sort(rows))

    def with_labels(self, labels: Any, *, where: str = "labels") -> StoredLogits:
        """Return the same logits with other labels (N,).

        Raises:
            InputError: labels that are not N whole numbers.
            OutOfScopeError: several labels a sample.
        """
        return dataclasses.replace(self, labels=_labels(np.asarray(labels), self.n_samples, where))


def open_logits(path: str | Path) -> StoredLogits:
    """Open a logits file: `logits` (N, C) and, if known, `labels` (N,).

    Args:
        path: `.npz` or `.safetensors` with these names, `.npy` with the logits alone, or `.csv` with one row a
            sample, an optional header and an optional column named label or labels.

    Raises:
        InputError: the file is missing, empty, truncated, pickled or holds something else.
        OutOfScopeError: the logits have more than two dimensions, or a sample has several labels.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"{path} must be a logits file. It is a directory. Name the file inside it.", code="directory"
        )
    if not path.exists():
        raise InputError(f"{path} must exist. There is no such file. Check the path.", code="missing_file")
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise InputError(
            f"{path} must not be a pickle: a {suffix} file is never loaded as logits, since it can run code. {_TAKE}",
            code="pickled",
        )
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path} must be one of {', '.join(SUFFIXES)}. Got {suffix or 'no suffix'}. {_TAKE}",
            code="unsupported_file",
        )
    try:
        check_regular(path, "a file of logits")
        return _OPENERS[suffix](path)
    except OSError as error:
        raise InputError(
            f"{path} must be readable. Got {error.strerror or error}. Check its permissions.", code="unreadable"
        ) from None


def from_arrays(logits: Any, labels: Any = None, *, where: str = "logits") -> StoredLogits:
    """Return arrays in memory as `StoredLogits`.

    Args:
        logits: (N, C) floating-point array; a torch tensor in main memory will do.
        labels: (N,) whole numbers, or None.

    Raises:
        InputError: not a two-dimensional array of floating-point numbers.
        OutOfScopeError: more than two dimensions, or several labels a sample.
    """
    return _stored(np.asarray(logits), None if labels is None else np.asarray(labels), where)


def _stored(logits: Array, labels: Array | None, where: str, *, bfloat16: bool = False) -> StoredLogits:
    check_shape(logits.shape, where)
    if not bfloat16 and logits.dtype.kind != "f":
        raise InputError(
            f"logits must be floating-point numbers. Got {logits.dtype} ({where}). "
            "Take the outputs of the last layer, before softmax, argmax or quantization.",
            code="not_float",
        )

    def read(rows: Rows) -> Array:
        adjacent = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
        block = logits[rows[0] : rows[-1] + 1] if adjacent else logits[rows]
        if bfloat16:
            return (block.astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(block, np.float64 if block.dtype.itemsize >= 8 else np.float32)

    n_samples, n_classes = logits.shape
    checked = None if labels is None else _labels(labels, n_samples, where)
    return StoredLogits(where, n_samples, n_classes, checked, read)


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Check that logits are (N, C).

    Raises:
        InputError: fewer than two dimensions.
        OutOfScopeError: more than two.
    """
    if len(shape) > 2:
        raise OutOfScopeError(
            f"logits must be (samples, classes). Got shape {shape} ({where}): segmentation, detection and "
            "sequence models are out of scope. Give one row of class logits a sample.",
            code="not_classification",
        )
    if len(shape) != 2:
        raise InputError(
            f"logits must be two-dimensional (samples, classes). Got shape {shape} ({where}). "
            "Stack one row of class logits a sample.",
            code="not_two_dimensional",
        )


def _labels(labels: Array, n_samples: int, where: str) -> Rows:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.size and np.isin(labels, (0, 1)).all():
        if (labels.sum(axis=1) == 1).all():
            raise InputError(
                f"labels must be class numbers (N,). Got one-hot rows {labels.shape} ({where}). "
                "Take labels.argmax(axis=1).",
                code="labels_one_hot",
            )
        raise OutOfScopeError(
            f"labels must be one class a sample. Got 0/1 rows {labels.shape} ({where}): multi-label teachers use "
            "sigmoids, and temperature advice covers softmax only.",
            code="multi_label",
        )
    if labels.shape != (n_samples,):
        raise InputError(
            f"labels must have shape ({n_samples},), one for each row of the logits. Got {labels.shape} ({where}). "
            "Check that both come from the same run.",
            code="labels_length",
        )
    if labels.dtype.kind not in "iu" and not (
        labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.floor(labels)).all()
    ):
        raise InputError(
            f"labels must be whole numbers. Got {labels.dtype} values ({where}). Give class numbers from 0.",
            code="labels_not_whole",
        )
    return labels.astype(np.int64)


def _open_npy(path: Path) -> StoredLogits:
    return _opened([npy_array(path)], path)


def _open_npz(path: Path) -> StoredLogits:
    return _opened(npz_arrays(path, lambda found: _names(found, path)), path)


def _open_safetensors(path: Path) -> StoredLogits:
    arrays, metadata = safetensors_arrays(path, lambda found: _names(found, path))
    return dataclasses.replace(_opened(arrays, path), metadata=metadata)


def _opened(arrays: list[Stored], path: Path) -> StoredLogits:
    labels = arrays[1].array if len(arrays) > 1 else None
    return _stored(arrays[0].array, labels, str(path), bfloat16=arrays[0].bfloat16)


def _names(found: Iterable[str], path: Path) -> list[str]:
    """Return the names of logits and, if there are any, labels in a file that holds the arrays `found`."""
    found = list(found)
    if "logits" not in found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        held = ", ".join(sorted(found)[:5]) + more or "nothing"
        near = did_you_mean("logits", found) if found else ""
        near = f"{near[:-1]} (rename it)?" if "mean" in near else ""
        raise InputError(
            f"{path} must hold an array named logits and, if known, labels. It holds {held}. {near or _TAKE}",
            code="wrong_names",
        )
    return ["logits", *[name for name in _LABEL_NAMES if name in found][:1]]


# .csv ----------------------------------------------------------------------------------------------------------


def _open_csv(path: Path) -> StoredLogits:
    """Index the lines of a CSV file in one pass; rows are parsed when they are read."""
    with path.open("rb") as file:
        first = file.readline().removeprefix(b"\xef\xbb\xbf")
        names = [cell.strip().strip(b'"').decode(errors="replace") for cell in first.rstrip(b"\r\n").split(b",")]
        if len(names) == 1 and any(mark in first for mark in (b";", b"\t")):
            raise InputError(
                f"{path} must be separated by commas. Got another separator. Save it anew.", code="no_csv"
            )
        numbered = names == [str(i) for i in range(len(names))]  # pandas names unnamed columns so
        has_header = numbered or not all(_is_number(name) for name in names)
        words = [name.lower() for name in names] if has_header else []
        label_column = next((words.index(n) for n in _LABEL_COLUMNS if n in words), None)
        index_column = next((names[words.index(n)] for n in _INDEX_COLUMNS if n in words), None)
        if index_column is not None:
            raise InputError(
                f"{path} must hold logits and labels only. Got an index column {index_column!r}. "
                "Leave it out: DataFrame.to_csv(path, index=False).",
                code="index_column",
            )
        if not has_header:
            file.seek(0)
        offsets, lines, labels = _csv_index(file, path, len(names), label_column, 2 if has_header else 1)
    n_columns = len(names) - (label_column is not None)
    kept = [i for i in range(len(names)) if i != label_column]

    def read(rows: Rows) -> Array:
        block = np.empty((len(rows), n_columns))
        with path.open("rb") as file:
            for i, row in enumerate(rows):
                file.seek(offsets[row])
                block[i] = _csv_numbers(file.readline(), kept, f"{path}, line {lines[row]}")
        return block

    checked = None if label_column is None else _labels(labels, len(offsets), str(path))
    _refuse_whole_columns(
        read(np.arange(min(_JUDGED_ROWS, len(offsets)))), [names[i] for i in kept], has_header, path
    )
    return StoredLogits(str(path), len(offsets), n_columns, checked, read)


def _refuse_whole_columns(block: Array, names: list[str], has_header: bool, path: Path) -> None:
    """Refuse a column of whole numbers among fractions: labels or row numbers, not logits."""
    whole = (block == np.round(block)).all(axis=0)
    if len(block) >= 10 and whole.any() and not whole.all():
        column = int(np.flatnonzero(whole)[0])
        which = f"column {names[column]!r}" if has_header else f"column {column + 1}"
        raise InputError(
            f"{path} must hold logits. Got whole numbers only in {which}: labels or row numbers? "
            "Name a column of labels `label` in a header, and leave out row numbers.",
            code="whole_column",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_index(
    file: IO[bytes], path: Path, n_columns: int, label_column: int | None, line: int
) -> tuple[Rows, Rows, Array]:
    offsets, lines, labels, position = [], [], [], file.tell()
    for number, text in enumerate(file, line):
        if text.strip():
            got = text.count(b",") + 1
            if got != n_columns:
                raise InputError(
                    f"{path}, line {number}, must have {n_columns} columns like the first. Got {got}. Mend the line.",
                    code="ragged_rows",
                )
            offsets.append(position)
            lines.append(number)
            if label_column is not None:
                cell = [text.split(b",")[label_column]]
                labels.append(_csv_numbers(cell[0], [0], f"{path}, line {number}")[0])
        position += len(text)
    return np.array(offsets, np.int64), np.array(lines, np.int64), np.array(labels)


def _csv_numbers(text: bytes, kept: list[int], where: str) -> Array:
    cells = text.removeprefix(b"\xef\xbb\xbf").split(b",")
    try:
        return np.array([float(cells[i]) for i in kept])
    except ValueError:
        raise InputError(
            f"{where} must hold numbers. Got {text[:40].decode(errors='replace').strip()!r}. Mend the line.",
            code="not_a_number",
        ) from None


_OPENERS: Mapping[str, Callable[[Path], StoredLogits]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".csv": _open_csv,
}
