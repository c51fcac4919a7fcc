"""WebDataset shards: tar files whose members, grouped by name, are samples; read in place, none is ever extracted.

Only images (`.jpg`, `.jpeg`, `.png`, `.webp`, `.bmp`) and class numbers (`.cls`) are looked at. The library of that
name is not needed, and would unpickle some kinds of members. A first pass finds where members lie, so that samples
are read in any order.
"""

from __future__ import annotations

import glob
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

from tempadvisor.errors import InputError
from tempadvisor.files import check_regular
from tempadvisor.images import PICTURES

_MOST_LABEL = 64  # bytes
_MOST_SHARDS = 100_000


class Place(NamedTuple):
    """Where a member lies."""

    shard: Path
    start: int
    size: int

    def read(self) -> bytes:
        """Return its content."""
        with self.shard.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class Sample(NamedTuple):
    """An image and its class number."""

    image: Place
    label: int
    name: str


def is_shards(name: str) -> bool:
    """Tell whether DATA names shards: a `.tar` file, or several by `{000..012}` or `*`."""
    return name.endswith(".tar")


def samples(name: str) -> list[Sample]:
    """Return the samples of shards, in their order.

    Raises:
        InputError: a shard is missing or damaged, has members outside of itself, or a sample lacks image or label.
    """
    found = [sample for shard in _expanded(name) for sample in _shard(shard)]
    if not found:
        raise InputError(f"{name[:100]} must hold images and class numbers (.cls). Got none.", code="no_data")
    return found


def _expanded(name: str) -> list[Path]:
    """Return the shards that a name with one range in braces, or with stars, stands for."""
    if ranged := re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", name):
        before, first, last, after = ranged.groups()
        if not 0 <= int(last) - int(first) < _MOST_SHARDS:
            raise InputError(f"{name[:100]} must be a range of at most {_MOST_SHARDS} shards.", code="bad_data")
        width = len(first)
        return [Path(f"{before}{number:0{width}d}{after}") for number in range(int(first), int(last) + 1)]
    if "*" in name:
        return [Path(one) for one in sorted(glob.glob(name))]  # noqa: PTH207  # a whole path with stars
    return [Path(name)]


def _shard(path: Path) -> list[Sample]:
    check_regular(path, "a WebDataset shard")
    groups: dict[str, dict[str, Place]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _check(member, path)
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{folder}/{stem}"
                groups.setdefault(key, {})[f".{suffix.lower()}"] = Place(path, member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError):
        raise InputError(
            f"{path} must be a plain .tar file. It is damaged, compressed or something else.", code="bad_data"
        ) from None
    return [_sample(members, key, path) for key, members in groups.items()]


def _check(member: tarfile.TarInfo, path: Path) -> None:
    outside = member.name.startswith("/") or ".." in member.name.split("/")
    if outside or not (member.isfile() or member.isdir()):
        raise InputError(
            f"{path} must hold files of its own. Got {'a name outside of it' if outside else 'a link or device'}, "
            f"{member.name[:100]}. Write the shard again.",
            code="unsafe_shard",
        )


def _sample(members: dict[str, Place], key: str, path: Path) -> Sample:
    image = next((members[suffix] for suffix in sorted(PICTURES) if suffix in members), None)
    label = members.get(".cls")
    name = f"{key.lstrip('/')[:100]} in {path}"
    if image is None or label is None:
        missing = "image" if image is None else "class number (.cls)"
        raise InputError(
            f"{name} must have an image and a class number. It has no {missing} among {', '.join(members)[:100]}.",
            code="bad_data",
        )
    text = label.read() if label.size <= _MOST_LABEL else b""
    if not text.strip().isdigit():
        raise InputError(f"{name} must have a class number in .cls. Got {text[:20]!r}.", code="bad_data")
    return Sample(image, int(text), name)
