"""Where the user's own runs live: a SQLite file of this user, or a PostgreSQL server that a team shares.

Nothing is opened here; a place is only named, so that asking whether there is anything costs nothing.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tempadvisor.errors import UsageError
from tempadvisor.resources import data_home

VARIABLE = "TEMPADVISOR_KNOWLEDGE"


@dataclasses.dataclass(frozen=True)
class Place:
    """Name one database: `path` of a SQLite file, or else the `url` of a PostgreSQL server."""

    path: Path | None = None
    url: str | None = None

    @property
    def exists(self) -> bool:
        """Whether there may be anything; a server has to be asked."""
        return self.path is None or self.path.exists()

    def __str__(self) -> str:
        """Return the place without its password."""
        if self.path is not None or self.url is None:
            return str(self.path)
        scheme, _, rest = self.url.partition("://")
        login, at, server = rest.rpartition("@")
        return f"{scheme}://{login.partition(':')[0]}{at}{server}"


def place_of(url: str | None = None) -> Place:
    """Return the place that `url` names, else TEMPADVISOR_KNOWLEDGE, else the user's own file.

    Raises:
        UsageError: the URL is neither one of SQLite with a file nor one of PostgreSQL.

    >>> str(place_of("sqlite:///team.db")), str(place_of("postgresql://ann:secret@server/runs"))
    ('team.db', 'postgresql://ann@server/runs')
    """
    given = os.environ.get(VARIABLE) or None if url is None else url
    if given is None:
        return Place(path=data_home() / "tempadvisor" / "knowledge.db")
    scheme, separator, rest = given.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        return Place(url=f"postgresql://{rest}")
    if separator and scheme == "sqlite" and rest.startswith("/") and rest.strip("/") and "\0" not in rest:
        return Place(path=Path(rest[1:]))
    raise UsageError(
        f"{_named_by(url)} must be sqlite:///FILE or "
        f"postgresql://USER@SERVER/DATABASE. Got {scheme[:40] + '://...' if separator else given[:40]!r}.",
        code="bad_knowledge_url",
    )


def check_named(url: str | None) -> None:
    """See that a file that was named, by `url` or by TEMPADVISOR_KNOWLEDGE, is there to be read.

    Raises:
        UsageError: it is not.
    """
    place = place_of(url)
    named = url is not None or os.environ.get(VARIABLE)
    if named and not place.exists:
        raise UsageError(
            f"{_named_by(url)} must name a database that is there. There is no file {place}. Check the URL; "
            "knowledge add begins a new one.",
            code="no_database",
        )


def _named_by(url: str | None) -> str:
    return "--knowledge" if url is not None else VARIABLE
