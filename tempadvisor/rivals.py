"""What the advice must beat on the same cases: fixed temperatures, training-free formulas, a lookup, a short grid."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.curves import LOG_T, TEMPERATURES, Curve
from tempadvisor.response import Response

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FIXED = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
GRID_TRIED = (1.0, 4.0, 16.0)  # what a user's short grid would try


class Case(NamedTuple):
    """One measured setup: `regret` (10,) on test and `val_regret` (10,) on validation accuracy, both cross-fitted."""

    curve: Curve
    row: Array
    regret: Array
    val_regret: Array
    floor: float
    oracle: float
    rules: Response

    @property
    def source(self) -> str:
        """The data source."""
        return str(self.curve.run.source)

    @property
    def teacher(self) -> str:
        """The teacher's weights."""
        return str(self.curve.run.teacher_hash)

    def loses(self, temperature: float, *, validation: bool = False) -> float:
        """Return the regret at a temperature, linear in log T between those measured and flat beyond."""
        return float(np.interp(math.log2(temperature), LOG_T, self.val_regret if validation else self.regret))


@dataclasses.dataclass(frozen=True)
class Score:
    """One row of the table: a method's temperatures (n,) for the cases, and what they lose (n,), as fractions."""

    name: str
    temperatures: Array
    regret: Array
    cost: str


def macro(values: Array, sources: Sequence[str]) -> float:
    """Return the mean over sources of the means within them."""
    names = np.array(sources)
    return float(np.mean([values[names == name].mean() for name in sorted(set(sources))]))


def score(name: str, cases: Sequence[Case], temperatures: Array) -> Score:
    """Return the row of a method that gives `temperatures` (n,) without training anything."""
    regret = np.array([case.loses(t) for case, t in zip(cases, temperatures, strict=True)])
    return Score(name, temperatures, regret, "0")


def _best_fixed(cases: Sequence[Case]) -> float:
    lost = np.stack([case.val_regret for case in cases])
    sources = [case.source for case in cases]
    return TEMPERATURES[int(np.argmin([macro(column, sources) for column in lost.T]))]


def _std(case: Case) -> float:
    return case.curve.profile.logit_std if case.curve.profile else 1.0


def _top(case: Case) -> float:
    """Return the mean highest logit above the mean of all, the global form of ATKD's temperature."""
    profile = case.curve.profile
    return profile.top_gap * (profile.n_classes - 1) / profile.n_classes if profile else 1.0


def _softness_matched(case: Case, share: float) -> float:
    """Return the temperature at which the teacher's mean entropy is `share` of log K."""
    profile = case.curve.profile
    if profile is None:
        return 1.0
    entropy = np.array(profile.entropy_nats) / math.log(profile.n_classes)
    return float(np.exp(np.interp(share, entropy, np.log(profile.temperatures))))


def _softness_share(cases: Sequence[Case]) -> float:
    sources = [case.source for case in cases]
    shares = np.linspace(0.05, 0.95, 19)
    lost = [
        macro(np.array([c.loses(_softness_matched(c, s), validation=True) for c in cases]), sources) for s in shares
    ]
    return float(shares[int(np.argmin(lost))])


def _regime(case: Case) -> tuple[bool, bool, bool]:
    setup = case.curve.run.setup
    return setup.optimizer == "sgd", (setup.epochs or 0) > 30, (setup.kd_weight or 0) > 0.7


def _looked_up(case: Case, rest: Sequence[Case]) -> float:
    alike = [other for other in rest if _regime(other) == _regime(case)]
    return _best_fixed(alike if len(alike) >= 3 else rest)


def _random(cases: Sequence[Case]) -> Score:
    drawn = np.exp2(np.linspace(LOG_T[0], LOG_T[-1], 101))
    regret = np.array([np.mean([case.loses(float(t)) for t in drawn]) for case in cases])
    return Score("random log-uniform", np.full(len(cases), np.nan), regret, "0")


def _short_grid(cases: Sequence[Case]) -> Score:
    """One student each at T = 1, 4 and 16, the best by its validation accuracy; the mean over seeds."""
    columns = [TEMPERATURES.index(t) for t in GRID_TRIED]
    regret = []
    for case in cases:
        chosen = np.argmax(case.curve.val_accuracy[:, columns], axis=1)
        regret.append(float(np.mean(case.regret[columns][chosen])))
    return Score("3-point grid", np.full(len(cases), np.nan), np.array(regret), "3 trainings")


def rivals(
    cases: Sequence[Case], folds: Sequence[str], known: Sequence[Case], known_folds: Sequence[str]
) -> list[Score]:
    """Return the scores of all that needs no model; what is tuned, is tuned on `known` cases of other folds."""
    fixed, matched, looked_up = (np.zeros(len(cases)) for _ in range(3))
    for name in sorted(set(folds)):
        held = [i for i, fold in enumerate(folds) if fold == name]
        rest = [case for case, fold in zip(known, known_folds, strict=True) if fold != name]
        fixed[held], share = _best_fixed(rest), _softness_share(rest)
        matched[held] = [_softness_matched(cases[i], share) for i in held]
        looked_up[held] = [_looked_up(cases[i], rest) for i in held]
    return [
        score("rules alone", cases, np.array([case.rules.best for case in cases])),
        score("best fixed T", cases, fixed),
        *(score(f"T={t:g}", cases, np.full(len(cases), t)) for t in FIXED),
        score("softness matching", cases, matched),
        score("logit standardization", cases, np.array([3 * _std(case) for case in cases])),
        score("maximum logit (ATKD)", cases, np.array([_top(case) for case in cases])),
        score("lookup by regime", cases, looked_up),
        _random(cases),
        _short_grid(cases),
    ]
