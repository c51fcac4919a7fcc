"""Check what a suite needs before anything is trained: data, models, and the file that its runs go to.

It trains nothing and writes nothing that stays. What the suite file itself says is checked in `suites.py`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from tempadvisor.errors import InputError, KnowledgeError, TempAdvisorError, UsageError
from tempadvisor.evidence import profiles_path, read_profiles
from tempadvisor.material import samples_of, student_of
from tempadvisor.models import build
from tempadvisor.runs import Key, Run, read_runs
from tempadvisor.suites import Suite


def check_material(suite: Suite) -> None:
    """Read the data of every curve, and build its teacher and student, and the teachers that no curve has.

    Raises:
        InputError: one of them cannot be had; the design or the teacher is named.
    """
    for curve in suite.curves:
        try:
            student_of(curve, samples_of(curve), seed=0)
        except InputError as error:
            raise InputError(f"{error} ({curve.where})", code=error.code) from None
    used = {curve.teacher.name for curve in suite.curves}
    for teacher in suite.teachers:
        if teacher.name not in used:
            try:
                build(str(teacher.model), image_shape=(3, 32, 32), n_classes=2, seed=0)
            except InputError as error:
                raise InputError(f"{error} (teacher {teacher.name})", code=error.code) from None


def runs_before(suite: Suite, out: Path, *, resume: bool, dry_run: bool) -> dict[Key, Run]:
    """Return the runs that `out` has, having seen that it can be written and that nothing in it is of another suite.

    Raises:
        UsageError: it exists and `resume` is off, is no file, cannot be written, or holds runs of other suites or of
            curves that this one does not have.
        KnowledgeError: it is no file of runs, or the profiles beside it are damaged.
    """
    if out.exists() and not (resume or dry_run):
        raise UsageError(f"{out} must not exist yet. Add --resume to go on with it.", code="exists")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} must be a folder. It does not exist.", code="no_folder")
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} must be a file. It is a folder or device.", code="no_file")
    if not dry_run:
        try:
            tempfile.TemporaryFile(dir=out.parent).close()
        except OSError as error:
            raise UsageError(f"{out} must be writable. {error.strerror}.", code="not_writable") from None
    done = {run.key: run for run in (read_runs(out) if out.exists() else ())}
    names = {curve.name for curve in suite.curves}
    strange = Counter(
        f"suite {of}" if of != suite.name else f"curve {curve}, which the suite does not have"
        for of, curve, *_ in done
        if of != suite.name or curve not in names
    )
    if strange:
        what, count = strange.most_common(1)[0]
        more = f", and {strange.total() - count} more that do not belong there" if len(strange) > 1 else ""
        raise UsageError(
            f"{out} must hold runs of suite {suite.name} as it is now. Got {count} of {what}{more}. "
            "Write to another file with -o.",
            code="other_runs",
        )
    try:
        read_profiles(profiles_path(out))
    except (TempAdvisorError, UnicodeDecodeError):
        raise KnowledgeError(
            f"{profiles_path(out)} must hold profiles of teachers. It is damaged. Delete it: they are measured anew.",
            code="bad_profile",
        ) from None
    return done
