"""Score the advice in use on published temperature curves, which nothing is ever fitted to.

    python benchmarks/literature.py

A curve is all rows of `knowledge/literature.csv` that share study, data set, teacher, student, recipe and loss and
differ in temperature, with at least three temperatures, top-1 accuracy and a source that one can look up. Each is
asked as a user without a teacher at hand would ask: with what the rows tell of the training, all else unknown, no
profile. The answer is `recommend`'s: by the model in use (one's own before a shipped one), else by the rules alone.

It prints Markdown, which `knowledge/README.md` shows, and writes nothing. Regret is taken against the published
maximum, which is the luckiest of a few single runs, so that even perfect advice would show some.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tempadvisor.advise import recommend
from tempadvisor.corpus import LITERATURE_COLUMNS, Measurement, load_literature
from tempadvisor.records import SETUP_COLUMNS, Recommendation, TrainingSetup
from tempadvisor.response import TOLERANCE

Array = npt.NDArray[np.float64]

LEAST = 3  # temperatures of a curve
FIXED = (1.0, 4.0)
TIED = 0.002 + 1e-9  # accuracies this close, as single runs scatter, do not say which is better
VARIES = {"temperature", "accuracy", "student_accuracy_no_kd", "citation", "flag"}  # within a curve
SETTINGS = tuple(column.name for column in LITERATURE_COLUMNS if column.name not in VARIES)
TOLD = tuple(column.name for column in SETUP_COLUMNS if column.name in SETTINGS)
T_SQUARED = {True: "with T²", False: "without T²", None: "T² unknown"}


class Published(NamedTuple):
    """A published curve: `accuracy` (n,) at `temperatures` (n,), ascending; `row` holds the settings."""

    row: Measurement
    temperatures: Array
    accuracy: Array

    @property
    def best(self) -> float:
        """The temperature of the highest published accuracy."""
        return float(self.temperatures[np.argmax(self.accuracy)])

    @property
    def middle(self) -> float:
        """The geometric middle of the published range."""
        return math.sqrt(self.temperatures[0] * self.temperatures[-1])

    @property
    def direction(self) -> int:
        """1 where temperatures above the middle did best, -1 where those below did, 0 where they are tied.

        The best temperature is tied if one that is not on its side of the middle comes within 0.2 points.
        """
        side = np.sign(self.temperatures - self.middle)
        top = int(np.argmax(self.accuracy))
        rest = self.accuracy[side != side[top]]
        return int(side[top]) if self.accuracy[top] - rest.max() > TIED else 0

    def loses(self, temperature: float) -> float:
        """Return the regret at T, as a fraction: linear in log T between published temperatures, flat beyond."""
        here = np.interp(math.log(temperature), np.log(self.temperatures), self.accuracy)
        return float(self.accuracy.max() - here)

    def reaches(self, temperature: float) -> bool:
        """Return whether T lies within the published range."""
        return bool(self.temperatures[0] <= temperature <= self.temperatures[-1])


class Score(NamedTuple):
    """How one answer did on one curve; regrets are fractions.

    `fixed` has one regret a temperature of `FIXED`, None beyond the published range; `covers` tells whether the 90 %
    interval holds the published best temperature; `holds` whether the published temperatures in the near-optimal
    interval lose no more than its tolerance, None where there are none in it.
    """

    curve: Published
    advice: Recommendation
    regret: float
    fixed: tuple[float | None, ...]
    middle: float
    side: Literal["right", "wrong", "silent"]
    covers: bool
    holds: bool | None


def published(rows: Iterable[Measurement]) -> list[Published]:
    """Return the curves of `LEAST` temperatures or more; results at the same temperature are averaged."""
    groups: dict[tuple[object, ...], dict[float, list[float]]] = {}
    first: dict[tuple[object, ...], Measurement] = {}
    for row in rows:
        if row.temperature is not None and row.accuracy is not None:
            key = tuple(getattr(row, name) for name in SETTINGS)
            first.setdefault(key, row)
            groups.setdefault(key, {}).setdefault(row.temperature, []).append(row.accuracy)
    return [
        Published(first[key], np.array(sorted(found)), np.array([np.mean(found[t]) for t in sorted(found)]))
        for key, found in groups.items()
        if len(found) >= LEAST
    ]


def setup_of(row: Measurement) -> TrainingSetup:
    """Return what a row tells of the training; all else is unknown."""
    return TrainingSetup(**{name: getattr(row, name) for name in TOLD})


def judge(curve: Published, advice: Recommendation) -> Score:
    """Score an answer on a curve."""
    low, high = advice.interval
    inside = [t for t in curve.temperatures.tolist() if low <= t <= high]
    lower, upper = advice.best_temperature_ci90
    direction = curve.direction
    right = direction * math.log(advice.temperature / curve.middle) > 0
    return Score(
        curve=curve,
        advice=advice,
        regret=curve.loses(advice.temperature),
        fixed=tuple(curve.loses(t) if curve.reaches(t) else None for t in FIXED),
        middle=curve.loses(curve.middle),
        side="silent" if direction == 0 else "right" if right else "wrong",
        covers=lower <= curve.best <= upper,
        holds=max(curve.loses(t) for t in inside) <= TOLERANCE + 1e-9 if inside else None,
    )


def table(scores: Sequence[Score]) -> str:
    """Return the scores as a Markdown table, one line a curve, regrets in points."""
    names = ("advice", *(f"T={t:g}" for t in FIXED), "middle")
    told = ("study", "data set", "setup", "temperatures", "best T", "advised T", "near-optimal", "90 %")
    columns = (*told, *names, "side")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one in scores:
        curve, advice = one.curve, one.advice
        cells = (
            curve.row.study,
            curve.row.dataset,
            _short(curve.row),
            ", ".join(f"{t:g}" for t in curve.temperatures),
            f"{curve.best:g}",
            f"{advice.temperature:.2g}",
            _span(advice.interval),
            _span(advice.best_temperature_ci90),
            *(_points(regret) for regret in (one.regret, *one.fixed, one.middle)),
            one.side,
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def summary(scores: Sequence[Score], n_rows: int, n_left_out: int) -> str:
    """Return the counts and means over all curves, and what the sources warn of."""
    n = len(scores)
    means = [f"advice {_mean([one.regret for one in scores])}"]
    means += [f"T={t:g} {_mean([one.fixed[i] for one in scores])}" for i, t in enumerate(FIXED)]
    means += [f"the middle of the published range {_mean([one.middle for one in scores])}"]
    sides = [one.side for one in scores]
    spoken = [one.holds for one in scores if one.holds is not None]
    measured = sum(any(reason.kind == "measured" for reason in one.advice.reasons) for one in scores)
    flags = {f"{one.curve.row.study}: {one.curve.row.flag}" for one in scores if one.curve.row.flag}
    lines = [
        f"{n} curves of {len({one.curve.row.study for one in scores})} studies, "
        f"{sum(len(one.curve.temperatures) for one in scores)} temperatures; {n_left_out} more curves of the "
        f"{n_rows} rows are left out, as their source cannot be looked up or their metric is another.",
        f"- measured runs speak in {measured} of {n} answers, the rules alone in the others",
        f"- mean regret in points: {', '.join(means)}",
        f"- side of the middle: right {sides.count('right')}, wrong {sides.count('wrong')}, "
        f"silent {sides.count('silent')} (the sides differ by at most 0.2 points)",
        f"- the 90 % interval holds the published best temperature in {sum(one.covers for one in scores)} of {n}",
        f"- all published temperatures in the near-optimal interval lose at most {100 * TOLERANCE:g} points "
        f"in {sum(spoken)} of the {len(spoken)} curves that have some in it",
        *(f"- caveat of {flag}" for flag in sorted(flags)),
    ]
    return "\n".join(lines)


def report(rows: Sequence[Measurement]) -> str:
    """Return the table and the summary for the advice in use."""
    curves = published(row for row in rows if row.usable)
    scores = [judge(curve, recommend(None, setup_of(curve.row))) for curve in curves]
    return f"{table(scores)}\n\n{summary(scores, len(rows), len(published(rows)) - len(curves))}"


def _short(row: Measurement) -> str:
    parts = (
        f"{row.teacher or '?'} to {row.student or '?'}",
        row.optimizer,
        row.augmentation,
        f"{row.epochs} epochs" if row.epochs else None,
        f"kd_weight {row.kd_weight:g}" if row.kd_weight is not None else None,
        f"hard_weight {row.hard_weight:g}" if row.hard_weight is not None else None,
        T_SQUARED[row.t_squared],
        "z-scored" if row.standardized else None,
    )
    return ", ".join(part for part in parts if part)


def _span(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.2g} to {pair[1]:.2g}"


def _points(regret: float | None) -> str:
    return "" if regret is None else f"{100 * regret:.2f}"


def _mean(regrets: Sequence[float | None]) -> str:
    """Return a mean in points, with the number of curves where that is not all of them."""
    there = [regret for regret in regrets if regret is not None]
    if not there:
        return "nowhere in range"
    return _points(float(np.mean(there))) + (f" (n = {len(there)})" if len(there) < len(regrets) else "")


if __name__ == "__main__":
    print(report(load_literature()))
