"""Which form, temperature and coefficients give the gradients that a loss was seen to have.

With the form's term t(z_s, z_t; T), labels y and u = 1 / K, the gradient of any loss that is known here is

    dL/dz_s = a (p_s - y) / N + b (p_s - u) / N + c dt/dz_s,

linear in a, b, c for each batch: least squares in them, and a search in T. a + b is the weight of the hard term and
b / (a + b) its label smoothing. A hard term of another kind has other first two columns. Nothing is trusted that the
user says.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tempadvisor.lossforms import FORMS, PAIRS, PLAIN, Form, HardTerm, gradient, hard_gradients

LOW, HIGH, STEPS = 0.02, 500.0, 61
GOLDEN = (math.sqrt(5) - 1) / 2
CLEARLY = 0.9  # a later form is nearer where it leaves less than this share of an earlier form's error
FAR = 0.25  # error at the best T of the grid from which no finer search is worth it: 0.17 at most where a form fits
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
    hard_term: HardTerm
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

    All forms are tried at the hints before one is searched for over T. The search looks at the first probe alone, the
    fit that it ends with at all of them.

    Args:
        probes: with gradients.
        hints: temperatures to try first.
        tolerance: share of a gradient that may stay unexplained.
        labels: whether the loss takes labels, so that it can have a hard term.
    """
    trials = [_Trial(form, hard, probes, labels=labels) for form, hard in (PAIRS if labels else PAIRS[: len(FORMS)])]
    for trial in trials:
        for hint in dict.fromkeys(hints):
            if trial.error(hint) <= tolerance / 10 and (found := trial.at(hint)).error <= tolerance / 10:
                return found
    best: Fit | None = None
    for trial in trials:
        found = trial.nearest()
        if found.error <= tolerance:
            return found
        best = found if best is None or found.error < CLEARLY * best.error else best
    assert best is not None
    return best


class _Trial:
    """A form and a hard term that are fitted to probes; without `labels` there is no hard term."""

    def __init__(self, form: Form, hard: HardTerm, probes: Sequence[Probe], *, labels: bool) -> None:
        self._form, self._hard, self._probes, self._labels = form, hard, probes, labels

    def _hard_term(self, number: int, t: float) -> list[Tensor]:
        if not self._labels:
            return []
        probe = self._probes[number]
        return hard_gradients(self._hard, probe.student.double(), probe.labels, t)

    @functools.cached_property
    def _untempered(self) -> list[list[Tensor]]:
        return [self._hard_term(number, 1.0) for number in range(len(self._probes))]

    def _solved(self, number: int, t: float) -> tuple[list[float], float]:
        probe = self._probes[number]
        basis = self._hard_term(number, t) if self._hard.tempered else self._untempered[number]
        soft = gradient(self._form, probe.student.double(), probe.teacher.double(), t)
        coefficients, error = _least_squares([*basis, soft], probe)
        return (coefficients if basis else [0.0, 0.0, *coefficients]), error

    def error(self, t: float) -> float:
        """Return the share of the first probe's gradient that is left unexplained at one temperature."""
        return self._solved(0, t)[1]

    def at(self, t: float) -> Fit:
        """Return the fit to all probes at one temperature."""
        solved = [self._solved(number, t) for number in range(len(self._probes))]
        a, b, c = zip(*(coefficients for coefficients, _ in solved), strict=True)
        worst = max(error for _, error in solved)
        return Fit(form=self._form, hard_term=self._hard, temperature=t, error=worst, hard=a, smooth=b, soft=c)

    def nearest(self) -> Fit:
        """Return the fit at the temperature that suits the first probe best."""
        if not (self._form.tempered or self._hard.tempered):
            return self.at(1.0)
        grid = [LOW * (HIGH / LOW) ** (i / (STEPS - 1)) for i in range(STEPS)]
        errors = [self.error(t) for t in grid]
        best = min(range(STEPS), key=errors.__getitem__)
        if errors[best] > FAR:
            return self.at(grid[best])
        return self.at(_minimum(self.error, grid[max(best - 1, 0)], grid[min(best + 1, STEPS - 1)]))


def hard_alone(probes: Sequence[Probe]) -> float:
    """Return the share of the gradients that a hard term alone leaves unexplained."""
    return max(_least_squares(hard_gradients(PLAIN, p.student.double(), p.labels, 1.0), p)[1] for p in probes)


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
