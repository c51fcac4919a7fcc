"""Look for what in the user's own runs cannot be right, by itself and against the shipped corpus.

Nothing is changed, and nothing is judged by what advice it would give.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tempadvisor.holdings import Copy, copied, shipped_cells
from tempadvisor.location import place_of
from tempadvisor.records import TeacherProfile
from tempadvisor.rows import (
    SHARED,
    Maker,
    Name,
    Result,
    Seed,
    by_curve,
    measured,
    results,
    results_in,
    seeds_again,
    shared,
)
from tempadvisor.runs import Key, Run

KINDS = ("schema", "duplicate", "implausible", "contradiction")
DENT, LEVEL = 0.1, 0.03  # a point that far from two neighbors that agree that well
FAR_APART = 0.25
CHANCE = 0.9
FEW = 3
HUNDREDTH, NEAR = 0.0105, 0.03
CLEAR_ERRORS, CLEAR = 4.0, 0.02


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
    own = by_curve(run for _, run in held.runs)
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
    again = seeds_again(
        {key: results_in(rows) for key, rows in shipped.items()}, {k: results(r) for k, r in own.items()}
    )
    for key, runs in own.items():
        ids = tuple(sorted({origin[run.key] for run in runs}))
        sized = _sized(runs, held.profiles.get(str(key[1])))
        beside = _beside(runs, own.values(), shipped.values())
        told = [*_mixed(runs), *_implausible(sized), *_divided(sized, beside)]
        if all(code != "seed_unused" for _, code, _ in told):
            told += _again(key, again.get(key, {}))
        found += [Finding(kind, code, ids, *key, text) for kind, code, text in told]
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


def _sized(runs: Sequence[Run], profile: TeacherProfile | None) -> Sequence[Run]:
    """Return runs with the number of classes, where they do not say it and their teacher's profile does."""
    if profile is None or runs[0].n_classes:
        return runs
    return [dataclasses.replace(run, n_classes=profile.n_classes) for run in runs]


def _accuracies(run: Run) -> dict[str, float]:
    """Return the accuracies of a run by column; none where it did not finish."""
    values = {name: getattr(run, name) for name in ("val_accuracy", "test_accuracy")}
    return {name: value for name, value in values.items() if value is not None}


def _is_tiny(run: Run) -> bool:
    return min(_accuracies(run).values(), default=1.0) <= HUNDREDTH


def _beside(
    runs: Sequence[Run], own: Iterable[Sequence[Run]], shipped: Iterable[Sequence[Mapping[str, str]]]
) -> list[Run]:
    """Return the runs with KD of the same teacher and data, if any of `runs` looks as if divided by 100."""
    if not any(map(_is_tiny, runs)):
        return []
    make, of = Maker(), (runs[0].dataset, runs[0].teacher)
    mine = [run for some in own if (some[0].dataset, some[0].teacher) == of for run in some]
    others = [make(row) for rows in shipped if (rows[0]["dataset"], rows[0]["teacher"]) == of for row in rows]
    return [*mine, *others]


def _divided(runs: Sequence[Run], beside: Sequence[Run]) -> Iterator[tuple[str, str, str]]:
    """Say which runs have a hundredth of the accuracy that others of the same teacher and data have.

    They are compared with the same temperature of their curve, where what guesses is left out; else, if they are
    worse than half of guessing, with all of `beside`; and with themselves, if one accuracy is whole.
    """
    guess = 1 / runs[0].n_classes if runs[0].n_classes else 0.0
    whole = [run for run in beside if run.status == "FINISHED" and not _is_tiny(run)]
    hits = []
    for run in filter(_is_tiny, runs):
        mine = _accuracies(run)
        same = [one for one in whole if one.key[:2] == run.key[:2] and one.key[3] == run.key[3]]
        if same:
            strange = all(not guess / 2 <= value <= 2 * guess for value in mine.values())
        else:
            strange = all(value < guess / 2 for value in mine.values())
        if max(mine.values()) > HUNDREDTH:
            small, large = sorted(mine.values())
            found = abs(100 * small - large) <= NEAR
        else:
            found = strange and all(_is_among(100 * value, same or whole, name) for name, value in mine.items())
        hits += [run] * found
    if hits:
        first = hits[0]
        what = f"T={first.temperature:g}" if first.temperature else "no KD"
        small = min(_accuracies(first).values())
        yield (
            "implausible",
            "divided",
            f"A hundredth of what others of its teacher have: {small:.3g} with {what}, seed {first.seed}. Runs that "
            f"look so: {len(hits)} of {len(runs)}. Divided by 100 once too often?",
        )


def _is_among(value: float, runs: Sequence[Run], name: str) -> bool:
    """Return whether a value is among those of runs, as far as they have any."""
    values = [found[name] for run in runs if name in (found := _accuracies(run))]
    return bool(runs) and (not values or min(values) - NEAR <= value <= max(values) + NEAR)


def _again(key: Name, seeds: Mapping[int, Seed]) -> Iterator[tuple[str, str, str]]:
    """Say which seeds have the results of another."""
    others: dict[Name, list[str]] = defaultdict(list)
    for seed, (other, of) in seeds.items():
        others[other].append(f"{seed} those of {of}")
    for other, pairs in others.items():
        where = "" if other == key else f" of curve {other[1]} of suite {other[0]}"
        more = f" and {len(pairs) - FEW} more" if len(pairs) > FEW else ""
        text = f"Seeds{where} have their accuracies again under other seeds: {', '.join(pairs[:FEW])}{more}."
        yield "duplicate", "seed_again", text


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
