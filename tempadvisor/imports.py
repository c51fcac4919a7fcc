"""Read other people's runs as ours: a file's rows become `Run` records, or every reason why not is told.

A file may name its columns as it likes: a mapping says which of ours they are. What a row must tell is where it comes
from and which loss its temperature holds for. Where rows are kept is the business of `store.py`; Parquet is read in
`holdings.py`.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tempadvisor.errors import InputError, KnowledgeError, TempAdvisorError, UsageError, did_you_mean
from tempadvisor.evidence import profiles_path, read_profiles
from tempadvisor.fields import problem
from tempadvisor.records import TeacherProfile
from tempadvisor.rows import COLUMNS, Maker, measured, texts_of, typed
from tempadvisor.runs import SCHEMA, Key, Run

# What every row must tell, and why; a suite's own files have it by construction.
PROVENANCE = {
    "source": "advice is scored on data sources that it has not seen",
    "dataset": "curves of one data set are compared",
    "teacher": "curves of one teacher are compared",
    "seed": "temperatures are compared within a seed",
}
LOSS = {
    "kd_weight": "a temperature holds for one weight of the KD term",
    "t_squared": "a temperature holds with the factor T^2 or without",
}
UNFINISHED = {  # trials of a study that have an accuracy and did not finish
    "PRUNED": "the accuracy of a pruned trial is its last report, not a result",
    "FAILED": "the accuracy of a failed trial is no result",
}
LONGEST_NAME = 200
NO_KD = ("0", "0.0", "nan", "none", "null", "no", "no kd")  # what others write for it
TOLD_EVERY = 1_000  # rows
ALIKE = 0.76  # names of columns that are hardly two things: test_acc, optimiser
Row = tuple[int, dict[str, Any] | str]  # its number in the file; its values, or what is wrong with it as a whole


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why a file is not taken. Rows count as the file does: a CSV's header is row 1."""

    file: str
    row: int | None
    column: str | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Hold what a file says: its runs by row and their teachers' profiles by curve, or why it is refused.

    `skipped` counts trials of a study that are no runs, by why they are not.
    """

    file: str
    runs: Mapping[int, Run]
    profiles: Mapping[str, TeacherProfile]
    ignored: tuple[str, ...]
    refused: tuple[Refusal, ...]
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_file(
    name: str,
    mapping: Mapping[str, str],
    fixed: Mapping[str, str],
    *,
    rows: Iterable[Row] | None = None,
    profile: TeacherProfile | None = None,
    progress: Callable[[int], None] | None = None,
) -> Reading:
    """Read a file of runs, with all that is wrong with it.

    Args:
        name: a .csv or .jsonl file, or the URL of an Optuna storage (see `trials.py`).
        mapping: the file's columns by name, each with ours, or with "" to leave it out.
        fixed: values of our columns that hold for each row.
        rows: of the file, where it is not a .csv or .jsonl file or an Optuna storage.
        profile: of the one teacher of the file's curves, whatever lies beside the file.
        progress: called now and then with the rows read.

    Raises:
        InputError: the file cannot be read at all.
        UsageError: mapping or fixed name a column that is none of ours.
    """
    for option, names in (("--map", [ours for ours in mapping.values() if ours]), ("--set", list(fixed))):
        for ours in names:
            if ours not in COLUMNS:
                raise UsageError(
                    f"{option} must name a column of a run. Got {ours!r}. {did_you_mean(ours, COLUMNS)}",
                    code="unknown_column",
                )
    seen: dict[str, None] = {}
    runs: dict[int, Run] = {}
    first: dict[Key, int] = {}
    refused: list[Refusal] = []
    skipped: Counter[str] = Counter()
    make = Maker()
    for count, (number, values) in enumerate(_rows(name) if rows is None else rows, start=1):
        if progress is not None and count % TOLD_EVERY == 0:
            progress(count)
        if isinstance(values, str):
            refused.append(Refusal(name, number, None, values))
            continue
        seen.update(dict.fromkeys(values))
        told = {mapping.get(theirs, theirs): value for theirs, value in values.items()} | dict(fixed)
        if "://" in name and told.get("status") in UNFINISHED and _has_accuracy(told):
            skipped[UNFINISHED[told["status"]]] += 1
            continue
        schema = told.pop("schema", None)
        needed = PROVENANCE if schema is not None else {**PROVENANCE, **LOSS}
        problems: list[tuple[str | None, str]] = [
            (column, f"{column} must be given: {why}. Got none.")
            for column, why in needed.items()
            if told.get(column) in (None, "")
        ]
        if "temperature" not in told and "://" not in name:  # a study may leave it out of trials without KD
            problems.append(("temperature", _no_temperature(told)))
        if "val_accuracy" not in told and told.get("status") in (None, "", "FINISHED") and not told.get("error"):
            problems.append(("val_accuracy", "val_accuracy must be given for a run that finished. Got none."))
        if schema is not None and str(schema) != str(SCHEMA):
            problems.append(("schema", f"schema must be {SCHEMA}. Got {str(schema)[:40]!r}."))
        if not problems:
            try:
                run = make(told)
                problems = _unfit(run)
                twin = first.setdefault(run.key, number)
                if twin == number:
                    runs[number] = run
                elif twin in runs and measured(runs[twin]) != measured(run):
                    problems.append(
                        (None, f"suite, curve, seed and temperature must be unique. Row {twin} has them.")
                    )
            except TempAdvisorError as error:
                problems = [(None, str(error))]
        if problems:
            refused += [Refusal(name, number, column, reason) for column, reason in _told(told, problems)]
    refused, ignored = _about_columns(name, refused, seen, mapping, fixed)
    profiles: Mapping[str, TeacherProfile] = {}
    if "://" not in name:
        try:
            profiles = read_profiles(profiles_path(Path(name)))
        except (KnowledgeError, OSError, UnicodeDecodeError) as error:
            refused.append(Refusal(name, None, None, str(error)))
    if profile is not None:
        refused += [Refusal(name, None, None, reason) for reason in _not_of(profile, runs.values())]
        profiles = {**profiles, **{str(run.curve): profile for run in runs.values()}}
    if not runs and not refused:
        refused.append(Refusal(name, None, None, "It must hold at least one run. Got none."))
    return Reading(name, {} if refused else runs, profiles, ignored, tuple(refused), skipped)


def _has_accuracy(told: Mapping[str, Any]) -> bool:
    return any(told.get(column) not in (None, "") for column in ("val_accuracy", "test_accuracy"))


def _not_of(profile: TeacherProfile, runs: Iterable[Run]) -> Iterator[str]:
    """Yield why a profile cannot be that of the teacher of all runs."""
    teachers = sorted({str(run.teacher) for run in runs})
    if len(teachers) > 1:
        yield (
            f"--profile must be of the one teacher of all rows. Got {len(teachers)}: {', '.join(teachers)[:100]}. "
            "Add a file for each."
        )
    classes = sorted({run.n_classes for run in runs if run.n_classes} - {profile.n_classes})
    if classes:
        yield f"--profile must have n_classes as the rows have. Got {profile.n_classes} against {classes[0]}."


def _told(values: Mapping[str, Any], problems: list[tuple[str | None, str]]) -> list[tuple[str | None, str]]:
    """Return the problems of a row column by column, where single values are wrong."""
    single: list[tuple[str | None, str]] = []
    for name, column in COLUMNS.items():
        value = typed(column.type, values.get(name))
        found = problem(column, value)
        if found and name.endswith("accuracy") and isinstance(value, float) and 1 < value <= 100:
            found = f"{name} must be a fraction from 0 to 1. Got percent, it seems: divide by 100."
        if found and name == "temperature" and str(value).lower() in NO_KD:
            found += " Leave it empty where a student was trained without KD."
        if found:
            single.append((name, found))
    missing = [(column, reason) for column, reason in problems if column is not None]
    if single or missing:
        return missing + single
    return [(word if (word := reason.split(" ")[0]) in COLUMNS else None, reason) for _, reason in problems]


def _no_temperature(told: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches("temperature", told.keys() - COLUMNS.keys(), n=1, cutoff=ALIKE)
    got = f"Got {near[0]!r}." if near else "Got none."
    return f"temperature must be told by each row, empty (null) where a student was trained without KD. {got}"


def _unfit(run: Run) -> list[tuple[str | None, str]]:
    """Return what no database takes: texts that are none, names without end."""
    found: list[tuple[str | None, str]] = []
    for name, value in texts_of(run).items():
        if not value.isascii() and value.encode(errors="replace").decode() != value:
            found.append((name, f"{name} must be text in Unicode. Got half a character."))
        elif "\0" in value:
            found.append((name, f"{name} must be text. Got a null character in it."))
        elif name in ("suite", "curve") and len(value) > LONGEST_NAME:
            found.append((name, f"{name} must be at most {LONGEST_NAME} characters long. Got {len(value)}."))
    return found


def _about_columns(
    file: str,
    refused: list[Refusal],
    seen: Mapping[str, None],
    mapping: Mapping[str, str],
    fixed: Mapping[str, str],
) -> tuple[list[Refusal], tuple[str, ...]]:
    """Return the refusals, those of whole columns told once and first, and the columns that are left out."""
    ours = [mapping.get(theirs, theirs) for theirs in seen]
    lacking = {c for c in (*PROVENANCE, *LOSS, "temperature", "val_accuracy") if c not in ours and c not in fixed}
    whole: dict[str, Refusal] = {}
    rest = []
    for one in refused:
        if one.column in lacking:
            whole.setdefault(str(one.column), dataclasses.replace(one, row=None))
        else:
            rest.append(one)
    about = list(whole.values())
    if seen and "schema" not in seen and "temperature" not in (*ours, *fixed):
        reason = "temperature must be a column, empty where a student was trained without KD. Got none."
        about = [Refusal(file, None, "temperature", reason), *(one for one in about if one.column != "temperature")]
        rest = []
    for theirs, ours_of_it in mapping.items():
        if theirs not in seen and seen and ours_of_it:
            hint = did_you_mean(theirs, seen)
            about.append(Refusal(file, None, theirs, f"--map must name a column of the file. {hint}"))
    for name in dict.fromkeys(ours):
        if name in COLUMNS and ours.count(name) + (name in fixed) > 1:
            reason = f"{name} must be told once. Got it twice; leave one out with --map COLUMN= ."
            about.append(Refusal(file, None, name, reason))
    ignored = []
    for theirs in seen:
        if theirs in mapping or theirs in COLUMNS or theirs == "schema":
            continue
        near = difflib.get_close_matches(theirs.lower(), COLUMNS.keys() - {*ours, *fixed}, n=1, cutoff=ALIKE)
        if not near and "val_accuracy" in whole and theirs.lower().startswith("val") and "loss" not in theirs.lower():
            near = ["val_accuracy"]
        if near:
            said = shlex.quote(theirs)
            reason = f"{theirs!r} is no column of a run. Say --map {said}={near[0]}, or --map {said}= if it is not."
            about.append(Refusal(file, None, theirs, reason))
        else:
            ignored.append(theirs)
    return about + rest, tuple(ignored)


def _rows(name: str) -> Iterator[Row]:
    """Return the rows of a file, read as they are needed."""
    if "://" in name:
        from tempadvisor.trials import read_trials

        return read_trials(name)
    path = Path(name)
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{name} must be a .csv, .jsonl or .parquet file or the URL of an Optuna storage. "
            f"Got {path.suffix or 'no suffix'!r}. Rename it to what it is.",
            code="bad_file",
        )
    return _read(path, readers[path.suffix.lower()])


def _read(path: Path, reader: Any) -> Iterator[Row]:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(
                f"{path} must be a regular file. Got a pipe or device. Check the path.", code="unreadable"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from reader(file)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, UnicodeDecodeError):
            reason = "It is in another encoding than UTF-8"
        raise InputError(
            f"{path} must be a readable text file of runs. {reason}. Mend it.", code="unreadable"
        ) from None


def _csv_rows(file: Any) -> Iterator[Row]:
    lines = csv.reader(file, strict=True)
    header = next(lines, [])
    other = next((mark for mark in (";", "\t") if len(header) == 1 and mark in header[0]), None)
    if other:
        yield 1, f"Columns must be separated by commas. Got {other!r} instead, it seems. Save it with commas."
        return
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        yield 1, f"{', '.join(map(repr, twice))} must head one column. It heads several."
        return
    for number, cells in enumerate(lines, start=2):
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        elif cells:
            yield number, f"A row must have {len(header)} cells as the header. Got {len(cells)}."


def _json_rows(file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"A line must be one JSON object. {str(error)[:100]}."
            continue
        yield number, values if isinstance(values, dict) else "A line must be one JSON object. Got something else."
