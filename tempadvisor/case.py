"""What `verify` trains: a user's teacher, data and student as one curve with its material, split and profiled.

The teacher is run, or its stored logits are read, on exactly what the students see. Nothing is trained here, and
nothing here knows of temperatures or of a search.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tempadvisor import datasets, models
from tempadvisor.datasets import Data, Split
from tempadvisor.errors import InputError, UsageError
from tempadvisor.logits import open_logits
from tempadvisor.material import (
    Facts,
    Material,
    Samples,
    augmented,
    cached,
    device,
    forward,
    material_of,
    moved,
    student_of,
)
from tempadvisor.models import tensor_hash, weights_hash
from tempadvisor.profiling import profile
from tempadvisor.records import TeacherProfile, TrainingSetup, as_dict
from tempadvisor.runs import Run
from tempadvisor.suites import Bench, Curve, Teacher
from tempadvisor.teachers import LOGITS_SUFFIXES
from tempadvisor.verification import Trial

NEEDED = ("student", "optimizer", "lr", "epochs", "batch_size")
MOST_HELD = 10_000  # samples of the validation split, and of a test split where the data have none of their own
HELD_SHARE = 5  # one in so many
VIEWS, MOST_BYTES = 8, 2 * 10**9  # of augmented views


class Case(NamedTuple):
    """What is verified: `setup` is the one asked about, completed by what data and models tell."""

    curve: Curve
    material: Material
    profile: TeacherProfile
    setup: TrainingSetup

    @property
    def n_val(self) -> int:
        """Number of validation samples."""
        return len(self.material.samples.val[1])

    @property
    def hash(self) -> str:
        """A checksum of all that decides how a student of this case comes out."""
        samples, _, facts = self.material
        told = torch.tensor(list(f"{self.curve.setup}{self.curve.bench}{facts.hash}".encode()))
        return tensor_hash(*(part.cpu() for part in (*samples.train, *samples.val)), told)

    def runs(self, trials: Sequence[Trial], study: str) -> list[Run]:
        """Return the trials that were tested as rows of runs, and those that failed."""
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
            if one.test_accuracy is not None or one.val_accuracy is None
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a user asks to be verified, in words: all that another machine needs to work on it too.

    `teacher` is a model as in `models.load_teacher`, or a file of logits of the training samples in their order; with
    `model` the name that a checkpoint's weights belong to. `data` is as in `datasets.load`. `seed` is that of the
    split and the augmented views.
    """

    teacher: str
    data: str
    setup: TrainingSetup
    model: str | None = None
    seed: int = 0

    def case(self) -> Case:
        """Return what is trained; see `case_of`."""
        return _declared(_demo()) if self == DEMO else case_of(self)

    def to_json(self) -> dict[str, Any]:
        """Return the task as plain values."""
        return {**as_dict(self), "setup": self.setup.given()}

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
    if loaded.moves == "none" and kind not in ("none", "mixup"):
        raise InputError(
            f"augmentation must be none or mixup for vectors, whose values are no neighbors. Got {kind} ({data}).",
            code="not_for_vectors",
        )
    own = _split(loaded, setup.n_train, seed)
    setup = dataclasses.replace(
        setup,
        n_train=len(own.train),
        batch_size=min(setup.batch_size or 1, len(own.train)),
        image_size=None if loaded.moves == "none" else loaded.images.shape[2],
        logits_from="train" if kind == "none" else "train-augmented",
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
    )
    count = 1 if kind == "none" else max(1, min(VIEWS, MOST_BYTES // (train[0].numel() * 4)))
    views = augmented(*train, loaded.n_classes, kind, count, moves=loaded.moves, seed=seed + 1000)
    if Path(teacher).suffix in LOGITS_SUFFIXES and model is None:
        if kind != "none":
            raise UsageError(
                f"augmentation must be none with stored logits, which hold no augmented views. Got {kind}. "
                "Name the teacher's model instead.",
                code="contradiction",
            )
        logits, facts = _stored(Path(teacher), loaded, own)
    else:
        module = _live(teacher, model, loaded)
        with contextlib.redirect_stdout(sys.stderr):  # what the user's code prints is no result
            logits = _shown(module, views.images, teacher)
        facts = Facts(weights_hash(module), 0.0, 0.0, sum(p.numel() for p in module.parameters()))
    if logits.shape[2] != loaded.n_classes:
        raise InputError(
            f"teacher must have the {loaded.n_classes} classes of {data}. Got {logits.shape[2]} ({teacher[:100]}).",
            code="other_classes",
        )
    views = dataclasses.replace(views, teacher_logits=logits)
    measured = profile(
        logits.flatten(0, 1).numpy(),
        None if kind in ("mixup", "cutmix") else views.targets.flatten(0, 1).argmax(1).numpy(),
        name=teacher,
        logits_from=setup.logits_from,
        read_all=True,
    )
    curve = Curve(
        name=f"{loaded.name}-verified",
        bench=Bench(
            dataset=data,
            teacher=teacher[:100],
            split_seed=seed,
            n_val=len(val[1]),
            n_test=len(held[1]),
            augmentation_views=count,
            teacher_logit_scale=1.0,
        ),
        setup=setup,
        teacher=Teacher(name=teacher[:100], model=model or teacher[:100], epochs=0),
    )
    return _complete(curve, Material(samples, views, facts), measured)


def _declared(curve: Curve) -> Case:
    """Return the case of a curve of a suite, its teacher trained as the suite says."""
    material = material_of(curve)
    views = material.views
    assert views.teacher_logits is not None
    origin = "train" if curve.setup.augmentation in (None, "none") else "train-augmented"
    measured = profile(
        views.teacher_logits.flatten(0, 1).numpy(),
        None if curve.setup.augmentation in ("mixup", "cutmix") else views.targets.flatten(0, 1).argmax(1).numpy(),
        name=curve.teacher.name,
        logits_from=origin,
        read_all=True,
    )
    setup = dataclasses.replace(curve.setup, logits_from=origin, teacher_origin=curve.teacher.origin)
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


def _complete(curve: Curve, material: Material, measured: TeacherProfile) -> Case:
    """Count parameters, so that the advice knows the models' sizes, and bring the material to the device."""
    student = student_of(curve, material.samples, seed=0)
    n_student = sum(p.numel() for p in student.parameters())
    n_teacher = curve.setup.teacher_params or material.facts.n_params or None
    setup = dataclasses.replace(curve.setup, student_params=n_student, teacher_params=n_teacher)
    return Case(dataclasses.replace(curve, setup=setup), moved(material, device()), measured, setup)


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
    if n_val < 1 or (n_train or 1) > rest - n_val:
        raise InputError(
            f"n_train must leave samples to validate on: at most {rest - 1} of {loaded.name}. Got {n_train}.",
            code="too_few_samples",
        )
    return datasets.split(loaded, n_train=n_train or rest - n_val, n_val=n_val, n_test=n_test, seed=seed)


def _live(teacher: str, model: str | None, loaded: Data) -> nn.Module:
    channels, height, width = loaded.images.shape[1:]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = models.load_teacher(teacher, model=model, image_shape=(channels, height, width))
            return models.prepared(module)
    except SystemExit:  # the model is the user's code
        raise InputError(f"{teacher[:100]} must return logits. It ended the program.", code="bad_factory") from None


def _shown(module: nn.Module, views: Tensor, teacher: str) -> Tensor:
    """Return a prepared teacher's logits on views as floats in [0, 1], once; it takes pixels as they are stored."""

    def asked() -> dict[str, Tensor]:
        return {"logits": torch.stack([forward(module, view * 255) for view in views])}

    try:
        logits = cached(f"logits-{weights_hash(module)}-{tensor_hash(views)}", asked)["logits"]
    except InputError:
        raise
    except Exception as error:  # the model may be the user's code
        raise InputError(
            f"{teacher[:100]} must return logits of images. Got {type(error).__name__}: {str(error)[:200]}.",
            code="bad_teacher",
        ) from None
    if logits.ndim != 3 or not logits.isfinite().all():
        raise InputError(
            f"{teacher[:100]} must return finite logits (n, K). Got {tuple(logits.shape[1:])}.", code="bad_teacher"
        )
    return logits.float()


def _stored(path: Path, loaded: Data, own: Split) -> tuple[Tensor, Facts]:
    """Return logits (1, n, K) of the training split, from a file with a row for each sample in the order of data."""
    n = loaded.test_start or len(loaded.labels)
    stored = open_logits(path)
    if stored.n_samples not in (n, len(loaded.labels)):
        raise InputError(
            f"{path} must hold the logits of all {n} training samples of {loaded.name}, in their order. "
            f"Got {stored.n_samples} rows.",
            code="other_samples",
        )
    if stored.labels is not None:
        wrong = np.flatnonzero(stored.labels != loaded.labels[: stored.n_samples].numpy())
        if len(wrong):
            raise InputError(
                f"{path} must hold the labels of {loaded.name} in its order. "
                f"{len(wrong)} differ, row {wrong[0]} first.",
                code="other_samples",
            )
    rows = own.train.numpy()
    block = stored.read(rows)[np.argsort(np.argsort(rows))]
    logits = torch.from_numpy(block.astype(np.float32))[None]
    return logits, Facts(tensor_hash(logits), 0.0, 0.0, 0)
