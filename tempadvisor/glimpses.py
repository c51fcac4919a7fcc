"""What a curve that is not complete teaches: the whole curve that is believed after its few paired trainings.

Such are the trainings of `tempadvisor verify`. No advice is judged by them: that takes curves measured at every
temperature, on the test split too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.belief import rules_response
from tempadvisor.features import vector
from tempadvisor.posterior import Cell, condition
from tempadvisor.records import TeacherProfile
from tempadvisor.response import GRID
from tempadvisor.rows import lacking
from tempadvisor.rules import RuleBook, load_rules
from tempadvisor.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LEAST_COMMON = 2  # seeds that two temperatures have in common
MOST_CELLS = 400  # trainings that are looked at, those of the first seeds
MOST_VAL = 100_000  # validation samples; with more, trainings tell no more


@dataclasses.dataclass(frozen=True, eq=False)
class Glimpse:
    """One setup at a few temperatures, as a lesson.

    `features` (d,) are those of the setup, `gain` (10,) is the accuracy over no KD that is expected at each
    temperature of the grid, `squared_error` the variance of its shape. `run` is any one of the runs: it tells the
    setup.
    """

    run: Run
    features: Array
    gain: Array
    squared_error: float

    @property
    def best(self) -> float:
        """The temperature of the greatest expected gain."""
        return GRID[int(np.argmax(self.gain))]


def teaches(runs: Sequence[Run], profile: TeacherProfile | None) -> bool:
    """Return whether a curve's runs, complete or not, tell of temperatures: two of them with two seeds in common.

    The loss must be the plain one that the model knows, and teacher's profile and size of the validation split known.
    """
    if lacking(runs[0], profiled=profile is not None):
        return False
    seeds = _seeds(_cells(runs, 0.0))
    return any(len(seeds[one] & seeds[other]) >= LEAST_COMMON for one in seeds for other in seeds if one < other)


def glimpses_of(
    curves: Iterable[Sequence[Run]], profiles: Mapping[str, TeacherProfile], book: RuleBook | None = None
) -> list[Glimpse]:
    """Return what curves teach, each given as its runs; those that do not, are left out (`teaches`).

    The shape is that of `posterior.condition`, with the rules' belief of the setup before the trainings; the level is
    the mean over seeds of what the temperature with most of them gained over no KD, or what the rules expect.
    """
    book = book or load_rules()
    return [
        _glimpse(runs, profile, book)
        for runs in curves
        if (profile := profiles.get(str(runs[0].curve))) and teaches(runs, profile)
    ]


def _glimpse(runs: Sequence[Run], profile: TeacherProfile, book: RuleBook) -> Glimpse:
    first = runs[0]
    contract = first.setup.loss_contract()
    prior = rules_response(profile, first.setup, contract, book)
    cells = _cells(runs, 1 / profile.n_classes)
    seeds = _seeds(cells)
    compared = max(seeds, key=lambda t: len(seeds[t]))
    temperatures = sorted({*seeds, *GRID})
    believed = condition(prior, compared, temperatures, cells, min(first.n_val or 1, MOST_VAL)).curves
    curves = believed.gain[:, [temperatures.index(t) for t in GRID]]
    without = {seed: accuracy for (_, seed), accuracy in _cells(runs, 1 / profile.n_classes, kd=False).items()}
    gained = [cells[compared, seed] - without[seed] for seed in sorted(seeds[compared] & without.keys())]
    level = float(np.mean(gained)) if gained else prior.gain_over(compared, None).mean
    return Glimpse(
        run=first,
        features=vector(profile, first.setup, contract),
        gain=level + curves.mean(0),
        squared_error=float((curves - curves.mean(1, keepdims=True)).var(0).mean()),
    )


def _cells(runs: Iterable[Run], guess: float, *, kd: bool = True) -> dict[Cell, float]:
    """Return validation accuracies, without KD at T=0; a failed training guesses, a pruned one says nothing."""
    found = {
        (run.temperature or 0.0, run.seed or 0): guess if run.val_accuracy is None else run.val_accuracy
        for run in runs
        if (run.temperature is not None) == kd and run.status in ("FINISHED", "FAILED")
    }
    return dict(sorted(found.items(), key=lambda cell: cell[0][::-1])[:MOST_CELLS])


def _seeds(cells: Iterable[Cell]) -> dict[float, set[int]]:
    seeds: dict[float, set[int]] = {}
    for temperature, seed in cells:
        seeds.setdefault(temperature, set()).add(seed)
    return seeds
