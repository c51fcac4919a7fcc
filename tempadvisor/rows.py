"""A run as plain values by column and back, what of it tells the curve it is of, and what makes two runs the same."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tempadvisor.errors import KnowledgeError
from tempadvisor.fields import MOST, columns
from tempadvisor.records import SETUP_COLUMNS, TrainingSetup
from tempadvisor.runs import RUN_COLUMNS, Run

COLUMNS = {column.name: column for column in RUN_COLUMNS}
# Two runs may differ in these and be the same.
BOOKKEEPING = ("train_seconds", "device", "versions", "commit", "time")
Name = tuple[str | None, str | None]  # suite and curve
Seed = tuple[Name, int]  # of a curve
Label = TypeVar("Label", Name, Seed)
Result = tuple[int, float, float, float]  # seed, temperature, validation and test accuracy
DIFFERENT = 3  # results that agree by chance hardly ever
Places = tuple[tuple[str, bool], ...]  # columns, and whether the run itself has each or its setup

_SETUP = tuple((column.name, column.type) for column in SETUP_COLUMNS)
_OWN = tuple((column.name, column.type) for column in columns(Run))
_NAMES = tuple(COLUMNS)
_PLACES: Places = tuple((name, name in {own for own, _ in _OWN}) for name in _NAMES)
_KEY = ("suite", "curve", "seed", "temperature")
_MEASURED = tuple((name, own) for name, own in _PLACES if name not in (*_KEY, *BOOKKEEPING))
MEASURED = frozenset(name for name, _ in _MEASURED)  # what two runs of one key must agree in
_TEXTS = tuple((name, own) for name, own in _PLACES if COLUMNS[name].type is str and not COLUMNS[name].spec.choices)
# What all seeds and temperatures of a curve share, and whether the run itself has it or its setup.
SHARED = tuple((name, own) for name, own in _PLACES[: _NAMES.index("status")] if name not in _KEY)


class Maker:
    """Make runs of plain values; a setup that rows share is checked and kept once."""

    def __init__(self) -> None:
        self._setups: dict[Any, TrainingSetup] = {}
        self._curves: dict[Any, str] = {}

    def __call__(self, values: Mapping[str, Any]) -> Run:
        """Return the run of values by column, texts read as the column's type.

        Raises:
            TempAdvisorError: they make no run.
        """
        raw = tuple(values.get(name) for name, _ in _SETUP)
        if any(isinstance(value, (list, dict)) for value in raw):
            raise KnowledgeError("a setup must be made of single values.", code="bad_run")
        same = (raw, tuple(map(type, raw)))
        setup = self._setups.get(same)
        if setup is None:
            given = {name: typed(kind, value) for (name, kind), value in zip(_SETUP, raw, strict=True)}
            setup = self._setups[same] = TrainingSetup(**given)
        own = {name: typed(kind, values[name]) for name, kind in _OWN if name in values}
        if own.get("status") is None and own.get("error") is None:
            own["status"] = "FINISHED"
        own["suite"] = own.get("suite") or "own"
        if own.get("curve") is None:
            own["curve"] = "unnamed"  # until the other values are known to be sound
            run = Run(setup=setup, **own)
            about = shared(run)
            if about not in self._curves:
                self._curves[about] = curve_name(run)
            own["curve"] = self._curves[about]
        return Run(setup=setup, **own)


def shared(run: Run) -> tuple[Any, ...]:
    """Return what all seeds and temperatures of a curve share, in the order of `SHARED`."""
    return tuple(getattr(run if own else run.setup, name) for name, own in SHARED)


def by_curve(runs: Iterable[Run]) -> dict[Name, list[Run]]:
    """Return runs by suite and curve."""
    curves: dict[Name, list[Run]] = defaultdict(list)
    for run in runs:
        curves[run.suite, run.curve].append(run)
    return dict(curves)


def curve_name(run: Run) -> str:
    """Return a name for the curve that a run is of, made of everything that its seeds and temperatures share."""
    known = [(name, value) for (name, _), value in zip(SHARED, shared(run), strict=True) if value is not None]
    return f"{(run.source or '')[:100]}-{hashlib.sha256(json.dumps(sorted(known)).encode()).hexdigest()[:8]}"


def values_of(run: Run) -> dict[str, Any]:
    """Return the known values of a run by column, in the order of the columns."""
    return _known(run, _PLACES)


def measured(run: Run) -> dict[str, Any]:
    """Return what two runs of one key must agree in: all but the key and what is noted beside the result."""
    return _known(run, _MEASURED)


def differing(one: Run, other: Run) -> tuple[str, ...]:
    """Return the columns of the setup in which two runs differ, as far as both tell, free texts aside."""
    names = {name for name, _ in _TEXTS}
    pairs = zip(SHARED, shared(one), shared(other), strict=True)
    return tuple(
        name for (name, _), a, b in pairs if name not in names and a is not None and b is not None and a != b
    )


def results(runs: Iterable[Run]) -> list[Result]:
    """Return the results with KD: those without are the same for many curves of one student."""
    return [
        (run.seed or 0, run.temperature, run.val_accuracy or 0.0, run.test_accuracy or 0.0)
        for run in runs
        if run.status == "FINISHED" and run.temperature
    ]


def results_in(cells: Iterable[Mapping[str, str]]) -> list[Result]:
    """Return the same of rows as they stand in a CSV file."""
    return [
        (int(row["seed"]), float(row["temperature"]), float(row["val_accuracy"]), float(row["test_accuracy"] or 0))
        for row in cells
        if row["status"] == "FINISHED" and row["temperature"]
    ]


def copies(
    known: Mapping[Label, Iterable[Result]], new: Mapping[Label, Iterable[Result]], *, whole: bool = False
) -> dict[Label, tuple[Label, int]]:
    """Return the new curves that are another under a new name, each with that one and how many runs they share.

    A copy has the accuracies of one that is known, or new and before it, to the last digit: in over half of the seeds
    and temperatures that both have, and three different ones at least; where `whole`, in all of them, over half of
    which are different.

    >>> three = [(0, 1.0, 0.7, 0.6), (0, 4.0, 0.8, 0.7), (0, 8.0, 0.8, 0.6)]
    >>> copies({("a", "b"): three}, {("c", "d"): [*three, (1, 1.0, 0.6, 0.6)], ("e", "f"): three[:2]})
    {('c', 'd'): (('a', 'b'), 3)}
    """
    having: dict[Result, set[Label]] = defaultdict(set)
    places: dict[Label, set[tuple[int, float]]] = defaultdict(set)
    found: dict[Label, tuple[Label, int]] = {}
    for curves in (known, new):
        for name, its_results in curves.items():
            mine = set(its_results)
            places[name] |= {result[:2] for result in mine}
            shared_with: dict[Label, set[Result]] = defaultdict(set)
            for result in mine if curves is new else ():
                for other in having[result] - {name}:
                    shared_with[other].add(result)
            if shared_with:
                other, both = min(shared_with.items(), key=lambda one: (-len(one[1]), one[0]))
                common = places[name] & places[other]
                n_different = len({result[2:] for result in both})
                # students that only guess agree, too, but in few results again and again
                enough = len(both) == len(common) < 2 * n_different if whole else 2 * len(both) > len(common)
                if enough and n_different >= DIFFERENT:
                    found[name] = other, len(both)
            for result in mine:
                having[result].add(name)
    return found


def seeds_again(
    known: Mapping[Name, Iterable[Result]], new: Mapping[Name, Iterable[Result]]
) -> dict[Name, dict[int, Seed]]:
    """Return the seeds of new curves that have the results of another seed, of the same curve or another, by curve.

    They do at every temperature that both have, with three different results at least, see `copies`.

    >>> three = [(1.0, 0.7, 0.6), (4.0, 0.8, 0.7), (8.0, 0.8, 0.6)]
    >>> seeds_again({}, {("a", "b"): [(seed, *one) for seed in (0, 5) for one in three]})
    {('a', 'b'): {5: (('a', 'b'), 0)}}
    """
    before, after = (
        {
            (name, seed): [(0, *result[1:]) for result in its_results if result[0] == seed]
            for name, its_results in ((name, list(results)) for name, results in curves.items())
            for seed in sorted({result[0] for result in its_results})
        }
        for curves in (known, new)
    )
    found: dict[Name, dict[int, Seed]] = defaultdict(dict)
    for (name, seed), (other, _) in copies(before, after, whole=True).items():
        if other[1] != seed:
            found[name][seed] = other
    return dict(found)


def texts_of(run: Run) -> dict[str, str]:
    """Return the known values of a run that may be any text."""
    return _known(run, _TEXTS)


def _known(run: Run, places: Places) -> dict[str, Any]:
    setup = run.setup
    every = [(name, getattr(run if own else setup, name)) for name, own in places]
    return {name: value for name, value in every if value is not None}


def typed(kind: type, value: Any) -> Any:
    """Return a value as a column's type where it can be read so, and as it is where not.

    >>> typed(int, "5.0"), typed(bool, "True"), typed(float, "1e-3"), typed(float, ""), typed(int, "many")
    (5, True, 0.001, None, 'many')
    """
    if value is None or value == "":
        return None
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower(), value)
    if kind is str or isinstance(value, bool):
        return value
    try:
        number = value if isinstance(value, (int, float)) else float(value)
        if kind is int and isinstance(value, str) and value.isdecimal():
            return int(value)
        if kind is int and isinstance(number, float):
            return int(number) if number.is_integer() and abs(number) <= MOST else value
        return float(number) if kind is float and abs(number) <= MOST else number
    except (ValueError, TypeError):
        return value


def lacking(run: Run, *, profiled: bool) -> tuple[str, ...]:
    """Return what the curve of `run` lacks for its trainings to be learned from, as far as every run of it tells.

    Args:
        run: any of the curve.
        profiled: whether the profile of its teacher is known.
    """
    contract = run.setup.loss_contract()
    needs = {
        "a profile of the teacher": profiled,
        "n_val, the size of the validation split": run.n_val is not None,
        "a loss of plain logits and reduction batchmean": not contract.standardized
        and contract.reduction == "batchmean",
    }
    return tuple(need for need, met in needs.items() if not met)
