"""What coefficients and values say of a loss whose form is found: reduction, weights, and what is worth knowing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import cross_entropy

from tempadvisor.contracts import convert
from tempadvisor.lossfit import SHAPES, Fit, Probe
from tempadvisor.lossforms import teacher_entropy
from tempadvisor.records import LossContract, Notice


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


def contract_notes(contract: LossContract, found: Fit) -> Iterator[Notice]:
    """Say where a contract is another than the usual one, and how its weight converts."""
    t, k = found.temperature, SHAPES[0][1]
    if contract.kd_weight and not contract.t_squared:
        there = convert(t, contract, t_squared=True, n_classes=k).contract
        yield Notice(
            "missing_t_squared",
            f"The KD term lacks T^2: at T={t:.3g} its kd_weight {contract.kd_weight:g} is as strong as "
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
    if max(map(abs, left)) <= 100 * tolerance * size:
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
