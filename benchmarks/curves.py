"""Measured temperature curves: read from the corpus, and what can be said of one curve or of a group of them.

It answers how accuracy differs between temperatures, paired by seed, and what a fixed temperature loses. It refuses
the frozen source, which judges the advice once and is not looked at before.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tempadvisor.errors import UsageError
from tempadvisor.runs import Run, read_runs
from tempadvisor.suites import TEMPERATURES, read_suite

Array = npt.NDArray[np.float64]
SMOOTHING_OCTAVES = 0.4  # width of the kernel over log2 T
SPLITS, DRAWS = 40, 20
UNLEARNED = 0.1
LOG_T = np.log2(TEMPERATURES)
_KERNEL = np.exp(-0.5 * ((LOG_T[:, None] - LOG_T[None]) / SMOOTHING_OCTAVES) ** 2)
SMOOTHER: Array = _KERNEL / _KERNEL.sum(1, keepdims=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One setup with all its seeds.

    `accuracy` is of the test split, without KD in `without` (S,), with KD at T in (S, 10), paired by row;
    `fit` is the mean accuracy on the training images, no KD first, (11,).
    """

    run: Run
    without: Array
    accuracy: Array
    fit: Array
    n_failed: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the student's training."""
        setup = self.run.setup
        return (setup.epochs or 0) * max(1, (setup.n_train or 0) // (setup.batch_size or 1))

    @property
    def unlearned(self) -> npt.NDArray[np.bool_]:
        """Whether T costs more than 10 points against no KD on training and on test images, (10,)."""
        lacks: npt.NDArray[np.bool_] = (self.fit[0] - self.fit[1:] > UNLEARNED) & (
            self.gain.mean(0) < -100 * UNLEARNED
        )
        return lacks

    @property
    def gain(self) -> Array:
        """Accuracy over no KD of each seed and temperature, in points, (S, 10)."""
        gain: Array = 100 * (self.accuracy - self.without[:, None])
        return gain

    @property
    def best(self) -> float:
        """The temperature at the top of the smoothed mean curve."""
        return TEMPERATURES[int(np.argmax(SMOOTHER @ self.accuracy.mean(0)))]

    def contrast(self, high: Sequence[float], low: Sequence[float]) -> tuple[float, float]:
        """Return mean and standard error over seeds of the mean accuracy at `high` less that at `low`, in points."""
        columns = [[TEMPERATURES.index(t) for t in part] for part in (high, low)]
        each = self.gain[:, columns[0]].mean(1) - self.gain[:, columns[1]].mean(1)
        return float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)


def read_curves(paths: Iterable[Path]) -> tuple[list[Curve], int]:
    """Return the complete curves of run files, and how many runs belong to curves that are not complete yet.

    A failed run counts with the accuracy of guessing.

    Raises:
        UsageError: a file is that of a frozen source.
    """
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for path in paths:
        if path.name.startswith("frozen"):
            raise UsageError(f"{path} must not be looked at: it is frozen and judges the advice once.", code="frozen")
        for run in read_runs(path):
            groups.setdefault((run.suite, run.curve), []).append(run)
    curves, incomplete = [], 0
    for runs in groups.values():
        cells = {(run.seed, run.temperature): run for run in runs}
        seeds = _seeds(str(runs[0].suite))
        if any((seed, t) not in cells for seed in seeds for t in (None, *TEMPERATURES)):
            incomplete += len(runs)
            continue
        guess = 1 / (runs[0].n_classes or 1)
        table = np.array(
            [
                [
                    run.test_accuracy if run.test_accuracy is not None else guess
                    for run in (cells[seed, t] for t in (None, *TEMPERATURES))
                ]
                for seed in seeds
            ]
        )
        fit = [np.mean([cells[seed, t].train_accuracy or guess for seed in seeds]) for t in (None, *TEMPERATURES)]
        failed = sum(run.status != "FINISHED" for run in runs)
        curves.append(
            Curve(run=runs[0], without=table[:, 0], accuracy=table[:, 1:], fit=np.array(fit), n_failed=failed)
        )
    return curves, incomplete


@functools.cache
def _seeds(suite: str) -> tuple[int, ...]:
    return read_suite(Path(__file__).parent / "suites" / f"{suite}.toml").seeds


def regrets(accuracy: Array, rng: np.random.Generator) -> Array:
    """Return what each temperature loses, in points, against the best one, cross-fitted over halves of the seeds.

    The best is chosen on one half by the smoothed curve and both are scored on the other, both ways, many times.
    """
    n = len(accuracy)
    halves = np.array([rng.permutation(n)[: n // 2] for _ in range(SPLITS)])
    inside = np.zeros((SPLITS, n), bool)
    np.put_along_axis(inside, halves, True, axis=1)
    lost = np.zeros(accuracy.shape[1])
    for chosen in (inside, ~inside):
        fit, score = (
            (part / part.sum(1, keepdims=True)) @ accuracy for part in (chosen.astype(float), (~chosen).astype(float))
        )
        best = np.argmax(fit @ SMOOTHER.T, axis=1)
        lost += (score[np.arange(SPLITS), best][:, None] - score).mean(0) / 2
    regret: Array = 100 * lost
    return regret


def floor(accuracy: Array, rng: np.random.Generator) -> float:
    """Return the score that `regrets` would give a perfect advisor: truth the smoothed curve, noise as measured."""
    truth = SMOOTHER @ accuracy.mean(0)
    best = int(np.argmax(truth))
    residuals = (accuracy - accuracy.mean(0)) / (len(accuracy) - 1) ** 0.5
    draws = [
        regrets(truth + rng.standard_normal((len(accuracy), len(accuracy))) @ residuals, rng)[best]
        for _ in range(DRAWS)
    ]
    return float(np.mean(draws))


def by_source(curves: Iterable[Curve], value: Callable[[Curve], float]) -> dict[str, Array]:
    """Return the values of curves, by source."""
    groups: dict[str, list[float]] = {}
    for curve in curves:
        groups.setdefault(str(curve.run.source), []).append(value(curve))
    return {source: np.array(values) for source, values in sorted(groups.items())}


def macro(curves: Sequence[Curve], value: Callable[[Curve], float]) -> tuple[float, float]:
    """Return mean and standard error of a value of curves: the mean of the sources' means."""
    parts = [part for part in by_source(curves, value).values() if len(part) > 1]
    if not parts:
        return float("nan"), float("nan")
    variance = sum(part.var(ddof=1) / len(part) for part in parts)
    return float(np.mean([part.mean() for part in parts])), float(variance**0.5 / len(parts))


def difference(
    one: Sequence[Curve], other: Sequence[Curve], value: Callable[[Curve], float]
) -> tuple[float, float, int]:
    """Return how a value differs between two groups, within each source and averaged over sources.

    Returns:
        Mean of `one` less `other`, its standard error over curves, and in how many sources both have two curves.
    """
    parts = by_source(one, value), by_source(other, value)
    shared = [source for source in parts[0] if all(len(part.get(source, ())) > 1 for part in parts)]
    if not shared:
        return float("nan"), float("nan"), 0
    gaps = [parts[0][source].mean() - parts[1][source].mean() for source in shared]
    variance = sum(part[source].var(ddof=1) / len(part[source]) for source in shared for part in parts)
    return float(np.mean(gaps)), float(variance**0.5 / len(shared)), len(shared)
