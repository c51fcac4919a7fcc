"""How long students take: a few steps of them, timed in one thread, as they are trained side by side."""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Iterator

import torch

from tempadvisor.batched import linear_layers, train_batched
from tempadvisor.distill import Views, train
from tempadvisor.material import channels_last, device
from tempadvisor.models import build
from tempadvisor.records import TrainingSetup


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def step_seconds(
    setup: TrainingSetup, shape: tuple[int, ...], n_classes: int, temperatures: tuple[float | None, ...], n_seeds: int
) -> float:
    """Return the seconds that a step takes of students of a setup on samples of a shape, all in one batch."""
    size = setup.batch_size or 128
    n, image_shape = 4 * size, (shape[0], shape[1], shape[2])
    views = Views(
        images=torch.rand(1, n, *shape).to(device()),
        targets=(torch.ones(1, n, n_classes) / n_classes).to(device()),
        teacher_logits=torch.zeros(1, n, n_classes).to(device()),
    )
    start = channels_last(build(str(setup.student), image_shape=image_shape, n_classes=n_classes, seed=0))
    start.to(device())
    starts = [copy.deepcopy(start) for _ in range(n_seeds)]
    with one_thread():
        for _ in range(2):  # the first time pays for what torch loads late
            began = time.perf_counter()
            if linear_layers(starts[0]) is not None and not setup.standardized:
                train_batched(starts, views, setup, temperatures, range(n_seeds))
            else:
                train(starts[0], views, setup, temperatures[0], seed=0)
            if device().type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
    return seconds / 4
