"""KD losses as people write them: right ones under several contracts, and one for each mistake that is looked for."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax


def usual(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(
        log_softmax(student_logits / temperature, 1), softmax(teacher_logits / temperature, 1), reduction="batchmean"
    )
    return 0.1 * cross_entropy(student_logits, labels) + 0.9 * temperature**2 * soft


def unnamed(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return usual(a, b, c, 3.0)


def detached_teacher(student: Tensor, teacher: Tensor, labels: Tensor, T: float) -> Tensor:  # noqa: N803
    return usual(student, teacher.detach(), labels, T)


def smoothed(s: Tensor, t: Tensor, y: Tensor, tau: float = 2.0) -> Tensor:
    return 0.5 * cross_entropy(s, y, label_smoothing=0.1) + 0.5 * tau**2 * _kl(s / tau, t / tau)


def without_t_squared(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return 0.1 * cross_entropy(s, y) + 0.9 * _kl(s / temperature, t / temperature)


def mean_over_classes(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 1), softmax(t / temperature, 1), reduction="mean")
    return 0.1 * cross_entropy(s, y) + 0.9 * temperature**2 * soft


def standardized(s: Tensor, t: Tensor, y: Tensor, temperature: float = 2.0) -> Tensor:
    z_s, z_t = (z / z.std(1, keepdim=True, correction=0) for z in (s, t))
    return 0.1 * cross_entropy(s, y) + 9 * temperature**2 * _kl(z_s / temperature, z_t / temperature)


def standardized_by_sample(s: Tensor, t: Tensor, y: Tensor, temperature: float = 2.0) -> Tensor:
    z_s, z_t = ((z - z.mean(1, keepdim=True)) / (1e-7 + z.std(1, keepdim=True)) for z in (s, t))
    return 0.1 * cross_entropy(s, y) + 9 * temperature**2 * _kl(z_s / temperature, z_t / temperature)


def soft_cross_entropy(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = cross_entropy(s / temperature, softmax(t / temperature, 1))
    return 0.1 * cross_entropy(s, y) + 0.9 * temperature**2 * soft


def kd_term_alone(s: Tensor, t: Tensor) -> Tensor:
    return 4 * _kl(s / 2, t / 2)


def odd_weights(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(s, y) + 20 * _kl(s / 5, t / 5)


def alpha_on_the_hard_term(s: Tensor, t: Tensor, y: Tensor, temperature: float, alpha: float) -> Tensor:
    return alpha * cross_entropy(s, y) + (1 - alpha) * temperature**2 * _kl(s / temperature, t / temperature)


def kd_weight_on_the_hard_term(s: Tensor, t: Tensor, y: Tensor, kd_weight: float = 0.8) -> Tensor:
    return alpha_on_the_hard_term(s, t, y, 4.0, kd_weight)


def hard_weight_on_the_kd_term(s: Tensor, t: Tensor, y: Tensor, hard_weight: float = 0.8) -> Tensor:
    return alpha_on_the_hard_term(s, t, y, 4.0, 1 - hard_weight)


def single_precision(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(s.float(), t.float(), y, temperature)


def single_precision_alone(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    class_weights = torch.ones(s.shape[1])  # cross_entropy refuses them for logits in double precision
    soft = 0.9 * temperature**2 * _kl(s.float() / temperature, t.float() / temperature)
    return 0.1 * cross_entropy(s.float(), y, weight=class_weights) + soft


def half_precision(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(s.half().float(), t.half().float(), y, temperature)


def bfloat16_throughout(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(s.to(torch.bfloat16), t.to(dtype=torch.bfloat16), y, temperature)


def half_precision_without_t_squared(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return without_t_squared(s.half(), t.half(), y, temperature)


def t_is_one_inside(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return usual(s, t, y, 1.0)


def tiny(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return 1e-9 * usual(s, t, y, temperature)


class Divergence(nn.Module):
    def __init__(self, T: float) -> None:  # noqa: N803
        super().__init__()
        self.T = T

    def forward(self, y_s: Tensor, y_t: Tensor) -> Tensor:
        return self.T**2 * _kl(y_s / self.T, y_t / self.T)


class Usual(nn.Module):
    def forward(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": usual(student_logits, teacher_logits, labels, 2.5)}


divergence = Divergence(5.0)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    return kl_div(log_softmax(a, 1), softmax(b, 1), reduction="batchmean")


def _with(soft: Tensor, s: Tensor, y: Tensor, temperature: float) -> Tensor:
    return 0.1 * cross_entropy(s, y) + 0.9 * temperature**2 * soft


# One mistake each.


def arguments_swapped(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(t / temperature, s / temperature), s, y, temperature)


def arguments_of_kl_div_swapped(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(softmax(t / temperature, 1), log_softmax(s / temperature, 1), reduction="batchmean")
    return _with(soft, s, y, temperature)


def probabilities(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(softmax(s / temperature, 1), softmax(t / temperature, 1), reduction="batchmean")
    return _with(soft, s, y, temperature)


def swapped_probabilities(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(softmax(t / temperature, 1), softmax(s / temperature, 1), reduction="batchmean")
    return _with(soft, s, y, temperature)


def log_target_missing(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 1), log_softmax(t / temperature, 1), reduction="batchmean")
    return _with(soft, s, y, temperature)


def log_target_wrong(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(
        log_softmax(s / temperature, 1), softmax(t / temperature, 1), reduction="batchmean", log_target=True
    )
    return _with(soft, s, y, temperature)


def student_only(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s / temperature, t), s, y, temperature)


def teacher_only(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s, t / temperature), s, y, temperature)


def wrong_dimension(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 0), softmax(t / temperature, 0), reduction="batchmean")
    return _with(soft, s, y, temperature)


def softmax_twice(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(softmax(s / temperature, 1), softmax(t / temperature, 1)), s, y, temperature)


def softmax_twice_before_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(softmax(s, 1) / temperature, softmax(t, 1) / temperature), s, y, temperature)


def teacher_softmax_twice(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s / temperature, softmax(t / temperature, 1)), s, y, temperature)


def teacher_softmax_twice_before_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s / temperature, softmax(t, 1) / temperature), s, y, temperature)


def student_softmax_twice(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(softmax(s / temperature, 1), t / temperature), s, y, temperature)


def student_softmax_twice_before_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(softmax(s, 1) / temperature, t / temperature), s, y, temperature)


def hard_softmax_twice(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s / temperature, t / temperature), softmax(s, 1), y, temperature)


def hard_softmax_twice_after_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    p = softmax(s / temperature, 1)
    return _with(kl_div(p.log(), softmax(t / temperature, 1), reduction="batchmean"), p, y, temperature)


def student_that_ends_in_softmax(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(softmax(s, 1), t, y, temperature)


def models_that_end_in_softmax(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(softmax(s, 1), softmax(t, 1), y, temperature)


def softened_student_probabilities_for_logits(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    p = softmax(s / temperature, 1)
    return _with(_kl(p, t / temperature), p, y, temperature)


def softened_probabilities_for_logits(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    p, q = softmax(s / temperature, 1), softmax(t / temperature, 1)
    return _with(_kl(p, q), p, y, temperature)


def teacher_wrong_dimension(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 1), softmax(t / temperature, 0), reduction="batchmean")
    return _with(soft, s, y, temperature)


def student_wrong_dimension(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 0), softmax(t / temperature, 1), reduction="batchmean")
    return _with(soft, s, y, temperature)


def squared_probabilities(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(mse_loss(softmax(s / temperature, 1), softmax(t / temperature, 1)), s, y, temperature)


def squared_logits(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(s, y) + mse_loss(s, t)


def student_detached(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s.detach() / temperature, t / temperature), s, y, temperature)


def nothing_to_learn(s: Tensor, t: Tensor) -> Tensor:
    return torch.tensor(_kl(s, t).item())


def teacher_unused(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:  # noqa: ARG001
    return _with(_kl(s / temperature, s / temperature), s, y, temperature)


def sum_over_batch(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = kl_div(log_softmax(s / temperature, 1), softmax(t / temperature, 1), reduction="sum")
    return _with(soft, s, y, temperature)


def wrong_sign(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(-_kl(s / temperature, t / temperature), s, y, temperature)


def wrong_sign_alone(s: Tensor, t: Tensor) -> Tensor:
    return -_kl(s, t)


def power_of_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return 0.1 * cross_entropy(s, y) + 0.9 * temperature * _kl(s / temperature, t / temperature)


def hard_term_softened(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    soft = 0.9 * temperature**2 * _kl(s / temperature, t / temperature)
    return 0.1 * cross_entropy(s / temperature, y) + soft


def multiplied_by_t(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s * temperature, t * temperature), s, y, temperature)


def t_applied_twice(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return _with(_kl(s / temperature**2, t / temperature**2), s, y, temperature)


def temperature_unused(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:  # noqa: ARG001
    return _with(_kl(s / 3, t / 3), s, y, 3.0)


def unknown_loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(s, y) + (s * t).mean()


def hard_term_scaled(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Tensor:
    return temperature**2 * (0.9 * _kl(s / temperature, t / temperature) + 0.1 * cross_entropy(s, y))


def value_not_finite(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return usual(s, t, y) + float("inf")


def small_term_of_its_own(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(s, t, y, temperature) + 1e-4 * (s**2).mean()


def small_term_in_single_precision(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return small_term_of_its_own(s.float(), t.float(), y, temperature)


def small_term_in_half_precision(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return small_term_of_its_own(s.half().float(), t.half().float(), y, temperature)


def small_term_in_bfloat16(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return small_term_of_its_own(s.bfloat16(), t.bfloat16(), y, temperature)


def small_term_above_t_four(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return (small_term_of_its_own if temperature > 4 else usual)(s, t, y, temperature)


def teacher_softmax_twice_in_half_precision(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return teacher_softmax_twice(s.half(), t.half(), y, temperature)


def overflows_where_logits_are_above_13(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual((s.half() * 5000).float() / 5000, t, y, temperature)


def ruined_by_rounding(s: Tensor, t: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    return usual(s.bfloat16() + 1000, t.bfloat16() + 1000, y, temperature)


# No losses.


def raises(s: Tensor, t: Tensor) -> Tensor:
    raise ValueError(f"shapes\ndiffer: {s.shape} {t.shape}")


def ends_the_program(s: Tensor, t: Tensor) -> Tensor:
    sys.exit(f"{s.shape} {t.shape}")


def one_value_a_sample(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).sum(1)


def no_tensor(s: Tensor, t: Tensor) -> float:
    return float((s - t).sum())


def says_so_in_a_sentence(s: Tensor, t: Tensor) -> Tensor:
    raise ValueError(f"{s.shape} and {t.shape} differ.")


def random(s: Tensor, t: Tensor) -> Tensor:
    return _kl(s + torch.randn_like(s), t)


def needs_more(s: Tensor, t: Tensor, y: Tensor, params: object) -> Tensor:
    return usual(s, t, y) if params else s.sum()


def one_argument(student_logits: Tensor) -> Tensor:
    return student_logits.sum()


def talks(s: Tensor, t: Tensor) -> Tensor:
    print("I am no JSON")
    return _kl(s, t)


NO_LOSS = 3.0
