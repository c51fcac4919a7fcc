"""What `verify` trains: a user's teacher, data and student as one curve with its material, split and profiled.

The teacher is run, or its stored logits are read, on exactly what the students see. Nothing is trained here, and
nothing here knows of temperatures or of a search.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tempadvisor import datasets
from tempadvisor.answers import answers
from tempadvisor.datasets import Data, Split
from tempadvisor.errors import InputError, UsageError
from tempadvisor.material import (
    Facts,
    Material,
    Samples,
    augmented,
    check_moves,
    device,
    material_of,
    moved,
    profiled,
    student_of,
)
from tempadvisor.models import tensor_hash
from tempadvisor.records import TeacherProfile, TrainingSetup, as_dict
from tempadvisor.resources import cache_folder
from tempadvisor.runs import Run
from tempadvisor.suites import Bench, Curve, Teacher
from tempadvisor.verification import Trial

NEEDED = ("student", "optimizer", "lr", "epochs", "batch_size")
MOST_HELD = 10_000  # samples of the validation split, and of a test split where the data have none of their own
HELD_SHARE = 5  # one in so many
VIEWS, MOST_BYTES = 8, 2 * 10**9  # of augmented views


class Case(NamedTuple):
    """What is verified: `setup` is the one asked about, completed by what data and models tell.

    `hash` is of setup, samples and the teacher's weights, the same on every machine; `key` is of all that decides how
    a student comes out here, the teacher's logits included.
    """

    curve: Curve
    material: Material
    profile: TeacherProfile
    setup: TrainingSetup
    hash: str
    key: str

    @property
    def n_val(self) -> int:
        """Number of validation samples."""
        return len(self.material.samples.val[1])

    def runs(self, trials: Sequence[Trial], study: str) -> list[Run]:
        """Return the trials as rows of runs, each with its test accuracy where that was read."""
        bench, samples, facts = self.curve.bench, self.material.samples, self.material.facts
        return [
            Run(
                suite=study,
                curve=self.curve.name,
                seed=one.seed,
                temperature=one.temperature,
                source=samples.source,
                dataset=samples.dataset,
                teacher=self.curve.teacher.name,
                teacher_hash=facts.hash,
                setup=self.curve.setup,
                split_seed=bench.split_seed,
                augmentation_views=bench.augmentation_views,
                teacher_logit_scale=bench.teacher_logit_scale,
                teacher_train_accuracy=self.profile.accuracy,
                n_classes=samples.n_classes,
                n_val=len(samples.val[1]),
                n_test=len(samples.test[1]),
                status="FAILED" if one.val_accuracy is None else "FINISHED",
                val_accuracy=one.val_accuracy,
                test_accuracy=None if one.val_accuracy is None else one.test_accuracy,
                error="diverged: the logits are not finite" if one.val_accuracy is None else None,
                train_seconds=one.seconds,
                device=torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
                versions=f"torch {torch.__version__} numpy {np.__version__}",
            )
            for one in trials
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a user asks to be verified, in words: all that another machine needs to work on it too.

    `teacher` is a model as in `models.live`, or a file of logits of the training samples in their order; with
    `model` the name that a checkpoint's weights belong to, `class_map` the file that says which output is which
    class, and `preprocess` what it does to images first. `data` is as in `datasets.load`. `seed` is that of the
    split and the augmented views. `proxy` is the share of the epochs that students train, schedule and all.

    Raises:
        UsageError: `proxy` is no share.
    """

    teacher: str
    data: str
    setup: TrainingSetup
    model: str | None = None
    seed: int = 0
    proxy: float = 1.0
    class_map: str | None = None
    preprocess: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.proxy <= 1:
            raise UsageError(f"proxy must be above 0 and at most 1. Got {self.proxy:g}.", code="bad_proxy")

    def case(self) -> Case:
        """Return what is trained; see `case_of`.

        Raises:
            InputError: there is no folder to keep things in, or as `case_of`.
        """
        try:
            cache_folder()
        except OSError as error:
            raise InputError(
                f"the cache folder must be one that can be made and written. Got {error.filename}: {error.strerror}. "
                "Set TEMPADVISOR_CACHE to another.",
                code="bad_cache",
            ) from None
        return declared(_demo()) if self == DEMO else case_of(self)

    def to_json(self) -> dict[str, Any]:
        """Return the task as plain values; files and folders by their whole path, for who works elsewhere."""
        teacher, data = Path(self.teacher), Path(self.data)
        places = {
            "teacher": str(teacher.absolute()) if teacher.is_file() else self.teacher,
            "class_map": str(Path(self.class_map).absolute()) if self.class_map else None,
            "data": str(data.absolute()) if self.data not in datasets.NAMES and data.exists() else self.data,
        }
        return {**as_dict(self), **places, "setup": self.setup.given()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Task:
        """Return the task of plain values."""
        return Task(**{**values, "setup": TrainingSetup(**values["setup"])})


def case_of(task: Task) -> Case:
    """Return the case of a task.

    The data's own test split is the test split, else a fifth of them, at most 10,000; the validation split is a fifth
    of the rest, or all that `n_train` leaves, at most 10,000 as well.

    Raises:
        UsageError: the setup lacks what a training needs, or asks for what the trainer does not have.
        InputError: data or teacher cannot be had, or do not fit together.
    """
    teacher, data, model, seed = task.teacher, task.data, task.model, task.seed
    setup = _trainable(task.setup)
    loaded = datasets.load(data, image_size=setup.image_size)
    kind = setup.augmentation or "none"
    check_moves(loaded.moves, kind, data)
    logits_from = "train" if kind == "none" else "train-augmented"
    if setup.logits_from not in (None, logits_from):
        raise UsageError(
            f"logits_from must be {logits_from} here, since verify asks the teacher about what students see. "
            f"Got {setup.logits_from}. Leave it out.",
            code="contradiction",
        )
    own = _split(loaded, setup.n_train, seed)
    setup = dataclasses.replace(
        setup,
        n_train=len(own.train),
        batch_size=min(setup.batch_size or 1, len(own.train)),
        image_size=None if loaded.moves == "none" else loaded.images.shape[2],
        logits_from=logits_from,
    )
    train, val, held = (
        (datasets.as_float(loaded.images[rows]), loaded.labels[rows]) for rows in (own.train, own.val, own.test)
    )
    samples = Samples(
        train=train,
        val=val,
        test=held,
        teacher_train=train,
        n_classes=loaded.n_classes,
        dataset=loaded.name,
        source=loaded.source,
        moves=loaded.moves,
        class_names=loaded.class_names,
    )
    count = 1 if kind == "none" else max(1, min(VIEWS, MOST_BYTES // (train[0].numel() * 4)))
    views = augmented(*train, loaded.n_classes, kind, count, moves=loaded.moves, seed=seed + 1000)
    logits, teacher_hash, n_params = answers(task, loaded, own.train, views.images, kind)
    views = dataclasses.replace(views, teacher_logits=logits)
    measured = profiled(views, kind, teacher, stated=task.class_map is not None)
    curve = Curve(
        name=f"{loaded.name}-verified",
        bench=Bench(
            dataset=Path(data).absolute().name,  # the same wherever it is called from
            teacher=Path(teacher).absolute().name[:100],
            split_seed=seed,
            n_val=len(val[1]),
            n_test=len(held[1]),
            augmentation_views=count,
            teacher_logit_scale=1.0,
        ),
        setup=setup,
        teacher=Teacher(name=teacher[:100], model=model or teacher[:100], epochs=0),
    )
    return _complete(curve, Material(samples, views, Facts(teacher_hash, 0.0, 0.0, n_params)), measured, task.proxy)


def declared(curve: Curve) -> Case:
    """Return the case of a curve of a suite, its teacher trained as the suite says."""
    material = material_of(curve)
    measured = profiled(material.views, curve.setup.augmentation or "none", curve.teacher.name)
    setup = dataclasses.replace(curve.setup, logits_from=measured.logits_from, teacher_origin=curve.teacher.origin)
    return _complete(dataclasses.replace(curve, setup=setup), material, measured)


DEMO = Task(
    teacher="demo: a digits teacher",
    data="sklearn/digits",
    setup=TrainingSetup(
        student="mlp-32",
        optimizer="sgd",
        lr=0.1,
        epochs=60,
        batch_size=64,
        n_train=500,
        image_size=8,
        kd_weight=0.9,
        schedule="cosine",
        augmentation="none",
        student_init="random",
        teacher_origin="scratch",
    ),
)


def _demo() -> Curve:
    return Curve(
        name="demo",
        bench=Bench(
            dataset=DEMO.data,
            teacher=DEMO.teacher,
            split_seed=DEMO.seed,
            n_val=600,
            n_test=600,
            augmentation_views=1,
            teacher_logit_scale=1.0,
        ),
        setup=DEMO.setup,
        teacher=Teacher(name=DEMO.teacher, model="mlp-256-128", epochs=30),
    )


def _complete(curve: Curve, material: Material, measured: TeacherProfile, proxy: float = 1.0) -> Case:
    """Count parameters, so that the advice knows the models' sizes, and bring the material to the device.

    What is trained may be a proxy: the schedule goes with the epochs, so that it is compressed and not cut short.
    """
    samples, views, facts = material
    assert views.teacher_logits is not None
    student = student_of(curve, samples, seed=0)
    _check(student, samples.train[0], curve.setup)
    setup = dataclasses.replace(
        curve.setup,
        student_params=sum(p.numel() for p in student.parameters()),
        teacher_params=curve.setup.teacher_params or facts.n_params or None,
    )
    trained = dataclasses.replace(setup, epochs=max(1, round((setup.epochs or 1) * proxy)))
    curve = dataclasses.replace(curve, setup=trained)
    said = torch.tensor(list(f"{trained}{curve.bench}{facts.hash}".encode()))
    known = tensor_hash(*samples.train, *samples.val, said)
    key = f"{known}-{tensor_hash(views.teacher_logits)}"
    name = re.sub(r"[^\w.-]+", "-", curve.name)[-60:]  # what is kept is named so, and is of this setup alone
    curve = dataclasses.replace(curve, name=f"{name}-{known}")
    return Case(curve, moved(material, device()), measured, setup, known, key)


def _check(student: nn.Module, images: Tensor, setup: TrainingSetup) -> None:
    """See that a student can be trained on such images."""
    few = images[: min(2, setup.batch_size or 2)].to(device())
    try:
        with torch.random.fork_rng(devices=[]):
            student.train()(few)
    except Exception as error:  # whatever a model of timm asks of its inputs
        raise InputError(
            f"student must take batches of {setup.batch_size} images {tuple(images.shape[1:])}. "
            f"{setup.student} raised {type(error).__name__}: {str(error)[:160]} Name another, or an --image-size.",
            code="misfit",
        ) from None


def _trainable(setup: TrainingSetup) -> TrainingSetup:
    """Return the setup with the usual value of what may be left out, having seen that the trainer can do it."""
    missing = [f"--{name.replace('_', '-')}" for name in NEEDED if getattr(setup, name) is None]
    if missing:
        raise UsageError(
            f"verify trains students as you would: {', '.join(missing)} must be given. "
            "'tempadvisor verify my_teachers:best --data photos/ --student resnet20 --optimizer sgd --lr 0.1 "
            "--epochs 60 --batch-size 128'.",
            code="missing_setup",
        )
    possible = {
        "optimizer": ("sgd", "adam", "adamw"),
        "augmentation": ("none", "standard", "mixup", "cutmix"),
        "student_init": ("random", "target"),
        "schedule": ("constant", "cosine", "step", "linear", "onecycle"),
    }
    setup = dataclasses.replace(
        setup,
        augmentation=setup.augmentation or "none",
        schedule=setup.schedule or "cosine",
        student_init=setup.student_init or "random",
        label_smoothing=setup.label_smoothing or 0.0,
    )
    for name, choices in possible.items():
        if getattr(setup, name) not in choices:
            raise UsageError(
                f"{name} must be one of {', '.join(choices)} to be verified: verify trains no other. "
                f"Got {getattr(setup, name)}.",
                code="not_trainable",
            )
    contract = setup.loss_contract()
    return dataclasses.replace(
        setup,
        kd_weight=contract.kd_weight,
        hard_weight=contract.hard,
        t_squared=contract.t_squared,
        reduction=contract.reduction,
        standardized=contract.standardized,
    )


def _split(loaded: Data, n_train: int | None, seed: int) -> Split:
    pool = loaded.test_start or len(loaded.labels)
    n_test = len(loaded.labels) - pool or min(pool // HELD_SHARE, MOST_HELD)
    rest = pool if loaded.test_start else pool - n_test
    n_val = min(rest // HELD_SHARE if n_train is None else max(rest - n_train, 0), MOST_HELD)
    if min(n_test, n_val) < 1 or (n_train or 1) > rest - n_val:
        wanted = "" if n_train is None else f" n_train is {n_train}; at most {rest - 1} leave some."
        raise InputError(
            f"{loaded.name} must have samples to train, to validate and to test on. Got {pool}.{wanted}",
            code="too_few_samples",
        )
    return datasets.split(loaded, n_train=n_train or rest - n_val, n_val=n_val, n_test=n_test, seed=seed)
