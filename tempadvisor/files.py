"""What a path that a user names must be before it is opened: a pipe or a device may never end."""

from __future__ import annotations

import stat
from pathlib import Path

from tempadvisor.errors import InputError, KnowledgeError


def check_regular(path: Path, what: str) -> int:
    """See that `path` is a file with something in it, and return its size in bytes.

    Args:
        path: links are followed.
        what: what it must be, with its article.

    Raises:
        InputError: it is missing, empty, a folder, a pipe or a device, or cannot be reached.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        missing = isinstance(error, FileNotFoundError)
        raise InputError(
            f"{str(path)[:200]} must be {what}. {'It does not exist' if missing else reason}. Check the path.",
            code="missing_file" if missing else "unreadable",
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} must be {what}. Got {_kind(found.st_mode)}. Check the path.", code="not_a_file")
    if not found.st_size:
        raise InputError(f"{path} must be {what}. It is empty. Write it again.", code="empty_file")
    return found.st_size


def refuse_special(path: Path, what: str) -> None:
    """See that a file of the user's knowledge is one, if anything stands there.

    Args:
        path: links are followed.
        what: what it must be, with its article.

    Raises:
        KnowledgeError: it is a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # why is said by who reads it
    if not stat.S_ISREG(mode):
        raise KnowledgeError(
            f"{path} must be {what}. Got {_kind(mode)}. Move it away: recommend works without it.",
            code="not_a_file",
        )


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
