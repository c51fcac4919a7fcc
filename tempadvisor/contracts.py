"""Convert a temperature and its weights from one loss contract to another, so that training stays the same.

Two facts carry everything. With c the coefficient in front of the batch-mean KL term,

    c = kd_weight * [T^2 if t_squared] * [1 / K if reduction is "mean"],      K classes

the loss of one sample is hard_weight * CE + c * KL(p_t(T) || p_s(T)), whose gradient is

    dL/dz_s = hard_weight * (p_s(1) - y) + (c / T) * (p_s(T) - p_t(T)).

So contracts that differ in T^2 or in the reduction train alike, step by step, exactly when T, c and hard_weight are
the same. And since the mean cancels in a softmax, logits divided by their own standard deviation s at temperature tau
have the softmax of plain logits at T = tau * s.

This module knows nothing of any framework, and does not look at a user's code.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from tempadvisor.errors import UsageError
from tempadvisor.records import LossContract


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A temperature under another contract; `exact` when every gradient stays the same, else `note` says why not."""

    temperature: float
    contract: LossContract
    exact: bool
    note: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alpha:
    """One weight of a loss whose two weights sum to 1, and the factor its learning rate needs."""

    alpha: float
    loss_scale: float


def kl_coefficient(temperature: float, contract: LossContract, *, n_classes: int | None = None) -> float:
    """Return c, the coefficient in front of the batch-mean KL term.

    c = kd_weight * [T^2 if t_squared] * [1 / K if reduction is "mean"]

    Args:
        temperature: T, above 0.
        contract: whose weights and reduction count.
        n_classes: K, at least 2; needed for the reduction "mean" only.

    Returns:
        c, without unit.

    Raises:
        UsageError: T is not above 0, or K is missing or below 2.

    >>> kl_coefficient(4.0, LossContract(kd_weight=0.5))
    8.0
    >>> kl_coefficient(4.0, LossContract(kd_weight=0.5, reduction="mean"), n_classes=10)
    0.8
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature must be a number above 0. Got {temperature:g}.", code="bad_temperature")
    return contract.kd_weight * _factor(temperature, contract, n_classes)


def convert(
    temperature: float,
    contract: LossContract,
    *,
    t_squared: bool | None = None,
    reduction: Literal["batchmean", "mean"] | None = None,
    standardized: bool | None = None,
    n_classes: int | None = None,
    logit_std: float | None = None,
) -> Conversion:
    """Return the temperature and the weights that train alike under another loss contract.

    T' = T * s when standardized logits become plain ones, T / s the other way, else T;
    kd_weight' = c / ([T'^2 if t_squared'] * [1 / K if reduction' is "mean"]);   hard_weight' = hard_weight

    With s the same for all samples, for teacher and student, the targets and the loss stay the same to the digit. The
    gradient of a standardized loss still lacks the part along the student's own logits, because the loss cannot
    see their length; and s varies. So a change of `standardized` is never marked exact.

    Args:
        temperature: T under `contract`, above 0, in logits, or in units of their standard deviation if standardized.
        contract: the loss contract that T belongs to.
        t_squared, reduction, standardized: what the other contract has; None keeps it.
        n_classes: K, at least 2; needed where a mean over classes comes or goes.
        logit_std: s, the mean per-sample standard deviation of the teacher's logits, above 0; needed where
            standardized changes.

    Returns:
        The temperature in the unit of the new contract, the new contract, and whether gradients are the same.

    Raises:
        UsageError: a value is missing or out of range.

    Source: evidence

    >>> convert(4.0, LossContract(kd_weight=0.9), t_squared=False).contract.kd_weight
    14.4
    >>> convert(3.0, LossContract(kd_weight=0.9, standardized=True), standardized=False, logit_std=2.0).temperature
    6.0
    """
    target = dataclasses.replace(
        contract,
        t_squared=contract.t_squared if t_squared is None else t_squared,
        reduction=contract.reduction if reduction is None else reduction,
        standardized=contract.standardized if standardized is None else standardized,
    )
    exact = target.standardized == contract.standardized
    scale = 1.0 if exact else _std(logit_std)
    moved = temperature * scale if contract.standardized else temperature / scale
    same_mean = target.reduction == contract.reduction
    classes = 2 if same_mean and n_classes is None else n_classes  # K cancels
    coefficient = kl_coefficient(temperature, contract, n_classes=classes)
    weight = coefficient / _factor(moved, target, classes)
    note = (
        ""
        if exact
        else (
            f"T counts in units of the logits' standard deviation, taken as {scale:.3g} for every sample, for "
            "teacher and student alike; where it varies, and along the student's own logits, the gradients differ."
        )
    )
    return Conversion(
        temperature=moved,
        contract=dataclasses.replace(target, kd_weight=weight, hard_weight=contract.hard),
        exact=exact,
        note=note,
    )


def to_alpha(contract: LossContract, *, on: Literal["soft", "hard"]) -> Alpha:
    """Return the contract's weights as one alpha, for trainers whose two weights sum to 1.

    L = loss_scale * (alpha * SOFT + (1 - alpha) * HARD), or with alpha on HARD;
    loss_scale = kd_weight + hard_weight

    A trainer without `loss_scale` trains alike when its learning rate is multiplied by it (with SGD; Adam and
    AdamW hardly see a scale).

    Args:
        contract: with any weights.
        on: the term that alpha weighs.

    >>> to_alpha(LossContract(kd_weight=0.9, hard_weight=0.1), on="hard")
    Alpha(alpha=0.1, loss_scale=1.0)
    """
    total = contract.kd_weight + contract.hard
    return Alpha(alpha=(contract.kd_weight if on == "soft" else contract.hard) / total, loss_scale=total)


def from_alpha(alpha: float, contract: LossContract, *, on: Literal["soft", "hard"]) -> LossContract:
    """Return `contract` with the weights that one alpha means.

    Args:
        alpha: weight of the term `on`, in [0, 1]; the other term has 1 - alpha.
        contract: where everything else comes from.
        on: the term that alpha weighs.

    Raises:
        UsageError: alpha is outside [0, 1].

    >>> from_alpha(0.25, LossContract(), on="hard").kd_weight
    0.75
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha must be a number from 0 to 1. Got {alpha:g}.", code="bad_alpha")
    soft = alpha if on == "soft" else 1 - alpha
    return dataclasses.replace(contract, kd_weight=soft, hard_weight=1 - soft)


def _factor(temperature: float, contract: LossContract, n_classes: int | None) -> float:
    """Return what the code multiplies the batch-mean KL term by, beside kd_weight."""
    factor = temperature**2 if contract.t_squared else 1.0
    if contract.reduction == "batchmean":
        return factor
    if n_classes is None or n_classes < 2:
        got = "none" if n_classes is None else n_classes
        raise UsageError(
            f"n_classes must be at least 2 where the KL term is averaged over classes. Got {got}.",
            code="bad_n_classes",
        )
    return factor / n_classes


def _std(logit_std: float | None) -> float:
    if logit_std is None or not (math.isfinite(logit_std) and logit_std > 0):
        got = "none" if logit_std is None else f"{logit_std:g}"
        raise UsageError(
            f"logit_std must be above 0 to convert between standardized and plain logits. Got {got}. "
            "A profile of the teacher has it.",
            code="bad_logit_std",
        )
    return logit_std
