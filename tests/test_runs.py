"""Runs: a record cannot contradict itself, a file survives the round trip, bad rows are all named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tempadvisor.errors import KnowledgeError
from tempadvisor.records import SETUP_COLUMNS, TrainingSetup
from tempadvisor.runs import RUN_COLUMNS, Run, read_runs, write_runs

RUN = Run(
    suite="s",
    curve="c1",
    seed=0,
    temperature=4.0,
    source="digits",
    dataset="sklearn/digits",
    teacher="mlp",
    setup=TrainingSetup(optimizer="sgd", lr=0.05, t_squared=True, n_train=300),
    status="FINISHED",
    val_accuracy=0.1 + 0.2,
    test_accuracy=1.0,
    train_loss=1e-7 / 3,
)


def failed(**other: object) -> Run:
    given = {"status": "FAILED", "val_accuracy": None, "test_accuracy": None, "error": 'nan, "at once"', **other}
    return dataclasses.replace(RUN, **given)


def test_every_setup_column_is_a_run_column_once():
    names = [column.name for column in RUN_COLUMNS]
    assert [name for name in names if name in {c.name for c in SETUP_COLUMNS}] == [c.name for c in SETUP_COLUMNS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"status": "FAILED", "error": "nan"}, "val_accuracy"),
        ({"status": "FAILED", "val_accuracy": None, "test_accuracy": None}, "error"),
        ({"error": "but it finished"}, "error"),
        ({"status": "FAILED", "error": "nan", "val_accuracy": None}, "test_accuracy"),
        ({"val_accuracy": None}, "val_accuracy"),
        ({"test_accuracy": 98.0}, "test_accuracy"),
        ({"temperature": 0.0}, "temperature"),
        ({"status": "DONE"}, "status"),
        ({"seed": None}, "seed"),
    ],
)
def test_a_run_cannot_contradict_itself(change, column):
    with pytest.raises(KnowledgeError, match=f"{column} must be"):
        dataclasses.replace(RUN, **change)


def test_a_run_that_was_not_tested_is_one_but_no_advice_is_judged_by_it():
    untested = dataclasses.replace(RUN, test_accuracy=None)
    assert (RUN.scored, untested.scored, failed().scored) == (True, False, True)


def test_a_file_survives_the_round_trip_sorted_with_every_digit(tmp_path: Path):
    no_kd = dataclasses.replace(RUN, temperature=None)
    path = tmp_path / "runs.csv"
    untested = dataclasses.replace(RUN, seed=2, test_accuracy=None)
    write_runs(path, [untested, failed(seed=1), RUN, no_kd])
    assert read_runs(path) == (no_kd, RUN, failed(seed=1), untested)
    assert b"\r" not in path.read_bytes()
    before = path.read_bytes()
    write_runs(path, read_runs(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["runs.csv"]


def test_two_runs_of_one_key_are_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(KnowledgeError, match="unique keys"):
        write_runs(tmp_path / "runs.csv", [RUN, RUN])
    assert not list(tmp_path.iterdir())


def test_all_bad_rows_are_named_at_once_with_row_and_column(tmp_path: Path):
    path = tmp_path / "runs.csv"
    write_runs(path, [RUN, dataclasses.replace(RUN, seed=1), dataclasses.replace(RUN, seed=2)])
    text = path.read_text().splitlines()
    text[1] = text[1].replace(",4,", ",hot,", 1)
    text[2] = text[2].replace(",sgd,", ",sdg,", 1)
    text.append(text[3])
    text.append("1,s")
    path.write_text("\n".join(text))
    with pytest.raises(KnowledgeError) as caught:
        read_runs(path)
    message = str(caught.value)
    assert str(path) in message
    for part in (
        "row 2: temperature must be a number above 0. Got 'hot'.",
        "row 3: optimizer",
        "row 5: key",
        "row 6: a row",
    ):
        assert part in message


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_nan_and_infinity_are_no_numbers(tmp_path: Path, value: str):
    path = tmp_path / "runs.csv"
    write_runs(path, [RUN])
    path.write_text(path.read_text().replace(",0.05,", f",{value},"))
    with pytest.raises(KnowledgeError, match="lr must be a number above 0"):
        read_runs(path)


def test_another_header_names_the_nearest_column(tmp_path: Path):
    path = tmp_path / "runs.csv"
    write_runs(path, [RUN])
    path.write_text(path.read_text().replace("optimizer", "optimiser", 1))
    with pytest.raises(KnowledgeError, match=r"'optimiser' is not a column\. Did you mean optimizer\?"):
        read_runs(path)
    with pytest.raises(KnowledgeError, match="must be a readable CSV file"):
        read_runs(tmp_path / "none.csv")
