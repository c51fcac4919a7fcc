"""Run a suite: teachers once, their logits cached, students paired over temperatures, every outcome a row.

Whatever a student is trained on hangs on the setup and on its seed, never on the temperature. Perceptrons go through
`batched.py`, all temperatures of several seeds at once; other students one by one, in processes of one thread each.
Every row is on disk before the next job ends, so an interrupted suite loses the runs in flight and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from tempadvisor.batched import linear_layers, train_batched
from tempadvisor.datasets import Data, as_float, cache_folder, load, split
from tempadvisor.distill import Views, augment, train
from tempadvisor.errors import UsageError
from tempadvisor.models import build, read_checkpoint, tensor_hash, weights_hash
from tempadvisor.records import TrainingSetup
from tempadvisor.runs import Key, Run, read_runs, write_runs
from tempadvisor.suites import Curve, Suite, read_suite

WEIGHTS_AT_ONCE = 400_000  # of all students in one batch: more no longer fits the processor's cache
TARGET_EPOCHS = 20  # of a student's training on the labels alone, where it starts target-trained


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a suite would do: runs in all, runs still to do, and the minutes those may take with the given jobs."""

    n_runs: int
    n_todo: int
    minutes: float


class Job(NamedTuple):
    """Students that are trained in one go: all temperatures of some seeds of one curve."""

    suite: str
    curve: Curve
    temperatures: tuple[float | None, ...]
    seeds: tuple[int, ...]


class Samples(NamedTuple):
    """The splits of one curve as floats in [0, 1] and labels; training labels may be noisy."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    teacher_train: tuple[Tensor, Tensor]
    n_classes: int
    dataset: str
    source: str
    flip: bool


def run_suite(
    path: Path,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Run the suite at `path`, or with `dry_run` only say how much there is to do, and write its runs to `out`.

    Args:
        path: the suite, see `suites.py`.
        out: CSV file of runs; it must not exist unless `resume`.
        jobs: processes, each with one thread.
        resume: keep the runs that `out` has and do the others.
        dry_run: train nothing; the minutes are extrapolated from a few steps of each kind of student.
        progress: called with the runs done and the runs to do.

    Returns:
        The plan, as it was before anything ran.

    Raises:
        UsageError: the suite says what cannot be, or `out` exists and `resume` is off. Before any training.
        InputError: a data set is missing or too small. Before any training.
        KnowledgeError: `out` is no file of runs. Before any training.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1. Got {jobs}.", code="bad_jobs")
    suite = read_suite(path)
    for curve in suite.curves:
        _student(curve, _samples(curve), seed=0)
    if out.exists() and not (resume or dry_run):
        raise UsageError(f"{out} must not exist yet. Add --resume to go on with it.", code="exists")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} must be a folder. It does not exist.", code="no_folder")
    done: dict[Key, Run] = {run.key: run for run in (read_runs(out) if out.exists() else ())}
    todo = list(_jobs(suite, done))
    n_todo = sum(len(job.temperatures) * len(job.seeds) for job in todo)
    plan = Plan(n_runs=suite.n_runs, n_todo=n_todo, minutes=sum(map(_seconds, todo)) / 60 / jobs if dry_run else 0.0)
    if dry_run:
        return plan
    finished = 0
    for runs in _results(todo, jobs):
        done.update((run.key, run) for run in runs)
        write_runs(out, done.values())
        finished += len(runs)
        if progress is not None:
            progress(finished, n_todo)
    return plan


def _results(todo: list[Job], jobs: int) -> Iterator[list[Run]]:
    if jobs == 1:
        yield from map(run_job, todo)
        return
    from joblib import Parallel, delayed

    first = {(job.curve.bench, job.curve.setup.n_train, job.curve.setup.augmentation): job for job in todo}
    Parallel(n_jobs=jobs)(
        delayed(_warm)(job.curve) for job in first.values()
    )  # each teacher once, not in every process
    yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(run_job)(job) for job in todo)


def _jobs(suite: Suite, done: Iterable[Key]) -> Iterator[Job]:
    """Yield what is still to do. A batch of perceptrons is always the same, so that its rows repeat to the bit."""
    known = set(done)
    for curve in suite.curves:
        student = _student(curve, _samples(curve), seed=0)
        n_weights = sum(p.numel() for p in student.parameters())
        if linear_layers(student) is not None and not curve.setup.standardized:
            size = max(1, WEIGHTS_AT_ONCE // (n_weights * len(suite.temperatures)))
            groups = [(suite.temperatures, suite.seeds[i : i + size]) for i in range(0, len(suite.seeds), size)]
        else:
            groups = [((t,), (seed,)) for seed in suite.seeds for t in suite.temperatures]
        for temperatures, seeds in groups:
            keys = {(suite.name, curve.name, seed, t or 0.0) for seed in seeds for t in temperatures}
            if not keys <= known:
                yield Job(suite.name, curve, temperatures, seeds)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warm(curve: Curve) -> None:
    with _one_thread():
        _views(curve)


def run_job(job: Job) -> list[Run]:
    """Train the students of a job, and return their rows."""
    with _one_thread():
        curve = job.curve
        samples, (views, facts) = _samples(curve), _views(curve)
        starts = [_start(curve, samples, views, seed) for seed in job.seeds]
        began = time.perf_counter()
        if linear_layers(starts[0]) is not None and not curve.setup.standardized:
            students = train_batched(starts, views, curve.setup, job.temperatures, job.seeds)
            forward: Callable[[Tensor], Tensor] = students.logits
        else:
            train(starts[0], views, curve.setup, job.temperatures[0], seed=job.seeds[0])
            forward = lambda images: starts[0](images)[None, None]  # noqa: E731
        seconds = (time.perf_counter() - began) / (len(job.seeds) * len(job.temperatures))
        scores = [_score(forward, *part) for part in (samples.train, samples.val, samples.test)]
    n_params = sum(p.numel() for p in starts[0].parameters())
    return [
        _row(job, i, j, samples, scores, facts, seconds=seconds, n_params=n_params)
        for i in range(len(job.seeds))
        for j in range(len(job.temperatures))
    ]


@torch.no_grad()
def _score(forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return accuracy and mean cross-entropy, each (S, G)."""
    right, loss = [], []
    for batch, truth in zip(torch.split(images, 500), torch.split(labels, 500), strict=True):
        logits = forward(batch)
        right.append((logits.argmax(-1) == truth).double().sum(-1))
        flat = truth.expand(logits.shape[:-1]).flatten()
        nll = cross_entropy(logits.flatten(0, -2), flat, reduction="none").view(logits.shape[:-1])
        loss.append(nll.double().sum(-1))
    return torch.stack(right).sum(0) / len(labels), torch.stack(loss).sum(0) / len(labels)


class Facts(NamedTuple):
    """What is told of the teacher in every row."""

    hash: str
    train_accuracy: float
    test_accuracy: float
    n_params: int


def _row(
    job: Job,
    i: int,
    j: int,
    samples: Samples,
    scores: list[tuple[Tensor, Tensor]],
    facts: Facts,
    *,
    seconds: float,
    n_params: int,
) -> Run:
    curve, teacher = job.curve, job.curve.teacher
    (train_accuracy, train_loss), (val_accuracy, val_loss), (test_accuracy, _) = (
        (float(accuracy[i, j]), float(loss[i, j])) for accuracy, loss in scores
    )
    sound = bool(np.isfinite(train_loss) and np.isfinite(val_loss))
    setup = dataclasses.replace(
        curve.setup,
        batch_size=min(curve.setup.batch_size or 128, len(samples.train[1])),  # what a step really saw
        image_size=samples.train[0].shape[2],
        student_params=n_params,
        teacher_params=facts.n_params,
        teacher_origin="pretrained-finetuned" if teacher.checkpoint else "scratch",
        teacher_finetune_epochs=teacher.epochs if teacher.checkpoint else None,
        teacher_augmentation=teacher.setup().augmentation,
        teacher_label_smoothing=teacher.setup().label_smoothing,
        logits_from="train" if curve.setup.augmentation == "none" else "train-augmented",
    )
    numbers = [int(part) for part in (setup.student or "").split("-") if part.isdigit()]
    return Run(
        suite=job.suite,
        curve=curve.name,
        seed=job.seeds[i],
        temperature=job.temperatures[j],
        source=samples.source,
        dataset=samples.dataset,
        teacher=teacher.name,
        teacher_hash=facts.hash,
        setup=setup,
        split_seed=curve.bench.split_seed,
        student_width=max(numbers) if numbers else None,
        augmentation_views=curve.bench.augmentation_views,
        teacher_logit_scale=curve.bench.teacher_logit_scale,
        teacher_train_accuracy=facts.train_accuracy,
        teacher_test_accuracy=facts.test_accuracy,
        n_classes=samples.n_classes,
        n_val=len(samples.val[1]),
        n_test=len(samples.test[1]),
        status="FINISHED" if sound else "FAILED",
        val_accuracy=val_accuracy if sound else None,
        test_accuracy=test_accuracy if sound else None,
        train_accuracy=train_accuracy if sound else None,
        val_loss=val_loss if sound else None,
        train_loss=train_loss if sound else None,
        error=None if sound else "diverged: the loss is not finite",
        train_seconds=round(seconds, 4),
        device="cpu",
        versions=f"torch {torch.__version__} numpy {np.__version__}",
        commit=_commit(),
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


@functools.cache
def _commit() -> str | None:
    """Return the commit of the checkout that this runs from, '+' behind it if anything is uncommitted."""
    here = Path(__file__).parent
    try:
        said = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", "--", "."])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return said[0] + ("+" if said[1] else "")


@functools.lru_cache(maxsize=8)
def _data(name: str, image_size: int | None) -> Data:
    return load(name, image_size=image_size)


@functools.lru_cache(maxsize=2)
def _samples(curve: Curve) -> Samples:
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

    return Samples(
        train=pick(own.train, noisy),
        val=pick(own.val, data.labels),
        test=pick(own.test, data.labels),
        teacher_train=pick(wide.train[:n_teacher], noisy),
        n_classes=data.n_classes,
        dataset=data.name,
        source=data.source,
        flip=data.flip,
    )


def _student(curve: Curve, samples: Samples, seed: int) -> nn.Module:
    shape = samples.train[0].shape
    name = str(curve.setup.student)
    return build(name, image_shape=(shape[1], shape[2], shape[3]), n_classes=samples.n_classes, seed=seed)


def _start(curve: Curve, samples: Samples, views: Views, seed: int) -> nn.Module:
    """Return the student of `seed` as training with KD finds it."""
    student = _student(curve, samples, seed)
    if curve.setup.student_init == "target":
        train(student, views, dataclasses.replace(curve.setup, epochs=TARGET_EPOCHS), None, seed=seed + 10_000)
    return student


def _augmented(images: Tensor, labels: Tensor, n_classes: int, kind: str, n: int, *, flip: bool, seed: int) -> Views:
    targets = one_hot(labels, n_classes).float()
    generator = torch.Generator().manual_seed(seed)
    parts = [augment(images, targets, kind, flip=flip, generator=generator) for _ in range(n)]
    return Views(images=torch.stack([p[0] for p in parts]), targets=torch.stack([p[1] for p in parts]))


@functools.lru_cache(maxsize=2)
def _views(curve: Curve) -> tuple[Views, Facts]:
    """Return what the students see, teacher logits included, and the facts of the teacher."""
    samples, bench = _samples(curve), curve.bench
    kind, seed = curve.setup.augmentation or "none", bench.split_seed or 0
    count = bench.augmentation_views or 1
    views = _augmented(*samples.train, samples.n_classes, kind, count, flip=samples.flip, seed=seed + 1000)
    teacher, facts = _teacher(curve, samples)
    key = f"logits-{facts.hash}-{tensor_hash(samples.train[0])}-{kind}-{count}-{seed + 1000}"

    def asked() -> dict[str, Tensor]:
        return {"logits": torch.stack([_forward(teacher, view) for view in views.images])}

    logits = _cached(key, asked)["logits"]
    return dataclasses.replace(views, teacher_logits=logits * (bench.teacher_logit_scale or 1.0)), facts


def _teacher(curve: Curve, samples: Samples) -> tuple[nn.Module, Facts]:
    made, shape = curve.teacher, samples.train[0].shape
    size, seed = (shape[1], shape[2], shape[3]), 100 + (made.seed or 0) + 1000 * (curve.bench.split_seed or 0)
    teacher = build(str(made.model), image_shape=size, n_classes=samples.n_classes, seed=seed)

    def trained() -> dict[str, Tensor]:
        if made.checkpoint:
            teacher.load_state_dict(read_checkpoint(Path(made.checkpoint)))
        setup: TrainingSetup = made.setup()
        if made.epochs:
            kind = setup.augmentation or "none"
            count = 1 if kind == "none" else min(made.epochs, 16)
            data, n_classes = samples.teacher_train, samples.n_classes
            train(
                teacher,
                _augmented(*data, n_classes, kind, count, flip=samples.flip, seed=seed),
                setup,
                None,
                seed=seed,
            )
        return dict(teacher.state_dict())

    recipe = repr(dataclasses.replace(made, name="")) + weights_hash(teacher) + tensor_hash(*samples.teacher_train)
    teacher.load_state_dict(_cached(f"teacher-{tensor_hash(torch.tensor(list(recipe.encode())))}", trained))
    teacher.eval()
    accuracy = [
        float((_forward(teacher, images).argmax(1) == labels).double().mean())
        for images, labels in (samples.train, samples.test)
    ]
    n_params = sum(p.numel() for p in teacher.parameters())
    return teacher, Facts(weights_hash(teacher), accuracy[0], accuracy[1], n_params)


@torch.no_grad()
def _forward(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(batch) for batch in torch.split(images, 500)])


def _cached(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors from the cache, or make them and keep them."""
    from safetensors.torch import load_file, save_file

    file = cache_folder() / f"{key}.safetensors"
    if not file.is_file():
        temporary = file.with_name(f".{os.getpid()}-{file.name}")
        save_file({name: value.contiguous() for name, value in make().items()}, temporary)
        temporary.replace(file)
    return dict(load_file(file))


def _seconds(job: Job) -> float:
    """Extrapolate the seconds of a job from a few steps of its kind of student."""
    setup, samples = job.curve.setup, _samples(job.curve)
    steps = (setup.epochs or 1) * max(1, (setup.n_train or 1) // (setup.batch_size or 128))
    return steps * _step_seconds(
        dataclasses.replace(setup, epochs=1, n_train=None, lr=1e-3, schedule="constant", label_noise=None),
        tuple(samples.train[0].shape[1:]),
        samples.n_classes,
        job.temperatures,
        len(job.seeds),
    )


@functools.cache
def _step_seconds(
    setup: TrainingSetup, shape: tuple[int, ...], n_classes: int, temperatures: tuple[float | None, ...], n_seeds: int
) -> float:
    size = setup.batch_size or 128
    n, image_shape = 4 * size, (shape[0], shape[1], shape[2])
    views = Views(
        images=torch.rand(1, n, *shape),
        targets=torch.ones(1, n, n_classes) / n_classes,
        teacher_logits=torch.zeros(1, n, n_classes),
    )
    starts = [build(str(setup.student), image_shape=image_shape, n_classes=n_classes, seed=0) for _ in range(n_seeds)]
    with _one_thread():
        for _ in range(2):  # the first time pays for what torch loads late
            began = time.perf_counter()
            if linear_layers(starts[0]) is not None and not setup.standardized:
                train_batched(starts, views, setup, temperatures, range(n_seeds))
            else:
                train(starts[0], views, setup, temperatures[0], seed=0)
            seconds = time.perf_counter() - began
    return seconds / 4
