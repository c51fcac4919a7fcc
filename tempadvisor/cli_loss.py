"""The command `tempadvisor check-loss`: parse, call one public function, render, exit."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Annotated

import typer

from tempadvisor.console import AsJson, PlainCommand, show
from tempadvisor.errors import UsageError

if TYPE_CHECKING:
    from tempadvisor.losscall import Value

app = typer.Typer(
    name="check-loss",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(cls=PlainCommand, epilog="Example: tempadvisor check-loss my_losses:kd_loss --temperature 4")
def check_loss(
    function: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function, nn.Module or class that takes student and teacher logits, and labels if need be.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        str | None, typer.Option(metavar="T", help="What the loss is told; its own default, or 4, if not given.")
    ] = None,
    kd_weight: Annotated[
        str | None, typer.Option(metavar="X", help="What the weight of its KD term is believed to be.")
    ] = None,
    hard_weight: Annotated[
        str | None, typer.Option(metavar="X", help="What the weight of its hard term is believed to be.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Value of another parameter, such as alpha=0.9; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which loss contract a loss function implements, or what is wrong with it; exit with 1 where it is."""
    if function is None:
        raise UsageError("check-loss needs a loss: 'tempadvisor check-loss my_losses:kd_loss'.", code="nothing_given")
    values = dict(map(_assignment, given or ()))
    told, soft, hard = (
        _number(flag, text, above_zero=flag == "--temperature")
        for flag, text in (("--temperature", temperature), ("--kd-weight", kd_weight), ("--hard-weight", hard_weight))
    )
    from tempadvisor import losscheck

    found = losscheck.check_loss(function, temperature=told, given=values, kd_weight=soft, hard_weight=hard)

    def layout() -> str:
        from tempadvisor import render_loss

        return render_loss.loss_check(found)

    show(found, as_json, layout)
    if found.verdict == "wrong":
        raise typer.Exit(1)


def _number(flag: str, text: str | None, *, above_zero: bool) -> float | None:
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        value = float(text)
        if math.isfinite(value) and (value > 0 if above_zero else value >= 0):
            return value
    rule = "above 0" if above_zero else "at least 0"
    raise UsageError(f"{flag} must be a number {rule}. Got {text[:60]!r}.", code="bad_number")


def _assignment(text: str) -> tuple[str, Value]:
    """Read NAME=VALUE; the value is a truth value, a number, or else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--set must be NAME=VALUE, such as alpha=0.9. Got {text[:60]!r}.", code="bad_set")
    if value in ("true", "True", "false", "False"):
        return name, value.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return name, kind(value)
    return name, value
