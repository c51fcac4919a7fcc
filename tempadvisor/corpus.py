"""The sources of what the project claims, and the published measurements, as validated records.

It answers what `knowledge/sources.toml` and `knowledge/literature.csv` hold, and refuses files that break their
schema, all bad rows at once. It does not judge: which rows are worth fitting or quoting is a property of a row
(`Measurement.usable`), and what the rows mean for a temperature is the business of rules and advice.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempadvisor.errors import KnowledgeError, did_you_mean
from tempadvisor.fields import Column, check, columns, known
from tempadvisor.records import AUGMENTATIONS, OPTIMIZERS, SCHEDULES
from tempadvisor.resources import knowledge_path

GRADES = ("A", "B", "C")
METRICS = ("top1", "acc", "acc-m", "F1", "mcc", "best_T_only")
_TRUTHS = {"yes": True, "no": False, "unknown": None}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Name one source: what it is, where it stands, and what of it was read. Unconfirmed authors or year are None.

    Raises:
        KnowledgeError: a value breaks its rule.
    """

    key: str
    title: str | None = known("Title of the paper, repository or note.")
    authors: str | None = known("Authors, separated by commas.")
    year: int | None = known("Year of the first publication.", low=1900, high=2100)
    url: str | None = known("Where it stands.")
    read: str | None = known("What of it was read.")
    grade: str | None = known("A several sources, B one primary source, C second hand.", choices=GRADES)

    def __post_init__(self) -> None:
        _check(self, required=("title", "url", "read", "grade"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Hold one published row: one setup at one temperature. Accuracies are fractions, in the row's own metric.

    Raises:
        KnowledgeError: a value breaks its rule, or `attributable` and `source` contradict each other.
    """

    study: str | None = known("Rows of one study share a recipe; compare inside one study only.")
    dataset: str | None = known("Name of the data set.")
    n_classes: int | None = known("Number of classes.", low=2)
    teacher: str | None = known("Teacher's name, as the source abbreviates it.")
    student: str | None = known("Student's name, as the source abbreviates it.")
    teacher_accuracy: float | None = known("Accuracy of the teacher.", low=0, high=1)
    student_accuracy_no_kd: float | None = known("Accuracy of the student trained without KD.", low=0, high=1)
    optimizer: str | None = known("Optimizer of the student.", choices=OPTIMIZERS)
    schedule: str | None = known("Learning-rate schedule, where the source names it.", choices=SCHEDULES)
    augmentation: str | None = known("Augmentation, where the source names it.", choices=AUGMENTATIONS)
    recipe: str | None = known("The source's word for the optimizer, where it says more than the optimizer.")
    lr: float | None = known("Peak learning rate.", above=0)
    batch_size: int | None = known("Images a step.", low=1)
    epochs: int | None = known("Passes over the training data.", low=1)
    duration: str | None = known("The source's word for the epochs, where it is not a plain number.")
    kd_weight: float | None = known("Weight of the soft term.", above=0)
    hard_weight: float | None = known("Weight of the hard-label term.", low=0)
    t_squared: bool | None = known("Whether the KD term is multiplied by T squared.")
    standardized: bool | None = known("Whether T counts in units of z-scored logits.")
    temperature: float | None = known("Temperature.", above=0)
    accuracy: float | None = known("Result of the student, as a fraction of `metric`.", low=0, high=1)
    metric: str | None = known("What the accuracies of the row are.", choices=METRICS)
    source: str | None = known("Key of sources.toml; empty where the report cannot be attributed.")
    attributable: bool | None = known("Whether the row has a source that one can look up.")
    citation: str | None = known("Where the row was found, verbatim.")
    flag: str | None = known("What to know before using the row.")

    def __post_init__(self) -> None:
        _check(self, required=("study", "dataset", "temperature", "metric", "attributable", "citation"))
        if self.attributable is not (self.source is not None):
            raise KnowledgeError(
                f"source must be a key of sources.toml exactly where attributable is yes. "
                f"Got source {self.source!r} with attributable {self.attributable}.",
                code="contradiction",
            )

    @property
    def usable(self) -> bool:
        """Whether the row may be fitted or quoted: attributable, top-1 accuracy, and the result is there."""
        return bool(self.attributable) and self.metric == "top1" and self.accuracy is not None


LITERATURE_COLUMNS: tuple[Column, ...] = columns(Measurement)


def load_sources(path: Path | None = None) -> Mapping[str, Source]:
    """Return the sources by key, from `path` or the shipped `sources.toml`.

    Raises:
        KnowledgeError: the file is missing, is no TOML, or tables break their schema: all of them, in one message.

    >>> load_sources()["hinton2015"].year
    2015
    """
    path = path or knowledge_path("sources.toml")
    try:
        tables = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(f"{path} must be TOML. Got: {error}.", code="bad_sources") from None
    names = [column.name for column in columns(Source)]
    sources, problems = {}, []
    for key, table in tables.items():
        if not isinstance(table, dict):
            problems.append(f"[{key}] must be a table. Got {table!r}.")
            continue
        strange = [f"[{key}] {name} is not known. {did_you_mean(name, names)}" for name in table if name not in names]
        problems += strange
        if strange:
            continue
        try:
            sources[key] = Source(key=key, **table)
        except KnowledgeError as error:
            problems.append(f"[{key}] {error}")
    if problems:
        raise KnowledgeError(f"{path}: {' '.join(problems)}", code="bad_sources")
    return sources


def load_literature(path: Path | None = None) -> tuple[Measurement, ...]:
    """Return the published measurements, from `path` or the shipped `literature.csv`, in the order of the file.

    Raises:
        KnowledgeError: the file is missing, its header is not the schema, or rows break it: all of them, in one
            message, each with its row (the header is row 1), column, value and rule.

    >>> rows = load_literature()
    >>> len(rows), sum(row.usable for row in rows)
    (148, 66)
    """
    path = path or knowledge_path("literature.csv")
    try:
        header, *lines = list(csv.reader(io.StringIO(_text(path), newline=""))) or [[]]
    except csv.Error as error:
        raise KnowledgeError(f"{path} must be CSV. Got: {error}.", code="bad_literature") from None
    names = [column.name for column in LITERATURE_COLUMNS]
    if header != names:
        wrong = [f"{name!r} is not a column. {did_you_mean(name, names)}" for name in header if name not in names]
        missing = [name for name in names if name not in header]
        wrong += [f"It lacks {', '.join(missing)}."] if missing else []
        raise KnowledgeError(
            f"{path} row 1 must be {','.join(names)}. {' '.join(wrong) or 'Their order differs.'}",
            code="bad_literature",
        )
    sources = load_sources()
    rows: list[Measurement] = []
    problems, seen = [], dict[tuple[str, ...], int]()
    for number, cells in enumerate(lines, start=2):
        first = seen.setdefault(tuple(cells), number)
        try:
            rows.append(_measurement(cells, sources))
            if first != number:
                problems.append(f"row {number} must differ from the others. It repeats row {first}.")
        except KnowledgeError as error:
            problems.append(f"row {number}: {error}")
    if problems:
        raise KnowledgeError(f"{path}: {' '.join(problems)}", code="bad_literature")
    return tuple(rows)


def _measurement(cells: list[str], sources: Mapping[str, Source]) -> Measurement:
    """Make a row of its cells."""
    if len(cells) != len(LITERATURE_COLUMNS):
        raise KnowledgeError(
            f"it must have {len(LITERATURE_COLUMNS)} cells. Got {len(cells)}.", code="bad_literature"
        )
    row = Measurement(**{c.name: _value(c, cell) for c, cell in zip(LITERATURE_COLUMNS, cells, strict=True)})
    if row.source is not None and row.source not in sources:
        raise KnowledgeError(
            f"source must be a key of sources.toml. Got {row.source!r}. {did_you_mean(row.source, sources)}",
            code="unknown_source",
        )
    return row


def _value(column: Column, cell: str) -> Any:
    """Return a cell as the column's type, None where empty, and the text itself where it does not fit."""
    if cell == "":
        return None
    if column.type is bool:
        return _TRUTHS.get(cell, cell)
    try:
        return column.type(cell)
    except ValueError:
        return cell


def _check(record: object, *, required: tuple[str, ...]) -> None:
    """Check the fields of a record, and that those in `required` are there."""
    check(record, KnowledgeError, code="bad_value")
    missing = [name for name in required if getattr(record, name) is None]
    if missing:
        raise KnowledgeError(f"{', '.join(missing)} must be given. Got nothing.", code="missing_value")


def _text(path: Path) -> str:
    """Return the text of a knowledge file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeError(f"{path} must be a readable UTF-8 file. Got: {error}.", code="unreadable") from None
