"""How what is known in runs looks in a terminal: plain text in columns. Everything here returns; the CLI prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tempadvisor.audit import Finding
from tempadvisor.coverage import Cell, Coverage
from tempadvisor.errors import one_line
from tempadvisor.fitting import Outcome
from tempadvisor.holdings import Exported
from tempadvisor.store import Added, Import
from tempadvisor.summary import Summary

SHOWN = 50  # reasons why rows are refused; --json has all of them
ALIKE = 3  # findings of one sort, rows refused for one reason
NAMED = 12  # columns of a file that are left out
REMEDIES = {  # for what a curve lacks to be learned from
    "a profile of the teacher": "knowledge fit needs it: add the file again with --profile FILE",
    "n_val": "knowledge fit needs it of incomplete curves: remove the import, and add it with --set n_val=N",
    "a loss of plain logits and reduction batchmean": "knowledge fit learns from that loss alone",
}


def added(files: Iterable[Added]) -> str:
    """Say what became of each file."""
    lines = []
    for one in files:
        file = one_line(one.file)
        if one.refused:
            lines.append(f"{file}: nothing added")
            continue
        known = f", {one.known:,} known already" if one.known else ""
        profiles = f", {_many(one.profiles, 'teacher profile')}" if one.profiles else ""
        new = one.imported
        brought = f"{_many(new.rows, 'run')} of {_many(new.curves, 'temperature curve')}" if new else "no new runs"
        lines.append(f"{file}: {brought} added{known}{profiles}{f', import {new.id}' if new else ''}")
        lines += [f"  {_many(n, 'trial')} left out: {reason}" for reason, n in one.skipped.items()]
        if one.ignored:
            more = f" and {len(one.ignored) - NAMED} more" if len(one.ignored) > NAMED else ""
            names = one_line(", ".join(one.ignored[:NAMED]))
            lines.append(f"  left out, as no columns of a run: {names}{more}")
        lines += [
            f"  {_many(n, 'curve')} {'lacks' if n == 1 else 'lack'} {need}: {REMEDIES[need.split(',')[0]]}"
            for need, n in one.lacking.items()
        ]
    return "\n".join(lines)


def refused(files: Iterable[Added]) -> list[str]:
    """Return why rows are refused, one reason a line, with the rows of a file that share it."""
    rows: dict[tuple[str, str], list[int | None]] = {}
    for reason in (reason for one in files for reason in one.refused):
        rows.setdefault((reason.file, reason.reason), []).append(reason.row)
    lines = []
    for (file, text), numbers in list(rows.items())[:SHOWN]:
        where = "" if text.startswith(file) else f"{file}{_which(numbers)}: "
        lines.append(one_line(f"{where}{text}"))
    if len(rows) > SHOWN:
        lines.append(f"{len(rows) - SHOWN} more with --json")
    return lines


def _which(numbers: Sequence[int | None]) -> str:
    """Name rows, many by the first of them.

    >>> _which([None]), _which([7]), _which([2, 3]), _which(range(2, 1002))
    ('', ' row 7', ' rows 2, 3', ' rows 2, 3, 4 and 997 more')
    """
    found = [f"{number}" for number in numbers if number is not None]
    more = f" and {len(found) - ALIKE:,} more" if len(found) > ALIKE else ""
    return f" row{'s' if len(found) > 1 else ''} {', '.join(found[:ALIKE])}{more}" if found else ""


def imports(found: Sequence[Import]) -> str:
    """List imports, oldest first."""
    if not found:
        return "No runs of your own yet.\nNext: tempadvisor knowledge add runs.csv"
    rows = [(one.id, one_line(one.file), f"{one.rows:,}", f"{one.curves:,}", f"{one.added[:19]}Z") for one in found]
    return _table([("id", "file", "rows", "curves", "added"), *rows])


def removed(one: Import, *, fitted: bool) -> str:
    """Say what an import took with it; `fitted` where a model of the user's own runs is in use."""
    gone = f"{_many(one.rows, 'run')} of {one_line(one.file)} removed, import {one.id}"
    model = (
        "\nThe model in use may have learned from what is gone. Next: tempadvisor knowledge fit, or knowledge restore"
    )
    return gone + model * fitted


def exported(written: Exported) -> str:
    """Say what was written."""
    beside = f"\ntheir teachers' profiles: {one_line(written.profiles)}" if written.profiles else ""
    return f"{_many(written.rows, 'run')}: {one_line(written.file)}{beside}"


def coverage(found: Coverage) -> str:
    """Lay out what runs cover: curves by value of each axis, and what no curve has."""
    counts = [
        ("runs", found.runs),
        ("temperature curves", found.curves),
        ("complete ones", found.complete),
        ("with a profile", found.with_profile),
        ("incomplete, but they teach", (0, found.glimpses)),
        ("renamed copies, left out", (0, found.renamed)),
    ]
    head = ("", "shipped", "complete", "profile", "own", "complete", "profile")
    sources = [
        (one_line(one.value), *(f"{n:,}" for n in (one.shipped, one.complete[0], one.with_profile[0])),
         *(f"{n:,}" for n in (one.own, one.complete[1], one.with_profile[1])))
        for one in found.sources
    ]  # fmt: skip
    parts = [
        _table([("", "shipped", "own"), *((name, f"{a:,}", f"{b:,}") for name, (a, b) in counts)]),
        "Complete: no KD and 10 temperatures from 1 to 40, with 4 seeds and test accuracy. knowledge fit learns\n"
        "from those with a profile of their teacher: bench and verify write it beside the runs, and add takes it\n"
        "along; for a sweep of your own, add it again with --profile. Incomplete ones of yours teach too, if there\n"
        "are a profile, n_val and two temperatures with two seeds in common; no advice is judged by them.",
        "\n".join(["source (curves)", *(f"  {line}" for line in _table([head, *sources]).splitlines())]),
    ]
    cells = [("temperature", found.temperatures)]
    cells += [(axis.name, axis.cells) for axis in found.axes]
    gaps = {axis.name: axis.gaps for axis in found.axes}
    for name, values in cells:
        lines = [f"{name} (curves)", *(f"  {line}" for line in _table(_counts(values)).splitlines())]
        if gaps.get(name):
            lines.append(f"  none: {', '.join(gaps[name])}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def findings(found: Sequence[Finding]) -> str:
    """List what cannot be right, of each sort a few, of different curves."""
    if not found:
        return "Nothing wrong with the schema, no duplicates, no implausible temperature curves, no contradictions."
    lines = []
    for code in dict.fromkeys(one.code for one in found):
        alike = [one for one in found if one.code == code]
        places: dict[tuple[object, ...], Finding] = {}
        for one in alike:
            places.setdefault((one.suite, one.curve, "" if one.curve else one.imports), one)
        shown = list(places.values())[:ALIKE]
        for one in shown:
            where = f" suite {one.suite}, curve {one.curve}" if one.curve else ""
            origin = f" (import {', '.join(one.imports)})" if one.imports else ""
            lines.append(one_line(f"{one.kind}:{where}{origin}: {one.text}"))
        if len(alike) > len(shown):
            lines.append(f"  and {len(alike) - len(shown):,} more of this sort; --json has all")
    return "\n".join([*lines, f"{_many(len(found), 'finding')}. Next: tempadvisor knowledge remove ID"])


def summary(found: Summary) -> str:
    """Lay out an evaluation: regrets in points of accuracy, least first."""
    head = ("method", "mean", "90 % interval", "cut at 3", "median", "100 steps", "within 0.2", "within 0.5", "cost")
    rows = [
        (
            line.method,
            f"{100 * line.regret:.2f}",
            f"{100 * line.low:.2f} to {100 * line.high:.2f}",
            f"{100 * line.cut_regret:.2f}",
            f"{100 * line.median:.2f}",
            "" if line.long_regret is None else f"{100 * line.long_regret:.2f}",
            f"{line.within_02:.0%}",
            f"{line.within_05:.0%}",
            line.cost,
        )
        for line in found.lines
    ]
    held = [
        (
            one.source,
            f"{one.n_curves}",
            f"{100 * one.regret:.2f}",
            f"{100 * one.best_fixed:.2f}",
            f"{one.interval_ends_hold:.0%}",
            f"{one.best_covered:.0%} ± {one.covered_std:.0%}",
        )
        for one in found.by_source
    ]
    costly = [
        (one.curve, f"{100 * one.regret:.2f}", f"{one.share:.0%}", f"{one.advised:.2g}", f"{one.best:g}")
        for one in found.costliest
    ]
    promised = found.promises
    kept = [
        ("the interval's ends lose at most 0.2 points", promised.interval_ends_hold),
        ("the 90 % interval covers the best temperature", promised.best_covered),
        ("KD at the advised temperature hurts", promised.harmed),
        ("  and was not flagged", promised.harmed_unflagged),
        ("flagged as harmful", promised.harm_flagged),
        ("the temperature hardly matters", promised.indifferent),
        ("flagged so", promised.indifferent_flagged),
    ]
    parts = [
        f"Regret in points on {found.n_curves} setups, each {found.by} held out in turn; 100 steps: the mean without "
        "shorter trainings.",
        _table([head, *rows]),
        _table([("source", "setups", "advice", "best fixed", "ends hold", "best covered"), *held]),
        "Setups that carry most of the advice's regret",
        _table([("curve", "regret", "share", "advised", "best"), *costly]),
        "Share of the setups where",
        _table([("", ""), *((name, f"{share:.0%}") for name, share in kept)]).lstrip("\n"),
        "Chosen without",
        _table([("", ""), *found.choices.items()]).lstrip("\n"),
    ]
    return "\n\n".join(parts)


def outcome(found: Outcome) -> str:
    """Say what a fit found, and whether its model is in use."""
    learned = f"{_many(found.n_curves, 'temperature curve')}, {found.n_own:,} of them yours"
    lines = [f"Learned from {learned}: {found.kind}, weight {found.share:.0%} against the rules."]
    if found.comparison:
        c = found.comparison
        lines.append(
            f"Mean regret on setups never seen: {100 * c.before:.2f} points before, {100 * c.after:.2f} with your "
            f"runs (difference {100 * c.low:+.2f} to {100 * c.high:+.2f}, 90 %)."
        )
    if found.activated:
        lines.append(f"In use now, as knowledge {found.version}. Next: tempadvisor knowledge restore undoes it.")
    else:
        lines.append("Not put to use: it advises worse. Next: tempadvisor knowledge check, or fit --force.")
    head = ("rule", "fires in", "for", "against")
    rows = [(one.rule, f"{one.n_fired:,}", f"{one.n_for:,}", f"{one.n_against:,}") for one in found.standing]
    tally = "Measured setups that speak for and against each rule that moves T"
    return "\n".join([*lines[:-1], "", tally, _table([head, *rows]), "", lines[-1]])


def restored(version: str, *, shipped: bool) -> str:
    """Say what is in use again."""
    return f"In use again: {'the shipped ' if shipped else ''}knowledge {version}"


def _counts(cells: Iterable[Cell]) -> list[tuple[str, str, str]]:
    rows = [(one_line(cell.value), f"{cell.shipped:,}", f"{cell.own:,}") for cell in cells]
    return [("", "shipped", "own"), *rows]


def _many(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> _many(1, "run"), _many(2000, "run")
    ('1 run', '2,000 runs')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns, numbers to the right.

    >>> print(_table([("", "own"), ("sgd", "5")]))
         own
    sgd    5
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def cell(text: str, i: int) -> str:
        is_number = all(row[i].replace(",", "").isdecimal() for row in rows[1:])
        return text.rjust(widths[i]) if is_number else text.ljust(widths[i])

    return "\n".join("  ".join(cell(text, i) for i, text in enumerate(row)).rstrip() for row in rows)
