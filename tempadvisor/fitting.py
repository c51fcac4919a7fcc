"""Fit the model that advice uses: chosen and calibrated on held-out setups, then fitted to all of them.

A new model replaces the one in use only where it does not advise worse on held-out setups, by a paired bootstrap.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.curves import Curve
from tempadvisor.errors import UsageError
from tempadvisor.evaluation import Evaluation, bootstrap, cases_of, choose, evaluate
from tempadvisor.learned import Learned, distances
from tempadvisor.regressor import FITS, lessons
from tempadvisor.rivals import macro

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEAST_SOURCES = 3
FAR = 0.95  # share of setups whose nearest neighbor of another source lies within the model's reach


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Held-out mean regret without and with the new curves, and the 90 % interval of the difference, as fractions."""

    before: float
    after: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the new curves make advice worse beyond doubt."""
        return self.low > 0


def fit(curves: Sequence[Curve]) -> Learned:
    """Return the model of least held-out regret, fitted to all of `curves`.

    Args:
        curves: complete measured curves with profiles, of at least three sources.

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
    choice = choose(cases)
    learned = lessons(curves)
    rows = np.stack([case.row for case in cases])
    names = np.array([case.source for case in cases])
    nearest = [float(distances(row, rows[names != name]).min()) for row, name in zip(rows, names, strict=True)]
    return Learned(
        kind=choice.kind,
        setting=choice.setting,
        share=choice.share,
        calibration=choice.calibration,
        reach=float(np.quantile(nearest, FAR)),
        version=version_of(curves),
        lessons=learned,
        best=np.array([curve.best for curve in curves]),
        arrays=FITS[choice.kind](learned, choice.setting),
    )


def version_of(curves: Sequence[Curve]) -> str:
    """Return eight digits that stand for these curves and their accuracies."""
    digest = hashlib.sha256()
    for curve in sorted(curves, key=lambda one: str(one.run.curve)):
        digest.update(f"{curve.run.curve} {curve.val_accuracy.mean(0).round(6).tolist()}".encode())
    return digest.hexdigest()[:8]


def compare(
    old: Sequence[Curve], new: Sequence[Curve], progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Return how advice on held-out setups changes when `new` curves are learned from beside the `old` ones.

    Both are scored on the old setups, each source held out in turn.
    """
    folds = 2 * len({curve.run.source for curve in old})

    def step(offset: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, _: progress(offset + done, folds)

    before = evaluate(old, progress=step(0))
    after = evaluate(old, beside=new, progress=step(folds // 2))
    lost = [_advised(found) for found in (before, after)]
    sources = [case.source for case in before.cases]
    low, high = bootstrap(before, lost[1] - lost[0])
    return Comparison(macro(lost[0], sources), macro(lost[1], sources), low, high)


def _advised(found: Evaluation) -> Array:
    return next(score.regret for score in found.scores if score.name == "advice")
