"""Train the student of a case at a temperature and a seed, keep it until it is no longer needed, and score it.

How many processes and threads of this machine do so is decided here, too; which student is next is not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tempadvisor.batched import linear_layers
from tempadvisor.case import Case
from tempadvisor.distill import train
from tempadvisor.errors import InputError
from tempadvisor.material import cached, start_of, student_of
from tempadvisor.resources import cache_folder
from tempadvisor.verification import Training

FAILED = 2  # exit code of a worker that could not work


def student(case: Case, training: Training) -> nn.Module:
    """Return the student of a temperature and a seed, trained here or before: the same whoever asks.

    Raises:
        InputError: it does not fit the memory.
    """
    temperature, seed = training
    samples, views, _ = case.material
    try:
        module = start_of(case.curve, samples, views, seed)

        def trained() -> dict[str, Tensor]:
            train(module, views, case.curve.setup, temperature, seed=seed)
            return dict(module.state_dict())

        module.load_state_dict(cached(_key(case, temperature, seed), trained))
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "memory" not in str(error):
            raise
        size, lr = case.curve.setup.batch_size or 2, case.curve.setup.lr or 0.0
        root = 1.0 if case.curve.setup.optimizer == "sgd" else 0.5
        raise InputError(
            f"a student and its batch of {size} must fit the memory. They do not. Verify and train with half of it: "
            f"--batch-size {max(1, size // 2)} --lr {lr / 2**root:.3g}.",
            code="out_of_memory",
        ) from None
    return module.eval()


def _key(case: Case, temperature: float | None, seed: int) -> str:
    return f"student-{case.key}-{temperature}-{seed}"


@torch.no_grad()
def accuracy(student: nn.Module, images: Tensor, labels: Tensor) -> float | None:
    """Return the accuracy of a student; None where its logits are not finite."""
    logits = torch.cat([student(batch) for batch in torch.split(images, 500)])
    if not logits.isfinite().all():
        return None
    return float((logits.argmax(1) == labels).double().mean())


@contextlib.contextmanager
def threads(case: Case, jobs: int) -> Iterator[None]:
    """Train with this process's share of the threads; a perceptron is too small for more than one."""
    before = torch.get_num_threads()
    small = linear_layers(student_of(case.curve, case.material.samples, seed=0)) is not None
    torch.set_num_threads(1 if small else max(1, before // jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def workers(study: str, storage: str, jobs: int) -> Iterator[None]:
    """Let `jobs` - 1 more processes join a study, one to a GPU where there are any; say at the end why one failed."""
    devices = torch.cuda.device_count()
    words = [sys.executable, "-m", "tempadvisor", "verify", "--join", study, "--storage", storage]
    started = []
    with contextlib.ExitStack() as files:
        try:
            for number in range(1, jobs):
                where = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // jobs))}
                if devices:
                    where["CUDA_VISIBLE_DEVICES"] = str(number % devices)
                said = files.enter_context(tempfile.TemporaryFile())
                # in a session of its own: Ctrl-C is told to this process, which stops the others
                worker = subprocess.Popen(
                    words, env={**os.environ, **where}, stdout=said, stderr=said, start_new_session=True
                )
                started.append((worker, said))
            yield
        finally:
            for worker, _ in started:
                worker.terminate()
            for worker, said in started:
                if worker.wait() == FAILED:
                    said.seek(0)
                    print(said.read().decode(errors="replace").strip().split("\n")[-1], file=sys.stderr)


def forget(case: Case, training: Training) -> None:
    """Delete the student that is kept."""
    (cache_folder() / f"{_key(case, *training)}.safetensors").unlink(missing_ok=True)
