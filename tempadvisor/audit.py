"""Look at what is known in runs: which setups it covers and which not, and what in own rows cannot be right.

Nothing is changed, and nothing is judged by what advice it would give.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tempadvisor.curves import LEAST_SEEDS, TEMPERATURES
from tempadvisor.glimpses import teaches
from tempadvisor.holdings import Copy, copied, own_runs, shipped_cells, shipped_profiles
from tempadvisor.location import place_of
from tempadvisor.rows import COLUMNS, SHARED, Maker, Name, Result, measured, results, shared
from tempadvisor.runs import Key, Run

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
KINDS = ("schema", "duplicate", "implausible", "contradiction")
DENT, LEVEL = 0.1, 0.03  # a point that far from two neighbors that agree that well
FAR_APART = 0.25
CHANCE = 0.9
FEW = 3
CLEAR_ERRORS, CLEAR = 4.0, 0.02


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
    complete ones with a profile of their teacher. `glimpses` counts the own ones that teach without being complete.
    """

    runs: tuple[int, int]
    curves: tuple[int, int]
    complete: tuple[int, int]
    with_profile: tuple[int, int]
    glimpses: int
    sources: tuple[Source, ...]
    temperatures: tuple[Cell, ...]
    axes: tuple[Axis, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something that cannot be right: its kind (schema, duplicate, implausible, contradiction), where, and what.

    `code` is a stable word for what it is.
    """

    kind: str
    code: str
    imports: tuple[str, ...]
    suite: str | None
    curve: str | None
    text: str


Curves = dict[Name, list[Run]]


def coverage(url: str | None = None) -> Coverage:
    """Return what the shipped corpus and the user's own runs cover, axis by axis, and the gaps.

    Raises:
        KnowledgeError: the user's database cannot be read.
    """
    runs, profiles = own_runs(url)
    own, shipped, make = _curves(runs), shipped_cells(), Maker()
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


def findings(url: str | None = None) -> tuple[Finding, ...]:
    """Return what cannot be right in the user's own rows, by themselves and against the shipped corpus.

    Raises:
        KnowledgeError: the user's database cannot be read.
    """
    if not place_of(url).exists:
        return ()
    from tempadvisor.store import stored

    held = stored(url)
    found = [Finding("schema", "broken_row", (id,) if id else (), None, None, text) for id, text in held.broken]
    origin = {run.key: id for id, run in held.runs}
    own = _curves(run for _, run in held.runs)
    make, wanted = Maker(), {shared(runs[0]) for runs in own.values()}
    below = {}
    twins: dict[Key, Run] = {}
    shipped = shipped_cells() if own else {}
    for key, rows in shipped.items():
        if key in own:
            twins |= {run.key: run for run in map(make, rows)}
        if shared(make(rows[0])) in wanted:
            below[key] = [make(row) for row in rows]
    found += _shipped_too(held.runs, twins)
    for key, runs in own.items():
        ids = tuple(sorted({origin[run.key] for run in runs}))
        found += [Finding(kind, code, ids, *key, text) for kind, code, text in (*_mixed(runs), *_implausible(runs))]
    copies = copied(shipped, own)
    for key, copy in copies.items():
        ids = tuple(sorted({origin[run.key] for run in own[key]}))
        found += [Finding(kind, code, ids, *key, text) for kind, code, text in _copy(copy, results(own[key]))]
    renamed = {key for key, copy in copies.items() if not copy.differing}
    alike: dict[Any, list[tuple[bool, Name, list[Run]]]] = defaultdict(list)
    for is_own, curves in ((False, below), (True, own)):
        for key, runs in curves.items():
            alike[shared(runs[0])].append((is_own, key, runs))
    for group in alike.values():
        for (_, old_key, old), (is_own, key, every) in itertools.combinations(group, 2):
            new = [run for run in every if run.key not in twins] if old_key == key else every
            if is_own and new and not renamed & {key, old_key}:
                ids = tuple(sorted({origin[run.key] for run in new}))
                name = f"curve {old_key[1]} of suite {old_key[0]}"
                found += [Finding(kind, code, ids, *key, text) for kind, code, text in _against(old, new, name)]
    return tuple(
        sorted(
            found, key=lambda one: (KINDS.index(one.kind), one.code, one.suite or "", one.curve or "", one.imports)
        )
    )


def _curves(runs: Iterable[Run]) -> Curves:
    curves: Curves = defaultdict(list)
    for run in runs:
        curves[run.suite, run.curve].append(run)
    return dict(curves)


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


def _by_temperature(runs: Iterable[Run]) -> dict[float, list[Run]]:
    """Return the runs that were read on the test split by temperature, 0 without KD."""
    found: dict[float, list[Run]] = defaultdict(list)
    for run in runs:
        if run.test_accuracy is not None:
            found[run.key[3]].append(run)
    return dict(sorted(found.items()))


def _mean(runs: Sequence[Run], name: str = "test_accuracy") -> float:
    return statistics.fmean(getattr(run, name) for run in runs)


def _error(cells: Iterable[Sequence[Run]]) -> float:
    """Return the standard error of a difference between mean test accuracies, as far as repeated seeds tell."""
    values = [[run.test_accuracy or 0.0 for run in runs] for runs in cells]
    return math.sqrt(sum(statistics.variance(found) / len(found) for found in values if len(found) > 1))


def _result(run: Run) -> tuple[Any, ...]:
    return (run.val_accuracy, run.test_accuracy, run.train_accuracy, run.val_loss, run.train_loss)


def _copy(copy: Copy, every: Sequence[Result]) -> Iterator[tuple[str, str, str]]:
    """Say whose results a curve has: renamed ones, or all of another setup's."""
    name, n = f"curve {copy.of[1]} of suite {copy.of[0]}", len(every)
    if not copy.differing:
        text = f"{copy.n} of its {n} runs with KD are those of {name}, renamed; fit leaves it out."
        yield "duplicate", "renamed", text
    elif copy.n == len(set(every)):
        text = (
            f"All its {n} runs with KD have the accuracies of {name}, which differs in {', '.join(copy.differing)}."
        )
        yield "duplicate", "same_results", text


def _mixed(runs: Sequence[Run]) -> Iterator[tuple[str, str, str]]:
    """Say in which column the runs of one curve differ that should not."""
    first = shared(runs[0])
    other = next((run for run in runs if shared(run) != first), None)
    if other is not None:
        pairs = zip(SHARED, first, shared(other), strict=True)
        names = [name for (name, _), one, another in pairs if one != another]
        yield "contradiction", "several_setups", f"A curve must be one setup. Its runs differ in {', '.join(names)}."


def _implausible(runs: Sequence[Run]) -> Iterator[tuple[str, str, str]]:
    """Say what of a curve is hardly the result of honest trainings."""
    failed = sum(run.status == "FAILED" for run in runs)
    if failed * 2 > len(runs):
        yield "implausible", "failed_runs", f"{failed} of {len(runs)} runs failed."
    cells = _by_temperature(runs)
    with_kd = {t: found for t, found in cells.items() if t}
    if not with_kd:
        return
    finished = [run for found in with_kd.values() for run in found]
    by_seed: dict[int | None, list[Run]] = defaultdict(list)
    for run in finished:
        by_seed[run.seed].append(run)
    if len(with_kd) >= FEW and all(len(set(map(_result, found))) == 1 for found in by_seed.values()):
        yield "implausible", "temperature_unused", "The temperature changes nothing, to the last digit: was it used?"
    if len(with_kd) >= FEW and all(
        len(found) > 1 and len(set(map(_result, found))) == 1 for found in with_kd.values()
    ):
        yield "implausible", "seed_unused", "The seed changes nothing, to the last digit: was it used?"
    best = max(_mean(found) for found in with_kd.values())
    if best < CHANCE / (runs[0].n_classes or 10**9):
        text = f"At its best it is worse than guessing: {best:.3f} with {runs[0].n_classes} classes."
        yield "implausible", "worse_than_guessing", text
    val, test = _mean(finished, "val_accuracy"), _mean(finished)
    if abs(val - test) > FAR_APART:
        text = f"Validation and test accuracy lie far apart: {val:.3f} and {test:.3f} on average."
        yield "implausible", "far_apart", text
    means = {t: _mean(found) for t, found in with_kd.items()}
    for low, mid, high in zip(means, list(means)[1:], list(means)[2:], strict=False):
        level = (means[low] + means[high]) / 2
        errors = CLEAR_ERRORS * _error([with_kd[low], with_kd[mid], with_kd[high]])
        if abs(means[low] - means[high]) < LEVEL and abs(means[mid] - level) > max(DENT, errors):
            ends = f"{means[low]:.3f} at T={low:g} and {means[high]:.3f} at T={high:g}"
            yield "implausible", "dent", f"T={mid:g} gives {means[mid]:.3f} between {ends}."


def _shipped_too(runs: Iterable[tuple[str, Run]], twins: Mapping[Key, Run]) -> Iterator[Finding]:
    """Say of each import how many of its rows the shipped corpus has too, by key in `twins`: only those count."""
    mine: dict[str, list[Run]] = defaultdict(list)
    for id, run in runs:
        mine[id].append(run)
    for id, rows in sorted(mine.items()):
        both = [run for run in rows if run.key in twins]
        other = sum(measured(run) != measured(twins[run.key]) for run in both)
        rest = f", then add the file again for the other {len(rows) - len(both)}" if len(both) < len(rows) else ""
        next_step = f"Run tempadvisor knowledge remove {id}{rest}."
        if len(both) > other:
            text = (
                f"Rows that the shipped corpus has too, and that count once: {len(both) - other} of its {len(rows)}. "
            )
            yield Finding("duplicate", "shipped_too", (id,), None, None, text + next_step)
        if other:
            text = f"Rows that say otherwise than the shipped corpus, which counts: {other} of its {len(rows)}. "
            yield Finding("contradiction", "shipped_otherwise", (id,), None, None, text + next_step)


def _against(old: Sequence[Run], new: Sequence[Run], name: str) -> Iterator[tuple[str, str, str]]:
    """Say where two curves of the same setup are the same runs, or disagree beyond their noise."""
    known = {(run.key[2:], tuple(measured(run).items())) for run in old}
    same = sum((run.key[2:], tuple(measured(run).items())) in known for run in new if run.status == "FINISHED")
    if same:
        yield "duplicate", "same_runs", f"{same} of its {len(new)} runs are those of {name} under another name."
        return
    cells = _by_temperature(old), _by_temperature(new)
    for t in sorted(cells[0].keys() & cells[1].keys()):
        pair = [cell[t] for cell in cells]
        if min(map(len, pair)) < 2:
            continue
        error = _error(pair)
        difference = _mean(pair[1]) - _mean(pair[0])
        if abs(difference) > max(CLEAR, CLEAR_ERRORS * error):
            what = f"T={t:g}" if t else "no KD"
            text = f"With {what}, test accuracy is {difference:+.3f} (± {error:.3f}) against {name}, the same setup."
            yield "contradiction", "other_result", text
