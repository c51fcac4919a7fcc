"""How a verification looks in a terminal, as text with colour where stdout is one. Everything here returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tempadvisor.errors import one_line
from tempadvisor.render import columns, laid_out, loss_formula
from tempadvisor.temperatures import written
from tempadvisor.verification import Cost, Difference, Rung, Verification

if TYPE_CHECKING:
    from tempadvisor.plans import Plan

COLORS = {
    "confirmed": "green",
    "no_detectable_difference": "cyan",
    "better_found": "yellow",
    "undecided": "yellow",
}
WIDTH, LEAST_WIDTH = 31, 11  # of the drawing, left out where there is less
BESIDE = 69  # columns that all else takes
# benchmarks/proxies.py, 40 setups
PROXY = (
    "In measured setups the best T moved by less than could be seen, so nothing is corrected; "
    "but what was best after fewer epochs lost 0.1 to 0.3 pp at full length."
)


def verification(found: Verification, *, output: str | None, kept: bool) -> str:
    """Lay out what was found.

    Args:
        found: the verification.
        output: the file that the runs were written to.
        kept: whether the study is still there to be looked at.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("Validation", f"{found.n_val:,} samples choose; one of them is {100 / found.n_val:.2g} pp")
    table.add_row("Test split", Text(_tested(found)))
    cost = found.cost
    table.add_row(
        "Cost",
        f"{_count(cost)}, {cost.student_epochs:,} epochs, {cost.seconds:,.0f} s",
    )
    if cost.epochs_each < (found.setup.epochs or 0):
        table.add_row("Proxy", f"{cost.epochs_each} of {found.setup.epochs} epochs each. {PROXY}")
    if kept:
        table.add_row("Study", one_line(found.study))
    table.add_row("Loss", Text("\n".join(loss_formula(found.loss_contract, found.temperature))))
    parts: list[RenderableType] = [
        *(Text(line, style="bold yellow") for line in doubts(found)),
        Text(found.headline, style=f"bold {COLORS[found.verdict]}"),
        Text(),
        table,
        Text(),
        _drawing(found.curve, found.recommendation.temperature, min(WIDTH, columns() - BESIDE)),
    ]
    told = "Undecided" if found.verdict == "undecided" else "Verified"
    title = Text(f"{told}: temperature {written(found.temperature)}")
    panel = Panel(Group(*parts), title=title, title_align="left", border_style=COLORS[found.verdict], padding=(1, 2))
    if output:
        following = f"tempadvisor knowledge add {output}"
    elif kept:
        following = f"optuna-dashboard {found.storage}"
    else:
        following = "tempadvisor verify --help"
    return laid_out(panel, following)


def _count(cost: Cost) -> str:
    """Say how many students were trained of how many.

    >>> _count(Cost(trainings=16, budget=4, epochs_each=1, student_epochs=16, seconds=1.0))
    '16 students (the budget of 4 is used up)'
    """
    if cost.trainings > cost.budget:
        return f"{cost.trainings:,} students (the budget of {cost.budget:,} is used up)"
    return f"{cost.trainings:,} of {cost.budget:,} students"


def plan(planned: Plan, *, next_command: str) -> str:
    """Say what a verification would train at most."""
    temperatures = ", ".join(written(t) for t in planned.temperatures)
    took = f"{planned.minutes:.1f} min" if planned.minutes >= 1 else f"{60 * planned.minutes:.0f} s"
    beside = f"; {planned.references:,} of the students for no KD and T=4" if planned.references else ""
    return "\n".join(
        [
            f"{planned.trainings:,} students at most, {planned.epochs:,} epochs, about {took}",
            f"Temperature {planned.recommended:.3g} is recommended; considered: {temperatures}{beside}",
            f"{planned.n_train:,} samples to train on, {planned.n_val:,} to choose by, {planned.n_test:,} to test",
            f"Study {one_line(planned.study)} in {one_line(planned.storage)}",
            f"Next: {one_line(next_command)}",
        ]
    )


def _tested(found: Verification) -> str:
    each = ", ".join(
        f"{'no KD' if t is None else f'T={written(t)}'} {100 * one.accuracy:.2f} % (n={one.n})"
        for one in found.test.accuracy
        for t in [one.temperature]
    )
    more = [
        f"T={written(found.temperature)} over {what}, same seeds: {_points(difference)}"
        for what, difference in (
            (f"T={written(found.recommendation.temperature)}", found.test.over_recommended),
            ("no KD", found.test.over_no_kd),
        )
        if difference
    ]
    return "\n".join([each, *more])


def doubts(found: Verification) -> Iterator[str]:
    """Yield what is more important than the temperature."""
    gained, profile = found.test.over_no_kd, found.recommendation.profile
    if gained and found.test.kd_may_hurt:
        more = -100 * gained.mean
        yield f"KD may hurt here: students without it reached {more:.2f} pp more on the test split."
    reached = max((one.val_accuracy or 0.0 for one in found.trials), default=0.0)
    if profile and reached < 1.5 / profile.n_classes:
        yield "No student learned much more than guessing: look at rate and epochs before the temperature."


def _points(difference: Difference) -> str:
    told = f"{100 * difference.mean:+.2f} pp"
    if difference.ci95 is None:
        return f"{told} (one seed)"
    low, high = difference.ci95
    return f"{told} (95 % interval {100 * low:+.2f} to {100 * high:+.2f})"


def _drawing(curve: tuple[Rung, ...], recommended: float, width: int) -> Table:
    """Draw accuracy over that at the recommended temperature, a line for each temperature."""
    tried = [rung for rung in curve if rung.n_seeds] or list(curve)
    low = min(-0.005, *(rung.ci95[0] for rung in tried))
    high = max(0.005, *(rung.ci95[1] for rung in tried))

    def place(value: float) -> int:
        return round((max(width, 1) - 1) * (min(max(value, low), high) - low) / (high - low))

    table = Table(box=None, padding=(0, 1), header_style="bold", show_edge=False)
    table.add_column("T", justify="right")
    table.add_column("students", justify="right")
    drawn = width >= LEAST_WIDTH
    if drawn:
        table.add_column(f"over T={written(recommended)}, {100 * low:+.1f} to {100 * high:+.1f} pp", max_width=width)
    table.add_column("measured", justify="right")
    table.add_column("believed", justify="right")
    table.add_column("95 % interval", justify="right")
    for rung in curve:
        cells = [" "] * max(width, 1)
        if rung.n_seeds and rung.temperature != recommended:
            start, end = place(rung.ci95[0]), place(rung.ci95[1])
            cells[start : end + 1] = "─" * (end + 1 - start)
        cells[place(0.0)] = "│"
        cells[place(rung.prior)] = "·"
        cells[place(rung.mean)] = "●" if rung.n_seeds else "○"
        span = f"{100 * rung.ci95[0]:+.2f} to {100 * rung.ci95[1]:+.2f}"
        table.add_row(
            written(rung.temperature),
            str(rung.n_seeds),
            *([Text("".join(cells), style="" if rung.n_seeds else "dim")] if drawn else []),
            "" if rung.measured is None or rung.temperature == recommended else f"{100 * rung.measured:+.2f}",
            "0" if rung.temperature == recommended else f"{100 * rung.mean:+.2f}",
            "recommended" if rung.temperature == recommended else span,
        )
    table.caption = (
        "● believed where trained, ○ elsewhere, · before any training; measured: same seeds; all validation"
    )
    table.caption_justify = "left"
    return table
