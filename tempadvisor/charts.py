"""The page's drawings: SVG whose places are in percent of the plot, so that they fit a phone and a sheet alike.

Colors, and what moves with the page's slider, are the business of the page; lengths of text are in CSS there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

from tempadvisor.records import CurvePoint, Recommendation, TeacherProfile
from tempadvisor.temperatures import Axis, span, written
from tempadvisor.verification import Verification

MARKED = (1.0, 4.0)  # temperatures
MANY_TICKS = 8  # of which a phone has room
NEAR = 25.0  # percent of the width within which two labels would touch
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
Point = tuple[float, float]
Scale = Callable[[float], float]


def across(axis: Axis) -> Scale:
    """Return the function that says where a temperature lies, in percent of the width.

    >>> across(Axis(0.5, 8.0))(1)
    25.0
    """
    return lambda temperature: round(100 * axis.share(temperature), 3)


def scale(low: float, high: float) -> Scale:
    """Return the function that says where a value lies, in percent of the height from the top."""
    return lambda value: round(100 * (high - min(max(value, low), high)) / (high - low), 3)


def in_points(value: float) -> str:
    """Write an accuracy as a label of an axis.

    >>> in_points(-0.01), in_points(0.0)
    ('−1.0', '0')
    """
    return f"{100 * value:+.1f}".replace("-", "−") if value else "0"


def accuracy(advice: Recommendation, axis: Axis) -> str:
    """Draw the expected accuracy against the best with its band, and the near-optimal range."""
    curve, x = advice.curve, across(axis)
    low, high = extent(curve)
    y = scale(low, high)
    above = [(x(p.temperature), y(p.mean + p.std)) for p in curve]
    below = [(x(p.temperature), y(p.mean - p.std)) for p in curve]
    left, right = (x(end) for end in advice.interval)
    first, last = (x(end) for end in advice.best_temperature_ci90)
    parts = [
        f'<rect class="range" x="{left}%" y="0" width="{round(right - left, 3)}%" height="100%"/>',
        *levels(low, high, y, in_points),
        stretched(
            polygon("band", [*above, *reversed(below)]),
            polyline("line", [(x(p.temperature), y(p.mean)) for p in curve]),
        ),
        *usual(x),
        f'<line class="best" x1="{first}%" x2="{last}%" y1="96%" y2="96%"/>',
        here("rec", x(advice.temperature), f"T = {written(advice.temperature)}"),
    ]
    told = f"Expected accuracy over temperature. {in_short(advice)}"
    return figure("plot tall", told, parts, axis, dot=(x(advice.temperature), y(0.0)))


def in_short(advice: Recommendation) -> str:
    """Say what the curve of expected accuracy shows."""
    ends = ", ".join(
        f"{100 * p.mean:+.1f} points at T={written(p.temperature)}" for p in (advice.curve[0], advice.curve[-1])
    )
    return f"Best around T={written(advice.temperature)}, near-optimal from {span(advice.interval)}; {ends}."


def extent(curve: Sequence[CurvePoint]) -> tuple[float, float]:
    """Return the lowest and highest accuracy that is drawn."""
    return min(-0.005, *(p.mean - p.std for p in curve)), max(0.0025, *(p.mean + p.std for p in curve))


def seen(profile: TeacherProfile, unit: float = 1.0) -> tuple[float, float]:
    """Return the lowest and the highest temperature at which softness was measured; `unit` as in `softness`."""
    return profile.temperatures[0] / unit, profile.temperatures[-1] / unit


def softness(profile: TeacherProfile, temperature: float | None, axis: Axis, unit: float = 1.0) -> str:
    """Draw mean entropy and mean top probability over temperature where they were measured, both from 0 to 1.

    Args:
        profile: of the teacher.
        temperature: the advised one, if there is one.
        axis: of the drawing.
        unit: logit units that one unit of temperature is worth; not 1 where the loss standardizes logits.
    """
    x, y, most = across(axis), scale(0.0, 1.0), math.log(profile.n_classes)
    low, high = seen(profile, unit)
    low, high = min(max(low, axis.low), axis.high), min(max(high, axis.low), axis.high)
    grid = [low, *(t for t in axis.grid(12 * axis.octaves) if low < t < high), high]
    entropy, top = (
        [profile.curve_at(t * unit, curve) / of for t in grid]
        for curve, of in ((profile.entropy_nats, most), (profile.top1_probability, 1.0))
    )
    parts = [
        *levels(0.0, 1.0, y, lambda value: f"{100 * value:.0f}\xa0%", step=0.5),
        stretched(
            *(
                polyline(kind, [(x(t), y(value)) for t, value in zip(grid, values, strict=True)])
                for kind, values in (("line", entropy), ("line second", top))
            )
        ),
        *usual(x, named=temperature is None),
    ]
    if temperature is not None:
        parts.append(here("rec", x(temperature), ""))
    told = (
        f"Mean entropy rises from {entropy[0]:.0%} of its maximum at T={written(low)} to {entropy[-1]:.0%} "
        f"at T={written(high)}, while the mean top probability falls from {top[0]:.0%} to {top[-1]:.0%}."
    )
    return figure("plot" if temperature else "plot named", told, parts, axis)


def measured(found: Verification, axis: Axis) -> str:
    """Draw what is believed after the trainings, over the recommended temperature, and each paired difference."""
    recommended, x = found.recommendation.temperature, across(axis)
    pairs = differences(found)
    tried = [rung for rung in found.curve if rung.n_seeds] or list(found.curve)
    values = [end for rung in tried for end in rung.ci95] + [rung.prior for rung in found.curve]
    values += [value for _, value in pairs]
    low, high = min(-0.005, *values), max(0.005, *values)
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    y = scale(low, high)
    parts = [
        *levels(low, high, y, in_points),
        stretched(polyline("line before", [(x(rung.temperature), y(rung.prior)) for rung in found.curve])),
        *usual(x),
        *_advised_and_used(recommended, found.temperature, x),
    ]
    parts += [f'<circle class="pair" cx="{x(temperature)}%" cy="{y(value)}%" r="3"/>' for temperature, value in pairs]
    for rung in found.curve:
        place, centre = f"{x(rung.temperature)}%", f"{y(rung.mean)}%"
        if rung.n_seeds and rung.temperature != recommended:
            parts.append(
                f'<line class="spread" x1="{place}" x2="{place}" y1="{y(rung.ci95[0])}%" y2="{y(rung.ci95[1])}%"/>'
            )
        kind = "dot" if rung.n_seeds else "dot hollow"
        told = f"T={written(rung.temperature)}: {100 * rung.mean:+.2f} points, {rung.n_seeds} students"
        parts.append(f'<circle class="{kind}" cx="{place}" cy="{centre}" r="5"><title>{told}</title></circle>')
    told = f"Accuracy over that at T={written(recommended)} after {found.cost.trainings} trainings. {found.headline}"
    return figure("plot tall", told, parts, axis)


def differences(found: Verification) -> list[Point]:
    """Return temperature and accuracy over the recommended one of each student that shares a seed with one there."""
    recommended = found.recommendation.temperature
    reached = {(one.temperature, one.seed): one.val_accuracy for one in found.trials}
    pairs = []
    for (temperature, seed), value in reached.items():
        base = reached.get((recommended, seed))
        if temperature not in (None, recommended) and value is not None and base is not None:
            pairs.append((temperature, value - base))
    return pairs


# Parts of a drawing.


def figure(kind: str, told: str, parts: Iterable[str], axis: Axis, dot: Point | None = None) -> str:
    """Put parts together under one description; `dot` is moved by the slider, as is the line `.now`."""
    x, many = across(axis), len(axis.ticks) > MANY_TICKS
    ticks = (
        f'<text class="tick{" thin" if many and math.log2(t) % 2 else ""}" x="{x(t)}%" y="100%" dy="1.5em" '
        f'text-anchor="middle">{written(t)}</text>'
        for t in axis.ticks
    )
    moved = ['<line class="now" x1="0" x2="0" y1="0" y2="100%"/>']
    if dot:
        moved.append(f'<circle class="now" cx="{dot[0]}%" cy="{dot[1]}%" r="5"/>')
    body = "\n".join([*parts, *ticks, *moved])
    return f'<svg class="{kind}" role="img" aria-label="{escape(told)}">\n{body}\n</svg>'


def stretched(*shapes: str) -> str:
    """Return shapes, whose points are in percent, over the whole plot."""
    inside = "".join(shapes)
    return f'<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{inside}</svg>'


def polyline(kind: str, points: Sequence[Point]) -> str:
    """Return a line through points."""
    return f'<polyline class="{kind}" points="{_listed(points)}"/>'


def polygon(kind: str, points: Sequence[Point]) -> str:
    """Return an area around points."""
    return f'<polygon class="{kind}" points="{_listed(points)}"/>'


def levels(
    low: float, high: float, y: Scale, said: Callable[[float], str], step: float | None = None
) -> Iterable[str]:
    """Yield a line across the plot, with its label at the left, for each round value."""
    step = step or next((step for step in STEPS if (high - low) / step <= 5), 1.0)
    for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        place = y(i * step)
        yield f'<line class="{"level zero" if i == 0 else "level"}" x1="0" x2="100%" y1="{place}%" y2="{place}%"/>'
        yield (
            f'<text class="tick" x="0" dx="-.7em" y="{place}%" dy=".35em" text-anchor="end">{said(i * step)}</text>'
        )


def _advised_and_used(advised: float, used: float, x: Scale) -> Iterable[str]:
    """Yield both temperatures; labels that would touch stand away from each other."""
    near = 0 < abs(x(used) - x(advised)) < NEAR
    left, right = ("end", "start") if near else ("middle", "middle")
    yield here("rec", x(advised), f"advised {written(advised)}", left if advised < used else right)
    if used != advised:
        yield here("use", x(used), f"use {written(used)}", right if advised < used else left)


def usual(x: Scale, *, named: bool = True) -> Iterable[str]:
    """Yield the temperatures that are copied from old recipes."""
    for temperature in MARKED:
        place = f"{x(temperature)}%"
        yield f'<line class="usual" x1="{place}" x2="{place}" y1="0" y2="100%"/>'
        if named:
            told = f"T = {written(temperature)}"
            yield f'<text class="tick" x="{place}" y="0" dy="-.6em" text-anchor="middle">{told}</text>'


def here(kind: str, place: float, said: str, anchor: str = "middle") -> str:
    """Return a temperature that is spoken of, at a place in percent, its label above those of `usual`."""
    label = (
        f'<text class="{kind}" x="{place}%" y="0" dy="-1.9em" text-anchor="{anchor}">{said}</text>' if said else ""
    )
    return f'<line class="{kind}" x1="{place}%" x2="{place}%" y1="0" y2="100%"/>{label}'


def at(curve: Sequence[CurvePoint], temperature: float) -> Point:
    """Return mean and std of the expected accuracy at a temperature, linear in log T between points.

    >>> points = [CurvePoint(temperature=t, mean=m, std=0.0) for t, m in ((1, -0.2), (4, 0.0))]
    >>> round(at(points, 2)[0], 12)
    -0.1
    """
    for one, other in pairwise(curve):
        if temperature <= other.temperature:
            share = max(0.0, math.log(temperature / one.temperature) / math.log(other.temperature / one.temperature))
            return one.mean + share * (other.mean - one.mean), one.std + share * (other.std - one.std)
    return curve[-1].mean, curve[-1].std


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{across:g},{down:g}" for across, down in points)
