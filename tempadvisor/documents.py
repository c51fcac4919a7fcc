"""The text files a user hands over and gets back: a setup in YAML or TOML, a saved profile in JSON; writes are atomic.

Logits and data sets are read elsewhere (`logits.py`, `datasets.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempadvisor.errors import InputError, UsageError
from tempadvisor.records import SETUP_COLUMNS, TeacherProfile, TrainingSetup, as_dict, profile_from, setup_from

MOST_BYTES = 16 * 2**20  # a profile or a config file of this size is none


def read_setup(config: Path | None, flags: Mapping[str, Any]) -> TrainingSetup:
    """Return the setup that a config file and flags describe together; flags override the file.

    Args:
        config: a .yaml, .yml or .toml file with setup keys, or None.
        flags: setup fields by name; None where a flag was not given.

    Raises:
        InputError: the file cannot be read or parsed.
        UsageError: unknown keys, or values that break their rule or contradict each other.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if config is None:
        return TrainingSetup(**given)
    return setup_from({**_read_config(config), **given}, where=str(config))


def load_profile(path: Path) -> TeacherProfile:
    """Read a saved profile.

    Raises:
        InputError: the file is missing, is no JSON, or is no profile.
    """
    try:
        content = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} must be JSON. It is not: {error}.", code="not_json") from None
    return profile_from(content, where=str(path))


def save_profile(profile: TeacherProfile, path: Path) -> None:
    """Write a profile as JSON, atomically."""
    write_text(path, json.dumps(as_dict(profile), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise InputError(f"{path} must be a file that can be written. {error.strerror}.", code="unwritable") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} must be at most {MOST_BYTES // 2**20} MiB of text.", code="too_large")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} must be a readable file. {error.strerror}.", code="unreadable") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} must be text in UTF-8. It is not.", code="not_text") from None
    if not text.strip():
        raise InputError(f"{path} must not be empty.", code="empty")
    return text


def _read_config(path: Path) -> dict[str, Any]:
    if path.suffix == ".toml":
        content = _parse_toml(path)
    elif path.suffix in (".yaml", ".yml"):
        content = _parse_yaml(path)
    else:
        raise UsageError(
            f"--config must be a .yaml, .yml or .toml file. Got {path.name!r}. Rename it to what it is.",
            code="bad_config",
        )
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold setup keys such as 'optimizer: sgd'. Got {type(content).__name__}.", code="bad_config"
        )
    return {str(key): _number(str(key), value) for key, value in content.items()}


def _number(key: str, value: Any) -> Any:
    """Read `1e-3`, which YAML takes for a text, as the number it is meant to be."""
    kind = next((column.type for column in SETUP_COLUMNS if column.name == key), str)
    if isinstance(value, str) and kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _parse_toml(path: Path) -> Any:
    import tomllib

    try:
        return tomllib.loads(_read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} must be TOML. It is not: {error}", code="bad_config") from None


def _parse_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(_read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} must be plain YAML. It is not: {error}", code="bad_config") from None
