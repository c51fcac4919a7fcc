"""Arrays in `.npy`, `.npz` and `.safetensors` files, mapped into memory and not loaded.

Headers are checked against the size of the file before anything is read; nothing is ever unpickled. What the
arrays are meant to be is decided in `logits.py`.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from tempadvisor.errors import InputError

_MOST_RATIO, _ALWAYS_UNPACKED = 200, 1 << 28  # of what .npz members are packed to; bytes that do no harm

Array = npt.NDArray[Any]
Pick = Callable[[Iterable[str]], list[str]]

_SAFETENSORS_DTYPES = {
    "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "BOOL": "|b1",
    "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "|u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


class Stored(NamedTuple):
    """A mapped array; bfloat16, which numpy does not know, lies in it as uint16."""

    array: Array
    bfloat16: bool = False


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
        if any(type(n) is not int or n < 0 for n in shape):
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


def npy_array(path: Path) -> Stored:
    """Map the array of a `.npy` file.

    Raises:
        InputError: the file is truncated or broken, or holds pickled objects.
    """
    return Stored(_map_npy(path, 0, path.stat().st_size, str(path)))


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


# .npz ----------------------------------------------------------------------------------------------------------


def npz_arrays(path: Path, pick: Pick) -> list[Stored]:
    """Map arrays of an `.npz` file; `pick` chooses among the names it is told.

    Raises:
        InputError: the file is truncated, encrypted or too large to unpack, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return [Stored(_npz_member(path, archive, members[name])) for name in pick(members)]
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, zlib.error):
        raise InputError(
            f"{path} must be a complete .npz file. It is truncated, encrypted or not a zip archive. Write it again.",
            code="truncated",
        ) from None


def _check_packing(info: zipfile.ZipInfo, where: str) -> None:
    """See that what is unpacked is not far more than what was packed: numbers that differ are not packed so."""
    if info.file_size > max(_MOST_RATIO * info.compress_size, _ALWAYS_UNPACKED):
        raise InputError(
            f"{where} must hold numbers that differ. It would unpack {info.compress_size:,} bytes to "
            f"{info.file_size:,}, as nothing but one value over and over does. Save it with np.savez.",
            code="too_large",
        )


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
        _check_packing(info, where)
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


def safetensors_arrays(path: Path, pick: Pick) -> tuple[list[Stored], Mapping[str, str]]:
    """Map arrays of a `.safetensors` file, and return with them what it says of itself.

    Raises:
        InputError: the file is truncated or has no sound header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > size - 8:
            raise _truncated(str(path), 8 + length, size)
        entries = _safetensors_header(file.read(length), path)
    metadata = entries.get("__metadata__")
    chosen = pick([name for name in entries if name != "__metadata__"])
    arrays = [_safetensors_array(path, entries[name], 8 + length, size) for name in chosen]
    return arrays, metadata if isinstance(metadata, dict) else {}


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


def _safetensors_array(path: Path, entry: Mapping[str, Any], start: int, size: int) -> Stored:
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
    return Stored(_map(path, dtype, start + begin, shape), bfloat16=entry["dtype"] == "BF16")
