"""Measured temperature curves: read from runs, and what can be said of one, paired by seed and cross-fitted.

A curve is one setup at every temperature of the grid with the same seeds. Accuracies and differences are fractions.
What curves have in common, and what follows for a new setup, is learned in `regressor.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.errors import UsageError
from tempadvisor.evidence import profiles_path, read_profiles
from tempadvisor.records import TeacherProfile
from tempadvisor.response import GRID, LOG_GRID
from tempadvisor.runs import Run, read_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TEMPERATURES = GRID
LEAST_SEEDS = 4  # two in each half
SMOOTHING_OCTAVES = 0.4  # width of the kernel over log2 T
SPLITS, DRAWS = 40, 20
UNLEARNED = 0.1
LOG_T = LOG_GRID
_KERNEL = np.exp(-0.5 * ((LOG_T[:, None] - LOG_T[None]) / SMOOTHING_OCTAVES) ** 2)
SMOOTHER: Array = _KERNEL / _KERNEL.sum(1, keepdims=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One setup with all its seeds.

    `accuracy` (S, 10) is that of the test split with KD, `without` (S,) without, `val_accuracy` and `val_without`
    those of the validation split, all paired by row; `fit` (11,) is the mean accuracy on the training images, no KD
    first. A failed run counts with the accuracy of guessing. `run` is any one of the runs: it tells the setup.
    """

    run: Run
    profile: TeacherProfile | None
    without: Array
    accuracy: Array
    val_without: Array
    val_accuracy: Array
    fit: Array
    n_failed: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the student's training."""
        setup = self.run.setup
        return (setup.epochs or 0) * max(1, (setup.n_train or 0) // (setup.batch_size or 1))

    @property
    def gain(self) -> Array:
        """Test accuracy over no KD of each seed and temperature, (S, 10)."""
        gain: Array = self.accuracy - self.without[:, None]
        return gain

    @property
    def val_gain(self) -> Array:
        """Validation accuracy over no KD of each seed and temperature, (S, 10)."""
        gain: Array = self.val_accuracy - self.val_without[:, None]
        return gain

    @property
    def unlearned(self) -> NDArray[np.bool_]:
        """Whether T costs more than 10 points against no KD on training and on test images, (10,)."""
        lacks: NDArray[np.bool_] = (self.fit[0] - self.fit[1:] > UNLEARNED) & (self.gain.mean(0) < -UNLEARNED)
        return lacks

    @property
    def best(self) -> float:
        """The temperature at the top of the smoothed mean curve of the test split."""
        return TEMPERATURES[int(np.argmax(SMOOTHER @ self.accuracy.mean(0)))]

    def contrast(self, high: Sequence[float], low: Sequence[float]) -> tuple[float, float]:
        """Return mean and standard error over seeds of the mean accuracy at `high` less that at `low`."""
        columns = [[TEMPERATURES.index(t) for t in part] for part in (high, low)]
        each = self.gain[:, columns[0]].mean(1) - self.gain[:, columns[1]].mean(1)
        return float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)


def read_curves(paths: Iterable[Path], *, frozen: bool = False) -> tuple[list[Curve], int]:
    """Return the complete curves of run files, and how many runs are of no complete curve.

    A curve is complete when at least 4 of its seeds have all temperatures of the grid and no KD, those that finished
    with their test accuracy; only those seeds count.

    Raises:
        UsageError: a file is that of the frozen source, which judges the advice once, and `frozen` is off.
        KnowledgeError: a file is no file of runs or of profiles.
    """
    curves, incomplete = [], 0
    for path in paths:
        if path.name.startswith("frozen") and not frozen:
            raise UsageError(f"{path} must not be looked at: it is frozen and judges the advice once.", code="frozen")
        found, left = curves_of(read_runs(path), read_profiles(profiles_path(path)))
        curves += found
        incomplete += left
    return curves, incomplete


def curves_of(runs: Iterable[Run], profiles: dict[str, TeacherProfile]) -> tuple[list[Curve], int]:
    """Return the complete curves of runs, and how many runs are of none; see `read_curves`."""
    groups: dict[tuple[str | None, str | None], dict[tuple[int | None, float | None], Run]] = {}
    for run in runs:
        groups.setdefault((run.suite, run.curve), {})[run.seed, run.temperature] = run
    curves, incomplete = [], 0
    columns = (None, *TEMPERATURES)
    for cells in groups.values():
        seeds = sorted({seed for seed, _ in cells if seed is not None})
        rows = ([cells.get((seed, t)) for t in columns] for seed in seeds)
        whole = [[run for run in row if run and run.scored] for row in rows]
        whole = [row for row in whole if len(row) == len(columns)]
        if len(whole) < LEAST_SEEDS:
            incomplete += len(cells)
            continue
        first = whole[0][0]
        guess = 1 / (first.n_classes or 1)

        def table(name: str, whole: list[list[Run]] = whole, guess: float = guess) -> Array:
            values = ([getattr(run, name) for run in row] for row in whole)
            return np.array([[guess if value is None else value for value in row] for row in values])

        test, val = table("test_accuracy"), table("val_accuracy")
        curves.append(
            Curve(
                run=first,
                profile=profiles.get(str(first.curve)),
                without=test[:, 0],
                accuracy=test[:, 1:],
                val_without=val[:, 0],
                val_accuracy=val[:, 1:],
                fit=table("train_accuracy").mean(0),
                n_failed=sum(run.status != "FINISHED" for row in whole for run in row),
            )
        )
    return curves, incomplete


def regrets(accuracy: Array, rng: np.random.Generator) -> Array:
    """Return what each temperature loses against the best one, cross-fitted over halves of the seeds.

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
    return lost


def oracle(accuracy: Array, rng: np.random.Generator) -> float:
    """Return the regret of the temperature that was best, unsmoothed, on half of the seeds."""
    n = len(accuracy)
    lost = []
    for _ in range(SPLITS):
        order = rng.permutation(n)
        for one, other in ((order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])):
            fit, score = accuracy[one].mean(0), accuracy[other].mean(0)
            lost.append(score[int(np.argmax(SMOOTHER @ fit))] - score[int(np.argmax(fit))])
    return float(np.mean(lost))


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
