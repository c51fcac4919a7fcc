"""What the KD term of a loss may be: the right one, and the mistakes that people make, each as a formula.

Each form is a function of z_s, z_t (N, K) and T that returns the mean over samples. `lossfit` finds which fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

Term = Callable[[Tensor, Tensor, float], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A KD term; `wrong` says what is wrong with it, empty where nothing is. Without `tempered` T does nothing."""

    code: str
    term: Term
    wrong: str = ""
    tempered: bool = True


def _mean(per_sample: Tensor) -> Tensor:
    return per_sample.sum(1).mean()


def divergence(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
    """Return KL(p_t || p_s), p = softmax(z / T), the mean over samples."""
    log_p, log_q = log_softmax(z_t / t, 1), log_softmax(z_s / t, 1)
    return _mean(log_p.exp() * (log_p - log_q))


def _standardized(correction: int) -> Term:
    def term(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
        s, g = (z / z.std(dim=1, keepdim=True, correction=correction) for z in (z_s, z_t))
        return divergence(s, g, t)

    return term


def _one_sided(student: bool) -> Term:
    def term(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
        log_p, log_q = log_softmax(z_t / (1 if student else t), 1), log_softmax(z_s / (t if student else 1), 1)
        return _mean(log_p.exp() * (log_p - log_q))

    return term


def _over_the_batch(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
    log_p, log_q = log_softmax(z_t / t, 0), log_softmax(z_s / t, 0)
    return _mean(log_p.exp() * (log_p - log_q))


def _softmax_twice(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
    return divergence(softmax(z_s / t, 1), softmax(z_t / t, 1), 1.0)


FORMS = (
    Form(code="kl", term=divergence),
    Form(code="standardized", term=_standardized(0)),
    Form(code="standardized_sample", term=_standardized(1)),
    Form(
        code="arguments_swapped",
        term=lambda s, t, tau: divergence(t, s, tau),
        wrong="The arguments of KL are swapped: it is KL(student || teacher). kl_div takes the student's "
        "log-probabilities first, then the teacher's probabilities.",
    ),
    Form(
        code="probabilities",
        term=lambda s, t, tau: -_mean(softmax(t / tau, 1) * softmax(s / tau, 1)),
        wrong="kl_div got the student's probabilities where it takes log-probabilities: use log_softmax.",
    ),
    Form(
        code="swapped_probabilities",
        term=lambda s, t, tau: _mean(softmax(s / tau, 1) * (log_softmax(s / tau, 1) - softmax(t / tau, 1))),
        wrong="The arguments of kl_div are swapped, and the teacher's probabilities stand where log-probabilities "
        "belong: give log_softmax of the student first, then softmax of the teacher.",
    ),
    Form(
        code="log_target_missing",
        term=lambda s, t, tau: -_mean(log_softmax(t / tau, 1) * log_softmax(s / tau, 1)),
        wrong="kl_div got the teacher's log-probabilities without log_target=True: add it, or use softmax.",
    ),
    Form(
        code="log_target_wrong",
        term=lambda s, t, tau: -_mean(softmax(t / tau, 1).exp() * log_softmax(s / tau, 1)),
        wrong="kl_div got the teacher's probabilities with log_target=True: leave it out, or use log_softmax.",
    ),
    Form(
        code="student_only",
        term=_one_sided(student=True),
        wrong="The temperature is on the student's side only: divide the teacher's logits by T too.",
    ),
    Form(
        code="teacher_only",
        term=_one_sided(student=False),
        wrong="The temperature is on the teacher's side only: divide the student's logits by T too (unless this is "
        "meant to be TTM).",
    ),
    Form(
        code="wrong_dimension",
        term=_over_the_batch,
        wrong="The softmax runs over the batch, not over the classes: use dim=1.",
    ),
    Form(
        code="softmax_twice",
        term=_softmax_twice,
        wrong="Softmax is taken twice: kl_div's log_softmax gets probabilities, not logits.",
    ),
    Form(
        code="squared_probabilities",
        term=lambda s, t, tau: _mean((softmax(s / tau, 1) - softmax(t / tau, 1)) ** 2),
        wrong="The KD term is the squared error of probabilities, not KL: advice on T does not hold for it.",
    ),
    Form(
        code="squared_logits",
        term=lambda s, t, _: _mean((s - t) ** 2),
        wrong="The KD term is the squared error of logits, not KL; it has no temperature to advise.",
        tempered=False,
    ),
)


def teacher_entropy(z_t: Tensor, t: float) -> Tensor:
    """Return the mean entropy of softmax(z_t / T), in nats: by it a cross-entropy with soft targets is above KL."""
    log_p = log_softmax(z_t / t, 1)
    return -_mean(log_p.exp() * log_p)


def gradient(form: Form, z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
    """Return d term / d z_s, (N, K)."""
    with torch.enable_grad():
        z = z_s.detach().clone().requires_grad_()
        return torch.autograd.grad(form.term(z, z_t.detach(), t), z)[0]
