"""What stands where a file of the user's knowledge is read: a pipe may never end, and nothing waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempadvisor.errors import KnowledgeError
from tempadvisor.evidence import profiles_path
from tempadvisor.fitting import refit, restore
from tempadvisor.holdings import add
from tempadvisor.location import place_of
from tempadvisor.resources import model_path, previous_path, standing_path
from tempadvisor.rules import load_rules
from tempadvisor.standing import load_standings, standings_in_use
from tempadvisor.store import imports

KINDS = {"fifo": "a pipe or device", "folder": "a folder", "/dev/zero": "a pipe or device"}


@pytest.fixture(autouse=True)
def no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give a user a home, and end a test that waits for a pipe."""

    def stop(*_: object) -> None:
        raise TimeoutError("it waits for a pipe")

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put(path: Path, kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_no_file_is_one_line_and_the_shipped_one_serves_without_it(kind: str) -> None:
    command = [sys.executable, "-m", "tempadvisor", "recommend", "--epochs", "10", "--json"]
    shipped = subprocess.run(command, capture_output=True, text=True, timeout=60)
    path = put(model_path(), kind)
    refused = subprocess.run(command[:-1], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"tempadvisor: {path} must be a model as `tempadvisor knowledge fit` writes it. Got {KINDS[kind]}. "
        "Move it away: recommend works without it.\n"
    )
    path.rename(path.with_name("away"))
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == shipped.stdout != ""


@pytest.mark.parametrize("begin", [refit, restore])
@pytest.mark.parametrize("path", [model_path, previous_path])
def test_neither_fit_nor_restore_begins_where_a_model_is_no_file(
    begin: Callable[[], object], path: Callable[[], Path]
) -> None:
    put(path(), "fifo")
    with pytest.raises(KnowledgeError, match="Got a pipe or device"):
        begin()


def test_fit_does_not_begin_where_its_comparison_cannot_be_kept() -> None:
    put(model_path().with_name("compared.json"), "folder")
    with pytest.raises(KnowledgeError, match=r"compared.json must be a file .* Got a folder"):
        refit()


def test_a_tally_that_is_no_file_counts_as_none() -> None:
    book = load_rules()
    shipped = standings_in_use(book, None)
    path = put(standing_path("abc"), "fifo")
    with pytest.raises(KnowledgeError, match=r"must be a tally .* Got a pipe or device"):
        load_standings(path, book)
    assert standings_in_use(book, "abc") == shipped


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_is_no_file_is_said(kind: str) -> None:
    path = place_of().path
    assert path is not None
    put(path, kind)
    with pytest.raises(KnowledgeError, match=rf"must be a database of runs\. Got {KINDS[kind]}\."):
        imports()


def test_profiles_beside_the_runs_that_are_no_file_are_a_reason_against_them(tmp_path: Path) -> None:
    runs = tmp_path / "runs.csv"
    runs.write_text("seed,temperature,val_accuracy\n0,1,0.5\n")
    put(profiles_path(runs), "fifo")
    (added,) = add(
        [str(runs)], {}, {"source": "a", "dataset": "a", "teacher": "t", "kd_weight": "1", "t_squared": "1"}
    )
    (refused,) = added.refused
    assert "runs.teachers.jsonl must be a file of teachers' profiles. Got a pipe or device." in refused.reason
