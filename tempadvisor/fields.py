"""What one field of a record may hold: its help text, its choices, its range; and the check of a whole record.

A record is a frozen dataclass whose fields carry a `Spec`. The same specs give the command-line flags, the keys of
a config file, the columns of a run and the validation, so the four cannot drift apart. `None` always means unknown.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tempadvisor.errors import TempAdvisorError, did_you_mean

MOST = 10**15  # no count of anything is above this


@dataclasses.dataclass(frozen=True)
class Spec:
    """Say what a field means and which values it takes.

    `above` and `low` are exclusive and inclusive lower bounds; `high` is an inclusive upper bound.
    """

    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    above: float | None = None
    high: float | None = None

    def rule(self, kind: type) -> str:
        """Return the rule in words, as it reads after 'must be'."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        noun = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
        bounds = []
        if self.above is not None:
            bounds.append(f"above {self.above:g}")
        if self.low is not None:
            bounds.append(f"at least {self.low:g}")
        if self.high is not None:
            bounds.append(f"at most {self.high:g}")
        return " ".join([noun, " and ".join(bounds)]).strip()


def known(
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> Any:
    """Return a dataclass field that is unknown (`None`) until given, with its `Spec`."""
    spec = Spec(help=help, choices=choices, low=low, above=above, high=high)
    return dataclasses.field(default=None, metadata={"spec": spec})


@dataclasses.dataclass(frozen=True)
class Column:
    """A field as seen from outside: its name, scalar type and `Spec`."""

    name: str
    type: type
    spec: Spec

    @property
    def flag(self) -> str:
        """The command-line flag: `kd_weight` is `--kd-weight`, a truth value is `--t-squared/--no-t-squared`."""
        word = self.name.replace("_", "-")
        return f"--{word}/--no-{word}" if self.type is bool else f"--{word}"


@functools.cache
def columns(record: type[Any]) -> tuple[Column, ...]:
    """Return the fields of `record` that carry a `Spec`, in order."""
    hints = typing.get_type_hints(record)
    return tuple(
        Column(field.name, _scalar(hints[field.name]), field.metadata["spec"])
        for field in dataclasses.fields(record)
        if "spec" in field.metadata
    )


def _scalar(hint: Any) -> type:
    """Return the type beside `None` in an optional hint."""
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    return typing.cast(type, hint)


def problem(column: Column, value: Any) -> str | None:
    """Return what is wrong with `value`, as 'NAME must be RULE. Got VALUE.', or None.

    >>> problem(Column("epochs", int, Spec("passes", low=1)), 0)
    'epochs must be a whole number at least 1. Got 0.'
    """
    if value is None:
        return None
    spec, kind = column.spec, column.type
    if isinstance(value, int) and abs(value) > MOST:
        return f"{column.name} must be {spec.rule(kind)}. Got a number of more than 15 digits."
    fits: Mapping[type, Callable[[Any], bool]] = {
        bool: lambda v: isinstance(v, bool),
        int: lambda v: isinstance(v, int) and not isinstance(v, bool),
        float: lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v),
        str: lambda v: isinstance(v, str) and v != "",
    }
    fine = fits[kind](value)
    if fine and spec.choices:
        fine = value in spec.choices
    if fine and kind in (int, float):
        fine = not (
            (spec.low is not None and value < spec.low)
            or (spec.above is not None and value <= spec.above)
            or (spec.high is not None and value > spec.high)
        )
    if fine:
        return None
    hint = f" {did_you_mean(value, spec.choices)}" if spec.choices and isinstance(value, str) else ""
    hint = hint if "mean" in hint else ""  # the choices already stand in the rule
    return f"{column.name} must be {spec.rule(kind)}. Got {_shown(value)}.{hint}"


def _shown(value: Any) -> str:
    """Return a scalar as it was given, shortened; of anything else its type, as it may be of any size.

    >>> _shown("adam"), _shown("a" * 99), _shown([1])
    ("'adam'", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…", 'a list')
    """
    if isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:40]}…"
    return f"a {type(value).__name__}"


def check(record: object, error: type[TempAdvisorError], *, code: str) -> None:
    """Check every field of a frozen `record` that carries a `Spec`, and make whole numbers floats where due.

    Raises:
        error: all problems of the record, in one message.
    """
    problems = []
    for column in columns(type(record)):  # type: ignore[arg-type]  # mypy doubts that a class is hashable
        value = getattr(record, column.name)
        found = problem(column, value)
        if found:
            problems.append(found)
        elif column.type is float and isinstance(value, int):
            object.__setattr__(record, column.name, float(value))
    if problems:
        raise error(" ".join(problems), code=code)
