"""Confirm a recommended temperature by a short search that really trains students.

Which training comes next and what may be claimed is decided in `search.py`, and who does it in `study.py`; here it is
done. A student is the same whoever trains it, so nothing is lost where one is trained twice.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.case import Case, Task
from tempadvisor.errors import InputError
from tempadvisor.evidence import profiles_path, write_profiles
from tempadvisor.exhibits import Reservoir
from tempadvisor.material import profiled
from tempadvisor.plans import REFERENCES, Prepared, prepared, reserved
from tempadvisor.progress import Progress
from tempadvisor.records import as_dict
from tempadvisor.response import Response
from tempadvisor.runs import write_runs
from tempadvisor.search import Search, posterior, propose, verdict
from tempadvisor.students import accuracy, forget, student, threads, workers
from tempadvisor.study import (
    DivergedError,
    enqueue,
    given_up,
    load_study,
    open_study,
    public,
    reachable,
    resumable,
    take,
    trials_of,
)
from tempadvisor.temperatures import written
from tempadvisor.verification import Cost, Training, Trial, Verification, cells_of, read_search, read_test

if TYPE_CHECKING:
    from optuna import Study

PATIENCE = 10  # times the longest training that another machine's is waited for
LEAST_PATIENCE = 600.0  # seconds


def verify(
    task: Task,
    *,
    budget: str | None = None,
    storage: str | None = None,
    jobs: int = 1,
    resume: bool = False,
    out: Path | None = None,
    report: Progress | None = None,
    reservoir: Reservoir | None = None,
) -> Verification:
    """Recommend a temperature for a task and confirm or contradict it by training students.

    Args:
        task: teacher, data, and setup; the temperature is chosen on the validation split.
        budget: trainings at most, as "10"; or what they may take in all, as "600 epochs" or "30 minutes". 10 unless
            given, or that of the study that is resumed.
        storage: where the study is kept: a file, `journal:///FILE`, or the URL of a database that Optuna knows; a
            journal in the cache folder unless given.
        jobs: processes on this machine.
        resume: go on with the study that `storage` has of this task, whatever its budget was.
        out: file for all runs, as `knowledge add` takes them; the teacher's profile goes beside it.
        report: called with the trainings done, the budget, and what is believed by now.
        reservoir: sees the teacher's logits of what the students see, to show some of them.

    Raises:
        UsageError: the setup cannot be trained, the budget is none, or the study exists or not against `resume`.
        InputError: data, teacher or storage cannot be had, or a student does not fit the memory.
    """
    case, ahead = prepared(task, "10" if budget is None else budget, storage, jobs)
    study = open_study(
        ahead.study,
        ahead.storage,
        resume=resume,
        attributes={
            "task": task.to_json(),
            "hash": case.hash,
            "logits": _shown(case),
            "n_val": case.n_val,
            "budget": ahead.budget,
            "asked": ahead.asked,
            "recommended": ahead.advice.temperature,
            "temperatures": ahead.temperatures,
            "prior": ahead.prior.gain.tolist(),
            "recommendation": as_dict(ahead.advice),
        },
    )
    with reachable(ahead.storage), resumable():
        _check_same(study, case)
        if budget is not None and ahead.asked != study.user_attrs["asked"]:
            study.set_user_attr("budget", ahead.budget)
            study.set_user_attr("asked", ahead.asked)
        with workers(ahead.study, ahead.storage, jobs), threads(case, jobs):
            _work(study, case, report)
        found = _concluded(study, case, ahead)
    if reservoir is not None:
        kind, stated = case.setup.augmentation or "none", task.class_map is not None
        profiled(case.material.views, kind, task.teacher, reservoir, stated=stated)
        reservoir.class_names = case.material.samples.class_names
    if out is not None:
        write_runs(out, case.runs(found.trials, study=ahead.study))
        write_profiles(profiles_path(out), {case.curve.name: case.profile})
    return found


def join(study: str, storage: str, report: Progress | None = None) -> int:
    """Work on a study that another process has begun, until nothing is left to train.

    Args:
        study: its name.
        storage: where it is kept, as `verify` was told.
        report: called as by `verify`.

    Returns:
        How many students were trained here.

    Raises:
        InputError: there is no such study, or data or teacher are not the same here.
    """
    found = load_study(study, storage)
    task = Task.from_json(found.user_attrs["task"])
    case = task.case()
    with reachable(storage), threads(case, 1):
        _check_same(found, case)
        return _work(found, case, report)


def _shown(case: Case) -> list[float]:
    """Return the teacher's logits of the first training sample, which tell a teacher whose code has changed."""
    assert case.material.views.teacher_logits is not None
    first: list[float] = case.material.views.teacher_logits[0, 0].tolist()
    return first


def _check_same(study: Study, case: Case) -> None:
    """See that a study that has begun is of this case; other processors round logits a little differently."""
    before, now = np.array(study.user_attrs["logits"]), np.array(_shown(case))
    if case.hash != study.user_attrs["hash"] or not np.allclose(now, before, rtol=0, atol=0.02 * np.ptp(before)):
        raise InputError(
            f"data, teacher and setup of {study.study_name} must be the same as where it began. They are not. "
            "Compare the files, or name another --storage.",
            code="other_material",
        )


# The work.


def _search(study: Study, ended: list[Trial], guess: float) -> Search:
    """Return the search as it stands after the trainings that ended."""
    said = study.user_attrs
    temperatures = tuple(said["temperatures"])
    return Search(
        prior=Response(np.array(temperatures), np.array(said["prior"])),
        recommended=said["recommended"],
        temperatures=temperatures,
        n_val=said["n_val"],
        budget=said["budget"] - reserved(said["budget"]),
        cells=cells_of(ended, guess),
    )


def _next(
    search: Search, ended: list[Trial], pending: frozenset[Training], budget: int, lost: list[Training]
) -> Training | None:
    """Return the next training: the search's, and once that is over the references', as far as the budget goes.

    As long as the search goes on, what dead workers had begun (`lost`) goes before what would be proposed.
    """
    searched = [(t, seed) for t, seed in pending if t is not None]
    cell = propose(search, searched)
    if cell is not None:
        return next((one for one in lost if one[0] is not None), cell)
    if searched:
        return cell
    if len(ended) + len(pending) >= budget:
        return None
    usual = min(search.temperatures, key=lambda t: abs(math.log2(t / 4)))
    seeds = range(min(REFERENCES, search.seeds(search.recommended)))
    wanted: list[Training] = [(t, seed) for t in (None, usual) for seed in seeds]
    known = {*((one.temperature, one.seed) for one in ended), *pending}
    return next((one for one in wanted if one not in known), None)


def _work(study: Study, case: Case, report: Progress | None) -> int:
    """Train what is proposed until nothing is, and return how many students this process trained."""
    guess, count, longest = 1 / case.material.samples.n_classes, 0, 0.1
    temperatures = study.user_attrs["temperatures"]
    since = time.monotonic()
    while True:
        ended, pending, waiting = trials_of(study)
        if not waiting:
            search, budget = _search(study, ended, guess), study.user_attrs["budget"]
            if report is not None:
                report(len(ended), budget, _said(search))
            training = _next(search, ended, pending, budget, given_up(study))
            if training is None and (
                not pending or time.monotonic() - since > max(PATIENCE * longest, LEAST_PATIENCE)
            ):
                return count
            if training is None:
                time.sleep(min(longest, 1.0))
                continue
            enqueue(study, training)
        began = time.monotonic()
        count += take(study, lambda training: _validated(case, training), (temperatures[0], temperatures[-1]))
        since = time.monotonic()
        longest = max(longest, since - began)


def _validated(case: Case, training: Training) -> float:
    """Train, and return the accuracy on the validation split."""
    reached = accuracy(student(case, training), *case.material.samples.val)
    if reached is None:
        raise DivergedError("diverged: the logits are not finite")
    return reached


def _said(search: Search) -> str:
    """Say in a few words what is believed by now."""
    if all(temperature == search.recommended for temperature, _ in search.cells):
        return f"T={written(search.recommended)} first"
    found = verdict(search, posterior(search))
    low, high = (100 * end for end in found.ci95)
    return (
        f"{found.claim.replace('_', ' ')}: T={written(found.temperature)}; "
        f"T={written(found.rival)} is {low:+.2f} to {high:+.2f} pp of T={written(search.recommended)}"
    )


# The end.


def _concluded(study: Study, case: Case, ahead: Prepared) -> Verification:
    """Read the search, and once the test split."""
    ended = trials_of(study)[0]
    if all(one.val_accuracy is None for one in ended):
        raise InputError(
            f"students must train to finite logits. None of {len(ended)} did. Lower --lr.", code="diverged"
        )
    search = _search(study, ended, 1 / case.material.samples.n_classes)
    fields, curve = read_search(search)
    tested = _tested(study, case, ended, {fields["temperature"], search.recommended, 4.0, None})
    ended = [dataclasses.replace(one, test_accuracy=tested.get((one.temperature, one.seed))) for one in ended]
    return Verification(
        **fields,
        curve=curve,
        trials=tuple(sorted(ended, key=lambda one: (one.temperature or 0.0, one.seed))),
        cost=Cost(
            trainings=len(ended),
            budget=study.user_attrs["budget"],
            epochs_each=case.curve.setup.epochs or 1,
            student_epochs=len(ended) * (case.curve.setup.epochs or 1),
            seconds=round(sum(one.seconds or 0.0 for one in ended), 2),
        ),
        test=read_test(tested, fields["temperature"], search.recommended, len(case.material.samples.test[1])),
        loss_contract=case.setup.loss_contract(),
        study=ahead.study,
        storage=public(ahead.storage),
        recommendation=ahead.advice,
        setup=case.setup,
    )


def _tested(
    study: Study, case: Case, ended: list[Trial], temperatures: Collection[float | None]
) -> dict[Training, float]:
    """Return test accuracies at `temperatures`, each read once and kept in the study; students are forgotten then."""
    known = {(t, int(seed)): float(value) for t, seed, value in study.user_attrs.get("test", [])}
    cells: list[Training] = [(one.temperature, one.seed) for one in ended]
    wanted = [cell for cell in cells if cell[0] in temperatures]
    unread = [cell for cell in wanted if cell not in known]
    if unread:
        guess = 1 / case.material.samples.n_classes
        read = [accuracy(student(case, cell), *case.material.samples.test) for cell in unread]
        known |= {cell: guess if a is None else a for cell, a in zip(unread, read, strict=True)}
        study.set_user_attr("test", [[*cell, value] for cell, value in known.items()])
    for cell in cells:
        forget(case, cell)
    return {cell: known[cell] for cell in wanted}
