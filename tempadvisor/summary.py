"""An evaluation in a table: what each method loses, how the intervals and verdicts held, what the folds chose."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.evaluation import Evaluation, bootstrap
from tempadvisor.rivals import macro

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Line:
    """One method: its macro-averaged regret with a 90 % interval, the median, and how often it is near the floor.

    Regrets are accuracy fractions; `within_02` and `within_05` are the shares of setups in which it loses at most 0.2
    and 0.5 points more than a perfect advisor would seem to.
    """

    method: str
    regret: float
    low: float
    high: float
    median: float
    within_02: float
    within_05: float
    cost: str


@dataclasses.dataclass(frozen=True)
class Promises:
    """How often intervals and verdicts of the advice held on setups it had not seen, as shares of the setups."""

    interval_ends_hold: float
    best_covered: float
    harmed: float
    harmed_unflagged: float
    harm_flagged: float
    harm_precision: float | None
    harm_recall: float | None
    indifferent: float
    indifferent_flagged: float
    indifferent_precision: float | None
    indifferent_recall: float | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The table: methods from least to most regret."""

    by: str
    n_curves: int
    sources: dict[str, int]
    lines: tuple[Line, ...]
    promises: Promises
    choices: dict[str, str]


def summarize(found: Evaluation) -> Summary:
    """Return the table of an evaluation."""
    sources = [case.source for case in found.cases]
    floor = np.array([case.floor for case in found.cases])
    lines = []
    for score in found.scores:
        low, high = bootstrap(found, score.regret)
        above = score.regret - floor
        lines.append(
            Line(
                method=score.name,
                regret=macro(score.regret, sources),
                low=low,
                high=high,
                median=float(np.median(score.regret)),
                within_02=float(np.mean(above <= 0.002)),
                within_05=float(np.mean(above <= 0.005)),
                cost=score.cost,
            )
        )
    v = found.verdicts
    promises = Promises(
        interval_ends_hold=float(v.ends_hold.mean()),
        best_covered=float(v.covers_best.mean()),
        harmed=float(v.harmed.mean()),
        harmed_unflagged=float((v.harmed & ~v.harm_flagged).mean()),
        harm_flagged=float(v.harm_flagged.mean()),
        harm_precision=_share(v.harmed, v.harm_flagged),
        harm_recall=_share(v.harm_flagged, v.harmed),
        indifferent=float(v.indifferent.mean()),
        indifferent_flagged=float(v.indifferent_flagged.mean()),
        indifferent_precision=_share(v.indifferent, v.indifferent_flagged),
        indifferent_recall=_share(v.indifferent_flagged, v.indifferent),
    )
    choices = {name: f"{c.kind} {c.setting:g}, share {c.share:g}" for name, c in found.choices.items()}
    return Summary(
        by=found.by,
        n_curves=len(found.cases),
        sources=dict(sorted(Counter(sources).items())),
        lines=tuple(sorted(lines, key=lambda line: line.regret)),
        promises=promises,
        choices=choices,
    )


def _share(what: Mask, among: Mask) -> float | None:
    return float(what[among].mean()) if among.any() else None
