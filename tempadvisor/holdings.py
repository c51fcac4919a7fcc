"""What is known in runs: the shipped corpus, which nothing here changes, and above it what the user has added.

Whoever learns from runs asks here. The database is opened only where there is one.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tempadvisor.documents import write_text
from tempadvisor.errors import InputError, KnowledgeError, UsageError
from tempadvisor.evidence import profiles_path, read_profiles, write_profiles
from tempadvisor.imports import Refusal, Row, read_file
from tempadvisor.location import place_of
from tempadvisor.progress import Progress
from tempadvisor.records import TeacherProfile
from tempadvisor.resources import knowledge_path
from tempadvisor.rows import COLUMNS, Maker, Name, copies, differing, results, results_in, values_of
from tempadvisor.runs import SCHEMA, Run, read_runs, to_row

if TYPE_CHECKING:
    from tempadvisor.store import Added

FORMATS = ("csv", "jsonl", "parquet")


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """The file that was written, how many runs it holds, and the file of their teachers' profiles, if any."""

    file: str
    rows: int
    profiles: str | None


def shipped_runs(suites: Iterable[str | None] | None = None) -> tuple[Run, ...]:
    """Return the runs of the shipped corpus, of some suites if they are named; never those of a frozen source."""
    wanted = None if suites is None else set(suites)
    return tuple(run for path in shipped_paths() if wanted is None or path.stem in wanted for run in read_runs(path))


def shipped_cells() -> dict[Name, list[dict[str, str]]]:
    """Return the rows of the shipped corpus by curve, as they stand in it: many times faster than as runs."""
    curves: dict[Name, list[dict[str, str]]] = defaultdict(list)
    for path in shipped_paths():
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        for cells in lines:
            row = dict(zip(header, cells, strict=True))
            curves[row["suite"], row["curve"]].append(row)
    return curves


class Copy(NamedTuple):
    """The curve whose results another has too: how many runs they share, and where their setups differ."""

    of: Name
    n: int
    differing: tuple[str, ...]


def copied(
    shipped: Mapping[Name, Sequence[Mapping[str, str]]], own: Mapping[Name, Sequence[Run]]
) -> dict[Name, Copy]:
    """Return the own curves that have the results of another, shipped or own, see `rows.copies`."""
    make = Maker()
    found = copies(
        {key: results_in(rows) for key, rows in shipped.items()}, {key: results(runs) for key, runs in own.items()}
    )
    firsts = {other: make(shipped[other][0]) if other in shipped else own[other][0] for other, _ in found.values()}
    return {key: Copy(other, n, differing(own[key][0], firsts[other])) for key, (other, n) in found.items()}


def renamed(shipped: Mapping[Name, Sequence[Mapping[str, str]]], own: Mapping[Name, Sequence[Run]]) -> set[Name]:
    """Return the own curves that are another, renamed: with its results, and what is known of both setups agrees."""
    return {key for key, copy in copied(shipped, own).items() if not copy.differing}


def shipped_profiles() -> dict[str, TeacherProfile]:
    """Return the teachers' profiles of the shipped corpus by curve."""
    return {
        curve: profile for path in shipped_paths() for curve, profile in read_profiles(profiles_path(path)).items()
    }


def shipped_paths() -> list[Path]:
    """Return the files of runs of the shipped corpus; never one of a frozen source."""
    return [path for path in sorted(knowledge_path("runs").glob("*.csv")) if not path.name.startswith("frozen")]


def own_runs(url: str | None = None) -> tuple[tuple[Run, ...], dict[str, TeacherProfile]]:
    """Return the user's own runs, sorted by key, and their teachers' profiles by curve; empty where there are none.

    Args:
        url: of the database; TEMPADVISOR_KNOWLEDGE or the user's own file if not given.

    Raises:
        KnowledgeError: the database cannot be read, or holds rows that are no runs.
    """
    place = place_of(url)
    if not place.exists:
        return (), {}
    from tempadvisor.store import stored

    held = stored(url)
    if held.broken:
        raise KnowledgeError(
            f"{place} must hold runs only. Rows that are none: {len(held.broken)}, the first: {held.broken[0][1]} "
            "See tempadvisor knowledge check.",
            code="bad_rows",
        )
    return tuple(run for _, run in held.runs), dict(held.profiles)


def add(
    files: Sequence[str],
    mapping: Mapping[str, str],
    fixed: Mapping[str, str],
    url: str | None = None,
    *,
    profile: TeacherProfile | None = None,
    progress: Progress | None = None,
) -> tuple[Added, ...]:
    """Add files of runs to the user's own, each of them whole or not at all.

    Args:
        files: CSV, JSONL and Parquet files, and URLs of Optuna storages.
        mapping: their columns, each with the one of ours that it is.
        fixed: what the columns of ours hold that the files do not have.
        url: of the database; TEMPADVISOR_KNOWLEDGE or the user's own file if not given.
        profile: of the one teacher of a file's curves, whatever lies beside it.
        progress: called with the rows done and the rows in all files, as far as lines tell; reading a row is half
            of the work, writing it the other half.

    Returns:
        What became of each file, in order; one that cannot be read is refused like one with bad rows.

    Raises:
        UsageError: mapping or fixed name a column that is none of ours.
        KnowledgeError: the database cannot be written to, or Parquet without pyarrow; the file at hand is not in it,
            those before it are.
    """
    from tempadvisor.store import Added, take

    lines = [_lines(name) if progress else None for name in files]
    total = None if None in lines else sum(n or 0 for n in lines)
    added = []
    for i, name in enumerate(files):
        before = 2 * sum(n or 0 for n in lines[:i])
        reads, writes = (_steps(progress, before + offset, total) for offset in (0, lines[i] or 0))
        try:
            rows = _parquet_rows(Path(name)) if _is_parquet(name) else None
            reading = read_file(name, mapping, fixed, rows=rows, profile=profile, progress=reads)
        except InputError as error:
            added.append(Added(name, None, 0, 0, 0, (), (Refusal(name, None, None, str(error)),)))
            continue
        shipped = {run.key: run for run in shipped_runs({run.suite for run in reading.runs.values()})}
        added.append(take(reading, shipped, url, progress=writes))
    return tuple(added)


def _steps(progress: Progress | None, offset: int, total: int | None) -> Callable[[int], None] | None:
    """Return what tells of half a row's work done, after `offset` such halves."""
    return None if progress is None else lambda done: progress((offset + done) // 2, total)


def _lines(name: str) -> int | None:
    """Return the number of lines of a file; None for what has none, such as an Optuna storage."""
    path = Path(name)
    try:
        if not path.is_file() or _is_parquet(name):
            return None
        with path.open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    except (OSError, ValueError):
        return None  # why is said by who reads it


def export_text(form: str = "csv", url: str | None = None) -> str:
    """Return the user's own runs as CSV, with the columns of `bench`, or as JSONL, which leaves out what is unknown.

    A run without KD has the temperature null there.

    Raises:
        UsageError: the format is another.
    """
    if form not in FORMATS[:2]:
        hint = "Add -o FILE." if form == "parquet" else ""
        raise UsageError(f"--format must be csv or jsonl on stdout. Got {form!r}. {hint}", code="bad_format")
    return _text(form, own_runs(url)[0])


def export_file(output: Path, form: str | None = None, url: str | None = None) -> Exported:
    """Write the user's own runs to a file, whole or not at all, and beside it their teachers' profiles.

    Args:
        output: the file.
        form: csv, jsonl or parquet; what the file's name ends in if not given.
        url: of the database; TEMPADVISOR_KNOWLEDGE or the user's own file if not given.

    Raises:
        UsageError: the format is another.
        InputError: the file cannot be written.
        KnowledgeError: Parquet without pyarrow, or the database cannot be read.
    """
    form = form or output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}. Got {form!r}.", code="bad_format")
    ending = output.suffix.lower().removeprefix(".")
    if ending in FORMATS and ending != form:
        raise UsageError(f"--format must be what {output} ends in. Got {form}. Leave it out.", code="bad_format")
    runs, profiles = own_runs(url)
    if form == "parquet":
        _write_parquet(runs, output)
    else:
        write_text(output, _text(form, runs))
    beside = profiles_path(output) if profiles else None
    if beside:
        write_profiles(beside, profiles)
    return Exported(str(output), len(runs), str(beside) if beside else None)


def _text(form: str, runs: Iterable[Run]) -> str:
    return (
        _csv(runs)
        if form == "csv"
        else "".join(f"{json.dumps({'schema': SCHEMA, 'temperature': None, **values_of(run)})}\n" for run in runs)
    )


def _csv(runs: Iterable[Run]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *COLUMNS])
    table.writerows(map(to_row, runs))
    return text.getvalue()


def _is_parquet(name: str) -> bool:
    return "://" not in name and name.lower().endswith(".parquet")


def _arrow() -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise KnowledgeError(
            "Parquet needs pyarrow. It is not installed. Run pip install 'tempadvisor[parquet]'.", code="no_parquet"
        ) from None
    return pyarrow, parquet


def _parquet_rows(path: Path) -> Iterator[Row]:
    """Return the rows of a Parquet file, numbered from 1, read as they are needed."""
    pa, parquet = _arrow()
    try:
        if path.exists() and not path.is_file():
            raise OSError("It is a folder, pipe or device")
        with parquet.ParquetFile(path) as file:
            if len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
                raise ValueError("Two of its columns have one name")
            yield from enumerate((row for batch in file.iter_batches() for row in batch.to_pylist()), start=1)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{path} must be a readable Parquet file of runs. {str(error)[:200]}. Mend it.", code="unreadable"
        ) from None


def _write_parquet(runs: Iterable[Run], output: Path) -> None:
    pa, parquet = _arrow()
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([("schema", pa.int64()), *((name, kinds[column.type]) for name, column in COLUMNS.items())])
    rows = [{"schema": SCHEMA, **values_of(run)} for run in runs]
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
        temporary.replace(output)
    except OSError as error:
        raise InputError(f"{output} must be a file that can be written. {error}.", code="unwritable") from None
    finally:
        temporary.unlink(missing_ok=True)
