"""Which loss contract a user's loss implements, or what is wrong with it: found from its values and gradients.

The loss is fed reference logits of several shapes, in double precision where it can be; `lossfit` finds form,
temperature and coefficients, and how these change with samples, classes and temperature tells reduction and T^2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from tempadvisor.losscall import HARD_WEIGHTS, SOFT_WEIGHTS, Loss, Value, call, load_loss
from tempadvisor.lossfit import Fit, Probe, batches, fit, hard_alone
from tempadvisor.lossprobes import in_double, probe_dtype, probed, rounding
from tempadvisor.lossreading import (
    ZOOM,
    contract_notes,
    hard_problems,
    low_precision,
    possible_t_squared,
    power,
    reading_problems,
    readings,
    rounded,
    t_squared_unknown,
    temperature_problems,
    value_notes,
    value_problems,
    weight_problems,
    wrongs,
)
from tempadvisor.records import LossContract, Notice
from tempadvisor.temperatures import written

TOLERANCE = {torch.float64: 1e-6, torch.float32: 3e-4}
LEAST_ROUNDING = 1e-5  # share of a gradient that rounding may change before it is said
NEAR = 0.02  # share of a gradient, up to which a rounded loss, or another form, is near a contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossCheck:
    """What a loss turned out to be. `verdict` is wrong where there are problems; notes are worth knowing.

    `temperature`, `loss_contract`, `label_smoothing` and `flags`, the same as words for `recommend`, are None where
    the loss is no known contract. Where it cannot be told whether it has T^2, `loss_contract` and `flags` are None,
    and `either` holds the contract with T^2 and the one without; else it is empty. `gradient_error` is the largest
    share of a gradient that the finding leaves unexplained, None where there was no gradient to explain. `nearest` is
    the code of the form that an unknown loss comes nearest to.
    """

    function: str
    called_as: str
    verdict: Literal["known", "wrong"]
    problems: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    temperature: float | None
    loss_contract: LossContract | None
    either: tuple[LossContract, ...]
    label_smoothing: float | None
    flags: str | None
    gradient_error: float | None
    nearest: str | None


def check_loss(
    spec: str,
    *,
    temperature: float | None = None,
    given: Mapping[str, Value] | None = None,
    kd_weight: float | None = None,
    hard_weight: float | None = None,
) -> LossCheck:
    """Say which contract the loss `package.module:name` implements, or what is wrong with it.

    Args:
        spec: see `losscall.load_loss`.
        temperature: what the loss is told, where it takes one.
        given: values of its other parameters.
        kd_weight, hard_weight: what its weights are believed to be; other ones are a problem.

    Raises:
        UsageError: a parameter has no value.
        InputError: the loss cannot be imported, or raises.
    """
    return check(load_loss(spec, temperature=temperature, given=given), kd_weight=kd_weight, hard_weight=hard_weight)


def check(loss: Loss, *, kd_weight: float | None = None, hard_weight: float | None = None) -> LossCheck:
    """Say which contract a loss implements, or what is wrong with it. See `check_loss`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the batches are tiny: threads would only wait for each other
    try:
        share = rounding(loss)
        if not share:
            return _check(loss, kd_weight, hard_weight)
        found = _check(in_double(loss), kd_weight, hard_weight)
    finally:
        torch.set_num_threads(threads)
    error = None if found.gradient_error is None else max(share, found.gradient_error)
    found = dataclasses.replace(found, gradient_error=error)
    if share <= LEAST_ROUNDING:
        return found
    told = low_precision(share)
    if share <= NEAR:
        return dataclasses.replace(found, notes=(told, *found.notes))
    return dataclasses.replace(found, verdict="wrong", problems=(*found.problems, told))


def _check(loss: Loss, kd_weight: float | None, hard_weight: float | None) -> LossCheck:
    dtype = probe_dtype(loss)
    probes = probed(loss, loss.temperature, {}, dtype)
    trouble = _no_fit_possible(loss, probes, dtype)
    if trouble:
        return _finding(loss, problems=[trouble])
    tolerance = TOLERANCE[dtype]
    hints = [t for t in (loss.temperature, 4.0, 1.0) if t]
    found = fit(probes, hints, tolerance=tolerance, labels=loss.takes_labels)
    if found.error > tolerance:
        return _finding(loss, problems=[_unknown(found, probes)], nearest=found)
    soft, hard = readings(found)
    problems = [*wrongs(found), *reading_problems(soft, hard)]
    if soft is None or hard is None or min(soft.value, hard.value) < 0 or wrongs(found):
        return _finding(loss, problems=problems, error=found.error)
    second = _told_another(loss, found, dtype)
    if second is not None and second.error > tolerance:
        return _finding(loss, problems=[_unknown(second, probes, opening="Told another T, the loss")], nearest=second)
    if second is not None and wrongs(second):  # T=1 hides it
        return _finding(loss, problems=wrongs(second), error=second.error)
    if second is not None and second.form is found.form:
        problems += hard_problems(found, second)
    exponent = power(found, second)
    problems += temperature_problems(loss.temperature, found, second, exponent)
    contracts = [
        LossContract(
            kd_weight=rounded(soft.value / (found.temperature**2 if t_squared else 1)),
            hard_weight=rounded(hard.value),
            t_squared=t_squared,
            reduction="mean" if soft.over_classes else "batchmean",
            standardized=found.form.code != "kl",
        )
        for t_squared in possible_t_squared(soft.value, hard.value, found.temperature, exponent)
    ]
    problems += weight_problems(contracts, kd_weight, hard_weight)
    problems += value_problems(probes)
    weighing, notes = _weighing(loss, found, dtype)
    problems += weighing
    if len(contracts) > 1 and second is None:
        notes.append(t_squared_unknown(contracts, found.temperature))
    notes += contract_notes(contracts[0], found)
    notes += value_notes(found, probes, tolerance)
    if any(probe.teacher_gets_gradient for probe in probes):
        notes.append(
            Notice(
                "teacher_not_detached",
                "A gradient flows into the teacher's logits: run the teacher under torch.no_grad(), or detach them.",
            )
        )
    return _finding(loss, problems=problems, notes=notes, error=found.error, fit=found, contracts=contracts)


def _no_fit_possible(loss: Loss, probes: Sequence[Probe], dtype: torch.dtype) -> Notice | None:
    """Return what is wrong where gradients are missing, no numbers, or those of the hard term alone."""
    gradients = [probe.gradient for probe in probes]
    if any(g is None or not bool(g.abs().max() > 0) for g in gradients) and not any(
        g is not None and bool(g.isnan().any()) for g in gradients
    ):
        return Notice(
            "student_detached",
            "The loss has no gradient in the student's logits: they are detached, or turned into numbers on the way.",
        )
    if any(g is not None and not bool(g.isfinite().all()) for g in gradients):
        return Notice(
            "not_finite",
            "The gradient is NaN or infinite: most likely the arguments of kl_div are swapped, so that "
            "log-probabilities stand where its target, probabilities, belongs; or a low precision overflows.",
        )
    if not loss.takes_labels or hard_alone(probes) > TOLERANCE[dtype]:
        return None
    function = loss.make(loss.temperature, {})
    z_s, z_t, y = batches(dtype)[0]
    moved = float(call(loss, function, z_s, z_t.flip(0) * 0.5, y).detach())
    if abs(moved - probes[0].value) > 1e-6 * abs(probes[0].value):
        return Notice(
            "student_detached",
            "The KD term has no gradient in the student's logits: it changes the value of the loss, and trains "
            "nothing. They are detached there, or the teacher is compared with itself.",
        )
    return Notice("teacher_unused", "The teacher's logits change nothing: the loss is the hard term alone.")


def _unknown(found: Fit, probes: Sequence[Probe], opening: str = "The loss") -> Notice:
    broken = " Its value is NaN." if any(math.isnan(probe.value) for probe in probes) else ""
    nearly = (
        " It is near: it has a small term of its own, or rounds in a way that is not seen here."
        if found.error < NEAR and not wrongs(found)
        else ""
    )
    at = f" at T={written(found.temperature)}" if found.form.tempered else ""
    return Notice(
        "unknown_loss",
        f"{opening} is none that is known here: the nearest, {found.form.name}{at}, leaves "
        f"{100 * found.error:.2g} % of its gradient unexplained.{nearly}{broken}",
    )


def _told_another(loss: Loss, found: Fit, dtype: torch.dtype) -> Fit | None:
    """Return the fit at another temperature; None where the loss cannot be told one."""
    if loss.temperature is None:
        return None
    probes = probed(loss, ZOOM * loss.temperature, {}, dtype)
    hints = [ZOOM * found.temperature, found.temperature]
    return fit(probes, hints, tolerance=TOLERANCE[dtype], labels=loss.takes_labels)


def _weighing(loss: Loss, found: Fit, dtype: torch.dtype) -> tuple[list[Notice], list[Notice]]:
    """Say which term each weight parameter weighs, by changing it; one that is named for the other is a problem."""
    problems, notes = [], []
    for name, value in loss.weights.items():
        changed = value / 2 if value else 0.5
        probes = probed(loss, loss.temperature, {name: changed}, dtype)
        if any(probe.gradient is None for probe in probes):
            continue
        other = fit(probes, [found.temperature], tolerance=TOLERANCE[dtype], labels=loss.takes_labels)
        if other.error > TOLERANCE[dtype] or other.form is not found.form:
            continue
        step = changed - value
        soft = (other.soft[0] - found.soft[0]) / step
        hard = (other.hard[0] + other.smooth[0] - found.hard[0] - found.smooth[0]) / step
        least = 1e-6 * max(abs(c) for c in (*found.soft, *found.hard))
        if name in SOFT_WEIGHTS and hard > least:
            problems.append(Notice("weights_swapped", f"{name} weighs the hard term: it is on the other term."))
        elif name in HARD_WEIGHTS and soft > least:
            problems.append(Notice("weights_swapped", f"{name} weighs the KD term: it is on the other term."))
        elif max(hard, soft) > least:
            notes.append(Notice("weighs", f"{name} weighs the {'hard' if hard > least else 'KD'} term."))
    return problems, notes


def _smoothing(found: Fit) -> float:
    total = found.hard[0] + found.smooth[0]
    least = 1e-6 * max(abs(total), abs(found.soft[0]))
    return rounded(found.smooth[0] / total) if abs(found.smooth[0]) > least else 0.0


def _finding(
    loss: Loss,
    *,
    problems: Sequence[Notice],
    notes: Sequence[Notice] = (),
    error: float | None = None,
    fit: Fit | None = None,
    contracts: Sequence[LossContract] = (),
    nearest: Fit | None = None,
) -> LossCheck:
    contract = contracts[0] if len(contracts) == 1 else None
    smoothing = _smoothing(fit) if fit else None
    return LossCheck(
        function=loss.name,
        called_as=loss.called_as,
        verdict="wrong" if problems else "known",
        problems=tuple(problems),
        notes=tuple(notes),
        temperature=rounded(fit.temperature) if fit else None,
        loss_contract=contract,
        either=() if contract else tuple(contracts),
        label_smoothing=smoothing,
        flags=recommend_flags(contract, smoothing) if contract else None,
        gradient_error=error,
        nearest=nearest.form.code if nearest else None,
    )


def recommend_flags(contract: LossContract, smoothing: float | None) -> str:
    """Return a contract as words for `recommend`."""
    words = [
        f"--kd-weight {contract.kd_weight:g}",
        f"--hard-weight {contract.hard:g}",
        "--t-squared" if contract.t_squared else "--no-t-squared",
        f"--reduction {contract.reduction}",
        "--standardized" if contract.standardized else "--no-standardized",
    ]
    return " ".join([*words, f"--label-smoothing {smoothing:g}"] if smoothing else words)
