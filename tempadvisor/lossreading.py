"""What coefficients and values say of a loss whose form is found: reduction, weights, and what is worth knowing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import cross_entropy

from tempadvisor.contracts import convert
from tempadvisor.lossfit import SHAPES, Fit, Probe
from tempadvisor.lossforms import teacher_entropy
from tempadvisor.records import LossContract, Notice
from tempadvisor.temperatures import written

ZOOM = 1.5  # the second temperature that a loss is told, over the first
WEIGHT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a coefficient goes with samples and classes: value / (N^-samples K^classes), as the contract has it."""

    value: float
    over_batch: bool
    over_classes: bool


def readings(found: Fit) -> tuple[Reading | None, Reading | None]:
    """Return how the KD term and the hard term are weighted; None where in no known way."""
    hard = [a + b for a, b in zip(found.hard, found.smooth, strict=True)]
    largest = max(abs(c) for c in (*hard, *found.soft))
    tolerance = max(100 * found.error, 1e-6)
    return _reading(found.soft, tolerance, largest), _reading(hard, tolerance, largest)


def _reading(coefficients: Sequence[float], tolerance: float, largest: float) -> Reading | None:
    """Return how coefficients of batches of SHAPES go with samples and classes; None where in no known way."""
    if max(abs(c) for c in coefficients) <= 1e-6 * largest:
        return Reading(value=0.0, over_batch=False, over_classes=False)
    for over_batch in (False, True):
        for over_classes in (False, True):
            values = [
                c / (n if over_batch else 1) * (k if over_classes else 1)
                for c, (n, k, _) in zip(coefficients, SHAPES, strict=True)
            ]
            if max(values) - min(values) <= tolerance * max(abs(v) for v in values):
                return Reading(value=values[0], over_batch=over_batch, over_classes=over_classes)
    return None


def reading_problems(soft: Reading | None, hard: Reading | None) -> Iterator[Notice]:
    """Say what is wrong with how the terms are weighted."""
    for name, term in (("KD", soft), ("hard", hard)):
        if term is None:
            yield Notice(
                "unknown_weight", f"The weight of the {name} term changes with the batch in a way that is not known."
            )
            continue
        if term.over_batch:
            yield Notice(
                "sum_over_batch",
                f"The {name} term is summed over the batch: its weight grows with the batch size. Use batchmean.",
            )
        if term.value < 0:
            yield Notice("negative", f"The {name} term has the wrong sign: training makes it larger.")
    if hard is not None and hard.over_classes:
        yield Notice("hard_over_classes", "The hard term is divided by the number of classes: it should not be.")


def wrongs(found: Fit) -> list[Notice]:
    """Say what is wrong with the form of the KD term and with the hard term."""
    return [Notice(term.code, term.wrong) for term in (found.form, found.hard_term) if term.wrong]


def low_precision(share: float) -> Notice:
    """Say how much rounding changes."""
    return Notice(
        "low_precision",
        f"It computes in low precision: rounding changes {100 * share:.2g} % of its gradient. All else said here is "
        "of the same code in double precision. Compute it in float32 at least.",
    )


def power(found: Fit, second: Fit | None) -> float | None:
    """Return p where the KD term goes with T^p, NaN where T does not follow, None where it cannot be set."""
    if second is None:
        return None
    follows = math.isclose(second.temperature, ZOOM * found.temperature, rel_tol=1e-3)
    if not follows or second.soft[0] * found.soft[0] <= 0:
        return math.nan
    return math.log(second.soft[0] / found.soft[0]) / math.log(ZOOM)


def temperature_problems(told: float | None, found: Fit, second: Fit | None, power: float | None) -> Iterator[Notice]:
    """Say what is wrong with what a loss does with the temperature that it is told, at the first and the second."""
    if power is None or told is None or second is None:
        return
    used = found.temperature
    right = math.isclose(told, used, rel_tol=1e-3)
    if right and not math.isnan(power):
        if min(abs(power), abs(power - 2)) > 0.01:
            yield Notice(
                "power_of_t", f"The KD term is multiplied by T^{power:.3g}: it should be T^2, or not at all."
            )
        return
    if right:  # by chance, as at T=1
        told, used = ZOOM * told, second.temperature
    if math.isclose(used, 1 / told, rel_tol=1e-3):
        yield Notice(
            "multiplied_by_t",
            f"Logits are multiplied by T, not divided: T={written(told)} acts as T={written(used)}.",
        )
    elif math.isclose(used, told**2, rel_tol=1e-3):
        yield Notice(
            "t_applied_twice", f"Logits are divided by T twice: T={written(told)} acts as T={written(used)}."
        )
    else:
        yield Notice("temperature_unused", f"The loss was told T={written(told)} and uses T={written(used)}.")


def possible_t_squared(soft: float, hard: float, t: float, power: float | None) -> tuple[bool, ...]:
    """Return whether the KD term has T^2, both answers where that cannot be told.

    The measured power tells it; where T is fixed inside, weights that sum to 1 under one reading alone do.
    """
    if power is not None and not math.isnan(power):
        return (power > 1,)
    summing = [
        squared
        for squared, weight in ((True, soft / t**2), (False, soft))
        if math.isclose(weight + hard, 1, rel_tol=WEIGHT_TOLERANCE)
    ]
    return (summing[0],) if len(summing) == 1 else (True, False)


def t_squared_unknown(contracts: Sequence[LossContract], t: float) -> Notice:
    """Say that a loss may be either of two contracts, and what decides."""
    with_it, without = (contract.kd_weight for contract in contracts)
    alike = f"kd_weight {with_it:g} with T^2, or {without:g} without, train alike"
    why = "T is 1 inside, and so is T^2" if with_it == without else f"T is fixed at {written(t)} inside: {alike}"
    return Notice(
        "t_squared_unknown",
        f"Whether the KD term has T^2 cannot be told: {why}. Look whether the code multiplies by T^2; at any other T "
        "the two are different losses.",
    )


def weight_problems(contracts: Sequence[LossContract], kd: float | None, hard: float | None) -> Iterator[Notice]:
    """Compare the weights with what they are believed to be; one of the contracts that it may be has to have them."""
    if kd is None and hard is None:
        return
    contract = contracts[0]
    asked_kd = contract.kd_weight if kd is None else kd
    asked_hard = (1 - asked_kd if kd is not None and kd <= 1 else contract.hard) if hard is None else hard

    def same(a: float, b: float) -> bool:
        return math.isclose(a, b, rel_tol=WEIGHT_TOLERANCE, abs_tol=1e-6)

    if any(same(it.kd_weight, asked_kd) and same(it.hard, asked_hard) for it in contracts):
        return
    found = f"kd_weight is {contract.kd_weight:g} and hard_weight {contract.hard:g}"
    if same(contract.kd_weight, asked_hard) and same(contract.hard, asked_kd):
        yield Notice("weights_swapped", f"Alpha is on the other term: {found}, asked was the opposite.")
    else:
        yield Notice("other_weights", f"The weights are others: {found}, asked was {asked_kd:g} and {asked_hard:g}.")


def contract_notes(contract: LossContract, found: Fit) -> Iterator[Notice]:
    """Say where a contract is another than the usual one, and how its weight converts."""
    t, k = found.temperature, SHAPES[0][1]
    if contract.kd_weight and not contract.t_squared:
        there = convert(t, contract, t_squared=True, n_classes=k).contract
        yield Notice(
            "missing_t_squared",
            f"The KD term lacks T^2: at T={written(t)} its kd_weight {contract.kd_weight:g} is as strong as "
            f"{rounded(there.kd_weight):g} with T^2, and a change of T changes the weight too. A contract, no error: "
            "tell recommend of it.",
        )
    if contract.reduction == "mean":
        yield Notice(
            "mean_over_classes",
            "The KD term is averaged over classes too (kl_div's reduction 'mean'): it is 1/K as strong as with "
            "batchmean. A contract, no error, unless batchmean was meant.",
        )
    if found.form.code == "standardized_sample":
        yield Notice(
            "sample_std",
            "Logits are divided by the sample's standard deviation (K - 1), not the population's: T counts "
            "sqrt(K / (K - 1)) higher, 5 % at 10 classes.",
        )
    if not contract.hard:
        yield Notice("no_hard_term", "There is no hard term: it is the KD term alone.")


def hard_problems(found: Fit, told_another: Fit) -> Iterator[Notice]:
    """Say so where the hard term's weight follows the temperature that a loss is told."""
    before, after = (fit.hard[0] + fit.smooth[0] for fit in (found, told_another))
    if not math.isclose(before, after, rel_tol=1e-3, abs_tol=1e-6 * max(map(abs, found.soft))):
        exponent = math.log(abs(after / before)) / math.log(told_another.temperature / found.temperature)
        yield Notice(
            "hard_term_scaled",
            f"The hard term is multiplied by T^{exponent:.3g}: T^2 belongs to the KD term alone.",
        )


def value_problems(probes: Sequence[Probe]) -> Iterator[Notice]:
    """Say so where the value is no number, though its gradient is one: what watches it takes it for diverged."""
    if not all(math.isfinite(probe.value) for probe in probes):
        yield Notice("value_not_finite", "The value of the loss is NaN or infinite; its gradient is not.")


def value_notes(found: Fit, probes: Sequence[Probe], tolerance: float) -> Iterator[Notice]:
    """Compare values, which train nothing but are what one sees in a log."""
    left, entropies, size = [], [], 1.0
    for a, b, c, probe in zip(found.hard, found.smooth, found.soft, probes, strict=True):
        z_s, z_t = probe.student.double(), probe.teacher.double()
        uniform = torch.full_like(z_s, 1 / z_s.shape[1])
        value = a * cross_entropy(z_s, probe.labels) + b * cross_entropy(z_s, uniform)
        value = value + c * found.form.term(z_s, z_t, found.temperature)
        left.append(probe.value - float(value))
        entropies.append(c * float(teacher_entropy(z_t, found.temperature)))
        size = max(size, abs(float(value)))
    if not all(map(math.isfinite, left)) or max(map(abs, left)) <= 100 * tolerance * size:
        return
    if max(abs(x - e) for x, e in zip(left, entropies, strict=True)) <= 100 * tolerance * size:
        yield Notice(
            "soft_cross_entropy",
            "The KD term is a cross-entropy with soft targets: its value is higher by the teacher's entropy, its "
            "gradient is that of KL.",
        )
    else:
        yield Notice("other_value", "The value of the loss is another than the contract's; its gradient is the same.")


def rounded(value: float) -> float:
    """Round to the five digits that a fit can tell."""
    return float(f"{value:.5g}")
