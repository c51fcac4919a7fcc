"""What the KD term and the hard term of a loss may be: the right ones, and people's mistakes, each as a formula.

Each form is a function of z_s, z_t (N, K) and T that returns the mean over samples. `lossfit` finds which fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax

Side = Callable[[Tensor, float], Tensor]
Term = Callable[[Tensor, Tensor, float], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A KD term; `wrong` says what is wrong with it, empty where nothing is. Without `tempered` T does nothing."""

    code: str
    name: str
    term: Term
    wrong: str = ""
    tempered: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardTerm:
    """What the hard term's cross-entropy gets for logits, of z_s and T; `wrong` and `tempered` as in a form."""

    code: str
    logits: Side
    wrong: str = ""
    tempered: bool = False


def _mean(per_sample: Tensor) -> Tensor:
    return per_sample.sum(1).mean()


def _plain(z: Tensor, t: float) -> Tensor:
    return log_softmax(z / t, 1)


def _untempered(z: Tensor, _: float) -> Tensor:
    return log_softmax(z, 1)


def _over_the_batch(z: Tensor, t: float) -> Tensor:
    return log_softmax(z / t, 0)


def _of_probabilities(z: Tensor, t: float) -> Tensor:
    return log_softmax(softmax(z, 1) / t, 1)


def _of_softened_probabilities(z: Tensor, t: float) -> Tensor:
    return log_softmax(softmax(z / t, 1), 1)


def _between(student: Side, teacher: Side) -> Term:
    """Return KL(p_t || p_s) of log-probabilities made in these ways, the mean over samples."""

    def term(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
        log_p, log_q = teacher(z_t, t), student(z_s, t)
        return _mean(log_p.exp() * (log_p - log_q))

    return term


divergence = _between(_plain, _plain)


def _standardized(correction: int) -> Term:
    def term(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
        s, g = (z / z.std(dim=1, keepdim=True, correction=correction) for z in (z_s, z_t))
        return divergence(s, g, t)

    return term


def _twice(side: Side) -> tuple[Form, Form, Form]:
    """Return the forms whose softmax is taken twice in this way: on both sides, the teacher's, the student's."""
    return (
        Form(
            code="softmax_twice",
            name="KL with the softmax taken twice",
            term=_between(side, side),
            wrong="Softmax is taken twice: kl_div's log_softmax gets probabilities, not logits.",
        ),
        Form(
            code="teacher_softmax_twice",
            name="KL with the teacher's softmax taken twice",
            term=_between(_plain, side),
            wrong="The teacher's softmax is taken twice: it gets probabilities, not logits. Give it the teacher's "
            "logits.",
        ),
        Form(
            code="student_softmax_twice",
            name="KL with the student's softmax taken twice",
            term=_between(side, _plain),
            wrong="The student's softmax is taken twice: log_softmax gets probabilities, not logits. Give it the "
            "student's logits.",
        ),
    )


_TWICE = _twice(_of_probabilities)
_TWICE_SOFTENED = _twice(_of_softened_probabilities)
_KL = Form(code="kl", name="KL", term=divergence)

FORMS = (
    _KL,
    Form(code="standardized", name="KL of standardized logits", term=_standardized(0)),
    Form(
        code="standardized_sample",
        name="KL of logits over their sample standard deviation",
        term=_standardized(1),
    ),
    Form(
        code="arguments_swapped",
        name="KL with its arguments swapped",
        term=lambda s, t, tau: divergence(t, s, tau),
        wrong="The arguments of KL are swapped: it is KL(student || teacher). kl_div takes the student's "
        "log-probabilities first, then the teacher's probabilities.",
    ),
    Form(
        code="probabilities",
        name="kl_div of the student's probabilities",
        term=lambda s, t, tau: -_mean(softmax(t / tau, 1) * softmax(s / tau, 1)),
        wrong="kl_div got the student's probabilities where it takes log-probabilities: use log_softmax.",
    ),
    Form(
        code="swapped_probabilities",
        name="kl_div with its arguments swapped, of the teacher's probabilities",
        term=lambda s, t, tau: _mean(softmax(s / tau, 1) * (log_softmax(s / tau, 1) - softmax(t / tau, 1))),
        wrong="The arguments of kl_div are swapped, and the teacher's probabilities stand where log-probabilities "
        "belong: give log_softmax of the student first, then softmax of the teacher.",
    ),
    Form(
        code="log_target_missing",
        name="kl_div of the teacher's log-probabilities without log_target",
        term=lambda s, t, tau: -_mean(log_softmax(t / tau, 1) * log_softmax(s / tau, 1)),
        wrong="kl_div got the teacher's log-probabilities without log_target=True: add it, or use softmax.",
    ),
    Form(
        code="log_target_wrong",
        name="kl_div of the teacher's probabilities with log_target",
        term=lambda s, t, tau: -_mean(softmax(t / tau, 1).exp() * log_softmax(s / tau, 1)),
        wrong="kl_div got the teacher's probabilities with log_target=True: leave it out, or use log_softmax.",
    ),
    Form(
        code="student_only",
        name="KL with T on the student's side only",
        term=_between(_plain, _untempered),
        wrong="The temperature is on the student's side only: divide the teacher's logits by T too.",
    ),
    Form(
        code="teacher_only",
        name="KL with T on the teacher's side only",
        term=_between(_untempered, _plain),
        wrong="The temperature is on the teacher's side only: divide the student's logits by T too (unless this is "
        "meant to be TTM).",
    ),
    Form(
        code="wrong_dimension",
        name="KL with the softmax over the batch",
        term=_between(_over_the_batch, _over_the_batch),
        wrong="The softmax runs over the batch, not over the classes: use dim=1.",
    ),
    Form(
        code="teacher_wrong_dimension",
        name="KL with the teacher's softmax over the batch",
        term=_between(_plain, _over_the_batch),
        wrong="The teacher's softmax runs over the batch, not over the classes: use dim=1.",
    ),
    Form(
        code="student_wrong_dimension",
        name="KL with the student's softmax over the batch",
        term=_between(_over_the_batch, _plain),
        wrong="The student's log_softmax runs over the batch, not over the classes: use dim=1.",
    ),
    *_TWICE,
    *_TWICE_SOFTENED,
    Form(
        code="squared_probabilities",
        name="the squared error of probabilities",
        term=lambda s, t, tau: _mean((softmax(s / tau, 1) - softmax(t / tau, 1)) ** 2),
        wrong="The KD term is the squared error of probabilities, not KL: advice on T does not hold for it.",
    ),
    Form(
        code="squared_logits",
        name="the squared error of logits",
        term=lambda s, t, _: _mean((s - t) ** 2),
        wrong="The KD term is the squared error of logits, not KL; it has no temperature to advise.",
        tempered=False,
    ),
)


PLAIN = HardTerm(code="plain", logits=lambda z, _: z)
_HARD_TWICE_WRONG = "The hard term takes softmax twice: cross_entropy gets probabilities. Give it the plain logits."
_HARD_TWICE = HardTerm(code="hard_softmax_twice", logits=lambda z, _: softmax(z, 1), wrong=_HARD_TWICE_WRONG)
_HARD_TWICE_SOFTENED = HardTerm(
    code="hard_softmax_twice", logits=lambda z, t: softmax(z / t, 1), wrong=_HARD_TWICE_WRONG, tempered=True
)
_SOFTENED = HardTerm(
    code="hard_term_softened",
    logits=lambda z, t: z / t,
    wrong="The hard term is softened too: give cross_entropy the plain logits, not those divided by T.",
    tempered=True,
)
PAIRS = (  # forms and hard terms to look for, those with a plain hard term first
    *((form, PLAIN) for form in FORMS),
    (_KL, _SOFTENED),
    (_KL, _HARD_TWICE),
    (_KL, _HARD_TWICE_SOFTENED),
    *((form, _HARD_TWICE) for form in _TWICE if form.code != "teacher_softmax_twice"),
    *((form, _HARD_TWICE_SOFTENED) for form in _TWICE_SOFTENED if form.code != "teacher_softmax_twice"),
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


def hard_gradients(hard: HardTerm, z_s: Tensor, labels: Tensor, t: float) -> list[Tensor]:
    """Return d CE / d z_s, (N, K), the mean over samples: of the labels, and of uniform targets."""
    with torch.enable_grad():
        z = z_s.detach().clone().requires_grad_()
        logits = hard.logits(z, t)
        targets = (labels, torch.full_like(z_s, 1 / z_s.shape[1]))
        return [torch.autograd.grad(cross_entropy(logits, y), z, retain_graph=True)[0] for y in targets]
