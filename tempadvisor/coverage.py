"""Look at what is known in runs: which setups it covers, axis by axis, shipped and own, and which not.

Nothing is judged by what advice it would give; what in own runs cannot be right is found in `audit.py`.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tempadvisor.curves import LEAST_SEEDS, TEMPERATURES
from tempadvisor.glimpses import teaches
from tempadvisor.holdings import own_runs, renamed, shipped_cells, shipped_profiles
from tempadvisor.rows import COLUMNS, Maker, by_curve
from tempadvisor.runs import Run

# Lower edges of the bins of a number; the last bin is open.
EDGES: dict[str, tuple[float, ...]] = {
    "kd_weight": (0, 0.2, 0.4, 0.6, 0.8, 1),
    "batch_size": (1, 32, 128, 512),
    "epochs": (1, 10, 30, 100, 300),
    "n_train": (1, 1_000, 10_000, 100_000),
    "n_classes": (2, 11, 51, 201),
    "label_smoothing": (0, 0.001),
    "label_noise": (0, 0.001),
    "student_params": (1, 10_000, 100_000, 1_000_000, 10_000_000),
    "teacher_params": (1, 10_000, 100_000, 1_000_000, 10_000_000),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """How many curves, shipped and own, have a value of an axis."""

    value: str
    shipped: int
    own: int


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A data source: how many curves it has, shipped and own, and of these (shipped, own) which can be learned from.

    Complete curves can, if there is a profile of their teacher.
    """

    value: str
    shipped: int
    own: int
    complete: tuple[int, int]
    with_profile: tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One column of the setup: its values that are covered, and those that no curve has."""

    name: str
    cells: tuple[Cell, ...]
    gaps: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """What the runs cover.

    Each count is (shipped, own); a complete curve has every temperature with four seeds, `with_profile` counts the
    complete ones with a profile of their teacher. `glimpses` counts the own ones that teach without being complete,
    `renamed` those that are copies of another curve under a new name: fit leaves them out, and so does all else here.
    """

    runs: tuple[int, int]
    curves: tuple[int, int]
    complete: tuple[int, int]
    with_profile: tuple[int, int]
    glimpses: int
    renamed: int
    sources: tuple[Source, ...]
    temperatures: tuple[Cell, ...]
    axes: tuple[Axis, ...]


def coverage(url: str | None = None) -> Coverage:
    """Return what the shipped corpus and the user's own runs cover, axis by axis, and the gaps.

    Raises:
        KnowledgeError: the user's database cannot be read.
    """
    runs, profiles = own_runs(url)
    mine, shipped, make = by_curve(runs), shipped_cells(), Maker()
    copies = renamed(shipped, mine)
    own = {curve: its_runs for curve, its_runs in mine.items() if curve not in copies}
    keys = [
        {
            curve: {(int(row["seed"]), float(row["temperature"] or 0)) for row in rows}
            for curve, rows in shipped.items()
        },
        {curve: {run.key[2:] for run in runs} for curve, runs in own.items()},
    ]
    firsts = [make(rows[0]) for rows in shipped.values()], [runs[0] for runs in own.values()]
    names = [[str(run.source) for run in some] for some in firsts]
    profiled = shipped_profiles().keys() | profiles.keys()
    scored = [keys[0], {curve: {run.key[2:] for run in runs if run.scored} for curve, runs in own.items()}]
    complete = [[_is_complete(cells | keys[0].get(key, set())) for key, cells in part.items()] for part in scored]
    parts = [runs for runs, whole in zip(own.values(), complete[1], strict=True) if not whole]
    learnable = [
        [whole and key[1] in profiled for whole, key in zip(wholes, part, strict=True)]
        for wholes, part in zip(complete, keys, strict=True)
    ]
    counted = [
        [Counter(itertools.compress(some, which)) for some, which in zip(names, whiches, strict=True)]
        for whiches in (complete, learnable)
    ]
    seen = [Counter(t for cells in part.values() for t in {t for _, t in cells}) for part in keys]
    return Coverage(
        runs=_pair(sum(map(len, part.values())) for part in keys),
        curves=_pair(map(len, keys)),
        complete=_pair(map(sum, complete)),
        with_profile=_pair(map(sum, learnable)),
        glimpses=sum(teaches(runs, profiles.get(str(runs[0].curve))) for runs in parts),
        renamed=len(copies),
        sources=tuple(
            Source(cell.value, cell.shipped, cell.own, *(_pair(n[cell.value] for n in part) for part in counted))
            for cell in _cells(*names)
        ),
        temperatures=tuple(
            Cell(f"{t:g}" if t else "no KD", seen[0][t], seen[1][t])
            for t in sorted({0.0, *TEMPERATURES, *seen[0], *seen[1]})
        ),
        axes=tuple(_axis(name, *firsts) for name in COLUMNS if name in EDGES or _choices(name)),
    )


def _is_complete(cells: Iterable[tuple[int, float]]) -> bool:
    """Return whether enough seeds have every temperature of the grid and no KD."""
    seeds: dict[int, set[float]] = defaultdict(set)
    for seed, temperature in cells:
        seeds[seed].add(temperature)
    return sum(found >= {0.0, *TEMPERATURES} for found in seeds.values()) >= LEAST_SEEDS


def _pair(numbers: Iterable[int]) -> tuple[int, int]:
    shipped, own = numbers
    return shipped, own


def _value(run: Run, name: str) -> Any:
    if name in ("t_squared", "reduction", "standardized"):
        return getattr(run.setup.loss_contract(), name)
    return getattr(run.setup, name) if hasattr(run.setup, name) else getattr(run, name)


def _choices(name: str) -> tuple[str, ...]:
    column = COLUMNS[name]
    if name in ("status", "granularity"):
        return ()
    return ("true", "false") if column.type is bool else column.spec.choices


def _label(name: str, value: Any) -> str:
    if value is None:
        return "unknown"
    if name in EDGES:
        edges = EDGES[name]
        return _bins(edges)[bisect.bisect_right(edges, value) - 1]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bins(edges: Sequence[float]) -> list[str]:
    """Name the bins between edges.

    >>> _bins((1, 10, 30))
    ['1 to <10', '10 to <30', '30 and more']
    """
    return [f"{low:,} to <{high:,}" for low, high in itertools.pairwise(edges)] + [f"{edges[-1]:,} and more"]


def _cells(shipped: Sequence[str], own: Sequence[str], order: Sequence[str] = ()) -> tuple[Cell, ...]:
    counts = Counter(shipped), Counter(own)
    names = [name for name in order if name in counts[0] or name in counts[1]]
    names += sorted({*shipped, *own} - set(names))
    return tuple(Cell(name, counts[0][name], counts[1][name]) for name in names)


def _axis(name: str, shipped: Sequence[Run], own: Sequence[Run]) -> Axis:
    values = [[_label(name, _value(run, name)) for run in runs] for runs in (shipped, own)]
    possible = _bins(EDGES[name]) if name in EDGES else list(_choices(name))
    return Axis(
        name=name,
        cells=_cells(values[0], values[1], possible),
        gaps=tuple(value for value in possible if value not in values[0] and value not in values[1]),
    )
