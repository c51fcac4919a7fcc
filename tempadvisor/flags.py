"""The options that commands share: the teacher, its data, and one option for each column of a setup."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tempadvisor.fields import Column
from tempadvisor.records import SETUP_COLUMNS

TeacherArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TEACHER",
        help="Logits file, profile.json, timm name, checkpoint, program, transformers folder, or module:factory.",
        show_default=False,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Data for a model: image folder, .npz, .tar shards, texts as .csv, torch/NAME, hfds/NAME.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model name that a checkpoint's weights belong to.")
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="WORDS",
        help="What a model does to images first, where it does not say so itself: 'size=224 crop=0.875 "
        "interpolation=bicubic mean=0.5,0.5,0.5 std=0.5,0.5,0.5', or some of it.",
    ),
]
ClassMapOption = Annotated[
    str | None,
    typer.Option(
        "--class-map",
        metavar="FILE",
        help="Which output of the teacher is which class of the data: lines 'class,output'; or a class per line, in "
        "the order of the outputs.",
    ),
]
ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="Setup in YAML or TOML; flags override it.")
]

ReportOption = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", help="Write a page to look at and to show.")
]
ExportOption = Annotated[
    str | None,
    typer.Option(
        "--export",
        metavar="FORMAT",
        help="Print a trainer's settings instead: timm, timm-yaml, torchdistill, mdistiller, repdistiller, keras, "
        "hf-trainer, modelopt, json, yaml.",
    ),
]


def setup_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option a setup column, passed on together as the mapping `flags`."""

    @functools.wraps(command)
    def with_flags(**given: Any) -> None:
        flags = {column.name: given.pop(column.name) for column in SETUP_COLUMNS}
        command(flags=flags, **given)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "flags"]
    added = [_option(column) for column in SETUP_COLUMNS]
    with_flags.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    with_flags.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    return with_flags


def _option(column: Column) -> inspect.Parameter:
    spec = column.spec
    option = typer.Option(column.flag, help=spec.help, metavar=_choices(column), show_default=False)
    hint = Annotated[bool | None, option] if column.type is bool else Annotated[str | None, option]
    return inspect.Parameter(column.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _choices(column: Column) -> str | None:
    """Return what stands after a flag: its choices, or the kind of value it takes."""
    return "|".join(column.spec.choices) or {int: "N", float: "X", str: "NAME"}.get(column.type)
