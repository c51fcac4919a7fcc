"""The distillation loss under any contract: the one home of its formula, as a function and as a module to train with.

The module checks shapes and holds the temperature; the function computes. Both know nothing of models or trainers.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from tempadvisor.errors import InputError, UsageError
from tempadvisor.records import LossContract, Recommendation

_NO_LABEL = -(2**63)  # torch leaves out samples with this label, by default -100, and does not say so


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    temperature: float,
    contract: LossContract,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of a batch under `contract`.

    L = hard_weight * CE(z_s, y) + kd_weight * [T^2] * mean_n sum_k p_t log(p_t / p_s) * [1 / K]

    with p = softmax(z / T). The brackets are there when `contract.t_squared` and when `contract.reduction` is
    "mean". With `contract.standardized` each row of z is first divided by its own standard deviation over the
    classes (the population's, 1 / K). Its gradient per sample, plain and with T^2, in batchmean:

    dL/dz_s = hard_weight * (p_s(1) - y) + kd_weight * T * (p_s(T) - p_t(T))

    It is computed in float32, also for half-precision logits and under autocast, or in float64 where the student's
    logits are; no gradient flows to the teacher.

    Args:
        student_logits: z_s, (N, K).
        teacher_logits: z_t, (N, K).
        labels: y, class indices (N,) or probabilities (N, K); None where the hard weight is 0.
        temperature: T, above 0.
        contract: which of the brackets there are.
        label_smoothing: share of the hard target spread evenly, in [0, 1).

    Returns:
        A scalar, in nats.

    Source: evidence

    >>> z = torch.tensor([[0.0, 0.0]])
    >>> round(kd_loss(z, z, torch.tensor([0]), 4.0, LossContract(kd_weight=0.0, hard_weight=1.0)).item(), 4)
    0.6931
    """
    student_logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    teacher_logits = teacher_logits.detach().to(student_logits.dtype)
    loss = student_logits.new_zeros(())
    if contract.hard > 0:
        assert labels is not None
        targets = labels.to(student_logits.dtype if labels.is_floating_point() else torch.int64)
        loss = contract.hard * cross_entropy(
            student_logits, targets, ignore_index=_NO_LABEL, label_smoothing=label_smoothing
        )
    if contract.kd_weight == 0:
        return loss
    if contract.standardized:
        student_logits, teacher_logits = _standardize(student_logits), _standardize(teacher_logits)
    log_p, log_q = (log_softmax(z / temperature, dim=1) for z in (teacher_logits, student_logits))
    kl = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    factor = (temperature**2 if contract.t_squared else 1.0) / (
        student_logits.shape[1] if contract.reduction == "mean" else 1
    )
    return loss + contract.kd_weight * factor * kl


def _standardize(logits: Tensor) -> Tensor:
    return logits / logits.std(dim=1, keepdim=True, correction=0).clamp_min(1e-7)


class KDLoss(nn.Module):
    """Compute the loss that a temperature was recommended for: `kd_loss` as a module, with its shapes checked.

    It has neither parameters nor buffers, so it adds nothing to a checkpoint and works on any device. It can be
    compiled as one graph; a temperature that changes while training compiles it once more, not every time.

    Args:
        temperature: T, above 0, in the units of `contract`.
        contract: the weights of both terms, T^2, the reduction, standardized logits or not.
        label_smoothing: share of the hard target spread evenly, in [0, 1).

    Raises:
        UsageError: a value is out of its range.

    Source: evidence

    >>> loss = KDLoss(2.0, LossContract(kd_weight=1.0))
    >>> loss
    KDLoss(T=2, kd_weight=1, hard_weight=0, t_squared=True, reduction=batchmean, standardized=False)
    >>> same = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> loss(same, same).item()
    0.0
    """

    def __init__(self, temperature: float, contract: LossContract | None = None, *, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing must be at least 0 and below 1. Got {label_smoothing!r}.", code="bad_setup"
            )
        self.temperature = temperature
        self.contract = contract or LossContract()
        self.label_smoothing = label_smoothing

    @classmethod
    def from_recommendation(cls, recommendation: Recommendation) -> Self:
        """Return the loss of a recommendation: its temperature and contract, and its setup's label smoothing.

        Raises:
            UsageError: it is something else than a recommendation.

        >>> import tempadvisor as ta
        >>> advice = ta.recommend(setup=ta.TrainingSetup(kd_weight=0.5, label_smoothing=0.1))
        >>> loss = ta.KDLoss.from_recommendation(advice)
        >>> loss.temperature == advice.temperature, loss.contract.hard_weight, loss.label_smoothing
        (True, 0.5, 0.1)
        """
        if not isinstance(recommendation, Recommendation):
            raise UsageError(
                f"recommendation must be a Recommendation. Got {type(recommendation).__name__}. "
                "tempadvisor.recommend makes one.",
                code="not_a_recommendation",
            )
        return cls(
            recommendation.temperature,
            recommendation.loss_contract,
            label_smoothing=recommendation.setup.label_smoothing or 0.0,
        )

    @property
    def temperature(self) -> float:
        """T, above 0; setting it holds from the next batch on."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"temperature must be a number above 0. Got {value!r}.", code="bad_temperature")
        self._temperature = float(value)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar in nats; see `kd_loss` for the formula.

        Every sample counts: a label outside 0 to K - 1, such as -100 for "none", is an error, not left out.

        Args:
            student_logits: z_s, (N, K), of any floating-point type; its gradient is the only one.
            teacher_logits: z_t, (N, K), finite, of any floating-point type, with its classes in the same order.
            labels: class numbers (N,), or probabilities (N, K) with rows that sum to 1, as mixup makes them;
                can be left out where hard_weight is 0.

        Raises:
            InputError: a shape or a type is another, or a label is no class. Inside a graph compiled with
                `fullgraph=True` torch reports a shape or type as an error of its own, as it does a label in any
                compiled graph and on a GPU.
        """
        shape = student_logits.shape
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
            raise InputError(
                f"student_logits must be (N, K), N samples and K classes, at least 2. Got shape {tuple(shape)}. "
                "Give one row of raw class outputs a sample.",
                code="logits_shape",
            )
        if teacher_logits.shape != shape:
            raise InputError(
                "teacher_logits must have the shape of student_logits. "
                f"Got {tuple(teacher_logits.shape)} and {tuple(shape)}. "
                "Both must see the same batch and have the same classes in the same order.",
                code="logits_shape",
            )
        if not (student_logits.is_floating_point() and teacher_logits.is_floating_point()):
            raise InputError(
                f"logits must be floating-point numbers. Got {student_logits.dtype} and {teacher_logits.dtype}.",
                code="not_float",
            )
        if labels is not None:
            _check_labels(labels, shape)
        elif self.contract.hard > 0:
            raise InputError(
                f"labels must be given: hard_weight is {self.contract.hard:g}. Got none. "
                "Without labels, take a contract with hard_weight 0.",
                code="no_labels",
            )
        batch = student_logits, teacher_logits, labels
        if torch.compiler.is_compiling():
            return kd_loss(*batch, self.temperature, self.contract, self.label_smoothing)
        try:
            return kd_loss(*batch, self.temperature, self.contract, self.label_smoothing)
        except IndexError:  # of a label; looking for one before would wait for the device at every step
            raise _no_class(labels, shape[1]) from None

    def extra_repr(self) -> str:
        """Return what the loss computes, in one line."""
        contract = self.contract
        smoothing = f", label_smoothing={self.label_smoothing:g}" if self.label_smoothing else ""
        return (
            f"T={self.temperature:g}, kd_weight={contract.kd_weight:g}, hard_weight={contract.hard:g}, "
            f"t_squared={contract.t_squared}, reduction={contract.reduction}, "
            f"standardized={contract.standardized}{smoothing}"
        )


def _check_labels(labels: Tensor, shape: torch.Size) -> None:
    numbers = not labels.is_floating_point() and labels.dtype != torch.bool and labels.shape == shape[:1]
    if not numbers and not (labels.is_floating_point() and labels.shape == shape):
        raise InputError(
            f"labels must be class numbers ({shape[0]},) or probabilities {tuple(shape)}. "
            f"Got {labels.dtype} of shape {tuple(labels.shape)}. One-hot rows must be floating-point numbers.",
            code="labels_shape",
        )


def _no_class(labels: Tensor | None, n_classes: int) -> InputError:
    assert labels is not None
    outside = labels[(labels < 0) | (labels >= n_classes)]
    return InputError(
        f"labels must be class numbers from 0 to {n_classes - 1}, as the logits have {n_classes} classes. "
        f"Got {outside[0].item()}, and {len(outside)} of {len(labels)} outside. Leave samples without a label out "
        "of the batch.",
        code="labels_out_of_range",
    )
