"""Which form, temperature and coefficients give the gradients that a loss was seen to have.

With the form's term t(z_s, z_t; T), labels y and u = 1 / K, the gradient of any loss that is known here is

    dL/dz_s = a (p_s - y) / N + b (p_s - u) / N + c dt/dz_s,

linear in a, b, c for each batch: least squares in them, and a search in T. a + b is the weight of the hard term and
b / (a + b) its label smoothing. Nothing is trusted that the user says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softmax

from tempadvisor.lossforms import FORMS, Form, gradient

LOW, HIGH, STEPS = 0.02, 500.0, 61
GOLDEN = (math.sqrt(5) - 1) / 2
SHAPES = ((6, 5, 2.0), (6, 11, 3.0), (9, 5, 1.5), (13, 8, 5.0))  # samples, classes, spread of the logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """A batch of reference logits, and what the loss did with it; `gradient` is None where there is none."""

    student: Tensor
    teacher: Tensor
    labels: Tensor
    value: float
    gradient: Tensor | None
    teacher_gets_gradient: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """The best fit of one form: `error` is the largest share of a batch's gradient that it leaves unexplained.

    `hard`, `smooth` and `soft` hold a, b and c of each probe.
    """

    form: Form
    temperature: float
    error: float
    hard: tuple[float, ...]
    smooth: tuple[float, ...]
    soft: tuple[float, ...]


def batches(dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return student logits, teacher logits and labels of several shapes, fixed, of both signs."""
    made = []
    for number, (n, k, spread) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(number)
        z_s, z_t = (spread * torch.randn(n, k, generator=generator, dtype=torch.float64) for _ in range(2))
        made.append((z_s.to(dtype), z_t.to(dtype), torch.randint(k, (n,), generator=generator)))
    return made


def fit(probes: Sequence[Probe], hints: Sequence[float], *, tolerance: float, labels: bool) -> Fit:
    """Return the first form that explains every gradient within `tolerance`, else the one that comes nearest.

    Args:
        probes: with gradients.
        hints: temperatures to try first.
        tolerance: share of a gradient that may stay unexplained.
        labels: whether the loss takes labels, so that it can have a hard term.
    """
    best: Fit | None = None
    for form in FORMS:
        found = fit_form(form, probes, hints, tolerance=tolerance, labels=labels)
        if found.error <= tolerance:
            return found
        best = found if best is None or found.error < best.error else best
    assert best is not None
    return best


def fit_form(
    form: Form,
    probes: Sequence[Probe],
    hints: Sequence[float],
    *,
    tolerance: float,
    labels: bool,
    softened: bool = False,
) -> Fit:
    """Return the best fit of one form: at a hint if that is good enough, else where a search over T ends.

    The search looks at the first probe alone, the fit that it ends with at all of them. With `softened` the hard
    term is at temperature T too.
    """

    def of(t: float, looked_at: Sequence[Probe]) -> Fit:
        hard = [_hard(probe, t if softened else 1.0) if labels else [] for probe in looked_at]
        return _solved(form, t, looked_at, hard)

    def at(t: float) -> Fit:
        return of(t, probes)

    def error(t: float) -> float:
        return of(t, probes[:1]).error

    for hint in hints if form.tempered else hints[:1]:
        if (found := at(hint)).error <= tolerance / 10:
            return found
    if not form.tempered:
        return at(1.0)
    grid = [LOW * (HIGH / LOW) ** (i / (STEPS - 1)) for i in range(STEPS)]
    errors = [error(t) for t in grid]
    nearest = min(range(STEPS), key=errors.__getitem__)
    low, high = grid[max(nearest - 1, 0)], grid[min(nearest + 1, STEPS - 1)]
    return at(_minimum(error, low, high))


def hard_alone(probes: Sequence[Probe]) -> float:
    """Return the share of the gradients that a hard term alone leaves unexplained."""
    worst = 0.0
    for probe in probes:
        worst = max(worst, _least_squares(_hard(probe), probe)[1])
    return worst


def _hard(probe: Probe, t: float = 1.0) -> list[Tensor]:
    n, k = probe.student.shape
    p = softmax(probe.student.double() / t, 1)
    return [(p - one_hot(probe.labels, k)) / n, (p - 1 / k) / n]


def _solved(form: Form, t: float, probes: Sequence[Probe], hard: Sequence[list[Tensor]]) -> Fit:
    solved = []
    worst = 0.0
    for probe, basis in zip(probes, hard, strict=True):
        soft = gradient(form, probe.student.double(), probe.teacher.double(), t)
        coefficients, error = _least_squares([*basis, soft], probe)
        solved.append(coefficients if basis else [0.0, 0.0, *coefficients])
        worst = max(worst, error)
    a, b, c = zip(*solved, strict=True)
    return Fit(form=form, temperature=t, error=worst, hard=a, smooth=b, soft=c)


def _least_squares(basis: Sequence[Tensor], probe: Probe) -> tuple[list[float], float]:
    """Return the coefficients, and the length of what is left over that of the gradient."""
    assert probe.gradient is not None
    seen = probe.gradient.double().flatten()
    columns = torch.stack([column.flatten() for column in basis], 1)
    scale = columns.norm(dim=0).clamp_min(1e-300)
    solution = torch.linalg.lstsq(columns / scale, seen[:, None], driver="gelsd").solution[:, 0]
    left = (seen - (columns / scale) @ solution).norm() / seen.norm().clamp_min(1e-300)
    return (solution / scale).tolist(), float(left)


def _minimum(error: Callable[[float], float], low: float, high: float) -> float:
    """Return where `error` is least between two temperatures, by golden section over log T."""
    a, b = math.log(low), math.log(high)
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_left, at_right = error(math.exp(left)), error(math.exp(right))
    for _ in range(45):
        if at_left < at_right:
            b, right, at_right = right, left, at_left
            left = b - GOLDEN * (b - a)
            at_left = error(math.exp(left))
        else:
            a, left, at_left = left, right, at_right
            right = a + GOLDEN * (b - a)
            at_right = error(math.exp(right))
    return math.exp((a + b) / 2)
