"""Hold measured runs: one student trained once, as a validated record and as a row of a CSV file.

A row holds raw values only. What was not recorded is empty, a run that failed has no accuracy but a reason, and
files are sorted by key, so that they diff well. What the rows say about temperatures is not decided here.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tempadvisor.errors import KnowledgeError, TempAdvisorError, did_you_mean
from tempadvisor.fields import Column, check, columns, known
from tempadvisor.records import SETUP_COLUMNS, STATUSES, TrainingSetup

SCHEMA = 1
Key = tuple[str, str, int, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One student trained once. `setup` holds the columns that are also flags; `temperature` None is without KD.

    Raises:
        KnowledgeError: a value breaks its rule, a required one is missing, or the outcome contradicts its status.
    """

    suite: str | None = known("Suite that the run belongs to.")
    curve: str | None = known("Name of the setup within the suite: one curve over temperature.")
    seed: int | None = known("Seed of student, data order and augmentation; shared by all temperatures.", low=0)
    temperature: float | None = known("Temperature; empty for a student trained without KD.", above=0)
    source: str | None = known("Data source; granularities of the same images are one source.")
    dataset: str | None = known("Name of the data set, label granularity included.")
    teacher: str | None = known("Teacher's name in the suite.")
    teacher_hash: str | None = known("Hash of the teacher's weights.")
    setup: TrainingSetup = dataclasses.field(default_factory=TrainingSetup)
    split_seed: int | None = known("Seed of the split into train, validation and test.", low=0)
    student_width: int | None = known("Width of the student's widest hidden layer.", low=1)
    augmentation_views: int | None = known("Number of augmented views whose teacher logits were cached.", low=1)
    teacher_logit_scale: float | None = known("Factor on the teacher's logits.", above=0)
    teacher_train_accuracy: float | None = known("Teacher's accuracy on the training images.", low=0, high=1)
    teacher_test_accuracy: float | None = known("Teacher's accuracy on the test split.", low=0, high=1)
    n_classes: int | None = known("Number of classes.", low=2)
    n_val: int | None = known("Number of validation samples.", low=1)
    n_test: int | None = known("Number of test samples.", low=1)
    status: str | None = known("What became of the run.", choices=STATUSES)
    val_accuracy: float | None = known("Accuracy on the validation split.", low=0, high=1)
    test_accuracy: float | None = known("Accuracy on the test split; empty where it was not read.", low=0, high=1)
    train_accuracy: float | None = known("Accuracy on the training images as they are.", low=0, high=1)
    val_loss: float | None = known("Mean cross-entropy on the validation split, in nats.", low=0)
    train_loss: float | None = known("Mean cross-entropy on the training images as they are, in nats.", low=0)
    error: str | None = known("Why the run failed.")
    train_seconds: float | None = known("Time of training; of a batch, the share of one student.", low=0)
    device: str | None = known("Where it ran.")
    versions: str | None = known("Versions of tempadvisor, torch and numpy.")
    commit: str | None = known("Git commit; '+' behind it means uncommitted changes.")
    time: str | None = known("When it ended, UTC, ISO 8601.")

    def __post_init__(self) -> None:
        check(self, KnowledgeError, code="bad_run")
        needed = ("suite", "curve", "seed", "source", "dataset", "teacher", "status")
        problems = [f"{name} must be given. Got none." for name in needed if getattr(self, name) is None]
        finished = self.status == "FINISHED"
        if (self.val_accuracy is not None) != finished:
            problems.append(f"val_accuracy must be given exactly when status is FINISHED. Got status {self.status}.")
        if self.test_accuracy is not None and not finished:
            problems.append(f"test_accuracy must be given only when status is FINISHED. Got status {self.status}.")
        if (self.error is not None) != (self.status == "FAILED"):
            problems.append(f"error must be given exactly when status is FAILED. Got status {self.status}.")
        if problems:
            raise KnowledgeError(" ".join(problems), code="bad_run")

    @property
    def key(self) -> Key:
        """The run's place in the corpus; without KD, the temperature counts as 0."""
        return (self.suite or "", self.curve or "", self.seed or 0, self.temperature or 0.0)

    @property
    def scored(self) -> bool:
        """Whether advice can be judged by the run: it failed, or was read on the test split too."""
        return self.status != "FINISHED" or self.test_accuracy is not None


_OWN = {column.name: column for column in columns(Run)}
_BEFORE = tuple(_OWN.values())[: list(_OWN).index("split_seed")]
RUN_COLUMNS: tuple[Column, ...] = (*_BEFORE, *SETUP_COLUMNS, *tuple(_OWN.values())[len(_BEFORE) :])


def to_row(run: Run) -> list[str]:
    """Return the cells of `run` in the order of `RUN_COLUMNS`, the schema first."""
    values = (getattr(run if column.name in _OWN else run.setup, column.name) for column in RUN_COLUMNS)
    return [str(SCHEMA), *map(_cell, values)]


def write_runs(path: Path, runs: Iterable[Run]) -> None:
    """Write `runs` to `path`, sorted by key, all or nothing.

    Raises:
        KnowledgeError: two runs share a key.
    """
    ordered = sorted(runs, key=lambda run: run.key)
    for one, other in itertools.pairwise(ordered):
        if one.key == other.key:
            raise KnowledgeError(f"Runs must have unique keys. Got {one.key} twice.", code="duplicate_run")
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["schema", *(column.name for column in RUN_COLUMNS)])
    table.writerows(map(to_row, ordered))
    write_whole(path, text.getvalue())


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, all or nothing; what goes wrong is told of `path`, as where the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def read_runs(path: Path) -> tuple[Run, ...]:
    """Return the runs of a CSV file, in its order.

    Raises:
        KnowledgeError: the file is missing or no CSV, its header is not the schema, or rows break it: all of
            them in one message, each with file, row (the header is row 1) and column.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise KnowledgeError(f"{path} must be a readable CSV file. Got: {error}.", code="bad_runs") from None
    names = ["schema", *(column.name for column in RUN_COLUMNS)]
    header = lines[0] if lines else []
    if header != names:
        strange = [f"{name!r} is not a column. {did_you_mean(name, names)}" for name in header if name not in names]
        missing = [f"{name} is missing." for name in names if name not in header]
        what = " ".join(strange + missing) or "The order differs or a column stands twice."
        raise KnowledgeError(f"{path} row 1 must be the header of schema {SCHEMA}. {what}", code="bad_runs")
    runs: list[Run] = []
    problems: list[str] = []
    seen: dict[Key, int] = {}
    for number, cells in enumerate(lines[1:], start=2):
        try:
            run = _parse(cells)
            if run.key in seen:
                raise KnowledgeError(f"key {run.key} stands in row {seen[run.key]} too.", code="duplicate_run")
            seen[run.key] = number
            runs.append(run)
        except TempAdvisorError as error:
            problems.append(f"row {number}: {error}")
    if problems:
        raise KnowledgeError(f"{path}: {' '.join(problems)}", code="bad_runs")
    return tuple(runs)


def _parse(cells: list[str]) -> Run:
    if len(cells) != len(RUN_COLUMNS) + 1:
        raise KnowledgeError(f"a row must have {len(RUN_COLUMNS) + 1} cells. Got {len(cells)}.", code="bad_run")
    if cells[0] != str(SCHEMA):
        raise KnowledgeError(f"schema must be {SCHEMA}. Got {cells[0]!r}.", code="bad_run")
    values: dict[str, Any] = {}
    problems = []
    for column, text in zip(RUN_COLUMNS, cells[1:], strict=True):
        try:
            values[column.name] = _value(column.type, text)
        except ValueError:
            problems.append(f"{column.name} must be {column.spec.rule(column.type)}. Got {text!r}.")
    if problems:
        raise KnowledgeError(" ".join(problems), code="bad_run")
    own = {name: value for name, value in values.items() if name in _OWN}
    return Run(setup=TrainingSetup(**{n: v for n, v in values.items() if n not in _OWN}), **own)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _value(kind: type, text: str) -> Any:
    if text == "":
        return None
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)  # `check` refuses what is neither
    if kind is float and not math.isfinite(float(text)):
        raise ValueError(text)
    return kind(text)
