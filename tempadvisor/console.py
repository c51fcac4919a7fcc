"""What the parts of the command line share: commands that take words as they come, and stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from tempadvisor.errors import InputError, UsageError

if TYPE_CHECKING:
    from tempadvisor.settings import Export

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def _plain(parameter: Any) -> Any:
    """Make a parameter take its text or truth value as it comes.

    Typer would import pydantic and build an adapter for every option, given or not, which takes longer than the
    whole advice; what a value must be is checked where it is used, with the message a config file gets too.
    """

    def process_value(ctx: typer.Context, value: Any) -> Any:
        return parameter.callback(ctx, parameter, value) if parameter.callback else value

    parameter.process_value = process_value
    if isinstance(parameter, typer.core.TyperArgument):
        parameter.display_type_rich = lambda **_: ""  # type: ignore[method-assign]  # all are texts
    return parameter


class PlainCommand(typer.core.TyperCommand):
    """A command all of whose options are texts and truth values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, help included, without Typer's coercion."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]


class PlainGroup(typer.core.TyperGroup):
    """A group all of whose options are texts and truth values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, help included, without Typer's coercion."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]


def show(record: Any, as_json: bool, layout: Callable[[], str]) -> None:
    """Print a record on stdout, as JSON or laid out for people."""
    if as_json:
        from tempadvisor.documents import to_json

        write(to_json(record))
    else:
        write(layout())


def write_export(made: Export) -> None:
    """Print an export on stdout, so that it can be redirected, and its warnings on stderr."""
    for warning in made.warnings:
        print(f"tempadvisor: {warning}", file=sys.stderr)
    write(made.text.removesuffix("\n"))


def write(text: str) -> None:
    """Print on stdout now; a reader that has gone (`| head`) is no failure."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit


def check_place(flag: str, name: str | None, suffix: str) -> None:
    """See, before any work is done, that a file can be written.

    Raises:
        UsageError: the name does not end in `suffix`.
        InputError: nothing can be written there.
    """
    if name is None:
        return
    import tempfile

    path, reason = Path(name), None
    if path.suffix.lower() != suffix:
        raise UsageError(f"{flag} must end in {suffix}, as it is written so. Got {name[:200]!r}.", code="bad_output")
    try:
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.").close()  # as it will be written
        reason = "It is a folder" if path.is_dir() else None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise InputError(
            f"{path} must be a file that can be written. {reason}. Name another place.", code="unwritable"
        )
