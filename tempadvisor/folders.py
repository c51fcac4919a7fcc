"""Image folders: which files there are, of which class, and in which split. Nothing is opened here.

Classes stand directly in the folder, or in `train` beside `test`, `val` or `validation`; what lies deeper is not
looked for, so that a link that goes in a circle leads nowhere.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from tempadvisor.errors import InputError
from tempadvisor.images import PICTURES

HELD_OUT = ("test", "val", "validation")


class Listing(NamedTuple):
    """The images of a folder, those of the held-out split from `test_start` on, with the class of each.

    `stamp` changes with the names and sizes of the files.
    """

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    test_start: int | None
    stamp: str


def listed(folder: Path) -> Listing:
    """Return what an image folder holds, sorted by class and name.

    Raises:
        InputError: it has fewer than two classes, a class without images, or something else under an image's name.
    """
    train = folder / "train"
    held = next((folder / part for part in HELD_OUT if train.is_dir() and (folder / part).is_dir()), None)
    roots = [train if train.is_dir() else folder, *([held] if held else [])]
    classes = sorted(_names(roots[0]))
    if len(classes) < 2:
        raise InputError(f"{folder} must hold one folder per class, at least 2. Got {len(classes)}.", code="no_data")
    if held and (other := sorted(_names(held) - set(classes))):
        raise InputError(
            f"{held} must hold classes of {roots[0].name} only. Got {other[0]}. Rename or remove it.", code="bad_data"
        )
    digest = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape"))
    files: list[Path] = []
    labels: list[int] = []
    ends = []
    for root in roots:
        for label, name in enumerate(classes):
            found = _pictures(root / name, digest) if root is roots[0] or (root / name).is_dir() else []
            if not found and root is roots[0]:
                raise InputError(
                    f"{root / name} must hold images ({', '.join(sorted(PICTURES))}). Got none. "
                    "Images stand directly in the folder of their class.",
                    code="empty_class",
                )
            files += found
            labels += [label] * len(found)
        ends.append(len(files))
    return Listing(files, labels, tuple(classes), ends[0] if held else None, digest.hexdigest()[:16])


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
    except OSError as error:
        raise _unreachable(error, folder) from None


def _pictures(folder: Path, digest: hashlib._Hash) -> list[Path]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if os.path.splitext(entry.name)[1].lower() not in PICTURES or entry.is_dir():  # noqa: PTH122
                    continue
                if not entry.is_file():
                    raise InputError(
                        f"{entry.path} must be an image. Got a pipe, a device or a broken link. Remove it.",
                        code="not_a_file",
                    )
                digest.update(f"{entry.path}{entry.stat().st_size}".encode(errors="surrogateescape"))
                found.append(folder / entry.name)
    except OSError as error:
        raise _unreachable(error, folder) from None
    return found


def _unreachable(error: OSError, folder: Path) -> InputError:
    return InputError(
        f"{error.filename or folder} must be readable. {error.strerror}. Check links and permissions.",
        code="unreadable",
    )
