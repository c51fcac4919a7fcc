"""The text files a user hands over and gets back: a setup in YAML or TOML, a profile in JSON; writes are atomic.

Logits and data sets are read elsewhere (`logits.py`, `datasets.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shlex
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tempadvisor.errors import InputError, TempAdvisorError, UsageError, did_you_mean
from tempadvisor.fields import MOST, problem
from tempadvisor.logits import SUFFIXES as LOGITS_SUFFIXES
from tempadvisor.records import LOGITS_FROM, SETUP_COLUMNS, Notice, TeacherProfile, TrainingSetup, as_dict

NAMES = {dict: "a mapping", list: "a list", type(None): "nothing"}
TINY = 1e-12
MOST_BYTES = 16 * 2**20  # a profile or a config file of this size is none


def read_setup(config: Path | None, flags: Mapping[str, Any]) -> TrainingSetup:
    """Return the setup that a config file and flags describe together; flags override the file.

    Args:
        config: a .yaml, .yml or .toml file with setup keys, or None.
        flags: setup fields by name, as numbers or as the text of one; None where a flag was not given.

    Raises:
        InputError: the file cannot be read or parsed.
        UsageError: unknown keys, or values that break their rule or contradict each other.
    """
    given = {name: _number(name, value) for name, value in flags.items() if value is not None}
    if config is None:
        return TrainingSetup(**given)
    wrong = [found for column in SETUP_COLUMNS if (found := problem(column, given.get(column.name)))]
    if wrong:  # said here, so that the file is not blamed for a flag
        raise UsageError(" ".join(wrong), code="bad_setup")
    return setup_from({**_read_config(config), **given}, where=str(config))


def load_profile(path: Path) -> TeacherProfile:
    """Read a saved profile.

    Raises:
        InputError: the file is missing, is no JSON, or is no profile, such as the logits that one is made of.
    """
    if path.suffix.lower() in LOGITS_SUFFIXES:
        made = shlex.join(["tempadvisor", "profile", str(path), "-o", "profile.json"])
        raise InputError(
            f"{path} must be a profile. Got a file of logits, by its name. Make one: {made}", code="not_a_profile"
        )
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON. It is not: {error}. Write it anew.", code="not_json") from None
    return profile_from(content, where=str(path))


def save_profile(profile: TeacherProfile, path: Path) -> None:
    """Write a profile as JSON, atomically."""
    write_text(path, to_json(profile) + "\n")


def to_json(record: Any) -> str:
    """Return a record as indented JSON text."""
    return json.dumps(as_dict(record), indent=2, allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    import tempfile

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
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} must be a file that can be written. {reason}. Name another place.", code="unwritable"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or device may never end
            raise InputError(
                f"{path} must be a regular file. Got a pipe or device. Check the path.", code="unreadable"
            )
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"{path} must be at most {MOST_BYTES // 2**20} MiB of text. It is larger. Check the path.",
                code="too_large",
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} must be text in UTF-8. It is not. Check the path.", code="not_text") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} must be a readable file. {reason}. Check the path.", code="unreadable") from None
    if not text.strip():
        raise InputError(f"{path} must not be empty. It is. Check the path.", code="empty")
    return text


def _read_config(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix == ".toml":
        content = _parse_toml(path)
    elif suffix in (".yaml", ".yml"):
        content = _parse_yaml(path)
    else:
        raise UsageError(
            f"--config must be a .yaml, .yml or .toml file. Got {path.name!r}. Rename it to what it is.",
            code="bad_config",
        )
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold setup keys such as 'optimizer: sgd'. Got {NAMES.get(type(content), 'one value')}.",
            code="bad_config",
        )
    return {str(key): _number(str(key), value) for key, value in content.items()}


def _number(key: str, value: Any) -> Any:
    """Read a text as the number it is meant to be: a flag's value, or `1e-3`, which is a text to YAML.

    >>> _number("n_train", "5e4"), _number("lr", "1e-3"), _number("epochs", "2.5")
    (50000, 0.001, '2.5')
    """
    kind = next((column.type for column in SETUP_COLUMNS if column.name == key), str)
    if kind in (int, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return kind(value)
    if kind is int and isinstance(value, (str, float)):
        with contextlib.suppress(ValueError):
            number = float(value)
            return int(number) if number.is_integer() else value
    return value


def _parse_toml(path: Path) -> Any:
    import tomllib

    try:
        return tomllib.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be TOML. It is not: {error}. Mend it.", code="bad_config") from None


def _parse_yaml(path: Path) -> Any:
    import yaml

    class Plain(yaml.SafeLoader):
        """Refuse what YAML 1.1 reads in silence: a key given twice, and 1:30 as the number 90."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in getattr(node, "value", ()):
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value[:100]} is given twice", key.start_mark
                    )
                seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: Any) -> Any:
            if node.tag.endswith((":int", ":float")) and ":" in node.value:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{node.value[:100]} is no plain number", node.start_mark
                )
            return super().construct_scalar(node)

    try:
        return yaml.load(_read_text(path), Plain)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" on line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path} must be plain YAML. It is not{place}: {error.problem}. Mend it.", code="bad_config"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # !!int abc, and worse
        raise InputError(
            f"{path} must be plain YAML. It is not: {str(error)[:100]}. Mend it.", code="bad_config"
        ) from None


def setup_from(mapping: Mapping[str, Any], *, where: str) -> TrainingSetup:
    """Make a `TrainingSetup` of keys and values that came from `where` (a config file, say).

    Raises:
        UsageError: unknown keys, each with the nearest known name; or a value that breaks its rule.
    """
    names = [column.name for column in SETUP_COLUMNS]
    strange = [f"{key!r} is not a setup key. {did_you_mean(str(key), names)}" for key in mapping if key not in names]
    if strange:
        raise UsageError(f"{' '.join(strange)} ({where})", code="unknown_key")
    try:
        return TrainingSetup(**mapping)
    except TempAdvisorError as error:
        raise UsageError(f"{error} ({where})", code=error.code) from None


def profile_from(mapping: Any, *, where: str) -> TeacherProfile:
    """Make a `TeacherProfile` of parsed JSON.

    Raises:
        InputError: `mapping` is not a profile that this version wrote, or its values do not fit together.
    """
    hints = typing.get_type_hints(TeacherProfile)
    if not isinstance(mapping, dict):
        problems = [f"Got {NAMES.get(type(mapping), 'one value')}."]
    elif mapping.keys() != hints.keys():
        missing, extra = sorted(hints.keys() - mapping.keys()), sorted(mapping.keys() - hints.keys())
        problems = [f"It lacks {', '.join(missing)}."] if missing else []
        problems += [f"It holds unknown {', '.join(map(str, extra))}."] if extra else []
    else:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in mapping.items()
        }
        if isinstance(mapping["warnings"], list):
            values["warnings"] = tuple(map(_notice, mapping["warnings"]))
        problems = [f"{key} does not fit." for key, hint in hints.items() if not _fits(values[key], hint)]
        problems = problems or list(_contradictions(values))
        if not problems:
            return TeacherProfile(**values)
    raise InputError(
        f"{where} must be a profile as `tempadvisor profile TEACHER -o profile.json` writes it. "
        f"{' '.join(problems)} Write it anew.",
        code="not_a_profile",
    )


def _notice(item: Any) -> Any:
    """Return the notice that `item` describes, or `item` itself, which fits nowhere."""
    if isinstance(item, dict) and item.keys() == {"code", "text"} and all(isinstance(v, str) for v in item.values()):
        return Notice(**item)
    return item


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value out of JSON fits the type hint of a profile's field."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if typing.get_origin(hint) is Mapping:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) > MOST):
        return False
    if hint is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, hint)


def _by_level(values: Mapping[str, Any]) -> list[float]:
    """Return the softness temperatures that were found, in the order of their levels."""
    pairs = zip(values["softness_levels"], values["softness_temperatures"], strict=True)
    return [found for _, found in sorted(pairs, key=lambda pair: pair[0]) if found is not None]


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    grid, levels = values["temperatures"], values["softness_levels"]
    if values["schema"] != 1:
        yield f"schema must be 1. Got {values['schema']}."
    if len(grid) < 2 or any(not 0 < low < high for low, high in itertools.pairwise(grid)):
        yield "temperatures must be above 0 and rise."
    for curve in ("entropy_nats", "top1_probability", "nontarget_entropy_nats"):
        if len(values[curve]) != len(grid):
            yield f"{curve} must have one value a temperature."
    if len(levels) != len(values["softness_temperatures"]):
        yield "softness_temperatures must have one value a level."
    elif (solved := _by_level(values)) != sorted(solved):
        yield "softness_temperatures must rise with the levels."
    if values["n_classes"] < 2 or values["n_samples"] < 1:
        yield "n_classes must be at least 2 and n_samples at least 1."
        return
    if values["n_available"] is not None and values["n_available"] < values["n_samples"]:
        yield "n_available must be at least n_samples."
    if values["logits_from"] not in (None, *LOGITS_FROM):
        yield f"logits_from must be one of {', '.join(LOGITS_FROM)}. Got {values['logits_from']!r}."
    most = math.log(values["n_classes"]) * (1 + 1e-6)
    ranges = {
        "entropy_nats": (-TINY, most),
        "nontarget_entropy_nats": (-TINY, most),
        "top1_probability": (0.0, 1 + 1e-6),
        "softness_levels": (0.0, 1.0),
        "softness_temperatures": (2.0**-8 * (1 - 1e-6), 2.0**11 * (1 + 1e-6)),
        "related_mass": (-TINY, 1 + 1e-6),
        "granularity": (-TINY, math.inf),
        "calibration_error": (-TINY, math.inf),
        "confusable_classes": (-TINY, math.inf),
        "spike_temperature": (TINY, math.inf),
        "logit_std": (TINY, math.inf),
        "margin": (0.0, math.inf),
        "top_gap": (0.0, math.inf),
        "rest_std": (0.0, math.inf),
        "accuracy": (0.0, 1.0),
        "nll_nats": (0.0, math.inf),
        "calibration_temperature": (TINY, math.inf),
    }
    for name, (low, high) in ranges.items():
        found = values[name] if isinstance(values[name], tuple) else (values[name],)
        bad = [value for value in found if value is not None and not low <= value <= high]
        if bad:
            yield f"{name} must lie between {low:.3g} and {high:.3g}. Got {bad[0]:.6g}."
