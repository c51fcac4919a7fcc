"""Read a suite, the declaration of a set of temperature curves, and check all of it before anything is trained.

    name = "example"
    temperatures = [1, 4, 16]        # without KD is always there too
    seeds = 20                       # paired: every temperature has the same ones

    [teachers.confident]
    model = "mlp-256-128"
    epochs = 100

    [[design]]
    dataset = "sklearn/digits"       # keys with one value hold for the whole design
    student = "mlp-64"
    teacher = "confident"
    sample = 8                       # setups drawn with sample_seed, each level equally often; without it all
    [design.axes]
    n_train = [300, 1000]
    recipe = [{optimizer = "sgd", lr = 0.05}, {optimizer = "adamw", lr = 0.01}]    # keys that move together

A design with `student_init = "pretrained"` names one of the suite's pretrainings, `pretraining = "digits"`:

    [pretraining.digits]
    dataset = "sklearn/digits"       # not the design's own; brought to its image size and channels
    n_train = 1000
    epochs = 10                      # and the other keys of a teacher, but for model, checkpoint and image_size

It does not run anything: `bench.py` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import random
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tempadvisor.curves import TEMPERATURES
from tempadvisor.errors import TempAdvisorError, UsageError, did_you_mean
from tempadvisor.fields import Column, check, columns, known
from tempadvisor.records import AUGMENTATIONS, OPTIMIZERS, SCHEDULES, SETUP_COLUMNS, STUDENT_INITS, TrainingSetup

DERIVED = {"student_params", "teacher_params", "logits_from", "teacher_label_smoothing", "teacher_augmentation"}
DERIVED |= {"teacher_origin", "teacher_finetune_epochs"}  # told by the teacher, not by the setup


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """How a teacher of the suite is made: trained on the student's own training images unless `n_train` says more."""

    name: str
    model: str | None = known("Name of the architecture.")
    checkpoint: str | None = known("File with its weights, where it starts from.")
    epochs: int | None = known("Epochs of training; with a checkpoint, of fine-tuning.", low=0)
    n_train: int | None = known("Its number of training samples.", low=1)
    seed: int | None = known("Seed of its weights and data order.", low=0)
    optimizer: str | None = known("Optimizer.", choices=OPTIMIZERS)
    lr: float | None = known("Peak learning rate.", above=0)
    schedule: str | None = known("Learning-rate schedule.", choices=SCHEDULES)
    weight_decay: float | None = known("Weight decay.", low=0)
    batch_size: int | None = known("Images a step.", low=1)
    augmentation: str | None = known("Augmentation.", choices=AUGMENTATIONS)
    label_smoothing: float | None = known("Label smoothing.", low=0, high=1)
    image_size: int | None = known("Size its images are scaled to, then normalized as its weights expect.", low=1)

    def __post_init__(self) -> None:
        check(self, UsageError, code="bad_suite")
        if self.model is None or self.epochs is None:
            raise UsageError(f"teacher {self.name} must have a model and epochs.", code="bad_suite")

    @property
    def origin(self) -> str:
        """Where it comes from, as in a run's `teacher_origin`."""
        return "scratch" if not self.checkpoint else "pretrained-finetuned" if self.epochs else "pretrained"

    def setup(self) -> TrainingSetup:
        """Return how it is trained."""
        return TrainingSetup(
            optimizer=self.optimizer or "adamw",
            lr=self.lr or 2e-3,
            schedule=self.schedule or "cosine",
            weight_decay=0.01 if self.weight_decay is None else self.weight_decay,
            batch_size=self.batch_size or 64,
            epochs=self.epochs,
            augmentation=self.augmentation or "none",
            label_smoothing=self.label_smoothing or 0.0,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """What a student learned before: the labels of another data set, once for all seeds, trained as a teacher is."""

    dataset: str
    recipe: Teacher


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a setup of a suite needs beside the flags that users have."""

    dataset: str | None = known("Data set, see datasets.py.")
    teacher: str | None = known("Name of a teacher of the suite.")
    split_seed: int | None = known("Seed of the split.", low=0)
    n_val: int | None = known("Number of validation samples.", low=1)
    n_test: int | None = known("Number of test samples.", low=1)
    augmentation_views: int | None = known("Augmented views whose teacher logits are cached.", low=1)
    teacher_logit_scale: float | None = known("Factor on the teacher's logits.", above=0)

    def __post_init__(self) -> None:
        check(self, UsageError, code="bad_suite")


BENCH_COLUMNS: tuple[Column, ...] = columns(Bench)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One setup of a suite: everything but temperature and seed."""

    name: str
    bench: Bench
    setup: TrainingSetup
    teacher: Teacher
    pretraining: Pretraining | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A checked suite. `temperatures` holds None, without KD, first."""

    name: str
    temperatures: tuple[float | None, ...]
    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]

    @property
    def n_runs(self) -> int:
        """Number of students to train."""
        return len(self.curves) * len(self.temperatures) * len(self.seeds)


def read_suite(path: Path) -> Suite:
    """Return the suite that `path` declares.

    Raises:
        UsageError: the file is missing, no TOML, or says what cannot be: unknown keys, an empty product, values
            out of range. All in one line.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{path} must be a suite file. It cannot be read.", code="no_suite") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} must be TOML. Got: {error}.", code="bad_suite") from None
    try:
        return _suite(table, path.stem)
    except TempAdvisorError as error:
        raise UsageError(f"{error} ({path})", code=error.code) from None


def _suite(table: Mapping[str, Any], stem: str) -> Suite:
    head = ("name", "about", "core_hours", "temperatures", "seeds")
    _known(table, (*head, "teachers", "pretraining", "design"), "suite")
    temperatures = table.get("temperatures", list(TEMPERATURES))
    if not isinstance(temperatures, list) or not temperatures or len(set(temperatures)) < len(temperatures):
        raise UsageError(f"temperatures must be a list of different numbers. Got {temperatures!r}.", code="bad_suite")
    for value in temperatures:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise UsageError(f"temperatures must be numbers above 0. Got {value!r}.", code="bad_temperature")
    seeds = table.get("seeds", 1)
    listed = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    whole = isinstance(listed, list) and all(type(s) is int and s >= 0 for s in listed)
    if not whole or not listed or len(set(listed)) < len(listed):
        raise UsageError(f"seeds must be a number above 0, or a list. Got {seeds!r}.", code="bad_suite")
    recipe = [column.name for column in columns(Teacher)]
    teachers = {k: Teacher(name=k, **entry) for k, entry in _entries(table, "teachers", recipe)}
    own = ["dataset", *(key for key in recipe if key not in ("model", "checkpoint", "image_size"))]
    pretrainings = {k: _pretraining(k, **entry) for k, entry in _entries(table, "pretraining", own)}
    designs = table.get("design", [])
    if not isinstance(designs, list) or not designs or not all(isinstance(one, dict) for one in designs):
        raise UsageError("a suite must have at least one [[design]]. Got none.", code="bad_suite")
    curves: dict[str, Curve] = {}
    for number, design in enumerate(designs, start=1):
        for keys in _settings(design, f"design {number}"):
            curve = _curve(keys, teachers, pretrainings, f"design {number}")
            curves[curve.name] = curve
    name = str(table.get("name", stem))
    return Suite(
        name=name, temperatures=(None, *map(float, temperatures)), seeds=tuple(listed), curves=tuple(curves.values())
    )


def _pretraining(name: str, dataset: Any = None, **recipe: Any) -> Pretraining:
    made = Teacher(name=name, model="of the student", **{"epochs": 0, **recipe})
    if not (isinstance(dataset, str) and made.epochs and made.n_train):
        raise UsageError(f"pretraining.{name} must have dataset, n_train and epochs.", code="bad_suite")
    return Pretraining(dataset=dataset, recipe=made)


def _settings(design: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the keys of each setup of a design: its product of axes, or a sample of it."""
    fixed = {key: value for key, value in design.items() if key not in ("axes", "sample", "sample_seed")}
    axes = _table(design, "axes")
    for name, levels in axes.items():
        if not isinstance(levels, list) or not levels:
            raise UsageError(
                f"axis {name} must be a list with at least one level. Got {levels!r} ({where}).", code="empty_axis"
            )
    levels = [[lv if isinstance(lv, dict) else {name: lv} for lv in levels] for name, levels in axes.items()]
    size = math.prod(map(len, levels))
    sample = design.get("sample", size)
    if type(sample) is not int or not 1 <= sample <= size:
        raise UsageError(
            f"sample must be from 1 to {size}, the size of the product. Got {sample!r} ({where}).",
            code="bad_suite",
        )
    rows = (
        list(itertools.product(*levels))
        if sample == size
        else _balanced(levels, sample, design.get("sample_seed", 0))
    )
    return [fixed | {k: v for level in combination for k, v in level.items()} for combination in rows]


def _balanced(levels: list[list[Any]], n: int, seed: int) -> list[tuple[Any, ...]]:
    """Return n settings in which every level of an axis stands equally often, but for redrawn repeats."""
    rng = random.Random(seed)
    rows: list[tuple[Any, ...]] = []
    while len(rows) < n:
        columns = [rng.sample([axis[i % len(axis)] for i in range(n)], n) for axis in levels]
        rows += [row for row in zip(*columns, strict=True) if row not in rows][: n - len(rows)]
    return rows


def _curve(
    keys: Mapping[str, Any], teachers: Mapping[str, Teacher], pretrainings: Mapping[str, Pretraining], where: str
) -> Curve:
    bench = [column.name for column in BENCH_COLUMNS]
    setup = [column.name for column in SETUP_COLUMNS if column.name not in DERIVED]
    _known(keys, [*bench, *setup, "pretraining"], where)
    needed = ("dataset", "teacher", "student", "optimizer", "lr", "epochs", "batch_size", "n_train", "kd_weight")
    missing = [key for key in needed if key not in keys]
    if missing:
        raise UsageError(f"{', '.join(missing)} must be given. Got none ({where}).", code="missing_key")
    parts: dict[str, Any] = {"split_seed": 0, "n_val": 500, "n_test": 1000, "teacher_logit_scale": 1.0}
    training: dict[str, Any] = {"augmentation": "none", "schedule": "cosine", "student_init": "random"}
    parts |= {key: value for key, value in keys.items() if key in bench}
    training |= {key: value for key, value in keys.items() if key in setup}
    parts.setdefault("augmentation_views", 1 if training["augmentation"] == "none" else 8)
    choices = {
        "teacher": (parts["teacher"], tuple(teachers)),
        "optimizer": (training["optimizer"], ("sgd", "adam", "adamw")),
        "augmentation": (training["augmentation"], ("none", "standard", "mixup", "cutmix")),
        "student_init": (training["student_init"], STUDENT_INITS),
    }
    pretrained = training["student_init"] in ("pretrained", "pretrained-finetuned")
    if pretrained or "pretraining" in keys:
        names = tuple(pretrainings) or ("the suite's [pretraining.NAME] tables, of which there is none",)
        choices["pretraining"] = (keys.get("pretraining"), names)
    for key, (got, possible) in choices.items():
        if got not in possible:
            raise UsageError(f"{key} must be one of {', '.join(possible)}. Got {got!r} ({where}).", code="bad_suite")
    teacher = teachers[parts["teacher"]]
    told = dataclasses.asdict(teacher)
    if teacher.image_size is None:
        del told["image_size"]  # so that names given before there was this key stay what they are
    what = [parts, training, told]
    pretraining = None
    if pretrained:
        made = pretrainings[keys["pretraining"]]
        if made.dataset == parts["dataset"]:
            raise UsageError(
                f"pretraining must be on another data set than the design's. Got {made.dataset} ({where}).",
                code="bad_suite",
            )
        recipe = dataclasses.replace(made.recipe, model=str(training["student"]))
        pretraining = dataclasses.replace(made, recipe=recipe)
        what.append(dataclasses.asdict(pretraining))
    text = json.dumps(what, sort_keys=True)
    name = f"{Path(str(parts['dataset'])).name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    try:
        return Curve(
            name=name,
            bench=Bench(**parts),
            setup=TrainingSetup(**training),
            teacher=teacher,
            pretraining=pretraining,
        )
    except TempAdvisorError as error:
        raise UsageError(f"{error} ({where})", code=error.code) from None


def _entries(table: Mapping[str, Any], key: str, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in _table(table, key).items():
        if not isinstance(entry, dict):
            raise UsageError(f"{key}.{name} must be a table. Got {entry!r}.", code="bad_suite")
        _known(entry, names, f"{key}.{name}")
        yield name, entry


def _known(table: Mapping[str, Any], names: Any, where: str) -> None:
    for key in table:
        if key not in names:
            hint = did_you_mean(key, names)
            raise UsageError(f"{key!r} is not a key of a {where.split(' ')[0]}. {hint} ({where})", code="unknown_key")


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{key} must be a table. Got {value!r}.", code="bad_suite")
    return value
