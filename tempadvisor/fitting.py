"""Fit the model that advice uses: chosen and calibrated on held-out setups, then fitted to all of them.

The model of this user lies beside the user's own runs and goes before the shipped one. A new one replaces it only
where it does not advise worse on held-out setups, by a paired bootstrap.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.belief import Knowledge, knowledge_in_use
from tempadvisor.curves import Curve, curves_of, read_curves
from tempadvisor.documents import write_text
from tempadvisor.errors import KnowledgeError, UsageError
from tempadvisor.evaluation import bootstrap, cases_of, choose, evaluate
from tempadvisor.files import refuse_special
from tempadvisor.glimpses import Glimpse, glimpses_of
from tempadvisor.holdings import own_runs, renamed, shipped_cells, shipped_paths, shipped_runs
from tempadvisor.learned import Learned, load, save
from tempadvisor.progress import Progress
from tempadvisor.records import Standing
from tempadvisor.regressor import FITS, lessons
from tempadvisor.resources import model_path, previous_path, standing_path
from tempadvisor.rivals import macro, score
from tempadvisor.rows import Name, shared
from tempadvisor.rules import load_rules
from tempadvisor.runs import Run
from tempadvisor.standing import save_standings, tally
from tempadvisor.summary import Summary, summarize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BY = ("source", "teacher", "setup")
LEAST_SOURCES = 3
ROUNDING = 1e-6  # of accuracy


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Held-out mean regret without and with the new curves, and the 90 % interval of the difference, as fractions."""

    before: float
    after: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the new curves make advice worse beyond doubt and beyond rounding."""
        return self.low > ROUNDING


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `refit` did: whether the new model is in use now, what it is, and what held-out setups said.

    `version` is that of the rules with the model, as `recommend` takes it. `n_curves` are all that it learned from,
    `n_own` those of the user, incomplete ones among them. `standing` is how all completely measured setups stand to
    the rules.
    """

    activated: bool
    version: str
    kind: str
    share: float
    n_curves: int
    n_own: int
    comparison: Comparison | None
    standing: tuple[Standing, ...]


class Known(NamedTuple):
    """What there is to learn from: complete curves, `shipped` and `own`, and glimpses of own ones that are not."""

    shipped: list[Curve]
    own: list[Curve]
    glimpses: list[Glimpse]


def shipped_curves() -> list[Curve]:
    """Return the complete curves with profiles of the shipped corpus."""
    return [curve for curve in read_curves(shipped_paths())[0] if curve.profile]


def known_curves(url: str | None = None) -> Known:
    """Return the curves with profiles of the shipped corpus and of the user's own runs.

    Own seeds of a shipped curve, with its name and its setup, make an own curve together with the shipped seeds: it
    stands for the shipped one, see `together`. What is not complete together is a glimpse, if it is of no curve that
    is shipped complete. Renamed copies are left out: held out under one name, they would be learned from under the
    other.
    """
    shipped = shipped_curves()
    runs, profiles = own_runs(url)
    mine: dict[Name, list[Run]] = {}
    for run in runs:
        mine.setdefault(_name(run), []).append(run)
    copied = renamed(shipped_cells(), mine) if mine else set()
    mine = {name: found for name, found in mine.items() if name not in copied}
    below = [run for run in shipped_runs({suite for suite, _ in mine}) if _name(run) in mine]
    setups = {_name(run): shared(run) for run in below}
    fitting = [run for name, found in mine.items() for run in found if setups.get(name, shared(run)) == shared(run)]
    profiles |= {str(curve.run.curve): curve.profile for curve in shipped if curve.profile}
    own, _ = curves_of([*fitting, *below], profiles)
    n_seeds = {_name(curve.run): len(curve.accuracy) for curve in shipped}
    parts: dict[Name, list[Run]] = {}
    for run in fitting:
        parts.setdefault(_name(run), []).append(run)
    for name in {*n_seeds, *(_name(curve.run) for curve in own)}:
        parts.pop(name, None)
    return Known(
        shipped,
        [curve for curve in own if curve.profile and len(curve.accuracy) > n_seeds.get(_name(curve.run), 0)],
        glimpses_of(parts.values(), profiles),
    )


def together(shipped: Sequence[Curve], own: Sequence[Curve]) -> list[Curve]:
    """Return all curves, the shipped ones first; an own one of the same name stands in a shipped one's place."""
    return list({_name(curve.run): curve for curve in (*shipped, *own)}.values())


def _name(run: Run) -> Name:
    return run.suite, run.curve


def refit(url: str | None = None, *, force: bool = False, progress: Progress | None = None) -> Outcome:
    """Fit to the shipped corpus and the user's own runs, and put the model to use unless it advises worse.

    Args:
        url: of the user's own runs.
        force: put it to use in any case, and do not compare.
        progress: called with the folds done and the folds in all, which are known once all runs are read.

    Raises:
        UsageError: there is nothing of the user's own to learn from, or there are too few sources.
        KnowledgeError: where the model goes, or what is kept of a comparison, stands a folder, pipe or device.
    """
    _refuse_special(model_path(), previous_path(), _compared_path())
    shipped, own, glimpses = _read(url, progress)
    n_own = len(own) + len(glimpses)
    if not n_own and not force:
        raise UsageError(
            "fit needs temperature curves of your own with n_val and their teachers' profiles: two temperatures with "
            "two seeds in common, as verify writes them, or complete ones as bench writes them, or further seeds of "
            "shipped ones. Got none. Add some: tempadvisor knowledge add runs.csv --set n_val=N --profile FILE. "
            "Where a model learned from runs that are gone, knowledge restore takes it back.",
            code="no_own_curves",
        )
    comparison = None if force else compare(shipped, own, progress, glimpses=glimpses)
    everything = together(shipped, own)
    model = fit(everything, glimpses)
    standing = tally(everything, load_rules())
    activated = comparison is None or not comparison.worse
    if activated:
        use(model, standing)
    n_curves = len(everything) + len(glimpses)
    version = Knowledge(load_rules(), model).version
    return Outcome(activated, version, model.kind, model.share, n_curves, n_own, comparison, standing)


def evaluated(by: str = "source", url: str | None = None, *, progress: Progress | None = None) -> Summary:
    """Return the table of the advice and its rivals on the shipped corpus and the user's own runs.

    Raises:
        UsageError: `by` is not source, teacher or setup.
    """
    if by not in BY:
        raise UsageError(f"--by must be one of {', '.join(BY)}. Got {by[:100]!r}.", code="bad_fold")
    shipped, own, glimpses = _read(url, progress)
    return summarize(evaluate(together(shipped, own), by=by, glimpses=glimpses, progress=progress))


def _read(url: str | None, progress: Progress | None) -> Known:
    if progress is not None:
        progress(0, None, "reading all runs")
    return known_curves(url)


def use(model: Learned, standing: Sequence[Standing] = ()) -> None:
    """Put a model to use for this user, with the tally counted beside it; the one before it is kept.

    Whenever it is killed, a whole model is in use, this one or the one before.
    """
    path = model_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    coming, kept = (path.with_name(f"model.{word}.{os.getpid()}.npz") for word in ("coming", "kept"))
    save(model, coming)
    save_standings(standing_path(model.version), standing, load_rules())
    if path.exists():
        shutil.copyfile(path, kept)
        kept.replace(previous_path())
    coming.replace(path)


def restore() -> str:
    """Swap the user's model in use with the one before, and return the version of the knowledge in use now.

    If there is none before, the shipped knowledge is in use; the next call swaps back. A model before that cannot be
    read counts as none.

    Raises:
        UsageError: there is no model of this user.
        KnowledgeError: in the place of one of the models stands a folder, pipe or device.
    """
    path, before = model_path(), previous_path()
    _refuse_special(path, before)
    if _is_sound(before):
        kept = path.with_name(f"model.kept.{os.getpid()}.npz")
        if path.exists():
            shutil.copyfile(path, kept)
        before.replace(path)
        if kept.exists():
            kept.replace(before)
    elif path.exists():
        path.replace(before)
    else:
        raise UsageError(
            "restore needs a model of yours in use. There is none: fit makes one.", code="nothing_to_undo"
        )
    return knowledge_in_use(load_rules()).version


def _compared_path() -> Path:
    return model_path().with_name("compared.json")


def _refuse_special(*paths: Path) -> None:
    for path in paths:
        refuse_special(path, "a file as `tempadvisor knowledge fit` writes it")


def _is_sound(path: Path) -> bool:
    try:
        load(path)
    except KnowledgeError:
        return False
    return True


def fit(curves: Sequence[Curve], glimpses: Sequence[Glimpse] = ()) -> Learned:
    """Return the model of least held-out regret, fitted to all of `curves` and `glimpses`.

    Args:
        curves: complete measured curves with profiles, of at least three sources.
        glimpses: what is believed of incomplete ones.

    Raises:
        UsageError: there are fewer sources.
    """
    sources = {curve.run.source for curve in curves}
    if len(sources) < LEAST_SOURCES:
        raise UsageError(
            f"curves must be of at least {LEAST_SOURCES} data sources to be learned from. Got {len(sources)}. "
            "Add runs on other data.",
            code="too_few_sources",
        )
    cases = cases_of(curves)
    choice = choose(cases, glimpses=glimpses)
    learned = lessons(curves, glimpses)
    return Learned(
        kind=choice.kind,
        setting=choice.setting,
        share=choice.share,
        calibration=choice.calibration,
        reach=choice.reach,
        version=version_of(curves, glimpses),
        lessons=learned,
        best=np.array([*(curve.best for curve in curves), *(glimpse.best for glimpse in glimpses)]),
        arrays=FITS[choice.kind](learned, choice.setting),
    )


def version_of(curves: Sequence[Curve], glimpses: Sequence[Glimpse] = ()) -> str:
    """Return eight digits that stand for these curves and their accuracies."""
    digest = hashlib.sha256()
    for curve in sorted(curves, key=lambda one: str(one.run.curve)):
        digest.update(f"{curve.run.curve} {curve.val_accuracy.mean(0).round(6).tolist()}".encode())
    for glimpse in sorted(glimpses, key=lambda one: (str(one.run.curve), str(one.run.suite))):
        digest.update(f"{glimpse.run.curve} {glimpse.gain.round(6).tolist()}".encode())
    return digest.hexdigest()[:8]


def compare(
    old: Sequence[Curve],
    new: Sequence[Curve],
    progress: Callable[[int, int], None] | None = None,
    *,
    glimpses: Sequence[Glimpse] = (),
) -> Comparison:
    """Return how advice on held-out setups changes when `new` curves are learned from beside the `old` ones.

    Both are scored on the old setups as they were measured before, each source held out in turn. What is advised
    without the new curves comes first and is kept for the next time. The `glimpses` are as new as the curves.
    """
    n = len({curve.run.source for curve in old})
    path, of = _compared_path(), _identity(old)
    kept = _kept(path, of, len(old))
    folds = n if kept is not None else 2 * n

    def step(offset: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, _: progress(offset + done, folds)

    if progress is not None:
        progress(0, folds)
    if kept is None:
        kept = evaluate(old, progress=step(0)).score("advice").temperatures
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"of": of, "temperatures": kept.tolist()}))
    everything, cases = together(old, new), cases_of(old)
    beside = everything[len(old) :]
    after = evaluate(everything[: len(old)], beside=beside, glimpses=glimpses, progress=step(folds - n))
    lost = [
        score("advice", cases, temperatures).regret for temperatures in (kept, after.score("advice").temperatures)
    ]
    sources = [case.source for case in cases]
    low, high = bootstrap(after, lost[1] - lost[0])
    return Comparison(macro(lost[0], sources), macro(lost[1], sources), low, high)


def _identity(curves: Sequence[Curve]) -> str:
    """Return a checksum of all that held-out advice on curves hangs on: them, the package, what it learns with."""
    about = load_rules().version, installed("numpy"), installed("scikit-learn")
    digest = hashlib.sha256(" ".join(about).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for curve in curves:
        digest.update(repr((curve.run, curve.profile)).encode())
        for values in (curve.without, curve.accuracy, curve.val_without, curve.val_accuracy, curve.fit):
            digest.update(values.tobytes())
    return digest.hexdigest()


def _kept(path: Path, of: str, n: int) -> Array | None:
    """Return the temperatures (n,) that an earlier comparison kept, if they are of the same."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        temperatures = np.array(content["temperatures"], float)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return temperatures if content["of"] == of and temperatures.shape == (n,) else None
