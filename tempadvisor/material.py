"""Prepare what the students of one curve see: samples, augmented views, and the teacher's logits on them.

Teachers are trained once and kept in the cache, as are their logits, keyed by the teacher's weights, the data and the
augmentation seed. Nothing here knows of temperatures.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tempadvisor.checkpoints import read_checkpoint
from tempadvisor.datasets import Data, Moves, as_float, load, split
from tempadvisor.distill import Views, augment, train
from tempadvisor.errors import InputError
from tempadvisor.exhibits import Reservoir
from tempadvisor.models import build, head_names, tensor_hash, weights_hash
from tempadvisor.pretrained import Scaled, load_body, located
from tempadvisor.profiling import profile
from tempadvisor.records import TeacherProfile
from tempadvisor.resources import cache_folder
from tempadvisor.suites import Curve, Pretraining, Teacher

TARGET_EPOCHS = 20  # of a student's training on the labels alone, where it starts target-trained


class Samples(NamedTuple):
    """The splits of one curve as floats in [0, 1] and labels; training labels may be noisy."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    teacher_train: tuple[Tensor, Tensor]
    n_classes: int
    dataset: str
    source: str
    moves: Moves
    body: dict[str, Tensor] | None = None  # a pretrained student's weights but for its classifier; see `material_of`
    class_names: tuple[str, ...] | None = None


class Facts(NamedTuple):
    """What is told of the teacher in every row."""

    hash: str
    train_accuracy: float
    test_accuracy: float
    n_params: int


class Material(NamedTuple):
    """All that the students of one curve are trained on and scored with."""

    samples: Samples
    views: Views
    facts: Facts


def device() -> torch.device:
    """Return where this process trains: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def material_of(curve: Curve) -> Material:
    """Return the material of `curve`, on the CPU; what pretraining it asks for is done here."""
    samples = samples_of(curve)
    if curve.pretraining:
        samples = samples._replace(body=_body(curve.pretraining, _image_shape(samples)))
    return Material(samples, *views_of(curve))


def moved(material: Material, where: torch.device) -> Material:
    """Return the same with its tensors on `where`."""
    samples, views, facts = material
    train, val, test = ((x.to(where), y.to(where)) for x, y in (samples.train, samples.val, samples.test))
    assert views.teacher_logits is not None
    views = Views(
        images=views.images.to(where),
        targets=views.targets.to(where),
        teacher_logits=views.teacher_logits.to(where),
    )
    return Material(samples._replace(train=train, val=val, test=test), views, facts)


@functools.lru_cache(maxsize=8)
def _data(name: str, image_size: int | None) -> Data:
    return load(name, image_size=image_size)


@functools.lru_cache(maxsize=2)
def samples_of(curve: Curve) -> Samples:
    """Return the splits of `curve`.

    Raises:
        InputError: the data cannot give them, or, so that it is known before anything is trained, the teacher's model
            or checkpoint or the data of the pretraining cannot be used.
    """
    bench, setup = curve.bench, curve.setup
    data = _data(str(bench.dataset), setup.image_size)
    n_student, n_teacher = setup.n_train or 0, curve.teacher.n_train or setup.n_train or 0
    seed = bench.split_seed or 0
    sizes = {"n_val": bench.n_val or 0, "n_test": bench.n_test or 0, "seed": seed}
    own = split(data, n_train=n_student, **sizes)
    wide = split(data, n_train=max(n_student, n_teacher), **sizes)
    rng = np.random.default_rng([seed, 1])
    noisy = data.labels.clone()
    wrong = rng.random(len(noisy)) < (setup.label_noise or 0.0)
    shift = torch.from_numpy(rng.integers(1, data.n_classes, len(noisy)))
    noisy = torch.where(torch.from_numpy(wrong), (noisy + shift) % data.n_classes, noisy)

    def pick(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return as_float(data.images[rows]), labels[rows]

    samples = Samples(
        train=pick(own.train, noisy),
        val=pick(own.val, data.labels),
        test=pick(own.test, data.labels),
        teacher_train=pick(wide.train[:n_teacher], noisy),
        n_classes=data.n_classes,
        dataset=data.name,
        source=data.source,
        moves=data.moves,
    )
    for kind in (setup.augmentation or "none", curve.teacher.augmentation or "none"):
        check_moves(data.moves, kind, curve.name)
    _teacher_start(curve, samples)
    if curve.pretraining:
        _pretraining_data(curve.pretraining, _image_shape(samples))
    return samples


def check_moves(moves: Moves, kind: str, where: str) -> None:
    """See that an augmentation leaves labels as they are.

    Raises:
        InputError: it would not.
    """
    if moves == "none" and kind not in ("none", "mixup"):
        raise InputError(
            f"augmentation must be none or mixup for vectors, whose values are no neighbors. Got {kind} ({where}).",
            code="not_for_vectors",
        )


def _image_shape(samples: Samples) -> tuple[int, int, int]:
    _, channels, height, width = samples.train[0].shape
    return channels, height, width


def student_of(curve: Curve, samples: Samples, seed: int) -> nn.Module:
    """Return the student of `curve` with the first weights of `seed`."""
    shape = samples.train[0].shape
    name = str(curve.setup.student)
    student = build(name, image_shape=(shape[1], shape[2], shape[3]), n_classes=samples.n_classes, seed=seed)
    return channels_last(student).to(device())


def channels_last(model: nn.Module) -> nn.Module:
    """Return `model` with channels last where it pools: there a processor takes half to two thirds of the time.

    On a GPU, where convolutions run in bfloat16, all have their channels last. A pooling that follows a ReLU goes
    before it, which changes no bit of the function nor of its gradient, and leaves ReLU a quarter of the work.
    """
    pools = any(isinstance(part, nn.MaxPool2d) for part in model.modules())
    if pools and isinstance(model, nn.Sequential):
        for i in range(len(model) - 1):
            if isinstance(model[i], nn.ReLU) and isinstance(model[i + 1], nn.MaxPool2d):
                model[i], model[i + 1] = model[i + 1], model[i]
    return model.to(memory_format=torch.channels_last) if pools or device().type == "cuda" else model


def start_of(curve: Curve, samples: Samples, views: Views, seed: int) -> nn.Module:
    """Return the student of `seed` as training with KD finds it.

    random: the first weights of `seed`. target: these, trained on the labels alone. pretrained: the body as it came
    out of the curve's pretraining, the same for all seeds, under the classifier of `seed`. pretrained-finetuned:
    that, trained on the labels alone.
    """
    student = student_of(curve, samples, seed)
    if curve.pretraining:
        assert samples.body is not None
        load_body(student, samples.body, head_names(str(curve.setup.student), _image_shape(samples)))
    if curve.setup.student_init in ("target", "pretrained-finetuned"):

        def trained() -> dict[str, Tensor]:
            setup = dataclasses.replace(curve.setup, epochs=TARGET_EPOCHS)
            train(student, views, setup, None, seed=seed + 10_000)
            return dict(student.state_dict())

        key = f"start-{curve.name}-{seed}-{weights_hash(student)}-{tensor_hash(*samples.train)}"
        student.load_state_dict(cached(key, trained))
    return student


@functools.lru_cache(maxsize=8)
def _pretraining_data(made: Pretraining, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Data]:
    """Return images of the size and number of channels of the student's own, their labels, and where they are from.

    Colors become their mean, a gray channel is repeated.
    """
    channels, height, width = shape
    data = _data(made.dataset, height if height == width else None)
    if data.images.shape[2:] != (height, width):
        raise InputError(
            f"pretraining must be on samples as large as the student's own, {height} x {width}. "
            f"Got {data.images.shape[2]} x {data.images.shape[3]} ({made.dataset}).",
            code="misfit",
        )
    rows = split(data, n_train=made.recipe.n_train or 0, n_val=0, n_test=0, seed=made.recipe.seed or 0).train
    images = as_float(data.images[rows])
    if images.shape[1] != channels:
        images = images.mean(1, keepdim=True).repeat(1, channels, 1, 1)
    return images, data.labels[rows], data


@functools.lru_cache(maxsize=8)
def _body(made: Pretraining, image_shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """Return a student's pretrained weights, its classifier left out."""
    images, labels, data = _pretraining_data(made, image_shape)
    name, seed = str(made.recipe.model), 200 + (made.recipe.seed or 0)
    student = build(name, image_shape=image_shape, n_classes=data.n_classes, seed=seed).to(device())
    head = head_names(name, image_shape)

    def trained() -> dict[str, Tensor]:
        _fit(student, made.recipe, images, labels, data.n_classes, moves=data.moves, seed=seed)
        return {key: value for key, value in student.state_dict().items() if key not in head}

    return cached(f"body-{_recipe_hash(made.recipe, student, images, labels)}", trained)


def _fit(
    model: nn.Module, made: Teacher, images: Tensor, labels: Tensor, n_classes: int, *, moves: Moves, seed: int
) -> None:
    """Train `model` on labels as `made` says."""
    setup = made.setup()
    kind = setup.augmentation or "none"
    count = 1 if kind == "none" else min(made.epochs or 1, 16)
    data = images.to(device()), labels.to(device())
    train(model, augmented(*data, n_classes, kind, count, moves=moves, seed=seed), setup, None, seed=seed)


def _recipe_hash(made: Teacher, start: nn.Module, *data: Tensor) -> str:
    # the key that has come since is left out where it says nothing: what is in the cache keeps its name
    said = repr(dataclasses.replace(made, name="")).replace(", image_size=None", "")
    recipe = said + weights_hash(start) + tensor_hash(*data)
    return tensor_hash(torch.tensor(list(recipe.encode())))


def augmented(images: Tensor, labels: Tensor, n_classes: int, kind: str, n: int, *, moves: Moves, seed: int) -> Views:
    """Return n augmented views of images (n, channels, height, width) in [0, 1], without teacher logits."""
    targets = one_hot(labels, n_classes).float()
    generator = torch.Generator().manual_seed(seed)
    parts = [augment(images, targets, kind, moves=moves, generator=generator) for _ in range(n)]
    return Views(images=torch.stack([p[0] for p in parts]), targets=torch.stack([p[1] for p in parts]))


@functools.lru_cache(maxsize=2)
def views_of(curve: Curve) -> tuple[Views, Facts]:
    """Return what the students see, teacher logits included, and the facts of the teacher."""
    samples, bench = samples_of(curve), curve.bench
    kind, seed = curve.setup.augmentation or "none", bench.split_seed or 0
    count = bench.augmentation_views or 1
    views = augmented(*samples.train, samples.n_classes, kind, count, moves=samples.moves, seed=seed + 1000)
    teacher, facts = teacher_of(curve, samples)
    key = f"logits-{facts.hash}-{tensor_hash(samples.train[0])}-{kind}-{count}-{seed + 1000}"

    def asked() -> dict[str, Tensor]:
        return {"logits": torch.stack([forward(teacher, view) for view in views.images])}

    logits = cached(key, asked)["logits"] * (bench.teacher_logit_scale or 1.0)
    if not logits.isfinite().all():
        raise InputError(
            f"teacher {curve.teacher.name} must train to finite logits. Got others ({curve.name}). "
            "Lower its lr, or teacher_logit_scale.",
            code="broken_teacher",
        )
    return dataclasses.replace(views, teacher_logits=logits), facts


def _teacher_start(curve: Curve, samples: Samples) -> tuple[nn.Module, int]:
    """Return the teacher before it is trained on these data, its checkpoint loaded, and the seed of its training."""
    made, shape = curve.teacher, _image_shape(samples)
    if made.image_size:
        shape = (3, made.image_size, made.image_size)
    seed = 100 + (made.seed or 0) + 1000 * (curve.bench.split_seed or 0)
    try:
        teacher = build(str(made.model), image_shape=shape, n_classes=samples.n_classes, seed=seed)
        if made.checkpoint:
            file = located(made.checkpoint)
            whole = load_body(teacher, read_checkpoint(file), head_names(str(made.model), shape))
    except InputError as error:
        raise InputError(f"{error} (teacher {made.name})", code=error.code) from None
    if made.checkpoint and not whole and not made.epochs:
        raise InputError(
            f"teacher {made.name} must be fine-tuned for at least 1 epoch. Got 0, and {file.name} has other classes.",
            code="misfit",
        )
    return (Scaled(teacher, made.image_size) if made.image_size else teacher).to(device()), seed


def profiled(
    views: Views, kind: str, name: str, reservoir: Reservoir | None = None, *, stated: bool = False
) -> TeacherProfile:
    """Return the profile of a teacher on all that students see of it.

    Args:
        views: with teacher logits.
        kind: of augmentation; labels of mixed images are none.
        name: of the teacher.
        reservoir: sees the logits, to show some of them later.
        stated: the user has said which output is which class.

    Raises:
        InputError: its logits are none, or worse than chance.
    """
    assert views.teacher_logits is not None
    return profile(
        views.teacher_logits.flatten(0, 1).cpu().numpy(),
        None if kind in ("mixup", "cutmix") else views.targets.flatten(0, 1).argmax(1).cpu().numpy(),
        name=name,
        class_map=range(views.teacher_logits.shape[2]) if stated else None,
        logits_from="train" if kind == "none" else "train-augmented",
        read_all=True,
        reservoir=reservoir,
    )


def teacher_of(curve: Curve, samples: Samples) -> tuple[nn.Module, Facts]:
    """Return the trained teacher of a curve, in evaluation mode, and its facts."""
    made = curve.teacher
    teacher, seed = _teacher_start(curve, samples)

    def trained() -> dict[str, Tensor]:
        if made.epochs:
            _fit(teacher, made, *samples.teacher_train, samples.n_classes, moves=samples.moves, seed=seed)
        return dict(teacher.state_dict())

    key = f"teacher-{_recipe_hash(made, teacher, *samples.teacher_train)}"
    teacher.load_state_dict(cached(key, trained))
    teacher.eval()
    accuracy = [
        float((forward(teacher, images).argmax(1) == labels).double().mean())
        for images, labels in (samples.train, samples.test)
    ]
    n_params = sum(p.numel() for p in teacher.parameters())
    return teacher, Facts(weights_hash(teacher), accuracy[0], accuracy[1], n_params)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Return the outputs of `model`, where it is, on the CPU."""
    where = next(model.parameters()).device
    return torch.cat([model(batch.to(where)).cpu() for batch in torch.split(images, 500)])


def cached(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors from the cache, or make them and keep them.

    Raises:
        InputError: there is no room for them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    file = cache_folder() / f"{key}.safetensors"
    if not file.is_file():
        temporary = file.with_name(f".{os.getpid()}-{threading.get_ident()}-{file.name}")
        tensors = {name: value.contiguous() for name, value in make().items()}
        try:
            save_file(tensors, temporary)
            temporary.replace(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file.parent} must have room for what is kept there. {error}.", code="full") from None
        finally:
            temporary.unlink(missing_ok=True)
    return dict(load_file(file))
