"""What a verification will do at most: its budget in trainings, its temperatures, and what is believed beforehand.

Nothing is trained for good or written here; `verify.py` does that.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from tempadvisor.advise import recommend
from tempadvisor.belief import knowledge_in_use, respond
from tempadvisor.case import Case, Task
from tempadvisor.errors import UsageError
from tempadvisor.pace import step_seconds
from tempadvisor.records import Recommendation
from tempadvisor.resources import cache_folder
from tempadvisor.response import Response
from tempadvisor.rules import load_rules
from tempadvisor.search import ladder
from tempadvisor.study import public

LEAST_BUDGET, MOST_BUDGET = 2, 10_000  # trainings
REFERENCES = 2  # seeds of students without KD, and at T=4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a verification would do at most; `minutes` are extrapolated from a few steps of a student.

    `references` of the trainings are kept for students without KD and at T=4.
    """

    study: str
    storage: str
    recommended: float
    temperatures: tuple[float, ...]
    trainings: int
    references: int
    epochs: int
    n_train: int
    n_val: int
    n_test: int
    minutes: float


def plan(task: Task, *, budget: str = "10", storage: str | None = None, jobs: int = 1) -> Plan:
    """Return what `verify` would do with the same arguments; nothing is trained or written."""
    case, ahead = prepared(task, budget, storage, jobs)
    epochs, held = case.curve.setup.epochs or 1, case.curve.bench
    return Plan(
        study=ahead.study,
        storage=public(ahead.storage),
        recommended=ahead.advice.temperature,
        temperatures=ahead.temperatures,
        trainings=ahead.budget,
        references=reserved(ahead.budget),
        epochs=epochs * ahead.budget,
        n_train=case.setup.n_train or 0,
        n_val=held.n_val or 0,
        n_test=held.n_test or 0,
        minutes=ahead.budget * _seconds(case) / 60 / jobs,
    )


class Prepared(NamedTuple):
    """A verification before its first training."""

    advice: Recommendation
    prior: Response
    temperatures: tuple[float, ...]
    budget: int
    asked: str
    study: str
    storage: str


def prepared(task: Task, budget: str, storage: str | None, jobs: int) -> tuple[Case, Prepared]:
    """Return the case of a task, and its verification before the first training.

    Args:
        task: teacher, data, and setup.
        budget: as `read_budget` takes it.
        storage: where the study is kept; a journal in the cache folder unless given.
        jobs: processes on this machine.

    Raises:
        UsageError: the setup cannot be trained, or `jobs` or the budget is too small.
        InputError: data or teacher cannot be had.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1. Got {jobs}.", code="bad_jobs")
    amount, unit = read_budget(budget)
    case = task.case()
    knowledge = knowledge_in_use(load_rules())
    advice = recommend(case.profile, case.setup)
    response = respond(case.profile, case.setup, case.setup.loss_contract(), knowledge)[2]
    temperatures = ladder(advice.temperature)
    gain = np.stack([response.at(t) for t in temperatures], axis=1).round(6)
    trainings = amount
    if unit == "epochs":
        trainings = amount / (case.curve.setup.epochs or 1)
    elif unit == "minutes":
        trainings = 60 * amount * jobs / _seconds(case)
    if trainings < LEAST_BUDGET:
        raise UsageError(
            f"budget must allow for at least {LEAST_BUDGET} trainings, to compare two temperatures. Got {budget}"
            f"{'' if unit == 'trials' else f', which is {trainings:.2g}'}.",
            code="bad_budget",
        )
    number = int(min(trainings, MOST_BUDGET))
    asked = f"{amount:g} {unit}"
    name = f"verify-{case.hash}-{advice.temperature:g}"
    where = storage or f"journal:///{cache_folder() / name}.journal"
    return case, Prepared(advice, Response(np.array(temperatures), gain), temperatures, number, asked, name, where)


def reserved(budget: int) -> int:
    """Return how many trainings of a budget are kept for references.

    >>> reserved(2), reserved(10), reserved(40)
    (0, 2, 4)
    """
    return min(2 * REFERENCES, budget // 5)


def read_budget(text: str) -> tuple[float, str]:
    """Return amount and unit of a budget: trials (trainings), epochs or minutes.

    Raises:
        UsageError: it is none.

    >>> read_budget("10"), read_budget("600epochs"), read_budget("2.5 minutes")
    ((10.0, 'trials'), (600.0, 'epochs'), (2.5, 'minutes'))
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip()[len(number) :].strip() or "trials"
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    units = [whole for whole in ("trials", "epochs", "minutes") if whole.startswith(unit)]
    if not math.isfinite(amount) or amount <= 0 or len(units) != 1:
        raise UsageError(
            f"budget must be a number of trials, epochs or minutes, such as '10', '600epochs' or '30minutes'. "
            f"Got {text[:60]!r}.",
            code="bad_budget",
        )
    return amount, units[0]


def _seconds(case: Case) -> float:
    """Extrapolate the seconds of one training from a few steps."""
    setup, samples = case.curve.setup, case.material.samples
    steps = (setup.epochs or 1) * max(1, (setup.n_train or 1) // (setup.batch_size or 1))
    return steps * step_seconds(
        dataclasses.replace(setup, epochs=1, n_train=None, lr=1e-3, schedule="constant", label_noise=None),
        tuple(samples.train[0].shape[1:]),
        samples.n_classes,
        (4.0,),
        1,
    )
