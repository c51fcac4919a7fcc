"""KDLoss is the loss of a recommendation: against a slow reference, in any precision, compiled, and never silent."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

import tempadvisor as ta
from tempadvisor.errors import InputError, UsageError
from tempadvisor.loss import KDLoss, kd_loss
from tempadvisor.records import LossContract

N, K = 6, 5
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
SOFT_LABELS = torch.softmax(torch.randn(N, K, generator=torch.Generator().manual_seed(3)), 1)
CONTRACTS = {
    "usual": LossContract(kd_weight=0.9),
    "no T^2": LossContract(kd_weight=0.9, t_squared=False),
    "mean": LossContract(kd_weight=0.9, reduction="mean"),
    "standardized": LossContract(kd_weight=9.0, hard_weight=0.1, standardized=True),
    "all of it": LossContract(kd_weight=3.0, hard_weight=0.5, t_squared=False, reduction="mean", standardized=True),
    "soft only": LossContract(kd_weight=1.0),
    "hard only": LossContract(kd_weight=0.0, hard_weight=2.0),
}


def logits(seed: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    drawn = torch.randn(N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * drawn).to(dtype)


STUDENT, TEACHER = logits(1), logits(2, scale=4.0)


def reference(
    student: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    contract: LossContract,
    smoothing: float,
) -> float:
    """Compute the loss sample by sample and class by class, without torch."""

    def softmax(row: list[float], t: float) -> list[float]:
        exps = [math.exp((value - max(row)) / t) for value in row]
        return [value / math.fsum(exps) for value in exps]

    def z_scored(row: list[float]) -> list[float]:
        mean = math.fsum(row) / K
        return [value / math.sqrt(math.fsum((v - mean) ** 2 for v in row) / K) for value in row]

    hard = soft = 0.0
    for n in range(N):
        z_s, z_t = student[n].tolist(), teacher[n].tolist()
        target = labels[n].tolist() if labels.ndim == 2 else [float(k == labels[n]) for k in range(K)]
        target = [(1 - smoothing) * y + smoothing / K for y in target]
        hard -= math.fsum(y * math.log(p) for y, p in zip(target, softmax(z_s, 1.0), strict=True)) / N
        if contract.standardized:
            z_s, z_t = z_scored(z_s), z_scored(z_t)
        p_s, p_t = softmax(z_s, temperature), softmax(z_t, temperature)
        soft += math.fsum(p * math.log(p / q) for p, q in zip(p_t, p_s, strict=True)) / N
    if contract.t_squared:
        soft *= temperature * temperature
    if contract.reduction == "mean":
        soft /= K
    return contract.hard * hard + contract.kd_weight * soft


@pytest.mark.parametrize("labels", [LABELS, SOFT_LABELS.double()], ids=["hard labels", "soft labels"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("name", CONTRACTS)
def test_it_is_what_a_slow_reference_computes_under_every_contract(
    name: str, temperature: float, smoothing: float, labels: torch.Tensor
) -> None:
    loss = KDLoss(temperature, CONTRACTS[name], label_smoothing=smoothing)
    wanted = reference(STUDENT, TEACHER, labels, temperature, CONTRACTS[name], smoothing)
    assert loss(STUDENT, TEACHER, labels).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", CONTRACTS)
def test_its_gradient_is_that_of_finite_differences(name: str) -> None:
    loss = KDLoss(2.5, CONTRACTS[name], label_smoothing=0.1)
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, TEACHER, LABELS), student)
    soft = SOFT_LABELS.double()
    assert torch.autograd.gradcheck(lambda z: loss(z, TEACHER, soft), student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_what_one_writes_by_hand_with_torch(temperature: float) -> None:
    by_hand = 0.1 * cross_entropy(STUDENT, LABELS) + 0.9 * temperature**2 * kl_div(
        torch.log_softmax(STUDENT / temperature, 1),
        torch.log_softmax(TEACHER / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    torch.testing.assert_close(KDLoss(temperature)(STUDENT, TEACHER, LABELS), by_hand)


def test_it_is_the_loss_that_verify_and_bench_train_with() -> None:
    contract = LossContract(kd_weight=0.7, reduction="mean")
    assert torch.equal(
        KDLoss(3.0, contract, label_smoothing=0.2)(STUDENT, TEACHER, LABELS),
        kd_loss(STUDENT, TEACHER, LABELS, 3.0, contract, 0.2),
    )


def test_a_recommendation_brings_temperature_contract_and_label_smoothing() -> None:
    setup = ta.TrainingSetup(kd_weight=2.0, hard_weight=0.5, t_squared=False, reduction="mean", label_smoothing=0.1)
    advice = ta.recommend(setup=setup)
    loss = KDLoss.from_recommendation(advice)
    assert (loss.temperature, loss.contract, loss.label_smoothing) == (
        advice.temperature,
        LossContract(kd_weight=2.0, hard_weight=0.5, t_squared=False, reduction="mean"),
        0.1,
    )


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("kd_weight", [0.5, 1.0])
def test_no_gradient_ever_flows_to_the_teacher(kd_weight: float, standardized: bool) -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    KDLoss(2.0, LossContract(kd_weight=kd_weight, standardized=standardized))(student, teacher, LABELS).backward()
    assert teacher.grad is None
    assert student.grad is not None


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("name", CONTRACTS)
    def test_half_precision_logits_are_computed_in_float32(self, name: str, dtype: torch.dtype) -> None:
        student, teacher, loss = STUDENT.to(dtype), TEACHER.to(dtype), KDLoss(4.0, CONTRACTS[name])
        got = loss(student, teacher, SOFT_LABELS.to(dtype))
        assert got.dtype == torch.float32
        assert torch.equal(got, loss(student.float(), teacher.float(), SOFT_LABELS.to(dtype).float()))

    def test_a_float16_student_at_a_high_temperature_keeps_its_gradient(self) -> None:
        student = torch.tensor([[6.0, 0.0, 0.0]], dtype=torch.float16, requires_grad=True)
        KDLoss(64.0, LossContract(kd_weight=1.0))(student, torch.zeros(1, 3)).backward()
        assert student.grad is not None
        wanted = 64 * (torch.softmax(torch.tensor([6.0, 0.0, 0.0]) / 64, 0) - 1 / 3)
        torch.testing.assert_close(student.grad[0].float(), wanted, rtol=2e-3, atol=1e-4)

    def test_logits_that_overflow_half_precision_under_t_squared_do_not(self) -> None:
        student = torch.tensor([[30000.0, 0.0]], dtype=torch.float16)
        teacher = torch.tensor([[0.0, 30000.0]], dtype=torch.float16)
        value = KDLoss(10.0, LossContract(kd_weight=1.0))(student, teacher).item()
        assert value == pytest.approx(100 * 3000.0)

    def test_autocast_changes_nothing(self) -> None:
        student, teacher, loss = STUDENT.float(), TEACHER.float(), KDLoss(4.0, CONTRACTS["standardized"])
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(student, teacher, LABELS)
        assert torch.equal(inside, loss(student, teacher, LABELS))

    def test_a_teacher_may_have_another_precision_than_its_student(self) -> None:
        loss = KDLoss(4.0)
        assert loss(STUDENT.float(), TEACHER, LABELS).dtype == torch.float32
        assert loss(STUDENT, TEACHER.bfloat16(), LABELS).dtype == torch.float64

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
    def test_labels_may_be_whole_numbers_of_any_size(self, dtype: torch.dtype) -> None:
        assert torch.equal(KDLoss(4.0)(STUDENT, TEACHER, LABELS.to(dtype)), KDLoss(4.0)(STUDENT, TEACHER, LABELS))

    def test_the_temperature_is_not_rounded_when_the_module_becomes_half_precision(self) -> None:
        assert KDLoss(2.9).half().temperature == 2.9


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "wanted"),
        [
            ((STUDENT[0], TEACHER[0], LABELS[0]), r"student_logits must be \(N, K\).* Got shape \(5,\)\."),
            ((STUDENT[:, :1], TEACHER[:, :1], LABELS), r"at least 2\. Got shape \(6, 1\)\."),
            ((STUDENT[:0], TEACHER[:0], LABELS[:0]), r"Got shape \(0, 5\)\."),
            ((STUDENT[None], TEACHER[None], LABELS), r"Got shape \(1, 6, 5\)\."),
            ((STUDENT, TEACHER[:, :4], LABELS), r"teacher_logits must have .* Got \(6, 4\) and \(6, 5\)\."),
            ((STUDENT, TEACHER[:1], LABELS), r"Got \(1, 5\) and \(6, 5\)\. Both must see the same batch"),
            (
                (STUDENT, TEACHER.long(), LABELS),
                r"logits must be floating-point .* Got torch.float64 and torch.int64",
            ),
            ((STUDENT, TEACHER, LABELS[:4]), r"class numbers \(6,\) or probabilities \(6, 5\)\. .* shape \(4,\)"),
            ((STUDENT, TEACHER, LABELS.double()), r"Got torch.float64 of shape \(6,\)"),
            ((STUDENT, TEACHER, LABELS[:, None]), r"Got torch.int64 of shape \(6, 1\)"),
            ((STUDENT, TEACHER, SOFT_LABELS[:, :4]), r"Got torch.float32 of shape \(6, 4\)"),
            ((STUDENT, TEACHER, torch.eye(K)[LABELS].long()), r"One-hot rows must be floating-point"),
            ((STUDENT, TEACHER, LABELS > 2), r"Got torch.bool"),
            ((STUDENT, TEACHER), r"labels must be given: hard_weight is 0.1\. Got none\."),
        ],
    )
    def test_what_does_not_fit_is_named_in_one_line(self, arguments: Any, wanted: str) -> None:
        with pytest.raises(InputError, match=wanted) as caught:
            KDLoss(4.0)(*arguments)
        assert "\n" not in str(caught.value)

    def test_a_label_for_none_is_an_error_and_not_left_out(self) -> None:
        unlabeled = torch.tensor([0, 1, 2, 3, 4, -100])
        assert torch.isfinite(cross_entropy(STUDENT, unlabeled))  # what torch does by itself
        with pytest.raises(InputError, match=r"from 0 to 4, .* 5 classes\. Got -100, and 1 of 6 outside\. Leave"):
            KDLoss(4.0)(STUDENT, TEACHER, unlabeled)
        with pytest.raises(InputError, match="Got 5, and 2 of 6 outside"):
            KDLoss(4.0, label_smoothing=0.1)(STUDENT, TEACHER, torch.tensor([0, 5, 2, 3, 4, 6], dtype=torch.uint8))

    @pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
    def test_a_temperature_is_a_number_above_zero_from_the_start_and_later(self, temperature: float) -> None:
        loss = KDLoss(4.0)
        with pytest.raises(UsageError, match="temperature must be a number above 0"):
            KDLoss(temperature)
        with pytest.raises(UsageError, match="temperature must be a number above 0"):
            loss.temperature = temperature
        assert loss.temperature == 4.0

    @pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
    def test_label_smoothing_is_a_share_below_one(self, smoothing: float) -> None:
        with pytest.raises(UsageError, match="label_smoothing must be at least 0 and below 1"):
            KDLoss(4.0, label_smoothing=smoothing)

    def test_only_a_recommendation_makes_one(self) -> None:
        with pytest.raises(UsageError, match=r"Got float\. tempadvisor.recommend makes one\."):
            KDLoss.from_recommendation(4.0)  # type: ignore[arg-type]


def test_without_a_hard_term_labels_may_be_left_out_and_change_nothing() -> None:
    loss = KDLoss(4.0, LossContract(kd_weight=1.0))
    assert torch.equal(loss(STUDENT, TEACHER), loss(STUDENT, TEACHER, LABELS))


def test_it_adds_nothing_to_a_checkpoint_and_survives_copies_and_pickles() -> None:
    loss = KDLoss(3.0, CONTRACTS["all of it"], label_smoothing=0.1)
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(STUDENT, TEACHER, LABELS), loss(STUDENT, TEACHER, LABELS))


class TestCompiled:
    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        torch.compiler.reset()

    @pytest.mark.parametrize("labels", [LABELS, SOFT_LABELS], ids=["hard labels", "soft labels"])
    @pytest.mark.parametrize("name", CONTRACTS)
    def test_it_is_one_graph_with_the_same_value(self, name: str, labels: torch.Tensor) -> None:
        loss = KDLoss(2.9, CONTRACTS[name], label_smoothing=0.1)
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        for student, teacher in ((STUDENT, TEACHER), (STUDENT.bfloat16(), TEACHER.bfloat16())):
            assert torch.equal(compiled(student, teacher, labels), loss(student, teacher, labels))

    def test_a_schedule_does_not_compile_it_anew_at_every_temperature(self) -> None:
        from torch._dynamo.testing import CompileCounter

        counter, loss = CompileCounter(), KDLoss(2.0)
        compiled = torch.compile(loss, fullgraph=True, backend=counter)
        for temperature in np.linspace(2.0, 6.0, 20):
            loss.temperature = temperature
            torch.testing.assert_close(compiled(STUDENT, TEACHER, LABELS), loss(STUDENT, TEACHER, LABELS))
        assert counter.frame_count <= 3

    def test_a_label_that_is_no_class_is_still_an_error(self) -> None:
        compiled = torch.compile(KDLoss(2.0), fullgraph=True, backend="eager")
        with pytest.raises(IndexError, match="-100"):
            compiled(STUDENT, TEACHER, torch.tensor([0, 1, 2, 3, 4, -100]))

    def test_a_wrong_shape_is_still_an_input_error(self) -> None:
        compiled = torch.compile(KDLoss(2.0), backend="eager")
        with pytest.raises(InputError, match="teacher_logits must have the shape of student_logits"):
            compiled(STUDENT, TEACHER[:, :4], LABELS)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
    @pytest.mark.parametrize("name", ["usual", "all of it"])  # 20 s each; all seven were tried once
    def test_generated_code_has_the_same_value_and_gradient(self, name: str) -> None:
        loss = KDLoss(2.9, CONTRACTS[name], label_smoothing=0.1)
        compiled = torch.compile(loss, fullgraph=True)
        for temperature in (2.9, 4.1, 5.3):
            loss.temperature = temperature
            one, other = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
            got, wanted = compiled(one, TEACHER, LABELS), loss(other, TEACHER, LABELS)
            torch.testing.assert_close(got, wanted)
            torch.testing.assert_close(*(torch.autograd.grad(v, z)[0] for v, z in ((got, one), (wanted, other))))
