"""What logits say about softness, geometry and calibration: pure numpy functions on logits (N, C).

z is one row of logits, K the number of classes, p = softmax(z / T); entropies are in nats, accuracies fractions.
The target of a row is its label where known, else its highest class. Adding a constant to each row or permuting
the classes changes nothing, and scaling logits and temperatures together changes nothing. How samples are
gathered, and when there are enough, is decided in `profiling.py`; what classes have to do with each other is
measured in `relations.py`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.integer[Any]]

TEMPERATURES = tuple(2.0 ** (k / 4) for k in range(-4, 25))  # 0.5 to 64
SOFTNESS_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
N_BINS = 15
_CHAIN_OCTAVES = 7  # squaring doubles the relative error, so exp starts anew after so many octaves
_UNDERFLOW = 80.0  # e^-80 is near the smallest normal float32


def softmax_entropy(logits: Floats, temperature: float) -> Floats:
    """Return the entropy of the softened prediction, H = logsumexp(z / T) - sum_k p_k z_k / T.

    Args:
        logits: (N, C).
        temperature: T above 0.

    Returns:
        (N,), in nats, between 0 and log K.

    Source: evidence.

    >>> softmax_entropy(np.zeros((1, 4)), 2.0).round(4)
    array([1.3863])
    """
    scaled = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    weights = np.exp(scaled)
    total = weights.sum(axis=1)
    entropy: Floats = np.log(total) - (weights * scaled).sum(axis=1) / total
    return entropy


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """Hold logits of N samples as the target on one side and the other K - 1 classes on the other.

    `rest` (N, C) float32 holds z_k - m with m the highest logit among the classes other than the target, and 0 at
    the target; `ahead` (N,) is z_target - m, above 0 where the target is the highest class. `total` and `squares`
    (N,) are the sums of a row of `rest` and of its squares.
    """

    rest: npt.NDArray[np.float32]
    ahead: Floats
    target: Whole
    total: Floats
    squares: Floats


def split(logits: Floats, target: Whole) -> Split:
    """Set the target apart from the other classes.

    Args:
        logits: (N, C), finite, C at least 2.
        target: (N,), class numbers.

    >>> split(np.array([[5.0, 1.0, 3.0]]), np.array([0])).ahead
    array([2.])
    """
    index = np.arange(len(logits))
    rest = np.array(logits)
    rest[index, target] = -np.inf
    top = rest[index, rest.argmax(axis=1)]
    rest[index, target] = top
    rest -= top[:, None]
    ahead = (logits[index, target] - top).astype(np.float64)
    rest = rest.astype(np.float32, copy=False)
    total = np.einsum("ij->i", rest).astype(np.float64)
    return Split(rest, ahead, target, total, np.vecdot(rest, rest).astype(np.float64))


@dataclasses.dataclass(frozen=True, slots=True)
class Softness:
    """Hold curves (N, n_temperatures) of N samples over temperature; entropies in nats.

    With q the softened prediction restricted to the classes other than the target and renormalized,
    `nontarget_entropy` is H(q): what a student can learn beyond the target ("dark knowledge"). `target_loss` is
    -log p_target, the negative log likelihood where the target is the label.
    """

    entropy: Floats
    top1_probability: Floats
    nontarget_entropy: Floats
    target_loss: Floats


def softness(parts: Split, temperatures: tuple[float, ...] = TEMPERATURES) -> Softness:
    """Measure how soft predictions are over a grid of temperatures.

    With w_k = exp((z_k - m) / T) over the K - 1 classes other than the target, S = sum w and
    A = sum w_k (z_k - m) / T: H(q) = log S - A / S, and the target joins in the log domain. Where the grid holds
    T / 2 beside T, its weights are the squares of those at T, so that exp is taken once for each chain.

    Args:
        parts: logits of N samples.
        temperatures: ascending, above 0.

    Returns:
        Curves in float64; the weights are float32, which keeps entropies within 1e-4 nats.

    Source: evidence.

    >>> alike = split(np.zeros((1, 4)), np.array([0]))
    >>> round(float(softness(alike, (1.0,)).nontarget_entropy[0, 0]), 4)  # log 3
    1.0986
    """
    rest, target = parts.rest, parts.target
    index = np.arange(len(rest))
    lowest = float(rest.min(initial=0.0))
    totals = np.empty((len(temperatures), len(rest)), np.float32)
    sums = np.empty_like(totals)
    weights = np.empty_like(rest)
    for chain in _chains(temperatures):
        for step, k in enumerate(chain):
            temperature = temperatures[k]
            if step == 0:
                np.multiply(rest, np.float32(1 / temperature), out=weights)
                np.exp(weights, out=weights)
                weights[index, target] = 0.0
            else:
                if lowest / temperature < -_UNDERFLOW:
                    weights += np.float32(1e-18)  # squares stay clear of denormals, which are slow
                np.multiply(weights, weights, out=weights)
            np.einsum("ij->i", weights, out=totals[k])
            np.vecdot(weights, rest, out=sums[k])
    grid = np.asarray(temperatures)
    total = totals.T.astype(np.float64)
    return _with_target(np.log(total), sums.T / (total * grid), parts.ahead[:, None] / grid)


def _with_target(log_rest: Floats, mean_rest: Floats, ahead: Floats) -> Softness:
    """Join the target, with scaled logit `ahead` above the best other class, to sums over the other classes."""
    log_total = np.logaddexp(log_rest, ahead)
    loss = log_total - ahead
    share = np.exp(-loss)
    rest = np.exp(log_rest - log_total)
    return Softness(
        entropy=np.maximum(log_total - share * ahead - rest * mean_rest, 0.0),
        top1_probability=np.exp(np.maximum(ahead, 0.0) - log_total),
        nontarget_entropy=np.maximum(log_rest - mean_rest, 0.0),
        target_loss=loss,
    )


def _chains(temperatures: tuple[float, ...]) -> list[list[int]]:
    """Return positions in the grid, grouped so that each temperature of a group is half of the one before."""
    place = {temperature: k for k, temperature in enumerate(temperatures)}
    chains: list[list[int]] = []
    left = set(temperatures)
    for temperature in sorted(temperatures, reverse=True):
        chain: list[int] = []
        while temperature in left and len(chain) <= _CHAIN_OCTAVES:
            left.remove(temperature)
            chain.append(place[temperature])
            temperature /= 2
        if chain:
            chains.append(chain)
    return chains


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """Hold how the logits of N samples lie, each (N,), in logit units, whatever the target.

    `margin` is the highest minus the second-highest logit, `logit_std` the standard deviation over classes,
    `top_gap` the highest minus the mean of the others, `rest_std` the standard deviation of the others.
    """

    margin: Floats
    logit_std: Floats
    top_gap: Floats
    rest_std: Floats


def geometry(parts: Split) -> Geometry:
    """Measure margin and spread of N rows of logits, which do not depend on what the target is.

    Source: evidence.

    >>> found = geometry(split(np.array([[5.0, 1.0, 3.0]]), np.array([1])))
    >>> float(found.margin[0]), float(found.top_gap[0]), float(found.rest_std[0])
    (2.0, 3.0, 1.0)
    """
    rest, ahead, total, squares = parts.rest, parts.ahead, parts.total, parts.squares
    n = rest.shape[1] - 1
    below = np.minimum(ahead, 0.0)  # the target, where it is not the highest
    gap = np.maximum(ahead, 0.0) - (total + below) / n
    mean = (total + ahead) / (n + 1)
    margin = np.maximum(ahead, 0.0)
    lost = np.flatnonzero(ahead < 0)
    others = rest[lost]
    here = np.arange(len(lost))
    others[here, parts.target[lost]] = ahead[lost]
    others[here, others.argmax(axis=1)] = -np.inf
    margin[lost] = -others.max(axis=1, initial=-np.inf)
    return Geometry(
        margin=margin,
        logit_std=np.sqrt(np.maximum((squares + ahead**2) / (n + 1) - mean**2, 0.0)),
        top_gap=gap,
        rest_std=np.sqrt(np.maximum((squares + below**2) / n - ((total + below) / n) ** 2, 0.0)),
    )


def spike_temperature(top_gap: float, rest_std: float, n_classes: int, probability: float = 0.5) -> float | None:
    """Return the temperature at which a spike over a Gaussian background has the wanted top probability.

    T = s^2 / (g - sqrt(g^2 - 2 s^2 L)) with L = ln(p (K - 1) / (1 - p)), g = `top_gap` and s = `rest_std`, both
    in logit units; its limit g / L where s is 0. None where L is not positive or g^2 <= 2 s^2 L.

    Source: evidence.

    >>> round(spike_temperature(10.0, 0.0, 3), 3)  # 10 / ln 2
    14.427
    """
    spread = math.log(probability * (n_classes - 1) / (1 - probability))
    root = top_gap**2 - 2 * rest_std**2 * spread
    if spread <= 0 or root <= 0 or top_gap <= 0:
        return None
    return (top_gap + math.sqrt(root)) / (2 * spread)


def entropy_temperature(logits: Floats, share: float) -> float | None:
    """Return the temperature at which the mean entropy is `share` of log K, by bisection.

    Solves mean H(softmax(z / T)) = share * log K for T in 0.01 to 1000; None where it is not reached.

    Source: evidence.

    >>> two = np.array([[0.0, 3.0]])
    >>> round(entropy_temperature(two, 0.5) / entropy_temperature(two / 3, 0.5), 6)
    3.0
    """
    wanted = share * math.log(logits.shape[1])
    return _bisect(lambda log_t: float(softmax_entropy(logits, math.exp(log_t)).mean()) - wanted, 0.01, 1000.0)


def curve_temperature(temperatures: Floats, curve: Floats, wanted: float) -> float | None:
    """Return the temperature at which an ascending `curve` over `temperatures` reaches `wanted`, or None.

    The curve is a cubic in log T between grid points, with central differences as slopes.

    >>> round(curve_temperature(np.array([1.0, 2.0, 4.0]), np.log([1.0, 2.0, 4.0]), math.log(3.0)), 6)
    3.0
    """
    log_t = np.log(temperatures)
    slopes = np.gradient(curve, log_t)

    def height(x: float) -> float:
        i = min(max(int(np.searchsorted(log_t, x)) - 1, 0), len(log_t) - 2)
        h = log_t[i + 1] - log_t[i]
        u = (x - log_t[i]) / h
        left = (1 + 2 * u) * (1 - u) ** 2 * curve[i] + u * (1 - u) ** 2 * h * slopes[i]
        right = u**2 * (3 - 2 * u) * curve[i + 1] + u**2 * (u - 1) * h * slopes[i + 1]
        return float(left + right) - wanted

    return _bisect(height, float(temperatures[0]), float(temperatures[-1]))


def _bisect(height: Any, low: float, high: float) -> float | None:
    """Return T in [low, high] where `height` of log T changes from negative to positive, or None."""
    a, b = math.log(low), math.log(high)
    if height(a) > 0 or height(b) < 0:
        return None
    for _ in range(50):
        middle = (a + b) / 2
        a, b = (middle, b) if height(middle) < 0 else (a, middle)
    return math.exp((a + b) / 2)


def calibration_bins(confidence: Floats, correct: npt.NDArray[np.bool_]) -> Floats:
    """Return (3, 15): count, sum of confidence and number correct in 15 equal bins of confidence.

    Args:
        confidence: (N,), the top probability at T = 1.
        correct: (N,).
    """
    bins = np.clip((confidence * N_BINS).astype(np.int64), 0, N_BINS - 1)
    return np.stack([np.bincount(bins, w, N_BINS) for w in (np.ones(len(bins)), confidence, correct.astype(float))])


def calibration_error(bins: Floats) -> float:
    """Return the expected calibration error, sum_b |correct_b - confidence_b| / N over 15 equal-width bins.

    Args:
        bins: (3, 15), from `calibration_bins`; sums over blocks add up.

    Returns:
        A fraction between 0 and 1.

    Source: guo2017.

    >>> calibration_error(calibration_bins(np.array([0.9, 0.9]), np.array([True, False]))).__round__(3)
    0.4
    """
    return float(np.abs(bins[2] - bins[1]).sum() / bins[0].sum())


def calibration_temperature(temperatures: Floats, nll: Floats) -> float | None:
    """Return the temperature with the least negative log likelihood, by a parabola in log T around the lowest point.

    Args:
        temperatures: (n,), a geometric grid.
        nll: (n,), the mean over samples in nats at each.

    Returns:
        T, or None where the least lies at an end of the grid (a teacher that is always right has no finite one).

    Source: guo2017.
    """
    k = int(np.argmin(nll))
    if k in (0, len(nll) - 1):
        return None
    left, middle, right = nll[k - 1 : k + 2]
    step = math.log(temperatures[k + 1] / temperatures[k])
    curvature = left - 2 * middle + right
    return float(temperatures[k] * math.exp(0.5 * step * (left - right) / curvature)) if curvature > 0 else None
