"""How a record looks in a terminal, as text with colour where stdout is one. Everything here returns; the CLI prints.

Text that comes from users (teacher and class names, file names) is never read as markup, and its control characters
are escaped.
"""

from __future__ import annotations

import io
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tempadvisor.errors import one_line
from tempadvisor.records import Estimate, LossContract, Recommendation, TeacherProfile

BARS = " ▁▂▃▄▅▆▇█"
ARROWS = {"raises": "↑", "lowers": "↓", "none": "·"}
COLORS = {"use": "green", "indifferent": "cyan", "kd_may_hurt": "yellow", "unknown": "yellow"}
PLOT_LOW, PLOT_HIGH, PLOT_STEPS = 0.5, 64.0, 43


def recommendation(advice: Recommendation, *, explain: bool, next_command: str) -> str:
    """Lay out a recommendation: ten seconds to read, or with everything it rests on when `explain`."""
    shown = len(advice.reasons) if explain else 3
    parts: list[RenderableType] = [
        Text(advice.headline, style=f"bold {COLORS[advice.verdict]}"),
        Text(),
        _facts(advice),
        Text(),
        _plot(advice),
        Text(),
        Text("Why", style="bold"),
        *(_reason(reason, explain) for reason in advice.reasons[:shown]),
    ]
    if len(advice.reasons) > shown:
        parts.append(Text(f"  … {len(advice.reasons) - shown} more with --explain", style="dim"))
    if advice.warnings:
        parts += [Text(), Text("Mind", style="bold yellow")]
        parts += [_indented("!", Text(one_line(notice.text)), "yellow") for notice in advice.warnings]
    if advice.unknown:
        parts += [Text(), _unknown(advice, len(advice.unknown) if explain else 3)]
    if explain:
        parts += [Text(), *_details(advice)]
    parts += [Text(), Text.assemble(("Next  ", "bold"), next_command)]
    title = f"Temperature {advice.temperature:.2g}"
    return _text(
        Panel(Group(*parts), title=title, title_align="left", border_style=COLORS[advice.verdict], padding=(1, 2))
    )


def _text(layout: RenderableType) -> str:
    """Return what a rich layout looks like on this terminal, or in 100 plain columns where there is none."""
    terminal = sys.stdout.isatty()
    console = Console(file=io.StringIO(), force_terminal=terminal, width=None if terminal else 100, highlight=False)
    with console.capture() as capture:
        console.print(layout)
    return capture.get().rstrip("\n")


def profile(measured: TeacherProfile) -> str:
    """Lay out what was measured of a teacher."""
    return _text(_profile(measured))


def _profile(measured: TeacherProfile) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _profile_rows(measured):
        table.add_row(name, Text(value))
    curves = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("T", "entropy", "of log K", "top-1 prob."):
        curves.add_column(heading, justify="right")
    for temperature in (0.5, 1, 2, 3, 4, 6, 8, 16, 32, 64):
        entropy = measured.curve_at(temperature, measured.entropy_nats)
        top = measured.curve_at(temperature, measured.top1_probability)
        curves.add_row(
            f"{temperature:g}", f"{entropy:.3f} nats", f"{entropy / math.log(measured.n_classes):.0%}", f"{top:.3f}"
        )
    parts: list[RenderableType] = [table, Text(), curves]
    if measured.warnings:
        parts += [Text(), Text("Mind", style="bold yellow")]
        parts += [_indented("!", Text(one_line(notice.text)), "yellow") for notice in measured.warnings]
    return Panel(Group(*parts), title="Teacher profile", title_align="left", padding=(1, 2))


def loss_formula(contract: LossContract, temperature: float) -> str:
    """Return the loss, with its numbers, as one would write it in a paper.

    >>> loss_formula(LossContract(kd_weight=0.9), 4)
    'L = 0.1 CE(z_s, y) + 0.9 T² KL(softmax(z_t/T) ‖ softmax(z_s/T)), T = 4, KL averaged over the batch'
    """
    squared = " T²" if contract.t_squared else ""
    logits = ("ẑ_t", "ẑ_s") if contract.standardized else ("z_t", "z_s")
    averaged = "over the batch" if contract.reduction == "batchmean" else "over batch and classes"
    hard = f"{contract.hard:g} CE(z_s, y) + " if contract.hard else ""
    scored = ", ẑ = logits z-scored per sample" if contract.standardized else ""
    return (
        f"L = {hard}{contract.kd_weight:g}{squared} KL(softmax({logits[0]}/T) ‖ softmax({logits[1]}/T)), "
        f"T = {temperature:g}, KL averaged {averaged}{scored}"
    )


def _facts(advice: Recommendation) -> Table:
    low, high = advice.interval
    best = advice.best_temperature_ci90
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row(
        "Near-optimal",
        f"T from {low:.2g} to {high:.2g}; the single best lies in {best[0]:.2g} to {best[1]:.2g} (90 %)",
    )
    gains = advice.expected_gain
    table.add_row(
        "Gain",
        f"{_points(gains['over_t4'])} over T=4, {_points(gains['over_t1'])} over T=1, "
        f"{_points(gains['over_no_kd'])} over no KD",
    )
    table.add_row("Confidence", f"{advice.confidence} ({_basis(advice)})")
    table.add_row("Loss", Text(loss_formula(advice.loss_contract, float(f"{advice.temperature:.2g}"))))
    weights = ", ".join(
        f"{option.kd_weight:g} → T={option.temperature:.2g}{' (best pair)' if option.best else ''}"
        for option in advice.kd_weights
    )
    table.add_row("kd_weight", weights)
    if advice.schedule:
        table.add_row("Schedule", advice.schedule.text)
    return table


def _basis(advice: Recommendation) -> str:
    rules = "rules of the literature, no measured runs yet" if not advice.nearest else "measured runs and rules"
    if advice.profile is None:
        return f"{rules}; no teacher seen"
    seen = advice.profile.n_samples
    inputs = f" {advice.profile.logits_from}" if advice.profile.logits_from else ""
    return f"{rules}; teacher seen on {seen:,}{inputs} samples"


def _points(estimate: Estimate) -> str:
    """Write an accuracy fraction in percentage points, with its standard deviation."""
    return f"{100 * estimate.mean:+.1f} ± {100 * estimate.std:.1f} pp"


def _plot(advice: Recommendation) -> Table:
    """Draw softness and expected accuracy over log T, each as one line of bars, with T marked below."""
    grid = [PLOT_LOW * (PLOT_HIGH / PLOT_LOW) ** (i / (PLOT_STEPS - 1)) for i in range(PLOT_STEPS)]
    points = [(math.log(point.temperature), point.mean) for point in advice.curve]
    accuracy = [_interpolated(math.log(t), points) for t in grid]
    floor = min(min(accuracy), -0.01)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    if advice.profile:
        top = math.log(advice.profile.n_classes)
        softness = [advice.profile.curve_at(t, advice.profile.entropy_nats) / top for t in grid]
        table.add_row("Softness", Text(f"{_bars(softness, 0, 1)}  0 to 1 of log K", style="magenta"))
    line = Text(_bars(accuracy, floor, 0.0), style="green")
    low, high = advice.interval
    for i, temperature in enumerate(grid):
        if not low / 1.02 <= temperature <= high * 1.02:
            line.stylize("dim", i, i + 1)
    table.add_row("Accuracy", line.append(f"  {100 * floor:.1f} to 0 pp", style="default"))
    table.add_row("T", _axis(advice.temperature))
    return table


def _axis(temperature: float) -> Text:
    cells = [" "] * PLOT_STEPS
    for mark in (0.5, 1, 2, 4, 8, 16, 32, 64):
        label = f"{mark:g}"
        place = min(_place(mark), PLOT_STEPS - len(label))
        cells[place : place + len(label)] = label
    here = min(max(_place(temperature), 0), PLOT_STEPS - 1)
    cells[here] = "▲"
    axis = Text("".join(cells), style="dim")
    axis.stylize("bold not dim", here, here + 1)
    return axis


def _place(temperature: float) -> int:
    return round((PLOT_STEPS - 1) * math.log(temperature / PLOT_LOW) / math.log(PLOT_HIGH / PLOT_LOW))


def _interpolated(x: float, points: Sequence[tuple[float, float]]) -> float:
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * max(0.0, x - x0) / (x1 - x0)
    return points[-1][1]


def _bars(values: Sequence[float], low: float, high: float) -> str:
    """Draw one bar a value between `low` (empty) and `high` (full).

    >>> _bars([0.0, 0.5, 1.0], 0, 1)
    ' ▄█'
    """
    shares = (min(1.0, max(0.0, (value - low) / (high - low))) for value in values)
    return "".join(BARS[round(share * (len(BARS) - 1))] for share in shares)


def _reason(reason: Any, explain: bool) -> RenderableType:
    text = Text(reason.text)
    moved = f" {2**reason.octaves:.2g}×" if reason.effect != "none" else ""
    detail = f"{moved} [{reason.id}, {reason.source}, grade {reason.grade}]" if explain else f"{moved} [{reason.id}]"
    text.append(detail, style="dim")
    return _indented(ARROWS[reason.effect], text, "bold")


def _indented(mark: str, text: Text, style: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style=style, no_wrap=True)
    table.add_column()
    table.add_row(f"  {mark}", text)
    return table


def _unknown(advice: Recommendation, shown: int) -> Text:
    names = ", ".join(f"--{u.name.replace('_', '-')} ({2**u.octaves:.1f}×)" for u in advice.unknown[:shown])
    text = Text("Would narrow it most  ", style="bold")
    return text.append(names, style="not bold")


def _details(advice: Recommendation) -> Iterable[RenderableType]:
    table = Table(
        box=None, padding=(0, 2), header_style="bold", title="Expected accuracy over T", title_justify="left"
    )
    for heading in ("T", "against the best", "std"):
        table.add_column(heading, justify="right")
    for point in advice.curve:
        table.add_row(f"{point.temperature:g}", f"{100 * point.mean:+.2f} pp", f"{100 * point.std:.2f} pp")
    yield table
    yield Text()
    yield Text("Setup", style="bold")
    given = advice.setup.given()
    yield Text("  " + one_line(", ".join(f"{name} {value}" for name, value in given.items()) or "nothing given"))
    yield Text(f"  tempadvisor {advice.version['tempadvisor']}, knowledge {advice.version['knowledge']}", style="dim")
    if advice.profile:
        yield Text()
        yield _profile(advice.profile)


def _profile_rows(measured: TeacherProfile) -> Iterable[tuple[str, str]]:
    of = f" of {measured.n_available:,}" if measured.n_available else ""
    yield "Teacher", one_line(measured.teacher)
    yield "Samples", f"{measured.n_samples:,}{of}, from {measured.logits_from or 'unknown inputs'}"
    yield "Classes", f"{measured.n_classes:,}"
    half = dict(zip(measured.softness_levels, measured.softness_temperatures, strict=True)).get(0.5)
    if half is not None:
        yield "Half soft at", f"T = {half:.3g} (mean entropy is half of log K)"
    if measured.spike_temperature is not None:
        yield "Top prob. 1/2 at", f"T = {measured.spike_temperature:.3g} (closed form)"
    yield (
        "Logits",
        (
            f"std {measured.logit_std:.3g}, highest minus second {measured.margin:.3g}, "
            f"highest minus the others {measured.top_gap:.3g} (their std {measured.rest_std:.3g})"
        ),
    )
    if measured.granularity is not None:
        yield (
            "Classes alike",
            (
                f"granularity {measured.granularity:.3f} nats, {_or_unknown(measured.confusable_classes)} confusable "
                f"classes each, {_or_unknown(measured.related_mass)} of the non-target mass on related classes, "
                f"block structure {_or_unknown(measured.block_structure)}"
            ),
        )
    if measured.accuracy is not None:
        yield (
            "Against labels",
            (
                f"accuracy {measured.accuracy:.4f}, NLL {_or_unknown(measured.nll_nats)} nats, calibration error "
                f"{_or_unknown(measured.calibration_error)}, calibration temperature "
                f"{_or_unknown(measured.calibration_temperature)}"
            ),
        )
    errors = ", ".join(f"{name} {value:.2g}" for name, value in sorted(measured.std_errors.items()))
    if errors:
        yield "Standard errors", errors


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
