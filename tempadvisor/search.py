"""Which training verifies a recommended temperature next, and what may be claimed of it by then.

Temperatures are compared within seeds, and all claims rest on the equally likely curves that `posterior.py` gives.
Nothing is trained or stored here, and whose turn it is on which machine is not decided here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from tempadvisor.errors import UsageError
from tempadvisor.posterior import Cell, Posterior, condition
from tempadvisor.response import GRID, TOLERANCE, Response

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Claim = Literal["confirmed", "better_found", "no_detectable_difference", "undecided"]
BESIDE = 0.25  # octaves within which two temperatures are the same
LEAST_SEEDS = 2  # of what a claim is about
MATTERS = 0.005  # accuracy fraction: what "no detectable difference" rules out
SPENT = 0.6  # share of the error allowed that claims may use, so that they hold as often as they say
WORTH = 0.9  # chance that a better temperature is better by the tolerance
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """Hold all that the next training and the claim depend on.

    `temperatures` are those considered, `recommended` among them; `cells` validation accuracy by temperature and
    seed, where a failed training counts with the accuracy of guessing; `budget` a number of trainings, `most_seeds`
    that of seeds for one temperature.

    Raises:
        UsageError: `recommended` or a temperature that was tried is not among `temperatures`, or a number is out of
            its range.
    """

    prior: Response
    recommended: float
    temperatures: tuple[float, ...]
    n_val: int
    budget: int
    cells: Mapping[Cell, float] = dataclasses.field(default_factory=dict)
    most_seeds: int = 10
    tolerance: float = TOLERANCE
    confidence: float = 0.95

    def __post_init__(self) -> None:
        strange = {self.recommended, *(t for t, _ in self.cells)} - set(self.temperatures)
        if strange:
            raise UsageError(
                f"temperatures must hold the recommended one and all that were tried. {strange} are not among them.",
                code="bad_search",
            )
        if min(self.n_val, self.budget, self.most_seeds) < 1 or self.tolerance <= 0 or not 0.5 < self.confidence < 1:
            raise UsageError(
                "n_val, budget and most_seeds must be at least 1, tolerance above 0, confidence between 0.5 and 1. "
                f"Got {self.n_val}, {self.budget}, {self.most_seeds}, {self.tolerance:g} and {self.confidence:g}.",
                code="bad_search",
            )

    def seeds(self, temperature: float) -> int:
        """Return how many seeds a temperature has."""
        return sum(t == temperature for t, _ in self.cells)

    def paired(self, temperature: float) -> list[float]:
        """Return the accuracies over those at the recommended temperature, on the seeds that both have."""
        return [
            accuracy - self.cells[self.recommended, seed]
            for (t, seed), accuracy in self.cells.items()
            if t == temperature and (self.recommended, seed) in self.cells
        ]

    def with_cell(self, cell: Cell, accuracy: float) -> Search:
        """Return the search with one training more."""
        return dataclasses.replace(self, cells={**self.cells, cell: accuracy})


class Verdict(NamedTuple):
    """What may be claimed, with the `temperature` to use.

    `mean` and `ci95` are the accuracy of `rival` over the recommended temperature: of the one to use, or where that
    is the recommended one, of the most promising other one that was tried. `probability` is that of the claim; of
    "undecided", the probability that the recommended temperature is within the tolerance of the best.
    """

    claim: Claim
    temperature: float
    rival: float
    mean: float
    ci95: tuple[float, float]
    probability: float


def ladder(recommended: float) -> tuple[float, ...]:
    """Return the temperatures to consider: all that were measured, the recommended one in place of those beside it.

    >>> ladder(4.5)
    (1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)
    """
    others = [t for t in GRID if abs(math.log2(t / recommended)) >= BESIDE]
    return tuple(sorted([*others, recommended]))


def posterior(search: Search) -> Posterior:
    """Return what is believed of the temperatures by now; no gain leads an accuracy beyond 0 or 1."""
    believed = condition(search.prior, search.recommended, search.temperatures, search.cells, search.n_val)
    level = float(np.mean([a for (t, _), a in search.cells.items() if t == search.recommended] or [0.5]))
    bounded = np.clip(believed.curves.gain, -level, 1 - level)
    return believed._replace(curves=dataclasses.replace(believed.curves, gain=bounded))


def remaining(search: Search, believed: Posterior) -> tuple[float, ...]:
    """Return the temperatures not dropped: one is, where its chance to be as good is its share of the error."""
    gain = believed.curves.gain
    near = (gain >= gain.max(1, keepdims=True) - search.tolerance).mean(0)
    return tuple(
        t for t, chance in zip(search.temperatures, near, strict=True) if chance > (1 - search.confidence) / len(near)
    )


def verdict(search: Search, believed: Posterior | None = None) -> Verdict:
    """Return what the trainings so far allow to claim.

    - better_found: the best temperature that was tried is better than the recommended one.
    - confirmed: the recommended temperature is within `tolerance` of the best.
    - no_detectable_difference: it is within 0.005 of the best, and none is shown to be better; keep it.
    - undecided: neither; the temperature to use is the best in expectation of those tried.

    None is better that did not do better where it was trained, whatever is expected of it.

    Each claim must be as probable as `confidence` asks by the share of the budget that is spent: the error allowed
    grows in step with the trainings, so that many early looks cost little. Whatever the claim is about has 2 seeds.
    """
    gain = (believed or posterior(search)).curves.gain
    temperatures, reference = search.temperatures, search.temperatures.index(search.recommended)
    seeds = [search.seeds(t) for t in temperatures]
    mean = gain.mean(0)
    tried = [i for i, n in enumerate(seeds) if n or i == reference]
    ahead = [i for i in tried if i == reference or sum(search.paired(temperatures[i])) > 0]
    best = max(ahead, key=lambda i: mean[i])
    rival = max((i for i in tried if i != reference), key=lambda i: mean[i], default=reference)
    allowed = (1 - search.confidence) * SPENT * min(len(search.cells) / search.budget, 1.0)
    lost = gain.max(1)

    def claim(name: Claim, i: int, probability: float) -> Verdict:
        other = rival if i == reference else i
        low, high = np.quantile(gain[:, other], [0.025, 0.975])
        ci95 = (float(low), float(high))
        return Verdict(name, temperatures[i], temperatures[other], float(mean[other]), ci95, probability)

    within = float(np.mean(lost <= search.tolerance))
    if seeds[reference] >= LEAST_SEEDS:
        better = float(np.mean(gain[:, best] > 0))
        worth = float(np.mean(gain[:, best] > search.tolerance))
        if seeds[best] >= LEAST_SEEDS and better >= 1 - allowed and worth >= WORTH:
            return claim("better_found", best, better)
        if within >= 1 - allowed:
            return claim("confirmed", reference, within)
        small = float(np.mean(lost <= MATTERS))
        if small >= 1 - allowed:
            return claim("no_detectable_difference", reference, small)
    return claim("undecided", best, within)


def propose(search: Search, pending: Collection[Cell] = ()) -> Cell | None:
    """Return temperature and seed of the next training, or None: the claim stands, or the budget is spent.

    The recommended temperature goes first, with seed 0, and leads: a seed is new to it before it is to another. Of
    the others, the one goes next whose training adds most to the expected accuracy of the best choice, for its cost
    (two where the recommended one lacks the seed). Where none of them is left, the recommended one gets the seeds
    that a claim needs. "No detectable difference" does not stop the search, since another training may still confirm
    or contradict.

    Args:
        search: what is known.
        pending: trainings that are under way; they count as spent, and as if they ended as expected.
    """
    spent = len(search.cells) + len(pending)
    if spent >= search.budget:
        return None
    first = (search.recommended, 0)
    if first not in search.cells:
        return None if first in pending else first
    believed = posterior(search)
    if verdict(search, believed).claim in ("confirmed", "better_found"):
        return None
    if pending:
        search = _as_expected(search, believed, pending)
        believed = posterior(search)
    led = search.seeds(search.recommended)
    rivals = [t for t in remaining(search, believed) if t != search.recommended]
    if not rivals and led < LEAST_SEEDS:
        return search.recommended, led
    costs = {t: 1 if search.seeds(t) < led else 2 for t in rivals if search.seeds(t) < search.most_seeds}
    worth = dict(zip(search.temperatures, _gained(believed), strict=True))
    affordable = [t for t, cost in costs.items() if spent + cost <= search.budget]
    if not affordable:
        return None
    best = max(affordable, key=lambda t: worth[t] / costs[t])
    return (best, search.seeds(best)) if costs[best] == 1 else (search.recommended, led)


def _gained(believed: Posterior) -> Array:
    """Return by how much one seed more of each temperature raises the expected accuracy of the best choice, (G,)."""
    gain = believed.curves.gain
    mean, joint = gain.mean(0), np.cov(gain.T)
    step = joint / np.sqrt(np.diag(joint) + believed.noise + 1e-18)
    after = (mean[:, None, None] + step[..., None] * _NODES).max(0)
    gained: Array = after @ (_WEIGHTS / _WEIGHTS.sum()) - mean.max()
    return gained


def _as_expected(search: Search, believed: Posterior, pending: Collection[Cell]) -> Search:
    """Return the search as it would be if what is under way ended at what is expected of it."""
    expected = dict(zip(search.temperatures, believed.curves.expected, strict=True))
    levels = {cell: accuracy - expected[cell[0]] for cell, accuracy in search.cells.items()}
    for temperature, seed in pending:
        alike = [level for (_, other), level in levels.items() if other == seed] or list(levels.values())
        search = search.with_cell((temperature, seed), float(np.mean(alike)) + float(expected[temperature]))
    return search
