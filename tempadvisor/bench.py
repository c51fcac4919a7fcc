"""Run a suite: teachers once, their logits cached, students paired over temperatures, every outcome a row.

Whatever a student is trained on hangs on the setup and on its seed, never on the temperature. Perceptrons go through
`batched.py`, all temperatures of several seeds at once; other students one by one, in processes of one thread each,
or on a GPU in threads of this one process, or on a Dask cluster, whose workers need no data and share no disk.
Every row is on disk before the next job ends, so an interrupted suite loses the runs in flight and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import operator
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tempadvisor.batched import linear_layers, train_batched
from tempadvisor.cluster import arrived, cluster, place
from tempadvisor.distill import train
from tempadvisor.errors import InputError, UsageError
from tempadvisor.evidence import profiles_path, read_profiles, write_profiles
from tempadvisor.material import (
    Facts,
    Material,
    Samples,
    device,
    material_of,
    moved,
    profiled,
    samples_of,
    start_of,
    student_of,
    views_of,
)
from tempadvisor.pace import one_thread, step_seconds
from tempadvisor.preflight import check_material, runs_before
from tempadvisor.runs import Key, Run, write_runs
from tempadvisor.suites import Curve, Suite, Teacher, read_suite

if TYPE_CHECKING:
    from distributed import Client

FEW = 2  # jobs for each of the cores, for which it is not worth starting processes
WEIGHTS_AT_ONCE = 400_000  # of all students in one batch: more no longer fits the processor's cache


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


def run_suite(
    path: Path,
    out: Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Run the suite at `path`, or with `dry_run` only say how much there is to do, and write its runs to `out`.

    Args:
        path: the suite, see `suites.py`.
        out: CSV file of runs; it must not exist unless `resume`.
        jobs: processes, each with one thread; threads of one process on a GPU, or where there is little to do.
        scheduler: address of a Dask scheduler; students are trained by its workers, teachers here.
        resume: keep the runs that `out` has and do the others.
        dry_run: train nothing; the minutes are extrapolated from a few steps of each kind of student.
        progress: called with the runs done and the runs to do.

    Returns:
        The plan, as it was before anything ran.

    Raises:
        UsageError: the suite says what cannot be, `out` exists and `resume` is off, cannot be written or holds other
            runs, or no worker answers at `scheduler`. Before any training.
        InputError: a data set or model is missing or too small or large, before any training; or a teacher does not
            train to finite logits, before its students.
        KnowledgeError: `out` is no file of runs. Before any training.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1. Got {jobs}.", code="bad_jobs")
    suite = read_suite(path)
    check_material(suite)
    done = runs_before(suite, out, resume=resume, dry_run=dry_run)
    todo = list(_jobs(suite, done))
    n_todo = sum(len(job.temperatures) * len(job.seeds) for job in todo)
    plan = Plan(n_runs=suite.n_runs, n_todo=n_todo, minutes=sum(map(_seconds, todo)) / 60 / jobs if dry_run else 0.0)
    if dry_run:
        return plan
    finished = 0
    with cluster(scheduler) if scheduler else contextlib.nullcontext() as client:
        for runs in _results(todo, jobs, client):
            done.update((run.key, run) for run in runs)
            write_runs(out, done.values())
            finished += len(runs)
            if progress is not None:
                progress(finished, n_todo)
    _profile_teachers(suite, {name for _, name, _, _ in done}, profiles_path(out))
    return plan


def _profile_teachers(suite: Suite, names: set[str], path: Path) -> None:
    """Add the profiles that `path` lacks: of each curve's teacher, on all that its students see.

    A teacher that cannot be profiled, such as one worse than chance, has none.
    """
    profiles = read_profiles(path)
    missing = [curve for curve in suite.curves if curve.name in names - profiles.keys()]
    for curve in missing:
        with contextlib.suppress(InputError):
            profiles[curve.name] = profiled(
                views_of(curve)[0], curve.setup.augmentation or "none", str(curve.bench.teacher)
            )
    if profiles:
        write_profiles(path, profiles, {curve.name: _made(curve) for curve in suite.curves})


def _made(curve: Curve) -> dict[str, Any]:
    """Return what the rows of a curve do not tell: where its data lie, how its teacher and first weights are made."""
    made: dict[str, Any] = {"dataset": curve.bench.dataset, "teacher": _given(curve.teacher)}
    if curve.pretraining:
        made["pretraining"] = {"dataset": curve.pretraining.dataset, **_given(curve.pretraining.recipe)}
    return made


def _given(teacher: Teacher) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(teacher).items() if value is not None}


def _results(todo: list[Job], jobs: int, client: Client | None) -> Iterator[list[Run]]:
    on_gpu = device().type == "cuda"
    if client is None and (on_gpu or jobs == 1 or len(todo) <= FEW * jobs):
        yield from map(run_job, todo) if jobs == 1 else _shared(todo, jobs, None)
        return
    from joblib import Parallel, delayed

    first = {(job.curve.bench, job.curve.setup.n_train, job.curve.setup.augmentation): job for job in todo}
    Parallel(n_jobs=1 if on_gpu else jobs)(
        delayed(_warm)(job.curve) for job in first.values()
    )  # each teacher once, not in every process
    if client is None:
        yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(run_job)(job) for job in todo)
    else:
        yield from _shared(todo, jobs, client)


def _shared(todo: list[Job], jobs: int, client: Client | None) -> Iterator[list[Run]]:
    """Run jobs curve by curve, its material put once where all see it: workers of a cluster, or threads."""
    from joblib import Parallel, delayed, parallel_config

    where: dict[str, Any] = {"backend": "dask", "client": client} if client else {"backend": "threading"}
    with one_thread():
        for curve, group in itertools.groupby(todo, operator.attrgetter("curve")):
            material = place(client, material_of(curve)) if client else moved(material_of(curve), device())
            with parallel_config(**where):
                pool = Parallel(jobs, return_as="generator_unordered")
            yield from pool(delayed(run_job)(job, material) for job in group)


def _jobs(suite: Suite, done: Iterable[Key]) -> Iterator[Job]:
    """Yield what is still to do. A batch of perceptrons is always the same, so that its rows repeat to the bit.

    Curves come in an order drawn with a fixed seed, so an unfinished suite is a random part of its design.
    """
    known = set(done)
    for curve in random.Random(0).sample(suite.curves, len(suite.curves)):
        student = student_of(curve, samples_of(curve), seed=0)
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


def _own_stream() -> contextlib.AbstractContextManager[object]:
    """On a GPU, let what follows queue beside what other threads do there."""
    if device().type != "cuda":
        return contextlib.nullcontext()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.default_stream())  # on which the material may still be on its way
    return torch.cuda.stream(stream)


def _warm(curve: Curve) -> None:
    with one_thread():
        views_of(curve)


def run_job(job: Job, material: Material | None = None) -> list[Run]:
    """Train the students of a job, and return their rows; `material` is made or read here unless it is given."""
    with one_thread(), _own_stream():
        curve = job.curve
        samples, views, facts = moved(arrived(material) or material_of(curve), device())
        starts = [start_of(curve, samples, views, seed) for seed in job.seeds]
        began = time.perf_counter()
        if linear_layers(starts[0]) is not None and not curve.setup.standardized:
            students = train_batched(starts, views, curve.setup, job.temperatures, job.seeds)
            forward: Callable[[Tensor], Tensor] = students.logits
        else:
            train(starts[0], views, curve.setup, job.temperatures[0], seed=job.seeds[0])
            forward = lambda images: starts[0](images)[None, None]  # noqa: E731
        seconds = (time.perf_counter() - began) / (len(job.seeds) * len(job.temperatures))
        scores = [
            _score(forward, *part, loss=part is not samples.test)
            for part in (samples.train, samples.val, samples.test)
        ]
    n_params = sum(p.numel() for p in starts[0].parameters())
    return [
        _row(job, i, j, samples, scores, facts, seconds=seconds, n_params=n_params)
        for i in range(len(job.seeds))
        for j in range(len(job.temperatures))
    ]


@torch.no_grad()
def _score(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, loss: bool
) -> tuple[Tensor, Tensor]:
    """Return accuracy and mean cross-entropy, each (S, G); without `loss` 0 for the latter."""
    right, summed = [], []
    for batch, truth in zip(torch.split(images, 500), torch.split(labels, 500), strict=True):
        logits = forward(batch)
        right.append((logits.argmax(-1) == truth).double().sum(-1))
        nll = torch.zeros(logits.shape[:-1])
        if loss:
            flat = truth.expand(logits.shape[:-1]).flatten()
            nll = cross_entropy(logits.flatten(0, -2), flat, reduction="none").view(logits.shape[:-1])
        summed.append(nll.double().sum(-1))
    return torch.stack(right).sum(0) / len(labels), torch.stack(summed).sum(0) / len(labels)


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
        image_size=None if samples.moves == "none" else samples.train[0].shape[2],
        student_params=n_params,
        teacher_params=facts.n_params,
        teacher_origin=teacher.origin,
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
        device=torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
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


def _seconds(job: Job) -> float:
    """Extrapolate the seconds of a job from a few steps of its kind of student."""
    setup, samples = job.curve.setup, samples_of(job.curve)
    steps = (setup.epochs or 1) * max(1, (setup.n_train or 1) // (setup.batch_size or 128))
    return steps * step_seconds(
        dataclasses.replace(setup, epochs=1, n_train=None, lr=1e-3, schedule="constant", label_noise=None),
        tuple(samples.train[0].shape[1:]),
        samples.n_classes,
        job.temperatures,
        len(job.seeds),
    )
