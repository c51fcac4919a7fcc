"""How a record looks in a terminal, as text with colour where stdout is one. Everything here returns; the CLI prints.

Text that comes from users (teacher and class names, file names) is never read as markup, and its control characters
are escaped.
"""

from __future__ import annotations

import io
import itertools
import math
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tempadvisor.errors import one_line
from tempadvisor.records import Estimate, LossContract, Notice, Reason, Recommendation, TeacherProfile
from tempadvisor.temperatures import Axis, span, written

if TYPE_CHECKING:
    from tempadvisor.bench import Plan

BARS = " ▁▂▃▄▅▆▇█"
ARROWS = {"raises": "↑", "lowers": "↓", "none": "·"}
COLORS = {"use": "green", "indifferent": "cyan", "kd_may_hurt": "yellow", "unknown": "yellow"}
WIDTH = 100
PLOT_COLUMNS = 43
UNKNOWN = "·"


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
        _reasons(advice.reasons[:shown], explain),
    ]
    if len(advice.reasons) > shown:
        parts.append(Text(f"  {len(advice.reasons) - shown} more with --explain", style="dim"))
    if advice.warnings:
        parts += [Text(), *_warnings(advice.warnings)]
    if advice.unknown:
        parts += [Text(), _unknown(advice, len(advice.unknown) if explain else 3)]
    if explain:
        parts += [Text(), *_details(advice)]
    title = Text(f"Temperature {written(advice.temperature)}")
    panel = Panel(Group(*parts), title=title, title_align="left", border_style=COLORS[advice.verdict], padding=(1, 2))
    return laid_out(panel, next_command)


def profile(measured: TeacherProfile, *, next_command: str) -> str:
    """Lay out what was measured of a teacher."""
    return laid_out(_profile(measured), next_command)


def columns() -> int:
    """Return the columns of a panel on this terminal, or where there is none."""
    return min(Console().width, WIDTH) if sys.stdout.isatty() else WIDTH


def laid_out(panel: RenderableType, next_command: str) -> str:
    """Return what a panel looks like on this terminal, or in 100 plain columns where there is none.

    The next command stands below the panel on a line of its own, so that it can be copied.
    """
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=None if terminal else WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(panel, width=min(console.width, WIDTH))
        console.print(Text.assemble(("Next: ", "bold"), one_line(next_command)), soft_wrap=True)
    return capture.get().rstrip("\n")


def _profile(measured: TeacherProfile) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in profile_rows(measured):
        table.add_row(name, Text(value))
    curves = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("T", "entropy", "of log K", "top-1 prob."):
        curves.add_column(heading, justify="right")
    for temperature in (0.5, 1, 2, 3, 4, 6, 8, 16, 32, 64):
        entropy = measured.curve_at(temperature, measured.entropy_nats)
        top = measured.curve_at(temperature, measured.top1_probability)
        curves.add_row(
            written(temperature), f"{entropy:.3f} nats", f"{entropy / math.log(measured.n_classes):.0%}", f"{top:.3f}"
        )
    parts: list[RenderableType] = [table, Text(), curves]
    if measured.warnings:
        parts += [Text(), *_warnings(measured.warnings)]
    return Panel(Group(*parts), title=Text("Teacher profile"), title_align="left", padding=(1, 2))


def plan(planned: Plan, suite: str, out: Path, *, dry_run: bool) -> str:
    """Say what a suite takes, or that it is done."""
    if not dry_run:
        return f"{planned.n_todo:,} runs done, {planned.n_runs:,} in all: {one_line(str(out))}"
    kept = planned.n_runs - planned.n_todo
    already = f" ({kept:,} are in {one_line(str(out))} already)" if kept else ""
    run = f"tempadvisor bench {shlex.join([suite, '-o', str(out)])}{' --resume' if kept else ''}"
    return f"{planned.n_todo:,} runs to do{already}, about {planned.minutes:.0f} min\nNext: {one_line(run)}"


def loss_formula(contract: LossContract, temperature: float) -> tuple[str, str]:
    """Return the loss, with its numbers, as one would write it in a paper, and what its letters stand for.

    >>> for line in loss_formula(LossContract(kd_weight=0.9), 4):
    ...     print(line)
    L = 0.1 CE(y, z_s) + 0.9 T² KL(p_t ‖ p_s)
    p = softmax(z/T), T = 4, KL averaged over the batch
    """
    squared = " T²" if contract.t_squared else ""
    hard = f"{contract.hard:g} CE(y, z_s) + " if contract.hard else ""
    logits, scored = ("ẑ", ", ẑ = z standardized per sample") if contract.standardized else ("z", "")
    averaged = "the batch" if contract.reduction == "batchmean" else "batch and classes"
    return (
        f"L = {hard}{contract.kd_weight:g}{squared} KL(p_t ‖ p_s)",
        f"p = softmax({logits}/T), T = {written(temperature)}{scored}, KL averaged over {averaged}",
    )


def _facts(advice: Recommendation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row(
        "Near-optimal",
        f"T from {span(advice.interval)}; the single best lies in {span(advice.best_temperature_ci90)} (90 %)",
    )
    gains = advice.expected_gain
    table.add_row(
        "Gain",
        f"over T=4 {_points(gains['over_t4'])}, T=1 {_points(gains['over_t1'])}, "
        f"no KD {_points(gains['over_no_kd'])} pp",
    )
    table.add_row("Confidence", f"{advice.confidence} ({basis(advice)})")
    table.add_row("Loss", Text("\n".join(loss_formula(advice.loss_contract, advice.temperature))))
    weights = ", ".join(
        f"{option.kd_weight:g} → T={written(option.temperature)}{' (looks best)' if option.best else ''}"
        for option in advice.kd_weights
    )
    table.add_row("kd_weight", weights)
    if advice.schedule:
        table.add_row("Schedule", advice.schedule.text)
    return table


def basis(advice: Recommendation) -> str:
    """Say what a confidence rests on."""
    measured = any(reason.kind == "measured" for reason in advice.reasons)
    rules = "measured runs and rules" if measured else "rules of the literature alone"
    if advice.profile is None:
        return f"{rules}; no teacher seen"
    seen = advice.profile.n_samples
    inputs = f" {advice.profile.logits_from}" if advice.profile.logits_from else ""
    return f"{rules}; teacher seen on {seen:,}{inputs} samples"


def _points(estimate: Estimate) -> str:
    """Write an accuracy fraction in percentage points, with its standard deviation."""
    return f"{100 * estimate.mean:+.1f} ± {100 * estimate.std:.1f}"


def axis_of(advice: Recommendation) -> Axis:
    """Return a scale that holds all temperatures that an answer speaks of."""
    ends = (*advice.interval, *advice.best_temperature_ci90)
    return Axis.holding((advice.temperature, *ends, *(point.temperature for point in advice.curve)))


def _plot(advice: Recommendation) -> Table:
    """Draw softness and expected accuracy over log T, each as one line of bars, with T marked below."""
    axis, profile, curve = axis_of(advice), advice.profile, advice.curve
    grid = axis.grid(PLOT_COLUMNS - 1)
    points = [(math.log(point.temperature), point.mean) for point in curve]
    accuracy = [_interpolated(math.log(t), points) for t in grid]
    floor = min(min(accuracy), -0.01)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    softness = ""
    if profile:
        unit = profile.logit_std if advice.loss_contract.standardized else 1.0
        most = math.log(profile.n_classes)
        shares = [profile.curve_at(t * unit, profile.entropy_nats) / most for t in grid]
        measured = profile.temperatures[0] / unit, profile.temperatures[-1] / unit
        softness = _known(_bars(shares, 0, 1), grid, measured)
        table.add_row("Softness", Text(f"{softness}  entropy, 0 to log K", style="magenta"))
    drawn = _known(_bars(accuracy, floor, 0.0), grid, (curve[0].temperature, curve[-1].temperature))
    line = Text(drawn, style="green")
    low, high = advice.interval
    for i, temperature in enumerate(grid):
        if not low / 1.02 <= temperature <= high * 1.02:
            line.stylize("dim", i, i + 1)
    table.add_row("Accuracy", line.append(f"  {100 * floor:.1f} to 0 pp", style="default"))
    gaps = f"  {UNKNOWN} not known" if UNKNOWN in softness + drawn else ""
    table.add_row("T", Text(_labels(axis) + gaps, style="dim"))
    table.add_row("", Text(f"{' ' * _place(axis, advice.temperature)}▲ {written(advice.temperature)}", style="bold"))
    return table


def _known(bars: str, grid: Sequence[float], ends: tuple[float, float]) -> str:
    """Return bars with those outside of what is known as dots."""
    low, high = ends[0] / 1.02, ends[1] * 1.02
    return "".join(bar if low <= t <= high else UNKNOWN for t, bar in zip(grid, bars, strict=True))


def _labels(axis: Axis) -> str:
    """Return the labels of the T axis, each beginning below the bar of its temperature, those that have room."""
    line = ""
    for tick in axis.ticks:
        label = written(tick)
        place = min(_place(axis, tick), PLOT_COLUMNS - len(label))
        if not line or place > len(line):
            line = line.ljust(place) + label
    return line.ljust(PLOT_COLUMNS)


def _place(axis: Axis, temperature: float) -> int:
    return round((PLOT_COLUMNS - 1) * axis.share(temperature))


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


def _reasons(reasons: Sequence[Reason], explain: bool) -> Table:
    """List the reasons: which way each moves T, by what factor, and why."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for reason in reasons:
        moved = f" ×{2**reason.octaves:.2f}" if reason.effect != "none" else ""
        text = Text(reason.text)
        detail = f" [{reason.id}, {reason.source}, grade {reason.grade}]" if explain else f" [{reason.id}]"
        if explain and reason.standing and reason.standing.n_fired:
            told = reason.standing
            detail += f" Of {told.n_fired:,} measured setups: {told.n_for:,} for, {told.n_against:,} against."
        table.add_row(f"  {ARROWS[reason.effect]}{moved}", text.append(detail, style="dim"))
    return table


def _warnings(notices: Sequence[Notice]) -> Iterable[RenderableType]:
    yield Text("Warnings", style="bold yellow")
    for notice in notices:
        yield _indented("!", Text(one_line(notice.text)), "yellow")


def _indented(mark: str, text: Text, style: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style=style, no_wrap=True)
    table.add_column()
    table.add_row(f"  {mark}", text)
    return table


def _unknown(advice: Recommendation, shown: int) -> Text:
    flags = [f"--{unknown.name.replace('_', '-')}" for unknown in advice.unknown[:shown]]
    factors = [f"{2**unknown.octaves:.1f}×" for unknown in advice.unknown[:shown]]
    factors[0] = f"T moves up to {factors[0]}"
    names = ", ".join(f"{flag} ({factor})" for flag, factor in zip(flags, factors, strict=True))
    measured = any(reason.kind == "measured" for reason in advice.reasons)
    return Text.assemble(("Would narrow it most  ", "bold"), names, ", by the rules" if measured else "")


def _details(advice: Recommendation) -> Iterable[RenderableType]:
    table = Table(
        box=None, padding=(0, 2), header_style="bold", title="Expected accuracy over T", title_justify="left"
    )
    for heading in ("T", "against the best", "std"):
        table.add_column(heading, justify="right")
    for point in advice.curve:
        table.add_row(written(point.temperature), f"{100 * point.mean:+.2f} pp", f"{100 * point.std:.2f} pp")
    yield table
    if advice.nearest:
        near = Table(
            box=None, padding=(0, 2), header_style="bold", title="Nearest measured setups", title_justify="left"
        )
        for heading in ("distance", "best T", "curve"):
            near.add_column(heading)
        for one in advice.nearest:
            near.add_row(f"{one.distance:.2g}", written(one.best_temperature), one_line(one.setup))
        yield from (Text(), near)
    yield Text()
    yield Text("Setup", style="bold")
    given = advice.setup.given()
    yield Text("  " + one_line(", ".join(f"{name} {value}" for name, value in given.items()) or "nothing given"))
    yield Text(f"  tempadvisor {advice.version['tempadvisor']}, knowledge {advice.version['knowledge']}", style="dim")
    if advice.profile:
        yield Text()
        yield _profile(advice.profile)


def profile_rows(measured: TeacherProfile) -> Iterable[tuple[str, str]]:
    """Yield what was measured of a teacher: what it is called, and its value."""
    errors = measured.std_errors

    def number(value: float | None, name: str = "") -> str:
        spread = f" ± {errors[name]:.2g}" if name in errors else ""
        return "unknown" if value is None else f"{value:.3g}{spread}"

    of = f" of {measured.n_available:,}" if measured.n_available else ""
    yield "Teacher", one_line(measured.teacher)
    yield "Samples", f"{measured.n_samples:,}{of}, from {measured.logits_from or 'unknown'} inputs"
    yield "Classes", f"{measured.n_classes:,}"
    half = dict(zip(measured.softness_levels, measured.softness_temperatures, strict=True)).get(0.5)
    if half is not None:
        yield "Half soft at", f"T = {number(half, 'softness_temperature_0.5')}, where mean entropy is half of log K"
    if measured.spike_temperature is not None:
        yield "Half sure at", f"T = {number(measured.spike_temperature)}, where mean top probability is about 1/2"
    yield (
        "Logits",
        f"std {number(measured.logit_std, 'logit_std')}, highest minus second {number(measured.margin, 'margin')}, "
        f"highest minus the others {number(measured.top_gap, 'top_gap')} "
        f"(their std {number(measured.rest_std, 'rest_std')})",
    )
    if measured.granularity is not None:
        related = "unknown" if measured.related_mass is None else f"{measured.related_mass:.0%}"
        yield (
            "Classes alike",
            f"granularity {number(measured.granularity)} nats, {number(measured.confusable_classes)} confusable "
            f"classes each, {related} of the non-target mass on related classes, "
            f"block structure {number(measured.block_structure)}",
        )
    if measured.accuracy is not None:
        yield (
            "Against labels",
            f"accuracy {number(measured.accuracy, 'accuracy')}, NLL {number(measured.nll_nats, 'nll_nats')} nats, "
            f"calibration error {number(measured.calibration_error)}, "
            f"calibration temperature {number(measured.calibration_temperature)}",
        )
