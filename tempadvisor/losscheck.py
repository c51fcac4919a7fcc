"""Which loss contract a user's loss implements, or what is wrong with it: found from its values and gradients.

The loss is fed reference logits of several shapes; `lossfit` finds form, temperature and coefficients, and how these
change with samples, classes and temperature tells reduction and T^2.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from tempadvisor.errors import InputError
from tempadvisor.losscall import HARD_WEIGHTS, SOFT_WEIGHTS, Loss, Value, call, double_works, load_loss
from tempadvisor.lossfit import Fit, Probe, batches, fit, fit_form, hard_alone
from tempadvisor.lossforms import FORMS
from tempadvisor.lossreading import (
    ZOOM,
    contract_notes,
    hard_problems,
    has_t_squared,
    power,
    reading_problems,
    readings,
    rounded,
    temperature_problems,
    value_notes,
    value_problems,
    weight_problems,
)
from tempadvisor.records import LossContract, Notice
from tempadvisor.temperatures import written

TOLERANCE = {torch.float64: 1e-6, torch.float32: 3e-4}
TO_KD = ("kl", "standardized", "standardized_sample")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossCheck:
    """What a loss turned out to be. `verdict` is wrong where there are problems; notes are worth knowing.

    `temperature`, `loss_contract`, `label_smoothing` and `flags`, the same as words for `recommend`, are None where
    the loss is no known contract. `gradient_error` is the largest share of a gradient that the finding leaves
    unexplained, None where there was no gradient to explain.
    """

    function: str
    called_as: str
    verdict: Literal["known", "wrong"]
    problems: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    temperature: float | None
    loss_contract: LossContract | None
    label_smoothing: float | None
    flags: str | None
    gradient_error: float | None


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
        return _check(loss, kd_weight, hard_weight)
    finally:
        torch.set_num_threads(threads)


def _check(loss: Loss, kd_weight: float | None, hard_weight: float | None) -> LossCheck:
    dtype = _dtype(loss)
    probes = _probes(loss, loss.temperature, {}, dtype)
    trouble = _no_fit_possible(loss, probes, dtype)
    if trouble:
        return _finding(loss, problems=[trouble])
    tolerance = TOLERANCE[dtype]
    hints = [t for t in (loss.temperature, 4.0, 1.0) if t]
    found = fit(probes, hints, tolerance=tolerance, labels=loss.takes_labels)
    if found.error > tolerance:
        return _finding(loss, problems=[_softened(loss, probes, hints, tolerance) or _unknown(found, probes)])
    problems = [Notice(found.form.code, found.form.wrong)] if found.form.wrong else []
    notes: list[Notice] = []
    soft, hard = readings(found)
    problems += reading_problems(soft, hard)
    if soft is None or hard is None or min(soft.value, hard.value) < 0 or found.form.code not in TO_KD:
        return _finding(loss, problems=problems, notes=notes, error=found.error)
    second = _told_another(loss, found, dtype)
    if second is not None and second.form.wrong and second.error <= tolerance:  # T=1 hides it
        return _finding(loss, problems=[Notice(second.form.code, second.form.wrong)], error=second.error)
    if second is not None and second.form is found.form and second.error <= tolerance:
        problems += hard_problems(found, second)
    exponent = power(found, second, tolerance)
    problems += temperature_problems(loss.temperature, found.temperature, exponent)
    t_squared, told = has_t_squared(soft.value, hard.value, found.temperature, exponent)
    notes += told
    contract = LossContract(
        kd_weight=rounded(soft.value / (found.temperature**2 if t_squared else 1)),
        hard_weight=rounded(hard.value),
        t_squared=t_squared,
        reduction="mean" if soft.over_classes else "batchmean",
        standardized=found.form.code != "kl",
    )
    problems += weight_problems(contract, kd_weight, hard_weight)
    problems += value_problems(probes)
    weighing, notes_on_weights = _weighing(loss, found, dtype)
    problems += weighing
    notes += notes_on_weights
    notes += contract_notes(contract, found)
    notes += value_notes(found, probes, tolerance)
    if any(probe.teacher_gets_gradient for probe in probes):
        notes.append(
            Notice(
                "teacher_not_detached",
                "A gradient flows into the teacher's logits: run the teacher under torch.no_grad(), or detach them.",
            )
        )
    smoothing = _smoothing(found)
    return _finding(
        loss, problems=problems, notes=notes, error=found.error, fit=found, contract=contract, smoothing=smoothing
    )


def _dtype(loss: Loss) -> torch.dtype:
    first = loss.make(loss.temperature, {})
    z_s, z_t, y = batches(torch.float64)[0]
    return torch.float64 if double_works(loss, first, z_s, z_t, y) else torch.float32


def _probes(loss: Loss, temperature: float | None, changed: Mapping[str, Value], dtype: torch.dtype) -> list[Probe]:
    """Call the loss on every batch of reference logits.

    Raises:
        InputError: it raises, or answers otherwise when asked again.
    """
    function = loss.make(temperature, changed)
    probes = []
    for student, teacher, labels in batches(dtype):
        z_s, z_t = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        with torch.enable_grad():
            value = call(loss, function, z_s, z_t, labels)
        slopes: tuple[torch.Tensor | None, ...] = (None, None)
        if value.requires_grad:
            slopes = torch.autograd.grad(value, (z_s, z_t), allow_unused=True)
        probes.append(
            Probe(
                student=student,
                teacher=teacher,
                labels=labels,
                value=float(value.detach()),
                gradient=slopes[0],
                teacher_gets_gradient=slopes[1] is not None and bool(slopes[1].abs().max() > 0),
            )
        )
    again = float(call(loss, function, *batches(dtype)[0]).detach())
    first = probes[0].value
    if not math.isclose(again, first, rel_tol=1e-5, abs_tol=1e-9) and math.isfinite(first + again):
        raise InputError(
            f"{loss.name} must answer the same when asked again. Got {first:.6g}, then {again:.6g}. Leave out what "
            "is random or keeps a state.",
            code="random_loss",
        )
    return probes


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
            "log-probabilities stand where its target, probabilities, belongs.",
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


def _softened(loss: Loss, probes: Sequence[Probe], hints: Sequence[float], tolerance: float) -> Notice | None:
    """Say so where all that is wrong is a hard term at temperature T."""
    if not loss.takes_labels:
        return None
    found = fit_form(FORMS[0], probes, hints, tolerance=tolerance, labels=True, softened=True)
    if found.error > tolerance:
        return None
    return Notice(
        "hard_term_softened",
        f"The hard term is softened too, with T={written(found.temperature)}: give cross_entropy the plain logits.",
    )


def _unknown(found: Fit, probes: Sequence[Probe]) -> Notice:
    broken = " Its value is NaN." if any(math.isnan(probe.value) for probe in probes) else ""
    nearly = (
        " Either it computes in low precision, or it has a small term of its own."
        if found.error < 0.02 and not found.form.wrong
        else ""
    )
    return Notice(
        "unknown_loss",
        f"The loss is none that is known here: the nearest, {found.form.code} at T={written(found.temperature)}, "
        f"leaves {100 * found.error:.2g} % of its gradient unexplained.{nearly}{broken}",
    )


def _told_another(loss: Loss, found: Fit, dtype: torch.dtype) -> Fit | None:
    """Return the fit at another temperature; None where the loss cannot be told one."""
    if loss.temperature is None:
        return None
    probes = _probes(loss, ZOOM * loss.temperature, {}, dtype)
    hints = [ZOOM * found.temperature, found.temperature]
    return fit(probes, hints, tolerance=TOLERANCE[dtype], labels=loss.takes_labels)


def _weighing(loss: Loss, found: Fit, dtype: torch.dtype) -> tuple[list[Notice], list[Notice]]:
    """Say which term each weight parameter weighs, by changing it; one that is named for the other is a problem."""
    problems, notes = [], []
    for name, value in loss.weights.items():
        changed = value / 2 if value else 0.5
        probes = _probes(loss, loss.temperature, {name: changed}, dtype)
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
    contract: LossContract | None = None,
    smoothing: float | None = None,
) -> LossCheck:
    return LossCheck(
        function=loss.name,
        called_as=loss.called_as,
        verdict="wrong" if problems else "known",
        problems=tuple(problems),
        notes=tuple(notes),
        temperature=rounded(fit.temperature) if fit else None,
        loss_contract=contract,
        label_smoothing=smoothing,
        flags=_flags(contract, smoothing or 0.0) if contract else None,
        gradient_error=error,
    )


def _flags(contract: LossContract, smoothing: float) -> str:
    words = [
        f"--kd-weight {contract.kd_weight:g}",
        f"--hard-weight {contract.hard:g}",
        "--t-squared" if contract.t_squared else "--no-t-squared",
        f"--reduction {contract.reduction}",
        "--standardized" if contract.standardized else "--no-standardized",
    ]
    return " ".join([*words, f"--label-smoothing {smoothing:g}"] if smoothing else words)
