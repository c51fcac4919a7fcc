"""Keep the teachers' profiles beside the runs: what each curve's students saw of their teacher, one line a curve.

`runs.csv` has them in `runs.teachers.jsonl`, joined by the name of the curve: a teacher looks different under another
augmentation, on other images, or with its logits scaled. A line also holds how the teacher was made and where the
data came from, so that a row and its line are enough to make the run again. Whoever learns from runs reads both here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempadvisor.documents import profile_from
from tempadvisor.errors import KnowledgeError, TempAdvisorError
from tempadvisor.files import refuse_special
from tempadvisor.records import TeacherProfile, as_dict
from tempadvisor.runs import write_whole

DIGITS = 8  # significant ones: far finer than any sampling error, and the same on every processor


def profiles_path(runs: Path) -> Path:
    """Return where the profiles of a file of runs lie.

    >>> profiles_path(Path("runs/digits.csv")).name
    'digits.teachers.jsonl'
    """
    return runs.with_suffix(".teachers.jsonl")


def write_profiles(
    path: Path, profiles: Mapping[str, TeacherProfile], made: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write profiles by the name of their curve, sorted by it, all or nothing.

    Args:
        path: where to.
        profiles: by the name of the curve.
        made: by the same, what the rows do not tell of how teacher, data and first weights were made.
    """
    lines = []
    for name in sorted(profiles):
        entry = {"curve": name, "profile": _rounded(as_dict(profiles[name]))}
        if made and name in made:
            entry["made"] = made[name]
        lines.append(json.dumps(entry, separators=(",", ":")))
    write_whole(path, "".join(f"{line}\n" for line in lines))


def read_profiles(path: Path) -> dict[str, TeacherProfile]:
    """Return the profiles of a file by the name of their curve; none where there is no file.

    Raises:
        KnowledgeError: it is no regular file, a line is no such entry, or a curve stands twice.
    """
    refuse_special(path, "a file of teachers' profiles")
    if not path.exists():
        return {}
    profiles: dict[str, TeacherProfile] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path} line {number}"
        try:
            entry = json.loads(line)
            name, profile = entry["curve"], profile_from(entry["profile"], where=where)
        except TempAdvisorError as error:
            raise KnowledgeError(str(error), code="bad_profile") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise KnowledgeError(
                f"{where} must be a JSON object with curve and profile. It is not. Delete the file: "
                "bench --resume measures it anew.",
                code="bad_profile",
            ) from None
        if name in profiles:
            raise KnowledgeError(f"{where} must name a curve once. Got {name!r} again.", code="duplicate_profile")
        profiles[name] = profile
    return profiles


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
