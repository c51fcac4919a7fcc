"""Run `verify` for real on five fresh setups, beside a grid, Optuna's TPE and a random search, and time all of them.

    python benchmarks/fresh.py

The setups are those of `suites/fresh.toml`, on which nothing was tuned. Every student is trained here, one by one, in
one thread, on the same engine. What a temperature loses is judged by `fresh.csv`: test accuracy of 20 students a
temperature, of which those whose seeds are used here (0 to 9) are left out. TPE has a live teacher, as people run it:
each epoch of a student costs a pass of the teacher over the training data too.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import optuna
import torch
from torch import nn

from tempadvisor.case import Case, declared
from tempadvisor.curves import LOG_T, TEMPERATURES, Curve, read_curves, regrets
from tempadvisor.material import forward, teacher_of
from tempadvisor.students import accuracy, forget, student
from tempadvisor.suites import Curve as Declared
from tempadvisor.suites import read_suite
from tempadvisor.verify import verify

HERE = Path(__file__).resolve().parent
BUDGETS = (3, 10, 30)
FIRST_UNUSED = 10


@dataclasses.dataclass(frozen=True)
class SuiteTask:
    """A curve of a suite as something to verify."""

    curve: Declared

    def case(self) -> Case:
        """Return what is trained."""
        return declared(self.curve)

    def to_json(self) -> dict[str, Any]:
        """Return its name."""
        return {"curve": self.curve.name}


class Outcome(NamedTuple):
    """What a way of choosing took and chose."""

    temperature: float
    trainings: int
    seconds: float
    claim: str = ""


def verified(curve: Declared, budget: int) -> Outcome:
    """Run `verify` as a user does, the recommendation included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        task: Any = SuiteTask(curve)
        found = verify(task, budget=str(budget), storage=f"journal:///{folder}/study.journal")
        seconds = time.perf_counter() - began
    return Outcome(found.temperature, found.cost.trainings, seconds, found.verdict)


def grid(case: Case, seeds: int) -> Outcome:
    """Train ten temperatures with so many seeds, and take the best mean on the validation split."""
    began = time.perf_counter()
    reached = [[_trained(case, t, seed) for seed in range(seeds)] for t in TEMPERATURES]
    best = TEMPERATURES[int(np.argmax(np.mean(reached, axis=1)))]
    return Outcome(best, seeds * len(TEMPERATURES), time.perf_counter() - began)


def sampled(case: Case, sampler: optuna.samplers.BaseSampler, budget: int, teacher: nn.Module | None) -> Outcome:
    """Let an Optuna sampler choose, with one seed; a live teacher is run on every image that a student sees."""
    images, epochs = case.material.views.images, case.curve.setup.epochs or 1

    def objective(trial: optuna.Trial) -> float:
        temperature = trial.suggest_float("temperature", 1, TEMPERATURES[-1], log=True)
        if teacher is not None:
            for epoch in range(epochs):
                forward(teacher, images[epoch % len(images)])
        return _trained(case, temperature, 0)

    began = time.perf_counter()
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=budget)
    return Outcome(float(study.best_params["temperature"]), budget, time.perf_counter() - began)


def _trained(case: Case, temperature: float, seed: int) -> float:
    forget(case, (temperature, seed))  # so that it is trained, and timed, anew
    return accuracy(student(case, (temperature, seed)), *case.material.samples.val) or 0.0


def ways(curve: Declared) -> Iterator[tuple[str, int, Outcome]]:
    """Yield each way of choosing, its budget and what came of it."""
    case = declared(curve)
    teacher = teacher_of(curve, case.material.samples)[0]
    for budget in BUDGETS:
        yield "verify", budget, verified(curve, budget)
        seed = 1000 + budget
        tpe, at_random = optuna.samplers.TPESampler(seed=seed), optuna.samplers.RandomSampler(seed=seed)
        yield "TPE, live teacher", budget, sampled(case, tpe, budget, teacher)
        yield "random search", budget, sampled(case, at_random, budget, None)
        if budget >= len(TEMPERATURES):
            yield "grid", budget, grid(case, budget // len(TEMPERATURES))


def main() -> int:
    """Run and print."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    truth: dict[str, Curve] = {str(one.run.curve): one for one in read_curves([HERE / "fresh.csv"])[0]}
    print("| setup | trainings allowed | way | T | claim | trainings | student epochs | seconds | loses, pp |")
    print("|---|---|---|---|---|---|---|---|---|")
    lost: dict[tuple[str, int], list[float]] = {}
    for curve in read_suite(HERE / "suites" / "fresh.toml").curves:
        measured = truth[curve.name].accuracy[FIRST_UNUSED:]
        regret: npt.NDArray[np.float64] = regrets(measured, np.random.default_rng(0))
        for way, budget, found in ways(curve):
            loses = 100 * float(np.interp(np.log2(found.temperature), LOG_T, regret))
            lost.setdefault((way, budget), []).append(loses)
            epochs = found.trainings * (curve.setup.epochs or 1)
            print(
                f"| {curve.name} | {budget} | {way} | {found.temperature:.3g} | {found.claim} | {found.trainings} "
                f"| {epochs:,} | {found.seconds:.1f} | {loses:+.2f} |",
                flush=True,
            )
    print("\n| way | trainings allowed | mean loss, pp |\n|---|---|---|")
    for (way, budget), values in lost.items():
        print(f"| {way} | {budget} | {np.mean(values):+.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
