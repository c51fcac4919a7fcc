"""Loss contracts: what the algebra claims, a numerical gradient confirms."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tempadvisor.contracts import convert, from_alpha, kl_coefficient, to_alpha
from tempadvisor.errors import UsageError
from tempadvisor.records import LossContract

N, K = 5, 7
LABELS = torch.tensor([0, 1, 2, 3, 6])


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(N, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_loss(z_s: torch.Tensor, z_t: torch.Tensor, temperature: float, contract: LossContract) -> torch.Tensor:
    """Sum the loss over samples and classes in loops, as its definition reads."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(N):
        student, teacher = z_s[i], z_t[i]
        total = total - contract.hard * torch.log(torch.exp(student) / torch.exp(student).sum())[LABELS[i]]
        if contract.standardized:
            student, teacher = student / student.std(correction=0), teacher / teacher.std(correction=0)
        p = torch.exp(teacher / temperature) / torch.exp(teacher / temperature).sum()
        q = torch.exp(student / temperature) / torch.exp(student / temperature).sum()
        kl = (p * torch.log(p / q)).sum() / (K if contract.reduction == "mean" else 1)
        total = total + contract.kd_weight * (temperature**2 if contract.t_squared else 1) * kl
    return total / N


def gradient(z_s: torch.Tensor, z_t: torch.Tensor, temperature: float, contract: LossContract) -> torch.Tensor:
    z = z_s.clone().requires_grad_()
    return torch.autograd.grad(slow_loss(z, z_t, temperature, contract), z)[0]


CONTRACTS = [
    LossContract(kd_weight=0.7, hard_weight=0.4, t_squared=t_squared, reduction=reduction, standardized=standardized)
    for t_squared, reduction, standardized in product([True, False], ["batchmean", "mean"], [True, False])
]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_gradients_stay_the_same_whatever_becomes_of_t_squared_and_of_the_reduction(temperature, contract):
    z_s, z_t = logits(1), logits(2)
    wanted = gradient(z_s, z_t, temperature, contract)
    for t_squared, reduction in product([True, False], ["batchmean", "mean"]):
        other = convert(temperature, contract, t_squared=t_squared, reduction=reduction, n_classes=K)
        assert other.exact
        assert (other.contract.t_squared, other.contract.reduction) == (t_squared, reduction)
        torch.testing.assert_close(gradient(z_s, z_t, other.temperature, other.contract), wanted)


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_standardized_and_plain_agree_where_every_standard_deviation_is_the_same(contract):
    z_s, z_t = logits(1), logits(2)
    z_s, z_t = (2.5 * (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True, correction=0) for z in (z_s, z_t))
    other = convert(3.0, contract, standardized=not contract.standardized, logit_std=2.5)
    assert other.temperature == (3.0 * 2.5 if contract.standardized else 3.0 / 2.5)
    torch.testing.assert_close(slow_loss(z_s, z_t, 3.0, contract), slow_loss(z_s, z_t, *pair(other)))
    difference = gradient(z_s, z_t, 3.0, contract) - gradient(z_s, z_t, *pair(other))
    along = (difference * z_s).sum(1, keepdim=True) / (z_s * z_s).sum(1, keepdim=True) * z_s
    torch.testing.assert_close(difference, along)  # what is left lies along the student's own logits
    assert not other.exact
    assert "2.5 for every sample" in other.note


def pair(conversion):
    return conversion.temperature, conversion.contract


def test_without_t_squared_the_kd_weight_takes_the_square_in():
    other = convert(4.0, LossContract(kd_weight=0.9), t_squared=False)
    assert other.temperature == 4.0
    assert other.contract == LossContract(kd_weight=14.4, hard_weight=0.1, t_squared=False)


def test_a_mean_over_classes_needs_k_times_the_weight():
    other = convert(4.0, LossContract(kd_weight=0.5), reduction="mean", n_classes=100)
    assert other.contract == LossContract(kd_weight=50, hard_weight=0.5, reduction="mean")


def test_converting_there_and_back_changes_nothing():
    contract = LossContract(kd_weight=0.5, hard_weight=0.25)
    there = convert(8.0, contract, t_squared=False, reduction="mean", standardized=True, n_classes=4, logit_std=2.0)
    back = convert(
        there.temperature,
        there.contract,
        t_squared=True,
        reduction="batchmean",
        standardized=False,
        n_classes=4,
        logit_std=2.0,
    )
    assert (back.temperature, back.contract) == (8.0, contract)


def test_a_contract_converted_to_itself_is_itself_and_needs_no_class_count():
    contract = LossContract(kd_weight=0.75, reduction="mean")
    same = convert(4.0, contract)
    assert (same.temperature, same.contract, same.exact, same.note) == (4.0, contract, True, "")


@pytest.mark.parametrize("on", ["soft", "hard"])
def test_alpha_times_its_loss_scale_is_the_weight(on):
    contract = LossContract(kd_weight=9.0, hard_weight=1.0)
    alpha = to_alpha(contract, on=on)
    assert alpha.alpha == (0.9 if on == "soft" else 0.1)
    assert alpha.loss_scale == 10.0
    back = from_alpha(alpha.alpha, contract, on=on)
    assert back.kd_weight == pytest.approx(0.9)
    assert back.hard == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: convert(0.0, LossContract()), "temperature"),
        (lambda: convert(float("nan"), LossContract()), "temperature"),
        (lambda: convert(4.0, LossContract(), reduction="mean"), "n_classes"),
        (lambda: convert(4.0, LossContract(), standardized=True), "logit_std"),
        (lambda: convert(4.0, LossContract(), standardized=True, logit_std=0.0), "logit_std"),
        (lambda: kl_coefficient(1.0, LossContract(reduction="mean"), n_classes=1), "n_classes"),
        (lambda: from_alpha(1.5, LossContract(), on="soft"), "alpha"),
    ],
)
def test_what_is_missing_or_out_of_range_is_named(call, names):
    with pytest.raises(UsageError, match=f"^{names} must be "):
        call()
