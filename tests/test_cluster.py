"""A Dask cluster: two real workers that need no data, what is sent once, a worker killed, nobody there."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tempadvisor import bench, material
from tempadvisor.bench import run_suite
from tempadvisor.cli import app
from tempadvisor.errors import UsageError
from tempadvisor.runs import Run, read_runs

distributed = pytest.importorskip("distributed")

SUITE = """
name = "small"
temperatures = [1, 4]
seeds = 4
[teachers.t]
model = "mlp-16"
epochs = 3
[[design]]
dataset = "{data}"
teacher = "t"
optimizer = "sgd"
lr = 0.05
epochs = 4
batch_size = 32
n_train = 300
n_val = 50
n_test = 60
kd_weight = 0.9
[design.axes]
student = ["cnn-2", "mlp-8"]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    for function in (material.views_of, material.samples_of, material._data):
        function.cache_clear()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Any]:
    """Two single-threaded worker processes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    ) as local:
        yield local


def timeless(file: Path) -> list[Run]:
    return [dataclasses.replace(run, time=None, train_seconds=None) for run in read_runs(file)]


def suite(folder: Path) -> Path:
    data, file = folder / "data.npz", folder / "small.toml"
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 4
    images = rng.integers(0, 100, (500, 8, 8), np.uint8) + (50 * labels[:, None, None] * np.eye(8)).astype(np.uint8)
    np.savez(data, images=images, labels=labels)
    file.write_text(SUITE.replace("{data}", str(data)))
    return file


@pytest.mark.slow
def test_rows_from_a_cluster_are_those_of_one_process_though_a_worker_is_killed_on_the_way(
    tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, sent = tmp_path / "here.csv", tmp_path / "there.csv", []

    class Counted(bench.Material):
        def __reduce__(self) -> tuple[Any, ...]:
            sent.append(os.getpid())
            return bench.Material, tuple(self)

    def counted(curve: Any) -> Any:
        return Counted(*material.material_of(curve))

    killed = []

    def kill(done: int, _todo: int) -> None:
        if done >= 3 and not killed:
            killed.append(next(iter(workers.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    file = suite(tmp_path)
    run_suite(file, here)
    (tmp_path / "data.npz").unlink()  # this process has read it, and the workers must not need it
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(bench, "material_of", counted)
    plan = run_suite(file, there, scheduler=workers.scheduler_address, progress=kill)
    assert killed
    assert len(read_runs(there)) == plan.n_todo == 24
    assert timeless(there) == timeless(here)
    assert sent == [os.getpid()] * 2  # once a curve, 12 students each


@pytest.mark.slow
def test_one_core_that_is_left_is_enough(tmp_path: Path) -> None:
    file, here, there = suite(tmp_path), tmp_path / "here.csv", tmp_path / "there.csv"
    run_suite(file, here)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    ) as local:
        run_suite(file, there, scheduler=local.scheduler_address)
    assert timeless(there) == timeless(here)


def test_a_scheduler_that_does_not_answer_ends_in_one_line_within_seconds(tmp_path, monkeypatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr(bench, "run_job", None)
    began = time.monotonic()
    command = ["bench", str(suite(tmp_path)), "-o", str(tmp_path / "runs.csv"), "--backend", "dask"]
    with pytest.raises(UsageError, match=f"{address} does not answer") as caught:
        CliRunner().invoke(app, [*command, "--scheduler", address], catch_exceptions=False)
    assert time.monotonic() - began < 15
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize("words", [["--backend", "dask"], ["--scheduler", "tcp://a:1"], ["--backend", "ray"]])
def test_a_backend_and_its_scheduler_come_together(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UsageError, match="--backend"):
        CliRunner().invoke(app, ["bench", str(suite(tmp_path)), *words], catch_exceptions=False)
