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
                                     # (a level written twice is drawn twice as often; among all, it counts once)
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
from tempadvisor.fields import MOST, Column, check, columns, known
from tempadvisor.records import AUGMENTATIONS, OPTIMIZERS, SCHEDULES, SETUP_COLUMNS, STUDENT_INITS, TrainingSetup

DERIVED = {"student_params", "teacher_params", "logits_from", "teacher_label_smoothing", "teacher_augmentation"}
DERIVED |= {"teacher_origin", "teacher_finetune_epochs"}  # told by the teacher, not by the setup
COLDEST, HOTTEST = 1e-3, 1e6  # beyond them a softmax in single precision is all or nothing, or flat
MOST_SEEDS = 100_000
LARGEST = 1024  # pixels of an image's side


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
    image_size: int | None = known(
        "Size its images are scaled to, then normalized as its weights expect.", low=1, high=LARGEST
    )

    def __post_init__(self) -> None:
        try:
            check(self, UsageError, code="bad_suite")
        except UsageError as error:
            raise UsageError(f"{error} ({self.name})", code=error.code) from None
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
    augmentation_views: int | None = known("Augmented views whose teacher logits are cached.", low=1, high=1000)
    teacher_logit_scale: float | None = known("Factor on the teacher's logits.", above=0)

    def __post_init__(self) -> None:
        check(self, UsageError, code="bad_suite")


BENCH_COLUMNS: tuple[Column, ...] = columns(Bench)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One setup of a suite: everything but temperature and seed. `where` is the design that declares it."""

    name: str
    bench: Bench
    setup: TrainingSetup
    teacher: Teacher
    pretraining: Pretraining | None = None
    where: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A checked suite. `temperatures` holds None, without KD, first."""

    name: str
    temperatures: tuple[float | None, ...]
    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]
    teachers: tuple[Teacher, ...]

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
    except (ValueError, RecursionError) as error:  # no TOML, no text, a number of thousands of digits
        raise UsageError(f"{path} must be TOML. Got: {error}.", code="bad_suite") from None
    try:
        return _suite(table, path.stem)
    except TempAdvisorError as error:
        raise UsageError(f"{error} ({path})", code=error.code) from None


def _suite(table: Mapping[str, Any], stem: str) -> Suite:
    head = ("name", "about", "core_hours", "temperatures", "seeds")
    _known(table, (*head, "teachers", "pretraining", "design"), "suite")
    name = table.get("name", stem)
    if not isinstance(name, str) or not name:
        raise UsageError(f"name must be a text. Got {_shown(name)}.", code="bad_suite")
    temperatures, seeds = _temperatures(table), _seeds(table)
    recipe = [column.name for column in columns(Teacher)]
    teachers = {k: Teacher(name=k, **entry) for k, entry in _entries(table, "teachers", recipe)}
    own = ["dataset", *(key for key in recipe if key not in ("model", "checkpoint", "image_size"))]
    pretrainings = {k: _pretraining(k, **entry) for k, entry in _entries(table, "pretraining", own)}
    designs = table.get("design", [])
    if isinstance(designs, dict):
        raise UsageError("a design must be headed [[design]]. Got [design].", code="bad_suite")
    if not isinstance(designs, list) or not designs or not all(isinstance(one, dict) for one in designs):
        raise UsageError("a suite must have at least one [[design]]. Got none.", code="bad_suite")
    curves: dict[str, Curve] = {}
    for number, design in enumerate(designs, start=1):
        where = f"design {number}"
        made = [_curve(keys, teachers, pretrainings, where) for keys in _settings(design, where)]
        new = {curve.name: curve for curve in made if curve.name not in curves}
        if not new:
            raise UsageError(f"a design must have a setup that no design before it has ({where}).", code="bad_suite")
        curves |= new
    return Suite(
        name=name,
        temperatures=(None, *temperatures),
        seeds=seeds,
        curves=tuple(curves.values()),
        teachers=tuple(teachers.values()),
    )


def _temperatures(table: Mapping[str, Any]) -> list[float]:
    values = table.get("temperatures", list(TEMPERATURES))
    if not isinstance(values, list) or not values:
        raise UsageError(f"temperatures must be a list of numbers. Got {_shown(values)}.", code="bad_suite")
    for value in values:
        if type(value) not in (int, float) or not COLDEST <= value <= HOTTEST:
            raise UsageError(
                f"temperatures must be numbers from {COLDEST:g} to {HOTTEST:g}. Got {_shown(value)}.",
                code="bad_temperature",
            )
    if len(set(values)) < len(values):
        raise UsageError(f"temperatures must be a list of different numbers. Got {_shown(values)}.", code="bad_suite")
    return [float(value) for value in values]


def _seeds(table: Mapping[str, Any]) -> tuple[int, ...]:
    given = table.get("seeds", 1)
    listed = list(range(given)) if type(given) is int and given <= MOST_SEEDS else given
    whole = isinstance(listed, list) and all(type(seed) is int and 0 <= seed <= MOST for seed in listed)
    if not whole or not listed or len(set(listed)) < len(listed):
        raise UsageError(
            f"seeds must be a number from 1 to {MOST_SEEDS}, or a list of different whole numbers of at most 15 "
            f"digits. Got {_shown(given)}.",
            code="bad_suite",
        )
    return tuple(listed)


def _shown(value: Any) -> str:
    return f"{value!r:.60}"


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
                f"axis {name} must be a list with at least one level. Got {_shown(levels)} ({where}).",
                code="empty_axis",
            )
    levels = [[lv if isinstance(lv, dict) else {name: lv} for lv in levels] for name, levels in axes.items()]
    for one, other in itertools.combinations(levels, 2):
        twice = {key for level in one for key in level} & {key for level in other for key in level}
        if twice:
            raise UsageError(f"{min(twice)} must be in one axis. Got two ({where}).", code="bad_suite")
    size = math.prod(map(len, levels))
    if "sample" not in design:
        rows = list(itertools.product(*levels))
    else:
        rows = _sample(levels, size, design["sample"], design.get("sample_seed", 0), where)
    return [fixed | {k: v for level in combination for k, v in level.items()} for combination in rows]


def _sample(levels: list[list[Any]], size: int, n: Any, seed: Any, where: str) -> list[tuple[Any, ...]]:
    different = math.prod(sum(level not in axis[:i] for i, level in enumerate(axis)) for axis in levels)
    if type(n) is not int or not 1 <= n <= different:
        raise UsageError(
            f"sample must be from 1 to {different}, the size of the product. Got {_shown(n)} ({where}).",
            code="bad_suite",
        )
    if type(seed) is not int or not 0 <= seed <= MOST:
        raise UsageError(
            f"sample_seed must be a whole number of at most 15 digits. Got {_shown(seed)} ({where}).",
            code="bad_suite",
        )
    return list(itertools.product(*levels)) if n == size else _balanced(levels, n, seed)


def _balanced(levels: list[list[Any]], n: int, seed: int) -> list[tuple[Any, ...]]:
    """Return n different settings in which every level of an axis stands equally often, but for redrawn repeats."""
    rng = random.Random(seed)
    columns = [rng.sample([axis[i % len(axis)] for i in range(n)], n) for axis in levels]
    rows: list[tuple[Any, ...]] = []
    for row in zip(*columns, strict=True):
        if row not in rows:
            rows.append(row)
    while len(rows) < n:
        row = tuple(rng.choice(axis) for axis in levels)
        if row not in rows:
            rows.append(row)
    return rows


def _curve(
    keys: Mapping[str, Any], teachers: Mapping[str, Teacher], pretrainings: Mapping[str, Pretraining], where: str
) -> Curve:
    told_bench = [column.name for column in BENCH_COLUMNS]
    told_setup = [column.name for column in SETUP_COLUMNS if column.name not in DERIVED]
    _known(keys, [*told_bench, *told_setup, "pretraining"], where)
    needed = ("dataset", "teacher", "student", "optimizer", "lr", "epochs", "batch_size", "n_train", "kd_weight")
    missing = [key for key in needed if key not in keys]
    if missing:
        raise UsageError(f"{', '.join(missing)} must be given. Got none ({where}).", code="missing_key")
    parts: dict[str, Any] = {"split_seed": 0, "n_val": 500, "n_test": 1000, "teacher_logit_scale": 1.0}
    training: dict[str, Any] = {"augmentation": "none", "schedule": "cosine", "student_init": "random"}
    parts |= {key: value for key, value in keys.items() if key in told_bench}
    training |= {key: value for key, value in keys.items() if key in told_setup}
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
            raise UsageError(
                f"{key} must be one of {', '.join(possible)}. Got {_shown(got)} ({where}).", code="bad_suite"
            )
    try:
        bench, setup = Bench(**parts), TrainingSetup(**training)
    except TempAdvisorError as error:
        raise UsageError(f"{error} ({where})", code=error.code) from None
    if setup.image_size and setup.image_size > LARGEST:
        raise UsageError(f"image_size must be at most {LARGEST}. Got {setup.image_size} ({where}).", code="bad_suite")
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
    return Curve(name=name, bench=bench, setup=setup, teacher=teacher, pretraining=pretraining, where=where)


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
