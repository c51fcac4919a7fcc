"""A loss on the reference logits: its values and gradients, and how much of them its rounding changes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tempadvisor.errors import InputError
from tempadvisor.losscall import Call, Loss, Value, call, double_works
from tempadvisor.lossfit import Probe, batches

LOWER = (torch.float16, torch.bfloat16, torch.float32)
CASTS = (Tensor.half, Tensor.bfloat16, Tensor.float)


def probe_dtype(loss: Loss) -> torch.dtype:
    """Return float64 where the loss takes it and answers in it, else float32."""
    z_s, z_t, y = batches(torch.float64)[0]
    return torch.float64 if double_works(loss, loss.make(loss.temperature, {}), z_s, z_t, y) else torch.float32


def probed(loss: Loss, temperature: float | None, changed: Mapping[str, Value], dtype: torch.dtype) -> list[Probe]:
    """Call the loss on every batch of reference logits.

    Raises:
        InputError: it raises, or answers otherwise when asked again.
    """
    function = loss.make(temperature, changed)
    probes = []
    for student, teacher, labels in batches(dtype):
        z_s, z_t = student.clone().requires_grad_(), teacher.clone().requires_grad_()
        with torch.enable_grad():
            value = call(loss, function, z_s, z_t, labels)
        slopes: tuple[torch.Tensor | None, ...] = (None, None)
        if value.requires_grad:
            slopes = torch.autograd.grad(value, (z_s, z_t), allow_unused=True)
        probes.append(
            Probe(
                student=student,
                teacher=teacher,
                labels=labels,
                value=float(value.detach()),
                gradient=slopes[0],
                teacher_gets_gradient=slopes[1] is not None and bool(slopes[1].abs().max() > 0),
            )
        )
    again = float(call(loss, function, *batches(dtype)[0]).detach())
    first = probes[0].value
    if not math.isclose(again, first, rel_tol=1e-5, abs_tol=1e-9) and math.isfinite(first + again):
        raise InputError(
            f"{loss.name} must answer the same when asked again. Got {first:.6g}, then {again:.6g}. Leave out what "
            "is random or keeps a state.",
            code="random_loss",
        )
    return probes


def in_double(loss: Loss) -> Loss:
    """Return the same loss with its casts to a lower precision left out, so that what it rounds away is there."""

    def make(temperature: float | None, changed: Mapping[str, Value]) -> Call:
        function = loss.make(temperature, changed)

        def unrounded(z_s: Tensor, z_t: Tensor, y: Tensor) -> Any:
            with _InDouble():
                return function(z_s, z_t, y)

        return unrounded

    return dataclasses.replace(loss, make=make)


class _InDouble(TorchFunctionMode):
    """Turn every cast to a lower floating-point type that torch sees into one to float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in CASTS:
            func = Tensor.double
        return func(*map(_doubled, args), **{name: _doubled(value) for name, value in (kwargs or {}).items()})


def _doubled(argument: Any) -> Any:
    return torch.float64 if isinstance(argument, torch.dtype) and argument in LOWER else argument


def rounding(loss: Loss) -> float:
    """Return the largest share of a batch's gradient that changes where a loss does not round.

    0 where that cannot be said: it does not run without its casts, or has no gradient, or none that is finite.

    Raises:
        InputError: as written, it raises, or answers otherwise when asked again.
    """
    double = in_double(loss)
    written = probed(loss, loss.temperature, {}, probe_dtype(loss))
    try:
        unrounded = probed(double, loss.temperature, {}, probe_dtype(double))
    except InputError:
        return 0.0
    worst = 0.0
    for probe, exact in zip(written, unrounded, strict=True):
        if probe.gradient is None or exact.gradient is None:
            return 0.0
        right = exact.gradient.double()
        share = float((probe.gradient.double() - right).norm() / right.norm().clamp_min(1e-300))
        if not math.isfinite(share):
            return 0.0
        worst = max(worst, share)
    return worst
