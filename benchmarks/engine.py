"""How fast grids of students are trained, against the usual way and against a tidy loop, measured in one run.

    python benchmarks/engine.py           # a Markdown table
    python benchmarks/engine.py --json

Each grid is one curve of a suite: 10 temperatures and no KD, 5 seeds, 55 students, on real images. Ways:

usual       one student at a time, a DataLoader, a live teacher, its best of 1 or 2 threads and 0 or 2 workers;
            with augmentation, torchvision's crop and flip on each image
lookup      the same, the teacher's logits looked up in a table
tidy        one student at a time over tensors and cached logits (`distill.train`), its best of 1 or 2 threads
engine      `bench.run_suite`: all of it, from asking the teacher to the rows on disk; perceptrons in one process
            of one thread, others in two; it scores training and validation images too, the others test images only

With augmentation, `lookup` gives an image the logits it had before: that times the loop and is no way to train.
Teachers are trained and data are read beforehand, and the two processes are started. Leave the machine alone
while it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.utils.data import DataLoader, Dataset

from tempadvisor.bench import run_suite
from tempadvisor.curves import TEMPERATURES
from tempadvisor.distill import batches, learning_rate, make_optimizer
from tempadvisor.loss import kd_loss
from tempadvisor.material import samples_of, student_of, views_of
from tempadvisor.models import build
from tempadvisor.runs import read_runs
from tempadvisor.suites import Curve, read_suite

Cell = tuple[float | None, int]
Way = tuple[str, int, Callable[[Cell], float]]  # its name, its threads, and how it trains and tests a student
SEEDS = 5
SUITE = """
name = "engine"
temperatures = {temperatures}
seeds = {seeds}
[teachers.t]
model = "{teacher}"
epochs = 20
[[design]]
dataset = "{dataset}"
image_size = {image_size}
n_val = 300
n_test = {n_test}
n_train = 1000
student = "{student}"
teacher = "t"
optimizer = "sgd"
lr = 0.05
weight_decay = 5e-4
epochs = {epochs}
batch_size = 64
kd_weight = 0.9
augmentation = "{augmentation}"
"""


class Grid(NamedTuple):
    """A grid, and which of its temperatures the slower ways are timed at; their cost does not depend on it."""

    what: str
    dataset: str
    student: str
    teacher: str
    image_size: int
    n_test: int
    epochs: int
    augmentation: str
    jobs: int
    timed: tuple[float | None, ...]
    bounds: dict[str, float]

    def suite(self, folder: Path, *, few: bool = False) -> Path:
        """Write the suite of the grid, or a few runs of one epoch with the same data and teacher."""
        keys = self._asdict() | {"temperatures": list(TEMPERATURES), "seeds": SEEDS}
        keys |= {"temperatures": [4.0], "seeds": 1, "epochs": 1} if few else {}
        file = folder / "engine.toml"
        file.write_text(SUITE.format(**keys))
        return file


PERCEPTRONS = Grid(
    what="perceptrons, digits",
    dataset="sklearn/digits",
    student="mlp-64",
    teacher="mlp-256-128",
    image_size=8,
    n_test=397,
    epochs=40,
    augmentation="none",
    jobs=2,
    timed=(None, *TEMPERATURES),
    bounds={"usual": 10, "tidy": 5},
)
CNNS = Grid(
    what="CNNs",
    dataset="fashion-mnist",
    student="cnn-8",
    teacher="cnn-12",
    image_size=16,
    n_test=5000,
    epochs=15,
    augmentation="none",
    jobs=2,
    timed=(None, 2.0, 8.0),
    bounds={"usual": 3},
)
GRIDS = (
    PERCEPTRONS,
    PERCEPTRONS._replace(what="perceptrons, Fashion-MNIST", dataset="fashion-mnist", image_size=14, n_test=5000),
    CNNS,
    CNNS._replace(what="CNNs, augmented", augmentation="standard"),
)


class Row(NamedTuple):
    """One way to train one grid. `seconds` are of the whole grid; `difference` is of the mean accuracy, in points."""

    grid: str
    way: str
    seconds: float
    times_slower: float
    bound: float | None
    test_accuracy: float
    difference: float
    difference_error: float
    detail: str

    @property
    def holds(self) -> bool:
        """Whether the engine is as much faster as it must be."""
        return self.bound is None or self.times_slower >= self.bound


class Images(Dataset[tuple[Tensor, int, int]]):
    """Training images with labels and their numbers, transformed one by one as torchvision's tutorials do."""

    def __init__(self, images: Tensor, labels: Tensor, augmentation: str) -> None:
        from torchvision import transforms
        from torchvision.transforms.functional import to_pil_image

        size = images.shape[2]
        self.images: list[Any] = list(images)
        self.transform: Callable[[Any], Tensor] = lambda image: image
        if augmentation != "none":
            self.images = [to_pil_image(image) for image in images]
            steps = [transforms.RandomCrop(size, padding=size // 8), transforms.RandomHorizontalFlip()]
            self.transform = transforms.Compose([*steps, transforms.ToTensor()])
        self.labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        return self.transform(self.images[i]), self.labels[i], i


def usual(
    curve: Curve, images: Images, teacher: nn.Module | None, table: Tensor, cell: Cell, workers: int
) -> nn.Module:
    """Train a student the way it is usually written; without a teacher, its logits are looked up in `table`."""
    (temperature, seed), setup = cell, curve.setup
    assert setup.batch_size is not None
    assert setup.lr is not None
    assert setup.kd_weight is not None
    assert setup.epochs is not None
    shape = samples_of(curve).train[0].shape
    student = build(str(setup.student), image_shape=(shape[1], shape[2], shape[3]), n_classes=10, seed=seed)
    torch.manual_seed(seed)
    loader = DataLoader(
        images, setup.batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    optimizer = torch.optim.SGD(
        student.parameters(), setup.lr, momentum=0.9, weight_decay=setup.weight_decay or 0, nesterov=True
    )
    steps = itertools.count()
    for _ in range(setup.epochs):
        for inputs, labels, rows in loader:
            optimizer.param_groups[0]["lr"] = learning_rate(next(steps), len(loader) * setup.epochs, setup)
            logits = student(inputs)
            loss = cross_entropy(logits, labels)
            if temperature is not None:
                with torch.no_grad():
                    asked = table[rows] if teacher is None else teacher(inputs)
                soft = softmax(asked / temperature, 1)
                kl = kl_div(log_softmax(logits / temperature, 1), soft, reduction="batchmean")
                loss = (1 - setup.kd_weight) * loss + setup.kd_weight * temperature**2 * kl
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return student.eval()


def tidy(curve: Curve, cell: Cell) -> nn.Module:
    """Train a student over tensors and cached logits: the loop of `distill.train` as one writes it, with autograd."""
    (temperature, seed), setup = cell, curve.setup
    student, views = student_of(curve, samples_of(curve), seed), views_of(curve)[0]
    assert views.teacher_logits is not None
    optimizer = make_optimizer(list(student.parameters()), setup)
    order = batches(views.images.shape[1], setup.batch_size or 1, setup.epochs or 1, seed)
    per_epoch = len(order) // (setup.epochs or 1)
    for step, rows in enumerate(order):
        view = (step // per_epoch + seed) % len(views.images)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(order), setup)
        logits, targets = student(views.images[view, rows]), views.targets[view, rows]
        if temperature is None:
            loss = cross_entropy(logits, targets)
        else:
            loss = kd_loss(logits, views.teacher_logits[view, rows], targets, temperature, setup.loss_contract())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return student.eval()


def best(ways: list[Way]) -> Way:
    """Return the fastest of some ways at one student, after a first one."""
    seconds = {}
    for name, threads, call in ways:
        torch.set_num_threads(threads)
        call((4.0, 0))
        began = time.perf_counter()
        call((4.0, 1))
        seconds[name] = time.perf_counter() - began
    return min(ways, key=lambda way: seconds[way[0]])


def whole(call: Callable[[Cell], float], grid: Grid) -> tuple[float, dict[Cell, float]]:
    """Return the seconds of the whole grid, extrapolated from the cells that are timed, and their accuracies."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    accuracy = {}
    for cell in itertools.product(grid.timed, range(SEEDS)):
        began = time.perf_counter()
        accuracy[cell] = call(cell)
        seconds[cell[0] is None].append(time.perf_counter() - began)
    return SEEDS * (len(TEMPERATURES) * float(np.mean(seconds[False])) + float(np.mean(seconds[True]))), accuracy


def engine(grid: Grid, folder: Path) -> tuple[float, dict[Cell, float]]:
    """Return the seconds of the whole suite, the teacher's logits included, and the accuracies of its cells."""
    run_suite(grid.suite(folder, few=True), folder / f"{grid.what}-few.csv", jobs=grid.jobs)
    for file in folder.glob("logits-*"):
        file.unlink()
    out = folder / f"{grid.what}.csv"
    began = time.perf_counter()
    run_suite(grid.suite(folder), out, jobs=grid.jobs)
    seconds = time.perf_counter() - began
    return seconds, {(run.temperature, run.seed or 0): run.test_accuracy or 0.0 for run in read_runs(out)}


def measure(grid: Grid, folder: Path) -> list[Row]:
    """Train a grid in all ways."""
    (folder := folder / grid.what).mkdir()
    os.environ["TEMPADVISOR_CACHE"] = str(folder)
    fast, reached = engine(grid, folder)
    (curve,) = read_suite(grid.suite(folder)).curves
    samples, views = samples_of(curve), views_of(curve)[0]
    shape = tuple(samples.train[0].shape[1:])
    teacher = build(grid.teacher, image_shape=(shape[0], shape[1], shape[2]), n_classes=10, seed=0)
    (weights,) = folder.glob("teacher-*")
    teacher.load_state_dict(load_file(weights))
    teacher.eval()
    assert views.teacher_logits is not None
    images, table = Images(*samples.train, grid.augmentation), views.teacher_logits[0]

    @torch.no_grad()
    def score(student: nn.Module) -> float:
        return float((student(samples.test[0]).argmax(1) == samples.test[1]).double().mean())

    def loader(asked: nn.Module | None, workers: int) -> Callable[[Cell], float]:
        return lambda cell: score(usual(curve, images, asked, table, cell, workers))

    options = list(itertools.product((1, 2), (0, 2)))
    ways: dict[str, list[Way]] = {
        "usual": [(f"{n} threads, {w} workers", n, loader(teacher, w)) for n, w in options],
        "lookup": [(f"{n} threads, {w} workers", n, loader(None, w)) for n, w in options],
        "tidy": [(f"{n} threads", n, lambda cell: score(tidy(curve, cell))) for n in (1, 2)],
    }
    student = build(grid.student, image_shape=(shape[0], shape[1], shape[2]), n_classes=10, seed=0)
    cost = forward_cost(teacher, student, samples.train[0])
    about = f"teacher {cost:.1f} times the student's cost; " if "mlp" not in grid.student else ""
    rows = []
    for way, choices in ways.items():
        name, threads, call = best(choices)
        torch.set_num_threads(threads)
        seconds, accuracy = whole(call, grid)
        gaps = np.array([[accuracy[t, s] - reached[t, s] for t in grid.timed] for s in range(SEEDS)]).mean(1)
        detail = f"{name.replace('1 threads', '1 thread')}; {about}{len(accuracy)} of 55 students timed"
        mean, error = 100 * gaps.mean(), 100 * gaps.std(ddof=1) / SEEDS**0.5
        average = float(np.mean(list(accuracy.values())))
        rows.append(Row(grid.what, way, seconds, seconds / fast, grid.bounds.get(way), average, mean, error, detail))
    mine = float(np.mean([reached[t, s] for t in grid.timed for s in range(SEEDS)]))
    where = f"--jobs {grid.jobs}"
    return [*rows, Row(grid.what, "engine", fast, 1.0, None, mine, 0.0, 0.0, where)]


@torch.no_grad()
def forward_cost(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    """Return how much longer the teacher takes than the student to answer, one thread."""
    torch.set_num_threads(1)
    spent = {}
    for model in (teacher, student.eval()):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            model(images)
            times.append(time.perf_counter() - began)
        spent[model] = min(times)
    return spent[teacher] / spent[student]


def shares(rows: list[Row]) -> str:
    """Say how much of the speed is caching and how much is code, as factors that multiply to the whole."""
    lines = []
    for what in dict.fromkeys(row.grid for row in rows):
        seconds = {row.way: row.seconds for row in rows if row.grid == what}
        steps = (("usual", "lookup", "caching"), ("lookup", "tidy", "tensors"), ("tidy", "engine", "engine"))
        factors = " x ".join(f"{name} {seconds[a] / seconds[b]:.1f}" for a, b, name in steps)
        lines.append(f"{what}: {factors} = {seconds['usual'] / seconds['engine']:.1f} times faster")
    return "\n".join(lines)


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| grid | way | seconds | engine is faster | must be | holds | mean test accuracy | detail |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        bound, holds = (f"{row.bound:g} x", "yes" if row.holds else "NO") if row.bound else ("", "")
        gap = f" ({row.difference:+.2f} ± {row.difference_error:.2f} points)" if row.way != "engine" else ""
        lines.append(
            f"| {row.grid} | {row.way} | {row.seconds:.1f} | {row.times_slower:.1f} x | {bound} | {holds} "
            f"| {row.test_accuracy:.2%}{gap} | {row.detail} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure every grid and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for grid in GRIDS for row in measure(grid, Path(folder))]
    if arguments.json:
        print(json.dumps([row._asdict() | {"holds": row.holds} for row in rows], indent=2))
    else:
        print(f"{table(rows)}\n\n{shares(rows)}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
