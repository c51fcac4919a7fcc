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
    Floats = NDArray[np.float64]

LONG = 100  # optimizer steps
RUINED = 0.03  # of accuracy: a temperature that loses more ruins a training, and `cut_regret` counts it as this
COSTLIEST = 10


@dataclasses.dataclass(frozen=True)
class Line:
    """One method: its macro-averaged regret with a 90 % interval, the median, and how often it is near the floor.

    Regrets are accuracy fractions; in `cut_regret` each counts as 3 points at most. `within_02` and `within_05` are
    the shares of setups in which it loses at most 0.2 and 0.5 points more than a perfect advisor would seem to.
    `long_regret` leaves out trainings under 100 steps, in which no temperature teaches much.
    """

    method: str
    regret: float
    low: float
    high: float
    cut_regret: float
    median: float
    long_regret: float | None
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
class Held:
    """How the advice did on one source: mean regrets of advice and best fixed temperature, and how intervals held.

    `covered_std` is the binomial standard error of `best_covered`.
    """

    source: str
    n_curves: int
    regret: float
    best_fixed: float
    interval_ends_hold: float
    best_covered: float
    covered_std: float


@dataclasses.dataclass(frozen=True)
class Costly:
    """A setup whose regret weighs much in the mean: `share` is its part of the advice's whole regret."""

    curve: str
    source: str
    regret: float
    share: float
    advised: float
    best: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """The table: methods from least to most regret."""

    by: str
    n_curves: int
    sources: dict[str, int]
    lines: tuple[Line, ...]
    promises: Promises
    by_source: tuple[Held, ...]
    costliest: tuple[Costly, ...]
    choices: dict[str, str]


def summarize(found: Evaluation) -> Summary:
    """Return the table of an evaluation."""
    sources = [case.source for case in found.cases]
    floor = np.array([case.floor for case in found.cases])
    long = np.array([case.curve.steps >= LONG for case in found.cases])
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
                cut_regret=macro(np.minimum(score.regret, RUINED), sources),
                median=float(np.median(score.regret)),
                long_regret=_macro_of(score.regret, sources, long),
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
        by_source=_by_source(found),
        costliest=_costliest(found),
        choices=choices,
    )


def _macro_of(values: Floats, sources: list[str], among: Mask) -> float | None:
    kept = [source for source, one in zip(sources, among, strict=True) if one]
    return macro(values[among], kept) if kept else None


def _by_source(found: Evaluation) -> tuple[Held, ...]:
    names = np.array([case.source for case in found.cases])
    advice, fixed = (found.score(name).regret for name in ("advice", "best fixed T"))
    held = []
    for name in sorted(set(names.tolist())):
        here = names == name
        covered = float(found.verdicts.covers_best[here].mean())
        held.append(
            Held(
                source=name,
                n_curves=int(here.sum()),
                regret=float(advice[here].mean()),
                best_fixed=float(fixed[here].mean()),
                interval_ends_hold=float(found.verdicts.ends_hold[here].mean()),
                best_covered=covered,
                covered_std=float((covered * (1 - covered) / here.sum()) ** 0.5),
            )
        )
    return tuple(held)


def _costliest(found: Evaluation) -> tuple[Costly, ...]:
    advice = found.score("advice")
    n_of = Counter(case.source for case in found.cases)
    weighed = np.array([r / n_of[case.source] for r, case in zip(advice.regret, found.cases, strict=True)])
    return tuple(
        Costly(
            curve=str(found.cases[i].curve.run.curve),
            source=found.cases[i].source,
            regret=float(advice.regret[i]),
            share=float(weighed[i] / weighed.sum()) if weighed.sum() else 0.0,
            advised=float(advice.temperatures[i]),
            best=found.cases[i].curve.best,
        )
        for i in np.argsort(-weighed, kind="stable")[:COSTLIEST]
    )


def _share(what: Mask, among: Mask) -> float | None:
    return float(what[among].mean()) if among.any() else None
