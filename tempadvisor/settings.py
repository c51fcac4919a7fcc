"""What an export says: a temperature with its loss contract, and the same as most trainers' loss wants it.

Trainers other than this one have no standardized logits, and nearly all multiply by T^2 and average over samples; so
most exports begin with `usual`. How a trainer spells its options is said in `export_commands`, `export_files` and
`export_snippets`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal

from tempadvisor.contracts import convert
from tempadvisor.errors import UsageError, one_line
from tempadvisor.records import LossContract, Recommendation


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A temperature, the loss contract it holds for, and what is known that conversions need.

    `n_classes` and `logit_std` come from the teacher's profile, `label_smoothing` is the student's; None is unknown.
    """

    temperature: float
    contract: LossContract
    headline: str
    version: str
    n_classes: int | None = None
    logit_std: float | None = None
    label_smoothing: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """The same with T^2, the mean over samples and plain logits; `notes` say what changed, `doubts` what got lost."""

    temperature: float
    kd_weight: float
    hard_weight: float
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The text of an export, and what its reader must know before training, one sentence each."""

    text: str
    warnings: tuple[str, ...] = ()


def settings(advice: Recommendation, *, temperature: float | None = None, headline: str | None = None) -> Settings:
    """Return what a recommendation sets; `temperature` and `headline` are those that a verification ended with."""
    profile = advice.profile
    return Settings(
        temperature=advice.temperature if temperature is None else temperature,
        contract=advice.loss_contract,
        headline=one_line(advice.headline if headline is None else headline),
        version=advice.version["tempadvisor"],
        n_classes=profile.n_classes if profile else None,
        logit_std=profile.logit_std if profile else None,
        label_smoothing=advice.setup.label_smoothing,
    )


def usual(wanted: Settings) -> Usual:
    """Convert to T^2, the mean over samples and plain logits.

    Raises:
        UsageError: the contract averages over classes or standardizes logits, and no teacher tells how many classes
            there are or how wide its logits are.
    """
    contract = wanted.contract
    unknown = (contract.reduction == "mean" and wanted.n_classes is None) or (
        contract.standardized and wanted.logit_std is None
    )
    if unknown:
        needed = "how wide the teacher's logits are" if contract.standardized else "the number of classes"
        raise UsageError(
            f"A teacher must be given to convert this loss for another trainer: it needs {needed}. Got none. "
            "Add TEACHER, or export yaml, which converts nothing.",
            code="no_teacher",
        )
    there = convert(
        wanted.temperature,
        contract,
        t_squared=True,
        reduction="batchmean",
        standardized=False,
        n_classes=wanted.n_classes,
        logit_std=wanted.logit_std,
    )
    temperature = there.temperature if there.exact else float(f"{there.temperature:.4g}")
    notes = []
    if there.contract != contract:
        kept = "every gradient stays the same" if there.exact else "the gradients are similar, not the same"
        notes = [
            f"Converted from the loss it was recommended for: T {number(wanted.temperature)} to "
            f"{number(temperature)}, kd_weight {number(contract.kd_weight)} to "
            f"{number(there.contract.kd_weight)}; {kept}."
        ]
    return Usual(
        temperature=temperature,
        kd_weight=there.contract.kd_weight,
        hard_weight=there.contract.hard,
        notes=tuple(notes),
        doubts=() if there.exact else (f"Standardized logits cannot be expressed: {there.note}",),
    )


def number(value: float) -> str:
    """Write a number so that shells, YAML, yacs and Python all read a float: a decimal point, no exponent.

    >>> number(0.9), number(4), number(0.00001)
    ('0.9', '4.0', '0.00001')
    """
    text = f"{Decimal(f'{value:.12g}'):f}"
    return text if "." in text else f"{text}.0"


def formula(temperature: float, contract: LossContract) -> str:
    """Write a loss in one plain line.

    >>> formula(4.0, LossContract(kd_weight=0.9))
    'L = 0.1 CE(z_s, y) + 0.9 T^2 KL(p_t || p_s), p = softmax(z / T), T = 4.0, mean over the batch'
    """
    hard = f"{number(contract.hard)} CE(z_s, y) + " if contract.hard else ""
    squared = " T^2" if contract.t_squared else ""
    logits = "z / std(z)" if contract.standardized else "z"
    averaged = "the batch" if contract.reduction == "batchmean" else "batch and classes"
    return (
        f"L = {hard}{number(contract.kd_weight)}{squared} KL(p_t || p_s), p = softmax({logits} / T), "
        f"T = {number(temperature)}, mean over {averaged}"
    )


def remarks(wanted: Settings, trainer: str, lines: Iterable[str]) -> str:
    """Return the comment that every export begins with: whose it is, for which loss, and what must be known."""
    parts = (
        f"tempadvisor {wanted.version} for {trainer}. {wanted.headline}",
        f"The temperature holds for {formula(wanted.temperature, wanted.contract)}.",
        *lines,
    )
    return "".join(f"# {one_line(part)}\n" for part in parts)
