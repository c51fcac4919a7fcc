"""Keep the user's own runs in a database: all rows of an import or none, whoever else writes, whenever it is killed.

A run is kept as its key and its known values as one JSON text, so a column that a later version adds needs no
migration. Writers take turns. What is kept is plain data; the shipped corpus is never here, and nothing here is sent
anywhere but to the database that the user named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from tempadvisor.documents import profile_from
from tempadvisor.errors import KnowledgeError, TempAdvisorError, UsageError, did_you_mean
from tempadvisor.files import refuse_special
from tempadvisor.imports import LONGEST_NAME, Reading, Refusal
from tempadvisor.location import Place, place_of
from tempadvisor.records import TeacherProfile, as_dict
from tempadvisor.rows import MEASURED, Maker, lacking, measured, values_of
from tempadvisor.runs import Key, Run

WAIT_SECONDS = 120  # for other writers to finish
AT_ONCE = 5_000
CLOSE = 1e-3  # two measurements of one teacher, made on different processors
_TURN = 0x7E3BAD  # the advisory lock that writers on a server take

_tables = sa.MetaData()
_imports = sa.Table(
    "tempadvisor_imports",
    _tables,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("curves", sa.Integer, nullable=False),
    sa.Column("added", sa.Text, nullable=False),
)
_runs = sa.Table(
    "tempadvisor_runs",
    _tables,
    sa.Column("suite", sa.String(LONGEST_NAME), primary_key=True),
    sa.Column("curve", sa.String(LONGEST_NAME), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("temperature", sa.Double, primary_key=True, autoincrement=False),  # 0: without KD
    sa.Column("import_id", sa.String(16), nullable=False, index=True),
    sa.Column("digest", sa.String(16), nullable=False),
    sa.Column("content", sa.Text, nullable=False),
)
_profiles = sa.Table(
    "tempadvisor_profiles",
    _tables,
    sa.Column("curve", sa.String(LONGEST_NAME), primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
_KEY = (_runs.c.suite, _runs.c.curve, _runs.c.seed, _runs.c.temperature)


@dataclasses.dataclass(frozen=True, slots=True)
class Import:
    """One file that was added: its id, how many runs and curves it brought, and when (UTC)."""

    id: str
    file: str
    rows: int
    curves: int
    added: str


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """What became of a file: the import, if it brought anything new, how much was known; or why it is refused.

    `lacking` says what curves of it lack to be learned from, with how many; `skipped` counts trials of a study that
    are no runs, by why they are not.
    """

    file: str
    imported: Import | None
    rows: int
    known: int
    profiles: int
    ignored: tuple[str, ...]
    refused: tuple[Refusal, ...]
    lacking: Mapping[str, int] = dataclasses.field(default_factory=dict)
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """What a database holds: runs with their import's id, profiles by curve, and rows that are no runs any more."""

    runs: tuple[tuple[str, Run], ...] = ()
    profiles: Mapping[str, TeacherProfile] = dataclasses.field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()


def take(
    reading: Reading,
    shipped: Mapping[Key, Run],
    url: str | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Added:
    """Add the runs of a file that are not there yet: all of them, or none.

    A run whose key is there already, here or in `shipped`, changes nothing if it says the same; if it says something
    else, the file is refused.

    Args:
        reading: what the file says.
        shipped: the runs of the shipped corpus that may share a key with it.
        url: of the database.
        progress: called now and then with the rows written.

    Raises:
        KnowledgeError: the database cannot be opened or written to; it is as it was before.
    """
    nothing = Added(
        reading.file, None, len(reading.runs), 0, 0, reading.ignored, reading.refused, skipped=reading.skipped
    )
    if reading.refused:
        return nothing
    digests = {row: _digest(run) for row, run in reading.runs.items()}
    curves = {str(run.curve) for run in reading.runs.values() if run.key not in shipped}
    profiles = {curve: profile for curve, profile in reading.profiles.items() if curve in curves}
    with _database(place_of(url), write=True) as connection:
        suites = {run.suite for run in reading.runs.values()}
        found = connection.execute(sa.select(*_KEY, _runs.c.digest).where(_runs.c.suite.in_(suites)))
        here = {(suite, curve, seed, temperature): digest for suite, curve, seed, temperature, digest in found}
        here |= {key: _digest(run) for key, run in shipped.items()}
        new = [row for row, run in reading.runs.items() if run.key not in here]
        other = [row for row, run in reading.runs.items() if here.get(run.key, digests[row]) != digests[row]]
        fresh, strange = _new_profiles(connection, profiles)
        if other or strange:
            reasons = [_contradiction(connection, reading, row, shipped) for row in other]
            reasons += [
                Refusal(
                    reading.file,
                    None,
                    None,
                    f"The teacher's profile of curve {curve} must be the one known. To change it, remove the import "
                    "that brought it (knowledge list) and add the file again.",
                )
                for curve in strange
            ]
            return dataclasses.replace(nothing, refused=tuple(reasons))
        imported = _insert(connection, reading, {row: digests[row] for row in new}, progress)
        if fresh:
            contents = {curve: json.dumps(as_dict(profile)) for curve, profile in fresh.items()}
            rows = [{"curve": curve, "content": content} for curve, content in contents.items()]
            connection.execute(sa.insert(_profiles), rows)
        held = set(connection.scalars(sa.select(_profiles.c.curve)))
    known_before = {(suite, curve) for suite, curve, *_ in shipped}
    firsts = {str(run.curve): run for run in reading.runs.values() if (run.suite, run.curve) not in known_before}
    needs = Counter(need for curve, run in firsts.items() for need in lacking(run, profiled=curve in held))
    known = len(reading.runs) - len(new)
    return dataclasses.replace(nothing, imported=imported, known=known, profiles=len(fresh), lacking=needs)


def imports(url: str | None = None) -> tuple[Import, ...]:
    """Return the imports, oldest first."""
    with _database(place_of(url)) as connection:
        if connection is None:
            return ()
        rows = connection.execute(sa.select(_imports).order_by(_imports.c.added, _imports.c.id))
        return tuple(Import(**row) for row in rows.mappings())


def remove(id: str, url: str | None = None) -> Import:
    """Take back an import, with the profiles of curves that have no runs left.

    Raises:
        UsageError: there is no import of this id.
    """
    place = place_of(url)
    known = {one.id: one for one in imports(url)}
    if id not in known:
        hint = did_you_mean(id, known) if known else "There are none."
        raise UsageError(f"ID must be that of an import in {place}. Got {id!r}. {hint}", code="unknown_import")
    with _database(place, write=True) as connection:
        connection.execute(sa.delete(_runs).where(_runs.c.import_id == id))
        connection.execute(sa.delete(_imports).where(_imports.c.id == id))
        connection.execute(sa.delete(_profiles).where(_profiles.c.curve.not_in(sa.select(_runs.c.curve))))
    return known[id]


def stored(url: str | None = None) -> Stored:
    """Return everything that the database holds, runs sorted by key.

    Raises:
        KnowledgeError: the database cannot be read.
    """
    make, runs, broken = Maker(), [], []
    with _database(place_of(url)) as connection:
        if connection is None:
            return Stored()
        rows = connection.execute(sa.select(*_KEY, _runs.c.import_id, _runs.c.content).order_by(*_KEY))
        for suite, curve, seed, temperature, import_id, content in rows:
            try:
                values = json.loads(content) | {"suite": suite, "curve": curve, "seed": seed}
                runs.append((import_id, make(values | {"temperature": temperature or None})))
            except (TempAdvisorError, ValueError, TypeError) as error:
                broken.append((import_id, f"suite {suite}, curve {curve}, seed {seed}, T {temperature:g}: {error}"))
        profiles = {}
        for curve, content in connection.execute(sa.select(_profiles).order_by(_profiles.c.curve)):
            try:
                profiles[curve] = profile_from(json.loads(content), where=f"the profile of curve {curve}")
            except (TempAdvisorError, ValueError) as error:
                broken.append(("", str(error)))
    return Stored(tuple(runs), profiles, tuple(broken))


def _digest(run: Run) -> str:
    return hashlib.sha256(json.dumps(measured(run), sort_keys=True).encode()).hexdigest()[:16]


def _insert(
    connection: sa.Connection, reading: Reading, new: Mapping[int, str], progress: Callable[[int], None] | None
) -> Import | None:
    """Insert rows, given with their digests, as one import."""
    if not new:
        return None
    runs = [reading.runs[row] for row in new]
    identity = sorted(f"{run.key} {digest}" for run, digest in zip(runs, new.values(), strict=True))
    imported = Import(
        id=hashlib.sha256("\n".join(identity).encode()).hexdigest()[:10],
        file=reading.file,
        rows=len(runs),
        curves=len({run.key[:2] for run in runs}),
        added=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
    connection.execute(sa.insert(_imports), dataclasses.asdict(imported))
    digests = list(new.values())
    for start in range(0, len(runs), AT_ONCE):
        rows = []
        for run, digest in zip(runs[start : start + AT_ONCE], digests[start : start + AT_ONCE], strict=True):
            suite, curve, seed, temperature = run.key
            key = {"suite": suite, "curve": curve, "seed": seed, "temperature": temperature}
            content = json.dumps(values_of(run))
            rows.append({**key, "import_id": imported.id, "digest": digest, "content": content})
        connection.execute(sa.insert(_runs), rows)
        if progress is not None:
            progress(start + len(rows))
    return imported


def _contradiction(connection: sa.Connection, reading: Reading, row: int, shipped: Mapping[Key, Run]) -> Refusal:
    """Say in which column a row contradicts what is known of its key."""
    run = reading.runs[row]
    new, again = measured(run), ""
    if run.key in shipped:
        old, where = measured(shipped[run.key]), "the shipped corpus"
    else:
        its_key = [column == value for column, value in zip(_KEY, run.key, strict=True)]
        id, content = connection.execute(sa.select(_runs.c.import_id, _runs.c.content).where(*its_key)).one()
        old = {name: value for name, value in json.loads(content).items() if name in MEASURED}
        where, again = f"import {id}", f"Run tempadvisor knowledge remove {id}, then add the file again."
    different = [name for name in {**new, **old} if new.get(name) != old.get(name)]
    column = next((name for name in different if name in new and name in old), [*different, "digest"][0])
    said = [values.get(column, "none") for values in (old, new)]
    another = "If it is another measurement, name its suite: --map suite= --set suite=NAME."
    reason = (
        f"{column} must be what {where} has for this suite, curve, seed and temperature: {said[0]}. "
        f"Got {said[1]}. {again if again and column not in old else another}"
    )
    return Refusal(reading.file, row, column, reason)


def _new_profiles(
    connection: sa.Connection, profiles: Mapping[str, TeacherProfile]
) -> tuple[dict[str, TeacherProfile], list[str]]:
    """Return the profiles that are not there yet, and the curves whose profile contradicts the one that is."""
    fresh, strange = dict(profiles), []
    names = sorted(profiles)
    for start in range(0, len(names), AT_ONCE):
        some = _profiles.c.curve.in_(names[start : start + AT_ONCE])
        for curve, content in connection.execute(sa.select(_profiles).where(some)):
            if not _close(json.loads(content), as_dict(fresh.pop(curve))):
                strange.append(curve)
    return fresh, strange


def _close(one: Any, other: Any) -> bool:
    """Return whether two values out of JSON agree, numbers to within what processors differ by."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(one == other)


@contextlib.contextmanager
def _database(place: Place, *, write: bool = False) -> Iterator[Any]:
    """Open a transaction; to read where nothing was ever written, there is none: None.

    Raises:
        KnowledgeError: the database cannot be opened, read or written to.
    """
    if not write and not place.exists:
        yield None
        return
    if place.path is not None:
        refuse_special(place.path, "a database of runs")
    try:
        with _engine(place, write).connect() as connection, connection.begin():
            if write:
                if place.url:
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_TURN)))
                _tables.create_all(connection)
            yield connection if write or sa.inspect(connection).has_table(_profiles.name) else None
    except ImportError:
        raise KnowledgeError(
            "PostgreSQL needs its driver. It is not installed. Run pip install 'tempadvisor[postgres]'.",
            code="no_driver",
        ) from None
    except (SQLAlchemyError, OSError, UnicodeError) as error:
        raise _explained(place, error) from None


def _engine(place: Place, write: bool) -> sa.Engine:
    if place.path is None:
        url = sa.make_url(str(place.url)).set(drivername="postgresql+psycopg")
        return sa.create_engine(
            url, poolclass=NullPool, isolation_level="READ COMMITTED"
        )  # see what came while waiting
    if write:
        place.path.parent.mkdir(parents=True, exist_ok=True)
    url = sa.URL.create("sqlite", database=str(place.path))
    engine = sa.create_engine(
        url, poolclass=NullPool, connect_args={"timeout": WAIT_SECONDS, "isolation_level": None}
    )

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        """Begin for real: the driver alone would begin at the first insert, after what it rests on was read."""
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _explained(place: Place, error: Exception) -> KnowledgeError:
    """Say in one line what a driver says in many."""
    said = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error).strip().splitlines()
    reason = said[0][:200] if said else type(error).__name__
    if "locked" in reason:
        next_step = f"Others have written to it for {WAIT_SECONDS} seconds; try again."
    elif any(word in reason for word in ("full", "disk I/O", "No space", "too large")):
        next_step = "Nothing was changed. Make room and try again."
    elif place.url is not None:
        next_step = "Check the URL and the server."
    elif any(word in reason for word in ("not a database", "malformed", "no such", "encoding")):
        next_step = "It is damaged or another's: move it away and add your files again; recommend works without it."
    else:
        next_step = "Check the path."
    return KnowledgeError(
        f"{place} must be a database of runs that can be used. {reason}. {next_step}", code="database"
    )
