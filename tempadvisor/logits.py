"""Where stored logits lie, and how to read any of their rows without loading the file.

`open_logits` opens `.npy`, `.npz`, `.safetensors` and `.csv`; the first three are memory-mapped, a CSV file is
indexed by line. Nothing is ever unpickled. What the numbers mean is not judged here: `gate.py` does that.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from tempadvisor.errors import InputError, OutOfScopeError, did_you_mean

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

SUFFIXES = (".npz", ".npy", ".safetensors", ".csv")
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_LABEL_NAMES = ("labels", "label")
_TAKE = "Save them with np.savez(path, logits=logits, labels=labels)."
_SAFETENSORS_DTYPES = {
    "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "BOOL": "|b1",
    "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "|u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


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
        if path.stat().st_size == 0:
            raise InputError(f"{path} must hold logits. It is empty. Write it again.", code="empty_file")
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


# .npy ----------------------------------------------------------------------------------------------------------


def _truncated(where: str, wanted: int, got: int) -> InputError:
    return InputError(
        f"{where} must be complete: its header announces {wanted} bytes. Got {got}. Copy or write it again.",
        code="truncated",
    )


def _npy_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy stream: shape, Fortran order and dtype, which is never an object."""
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
        if min(shape, default=0) < 0:
            raise ValueError(shape)
    except (ValueError, TypeError, SyntaxError, OverflowError, tokenize.TokenError):
        raise InputError(
            f"{where} must be a complete .npy array. Its header cannot be read. Write it again with np.save.",
            code="broken_file",
        ) from None
    if dtype.hasobject:
        raise InputError(
            f"{where} must hold plain numbers. It holds pickled objects, which are never loaded. "
            "Save a two-dimensional float array.",
            code="pickled",
        )
    return shape, fortran, dtype


def _map(file: Any, dtype: Any, offset: int, shape: tuple[int, ...], order: Any = "C") -> Array:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", offset, shape, order)


def _map_npy(path: Path, start: int, size: int, where: str) -> Array:
    """Map the .npy array that lies in `path` from byte `start` on and is `size` bytes long with its header."""
    with path.open("rb") as file:
        file.seek(start)
        shape, fortran, dtype = _npy_header(file, where)
        wanted = file.tell() - start + _n_bytes(shape, dtype)
        if wanted > size:
            raise _truncated(where, wanted, size)
        return _map(path, dtype, file.tell(), shape, "F" if fortran else "C")


def _n_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = dtype.itemsize
    for length in shape:
        count *= length
    return count


def _open_npy(path: Path) -> StoredLogits:
    return _stored(_map_npy(path, 0, path.stat().st_size, str(path)), None, str(path))


# .npz ----------------------------------------------------------------------------------------------------------


def _open_npz(path: Path) -> StoredLogits:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            logits_name, labels_name = _names(members, path)
            logits = _npz_member(path, archive, members[logits_name])
            labels = None if labels_name is None else _npz_member(path, archive, members[labels_name])
            return _stored(logits, labels, str(path))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, zlib.error):
        raise InputError(
            f"{path} must be a complete .npz file. It is truncated, encrypted or not a zip archive. Write it again.",
            code="truncated",
        ) from None


def _names(found: Iterable[str], path: Path) -> tuple[str, str | None]:
    """Return the names of logits and labels in a file that holds the arrays `found`."""
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
    return "logits", next((name for name in _LABEL_NAMES if name in found), None)


def _npz_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Map an array of an .npz file; a compressed one is unpacked to a temporary file first."""
    where = f"{info.filename} in {path}"
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
        with path.open("rb") as file:
            file.seek(info.header_offset)
            local = file.read(30)
            name_length, extra_length = struct.unpack("<HH", local[26:30])
        return _map_npy(path, info.header_offset + 30 + name_length + extra_length, info.file_size, where)
    with archive.open(info) as member:
        shape, fortran, dtype = _npy_header(member, where)
        start, data = member.tell(), _n_bytes(shape, dtype)
        if start + data != info.file_size:
            raise _truncated(where, start + data, info.file_size)
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if data > free // 2:
            raise InputError(
                f"{where} must fit half of the free disk to be unpacked. It needs {data:,} bytes of {free:,}. "
                "Save it with np.savez instead of np.savez_compressed.",
                code="too_large",
            )
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(member, unpacked, 1 << 20)
            unpacked.flush()
            if unpacked.tell() != data:
                raise _truncated(where, data, unpacked.tell())
            return _map(unpacked, dtype, 0, shape, "F" if fortran else "C")


# .safetensors --------------------------------------------------------------------------------------------------


def _open_safetensors(path: Path) -> StoredLogits:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > size - 8:
            raise _truncated(str(path), 8 + length, size)
        entries = _safetensors_header(file.read(length), path)
    logits_name, labels_name = _names((name for name in entries if name != "__metadata__"), path)
    start = 8 + length
    logits = _safetensors_array(path, entries[logits_name], start, size)
    labels = None if labels_name is None else _safetensors_array(path, entries[labels_name], start, size)
    stored = _stored(logits, labels, str(path), bfloat16=entries[logits_name]["dtype"] == "BF16")
    return dataclasses.replace(stored, metadata=entries.get("__metadata__", {}))


def _safetensors_header(text: bytes, path: Path) -> Mapping[str, Any]:
    try:
        entries = json.loads(text)
        for name, entry in entries.items():
            if name != "__metadata__":
                whole = [*entry["shape"], *entry["data_offsets"]]
                typed = isinstance(entry["dtype"], str) and all(isinstance(n, int) and n >= 0 for n in whole)
                if not typed or len(entry["data_offsets"]) != 2:
                    raise ValueError(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _broken(path)
    return entries  # type: ignore[no-any-return]


def _broken(path: Path) -> NoReturn:
    raise InputError(
        f"{path} must be a safetensors file. Its header cannot be read. Write it again with safetensors.",
        code="broken_file",
    )


def _safetensors_array(path: Path, entry: Mapping[str, Any], start: int, size: int) -> Array:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise InputError(
            f"{path} must hold float16, bfloat16, float32 or float64 logits. Got {entry['dtype']}. Convert them.",
            code="not_float",
        )
    dtype, shape = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if end - begin != _n_bytes(shape, dtype):
        _broken(path)
    if start + end > size:
        raise _truncated(str(path), start + end, size)
    return _map(path, dtype, start + begin, shape)


# .csv ----------------------------------------------------------------------------------------------------------


def _open_csv(path: Path) -> StoredLogits:
    """Index the lines of a CSV file in one pass; rows are parsed when they are read."""
    with path.open("rb") as file:
        first = file.readline().removeprefix(b"\xef\xbb\xbf")
        names = [cell.strip().strip(b'"').decode(errors="replace") for cell in first.rstrip(b"\r\n").split(b",")]
        has_header = not all(_is_number(name) for name in names)
        label_column = next((names.index(n) for n in _LABEL_NAMES if n in names), None) if has_header else None
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
    return StoredLogits(str(path), len(offsets), n_columns, checked, read)


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
