"""Own runs on a real PostgreSQL server, Debian's package, started here: the same as in SQLite, for a team at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import needs_postgres, server
from test_store import RUN, desk, reasons, some, writers, written

from tempadvisor.audit import findings
from tempadvisor.errors import KnowledgeError
from tempadvisor.evidence import profiles_path, write_profiles
from tempadvisor.holdings import add, export_text, own_runs
from tempadvisor.store import imports, remove, stored
from tempadvisor.teachers import demo_profile

pytestmark = needs_postgres
__all__ = ["desk", "server"]


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of a server without imports, which the variable names too."""
    monkeypatch.setenv("TEMPADVISOR_KNOWLEDGE", server)
    yield server
    for one in imports():
        remove(one.id)
    assert own_runs() == ((), {})


@pytest.mark.usefixtures("url")
class TestAServer:
    def test_before_anything_is_added_there_is_nothing(self) -> None:
        assert (own_runs(), imports(), findings()) == (((), {}), (), ())

    def test_runs_come_back_as_they_were(self) -> None:
        name, profile = written("runs.csv", some(3)), demo_profile()
        write_profiles(profiles_path(Path(name)), {"c": profile})
        (added,) = add([name], {}, {})
        assert (added.imported.rows, added.profiles) == (12, 1)
        runs, profiles = own_runs()
        assert runs == tuple(some(3))
        assert profiles.keys() == {"c"}

    def test_adding_the_same_rows_twice_changes_nothing(self) -> None:
        name = written("runs.csv", some())
        add([name], {}, {})
        before = stored()
        assert add([name], {}, {})[0].known == 8
        assert stored() == before

    def test_a_contradiction_is_refused_and_nothing_of_the_file_is_taken(self) -> None:
        add([written("a.csv", some())], {}, {})
        assert reasons(written("b.csv", [*some(1, test_accuracy=0.5), *some(1, [2.0])])) == [
            (2, "test_accuracy"),
            (3, "test_accuracy"),
            (5, "test_accuracy"),
            (6, "test_accuracy"),
        ]
        assert len(own_runs()[0]) == 8

    def test_the_two_databases_hold_the_same(self) -> None:
        add([written("runs.csv", some(curve="ü, 'quoted' \"twice\" %s :x \\"))], {}, {})
        add(["runs.csv"], {}, {}, "sqlite:///own.db")
        assert own_runs() == own_runs("sqlite:///own.db")
        assert export_text() == export_text(url="sqlite:///own.db")

    def test_removing_takes_rows_and_profiles(self) -> None:
        name = written("runs.csv", some())
        write_profiles(profiles_path(Path(name)), {"c": demo_profile()})
        (added,) = add([name], {}, {})
        remove(added.imported.id)
        assert own_runs() == ((), {})


@pytest.mark.parametrize("rows", [400, pytest.param(8000, marks=pytest.mark.slow)])
def test_eight_processes_add_at_once_and_no_row_is_lost_or_doubled(url: str, rows: int) -> None:
    files = []
    for i in range(8):  # each shares half of its rows with the next
        runs = (run for curve in range(rows // 8) for run in some(2, curve=f"c{curve}", first_seed=i))
        files.append(written(f"{i}.csv", runs))
    done = writers("at-once", url, *files)
    assert done["codes"] == [0] * 8
    assert done["held"] == [rows // 2 * 9, rows // 2 * 9]


@pytest.mark.parametrize(("rows", "times"), [(400, 8), pytest.param(8000, 30, marks=pytest.mark.slow)])
def test_killed_while_adding_all_of_the_file_or_nothing_is_there(url: str, rows: int, times: int) -> None:
    name = written("many.csv", (run for i in range(rows // 8) for run in some(curve=f"c{i}")))
    done = writers("killed", url, name, times, 0)
    assert {tuple(found) for found in done["found"]} <= {(0, 0), (rows, rows)}
    assert [0, 0] in done["found"]
    assert done["held"] == [rows, rows]


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    written("runs.csv", [RUN])
    for ask in (own_runs, lambda url: add(["runs.csv"], {}, {}, url)):
        with pytest.raises(KnowledgeError, match="Check the URL and the server") as told:
            ask("postgresql://ann:secret@127.0.0.1:1/runs")
        assert "secret" not in str(told.value)
        assert "ann@127.0.0.1" in str(told.value)
        assert "\n" not in str(told.value)
