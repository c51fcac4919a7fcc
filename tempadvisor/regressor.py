"""Fit models of response curves to measured ones. A fitted model is plain arrays, which `learned.py` asks.

Which way of learning is used is not decided here but by held-out regret, in `evaluation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tempadvisor.curves import SMOOTHER, Curve
from tempadvisor.errors import UsageError
from tempadvisor.features import vector
from tempadvisor.glimpses import Glimpse
from tempadvisor.learned import Lessons, medians, terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Arrays = Mapping[str, NDArray[Any]]

MOST_LOST = 0.30  # of accuracy: a temperature that loses more is bad enough, and must not drown the rest
NOISES = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of the variance that setups do not explain
SPLIT_AT = 0.03  # losses beyond it count as this where trees look for splits


def lessons(curves: Sequence[Curve], glimpses: Sequence[Glimpse] = ()) -> Lessons:
    """Return what can be learned from complete curves, and from glimpses of others.

    Every source has the same weight, and within it a curve counts by its reliability, v / (v + e^2): e is the
    standard error of its paired differences between temperatures, v what curves typically vary over temperatures.
    A source of glimpses alone weighs no more than they are reliable on average.

    Raises:
        UsageError: there are fewer than two.
    """
    if len(curves) < 2:
        raise UsageError(f"curves must be at least 2 to learn from. Got {len(curves)}.", code="too_few_curves")
    gain = np.stack([SMOOTHER @ curve.val_gain.mean(0) for curve in curves])
    varies = np.median(gain.var(1))
    gain = np.stack([*gain, *(glimpse.gain for glimpse in glimpses)])
    best = gain.max(1, keepdims=True)
    errors = [_squared_error(curve.val_gain) for curve in curves] + [glimpse.squared_error for glimpse in glimpses]
    reliability = np.maximum(varies, 1e-12) / (np.maximum(varies, 1e-12) + np.array(errors))
    weight = reliability.copy()
    runs = [curve.run for curve in curves] + [glimpse.run for glimpse in glimpses]
    sources = np.array([str(run.source) for run in runs])
    complete = set(sources[: len(curves)])
    for source in set(sources):
        here = sources == source
        weight[here] /= weight[here].sum() if source in complete else here.sum()
    return Lessons(
        features=np.stack([*map(row_of, curves), *(glimpse.features for glimpse in glimpses)]),
        gain=np.maximum(gain, best - MOST_LOST),
        weight=weight / weight.sum(),
        reliability=reliability,
        names=tuple(str(run.curve) for run in runs),
    )


def _squared_error(gain: Array) -> float:
    """Return the squared standard error of a curve's shape, from its gains by seed and temperature (S, 10)."""
    shape = gain - gain.mean(1, keepdims=True)
    return float(shape.var(0, ddof=1).mean() / len(shape))


def row_of(curve: Curve) -> Array:
    """Return the features of a measured curve, shape (d,)."""
    return vector(curve.profile, curve.run.setup, curve.run.setup.loss_contract())


def _complete(features: Array) -> Array:
    return np.where(np.isnan(features), medians(features), features)


def _scale(features: Array) -> tuple[Array, Array]:
    spread = features.std(0)
    return features.mean(0), np.where(spread > 0, spread, 1.0)


def fit_nearest(learned: Lessons, width: float) -> Arrays:
    """Return the arrays of a mixture of all measured curves, weighted by exp(-distance^2 / (2 width^2)).

    The distance is the root mean square over standardized features; an endless width gives every setup the same
    answer, which is the best fixed temperature.
    """
    complete = _complete(learned.features)
    center, spread = _scale(complete)
    return {"x": (complete - center) / spread, "center": center, "spread": spread, "width": np.array(width),
            "gain": learned.gain, "weight": learned.weight}  # fmt: skip


def fit_forest(learned: Lessons, leaf: int, trees: int = 200) -> Arrays:
    """Return extremely randomized trees as arrays; setups that share leaves with the one asked about answer for it.

    Trees split for the loss against the best temperature and for the gain of the best one. `leaf` is the least
    number of setups in a leaf.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    complete = _complete(learned.features)
    best = learned.gain.max(1, keepdims=True)
    target = np.c_[np.minimum(best - learned.gain, SPLIT_AT), np.clip(best, -SPLIT_AT, SPLIT_AT)]
    forest = ExtraTreesRegressor(trees, min_samples_leaf=leaf, max_features=0.4, random_state=0)
    forest.fit(complete, target, sample_weight=learned.weight)
    grown = [tree.tree_ for tree in forest.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in grown)])
    shift = np.repeat(starts[:-1], np.diff(starts))
    children = [
        np.concatenate([getattr(tree, side) for tree in grown]) for side in ("children_left", "children_right")
    ]
    inner = children[0] >= 0
    leaves = forest.apply(complete) + starts[:-1]
    held = np.bincount(leaves.ravel(), np.repeat(learned.weight, trees), len(shift))
    return {
        "feature": np.where(inner, np.concatenate([tree.feature for tree in grown]), 0).astype(np.int16),
        "threshold": np.concatenate([tree.threshold for tree in grown]),
        "left": np.where(inner, children[0] + shift, np.arange(len(shift))).astype(np.int32),
        "right": np.where(inner, children[1] + shift, np.arange(len(shift))).astype(np.int32),
        "roots": starts[:-1].astype(np.int32),
        "leaves": leaves.astype(np.int32),
        "held": np.where(inner, 1.0, held),
        "gain": learned.gain,
        "weight": learned.weight,
    }


def _basis(gain: Array) -> tuple[Array, Array]:
    """Return mean curve and the three main directions in which curves differ, (10,) and (3, 10)."""
    mean = gain.mean(0)
    return mean, np.linalg.svd(gain - mean, full_matrices=False)[2][:3]


def fit_ridge(learned: Lessons, penalty: float) -> Arrays:
    """Return ridge regression of the curves' three main directions on features and some of their products.

    The products say that what counts depends on the weight of KD, on the duration and on how sharp the teacher is.
    """
    from sklearn.linear_model import Ridge

    complete = _complete(learned.features)
    center, spread = _scale(complete)
    mean, basis = _basis(learned.gain)
    target = (learned.gain - mean) @ basis.T
    x = terms((complete - center) / spread)
    ridge = Ridge(alpha=penalty).fit(x, target, sample_weight=learned.weight * len(learned))
    left = learned.gain - mean - (x @ ridge.coef_.T + ridge.intercept_) @ basis
    return {"center": center, "spread": spread, "mean": mean, "basis": basis, "coefficient": ridge.coef_,
            "intercept": ridge.intercept_, "left": left, "weight": learned.weight}  # fmt: skip


def fit_process(learned: Lessons, length: float) -> Arrays:
    """Return a Gaussian process for each of the curves' three main directions.

    The kernel is a squared exponential of the given length, in root-mean-square distances of standardized features.
    Directions are scaled to a variance of one, which the kernel's height and the noise share; of the shares tried,
    the one of highest marginal likelihood is taken, as a free search takes a hundred times as long.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    complete = _complete(learned.features)
    center, spread = _scale(complete)
    x = (complete - center) / spread
    mean, basis = _basis(learned.gain)
    target = (learned.gain - mean) @ basis.T
    unit = target.std(0)
    tried = [
        GaussianProcessRegressor(
            ConstantKernel(1 - noise) * RBF(length * x.shape[1] ** 0.5) + WhiteKernel(noise), optimizer=None
        ).fit(x, target / unit)
        for noise in NOISES
    ]
    process = max(tried, key=lambda one: one.log_marginal_likelihood_value_)
    lower = np.linalg.inv(process.L_)
    inverse = (lower.T @ lower).astype(np.float16)  # of spreads only, which change by 1e-4 at most
    return {"x": x, "center": center, "spread": spread, "mean": mean, "basis": basis, "unit": unit,
            "alpha": process.alpha_, "inverse": inverse,
            "noise": np.array(process.kernel_.k2.noise_level), "length": np.array(length)}  # fmt: skip


def fit_average(learned: Lessons, length: float) -> Arrays:
    """Return a forest of three setups to a leaf and a process of the given length: each gives half of the answer.

    They err on different setups: the forest stays among measured curves, the process goes on where features lead.
    """
    forest, process = fit_forest(learned, 3), fit_process(learned, length)
    return {f"forest_{name}": values for name, values in forest.items()} | {
        f"process_{name}": values for name, values in process.items()
    }


FITS: Mapping[str, Callable[[Lessons, float], Arrays]] = {
    "nearest": fit_nearest,
    "forest": lambda learned, leaf: fit_forest(learned, int(leaf)),
    "ridge": fit_ridge,
    "process": fit_process,
    "average": fit_average,
}
CANDIDATES: tuple[tuple[str, float], ...] = (
    ("nearest", 1e3),  # the best fixed temperature
    ("nearest", 0.3),
    ("nearest", 0.15),
    ("forest", 3),
    ("forest", 6),
    ("ridge", 30.0),
    ("ridge", 100.0),
    ("process", 0.5),
    ("process", 1.0),
    ("average", 0.5),
    ("average", 1.0),
)
