"""From a belief about the response curve to what can be said of a temperature: expected loss, gains, the best one.

A response curve is the accuracy that a student gains over training without KD, as a function of log T. A belief is
held as equally likely curves; whoever makes them (the rules today, a regressor fitted to runs) the questions asked
of them are the same, and live here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.records import Estimate
from tempadvisor.rules import Anchor, Fired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tempadvisor.rules import Strength

    Array = NDArray[np.float64]

GRID = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)  # the temperatures of measured curves
LOG_GRID = np.log2(GRID)
TOLERANCE = 0.002  # accuracy fraction: temperatures within it of the best count as near-optimal
N_CURVES = 128
STEP_OCTAVES = 1.5  # how fast a temperature outside the plateau loses


@dataclasses.dataclass(frozen=True, eq=False)
class Belief:
    """Hold what is believed of a response curve; what may depend on the temperature is a scalar or of shape (G,).

    `center` is log2 of the middle of the plateau and `half_width` half of its width in octaves; gains and costs are
    accuracy fractions (see `rules.Anchor`); `scale` multiplies them.
    """

    center: Strength
    center_std: float
    half_width: float
    gain: float
    gain_std: float
    gain_shift: Strength
    low_cost: Strength
    low_cost_std: Strength
    high_cost: Strength
    high_cost_std: Strength
    scale: Strength


def believe(anchor: Anchor, fired: tuple[Fired, ...]) -> Belief:
    """Move the anchor by the rules that fired.

    Shifts add; their uncertainties add in quadrature, since the rules come from different sources. Where rules pull
    both ways at a temperature, the smaller pull is in dispute: its mean over the temperatures is added to the
    uncertainty, in quadrature too.
    """
    up = sum((np.maximum(one.shift, 0.0) for one in fired), np.asarray(0.0))
    down = sum((np.maximum(-one.shift, 0.0) for one in fired), np.asarray(0.0))
    variance = anchor.octaves_std**2 + float(np.minimum(up, down).mean()) ** 2
    center: Strength = math.log2(anchor.temperature)
    gain_shift: Strength = 0.0
    scale: Strength = 1.0
    low: Strength = 1.0
    high: Strength = 1.0
    for one in fired:
        rule, strength = one.rule, one.strength
        typical = float(np.abs(strength).mean()) if isinstance(strength, np.ndarray) else strength
        variance += typical**2 * (rule.shift_std**2 + rule.widen**2)
        center = center + one.shift
        gain_shift = gain_shift + strength * rule.gain_shift
        scale = scale * rule.gain_factor**strength
        low = low * rule.low_cost_factor**strength
        high = high * rule.high_cost_factor**strength
    return Belief(
        center=center,
        center_std=math.sqrt(variance),
        half_width=anchor.half_width,
        gain=anchor.gain,
        gain_std=anchor.gain_std,
        gain_shift=gain_shift,
        low_cost=anchor.low_cost * low,
        low_cost_std=anchor.low_cost_std * low,
        high_cost=anchor.high_cost * high,
        high_cost_std=anchor.high_cost_std * high,
        scale=scale,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """Equally likely response curves: `gain` (S, G) over no KD, as accuracy fractions, at `temperatures` (G,)."""

    temperatures: Array
    gain: Array

    @property
    def expected(self) -> Array:
        """The mean gain over no KD at each temperature, shape (G,)."""
        mean: Array = self.gain.mean(axis=0)
        return mean

    @property
    def best(self) -> float:
        """The temperature of least expected regret, which is that of greatest expected gain.

        Between the points of the grid, it is the top of the parabola through the best point and its neighbours.
        """
        expected, logs = self.expected, np.log(self.temperatures)
        top = int(np.argmax(expected))
        if top in (0, len(expected) - 1):
            return float(self.temperatures[top])
        before, here, after = expected[top - 1 : top + 2]
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend else 0.0
        return float(np.exp(logs[top] + shift * (logs[top + 1] - logs[top])))

    def interval(self, tolerance: float = TOLERANCE) -> tuple[float, float]:
        """Return the ends of the near-optimal set around the best: expected loss within `tolerance`."""
        fine = self.expected >= self.expected.max() - tolerance
        best = int(np.argmax(self.expected))
        low = best - int(np.argmin(np.append(fine[best::-1], False))) + 1
        high = best + int(np.argmin(np.append(fine[best:], False))) - 1
        return float(self.temperatures[low]), float(self.temperatures[high])

    def best_ci90(self) -> tuple[float, float]:
        """Return the 5 % and 95 % quantiles of each curve's own best temperature.

        A curve with a plateau has many best temperatures; the curves take theirs from evenly spread places on it.
        """
        near = self.gain >= self.gain.max(axis=1, keepdims=True) - 1e-9
        first = np.argmax(near, axis=1)
        count = near.sum(axis=1)
        place = (np.arange(len(near)) * _GOLDEN) % 1.0
        best = np.sort(self.temperatures[first + (place * count).astype(int)])
        tail = round(0.05 * len(best))
        return float(best[tail]), float(best[-1 - tail])

    def at(self, temperature: float) -> Array:
        """Return the gain over no KD of each curve at `temperature`, shape (S,), flat outside the grid."""
        place = np.interp(np.log(temperature), np.log(self.temperatures), np.arange(len(self.temperatures)))
        low = int(place)
        high = min(low + 1, len(self.temperatures) - 1)
        gain: Array = self.gain[:, low] + (place - low) * (self.gain[:, high] - self.gain[:, low])
        return gain

    def gain_over(self, temperature: float, other: float | None) -> Estimate:
        """Return the expected gain of `temperature` over `other` (None: over no KD)."""
        difference = self.at(temperature) - (0.0 if other is None else self.at(other))
        return Estimate(float(difference.mean()), float(difference.std()))


_GOLDEN = 0.6180339887498949


def curves(belief: Belief, temperatures: Array, n_curves: int = N_CURVES) -> Response:
    """Spread a belief into equally likely response curves: a step up, a plateau, a slope down.

    gain(T) = scale * (gain + gain_shift - low_cost * s(lower - x) - high_cost * s(x - upper)), with x = log2 T, the
    plateau from lower to upper, and s(u) = u^2 / (u^2 + 1.5^2) for u > 0. The curves take centre, gain and costs
    from a low-discrepancy sequence, so that the answer is the same every time and smooth in its inputs.

    Source: evidence (section 1: a step, then a plateau).
    """
    points = normals(n_curves, 4)
    x = np.log2(temperatures)
    center = belief.center + belief.center_std * points[:, 0:1]
    gain = belief.gain + belief.gain_std * points[:, 1:2]
    low_cost = np.maximum(belief.low_cost + belief.low_cost_std * points[:, 2:3], 0)
    high_cost = np.maximum(belief.high_cost + belief.high_cost_std * points[:, 3:4], 0)
    lost = low_cost * _step(center - belief.half_width - x) + high_cost * _step(x - center - belief.half_width)
    return Response(temperatures, belief.scale * (gain + belief.gain_shift - lost))


def _step(octaves: Array) -> Array:
    square = np.maximum(octaves, 0.0) ** 2
    return square / (square + STEP_OCTAVES**2)


@functools.cache
def normals(n: int, dimensions: int) -> Array:
    """Return n evenly spread points of a standard normal, shape (n, dimensions).

    Roberts' additive sequence (the generalised golden ratio), put through Box and Muller's transform in pairs.
    """
    ratio = 2.0
    for _ in range(32):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    alpha = ratio ** -np.arange(1, dimensions + 1)
    uniform = (0.5 + np.outer(np.arange(1, n + 1), alpha)) % 1.0
    radius = np.sqrt(-2 * np.log(np.maximum(uniform[:, 0::2], 1e-12)))
    angle = 2 * np.pi * uniform[:, 1::2]
    points = np.empty((n, dimensions))
    points[:, 0::2] = radius * np.cos(angle)
    points[:, 1::2] = radius * np.sin(angle)
    points -= points.mean(axis=0)
    standardized: Array = points / points.std(axis=0)
    standardized.flags.writeable = False  # all callers share it
    return standardized
