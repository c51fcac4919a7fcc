"""Learn response curves from measured ones: features of a setup to equally likely curves of gain over no KD.

Every model answers in the same form, so that they can be compared, blended with the rules and asked the same
questions (`response.py`). A fitted model is plain arrays and is evaluated with numpy; scikit-learn only fits. What is
not known of a setup is drawn from the corpus: the answer is a mixture over all setups' values of it. Which model is
used is not decided here but by held-out regret, in `evaluation.py`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tempadvisor.curves import LOG_T, SMOOTHER, Curve
from tempadvisor.errors import UsageError
from tempadvisor.features import VECTOR, vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Arrays = Mapping[str, NDArray[Any]]

N_CURVES = 128
MOST_LOST = 0.10  # of accuracy: a temperature that loses more is bad enough, and must not drown the rest
SPLIT_AT = 0.03  # losses beyond it count as this where trees look for splits
_GOLDEN = 0.6180339887498949


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What is learned from: n setups with their `features` (n, d) and smoothed validation `gain` (n, 10) over no KD.

    Losses against a setup's best temperature are cut at 10 points. `weight` (n,) lets every source count alike.
    """

    features: Array
    gain: Array
    weight: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def lessons(curves: Sequence[Curve]) -> Lessons:
    """Return what can be learned from curves.

    Raises:
        UsageError: there are fewer than two.
    """
    if len(curves) < 2:
        raise UsageError(f"curves must be at least 2 to learn from. Got {len(curves)}.", code="too_few_curves")
    gain = np.stack([SMOOTHER @ curve.val_gain.mean(0) for curve in curves])
    best = gain.max(1, keepdims=True)
    sources = [str(curve.run.source) for curve in curves]
    weight = np.array([1 / sources.count(source) for source in sources])
    return Lessons(
        features=np.stack([row_of(curve) for curve in curves]),
        gain=np.maximum(gain, best - MOST_LOST),
        weight=weight / weight.sum(),
        names=tuple(str(curve.run.curve) for curve in curves),
    )


def row_of(curve: Curve) -> Array:
    """Return the features of a measured curve, shape (d,)."""
    return vector(curve.profile, curve.run.setup, curve.run.setup.loss_contract())


def fill(row: Array, features: Array) -> Array:
    """Return `row` with what is unknown drawn from every setup of `features` in turn, shape (M, d); M is 1 or n."""
    unknown = np.isnan(row)
    if not unknown.any():
        return row[None]
    drawn = np.where(unknown, features, row)
    center: Array = np.nanmedian(features, axis=0)
    return np.where(np.isnan(drawn), np.nan_to_num(center), drawn)


def _complete(features: Array) -> Array:
    return np.where(np.isnan(features), np.nan_to_num(np.nanmedian(features, axis=0)), features)


def _scale(features: Array) -> tuple[Array, Array]:
    spread = features.std(0)
    return features.mean(0), np.where(spread > 0, spread, 1.0)


def draw(gain: Array, weight: Array, n: int = N_CURVES) -> Array:
    """Return n curves that stand for a mixture of `gain` (n, G) under `weight` (n,): systematic resampling."""
    order = np.argsort(gain @ LOG_T, kind="stable")
    reached = np.cumsum(weight[order])
    places = np.searchsorted(reached / reached[-1], (np.arange(n) + 0.5) / n)
    return gain[order[np.minimum(places, len(order) - 1)]]


# Models: how each is fitted, and how its arrays answer. `rows` is (M, d), complete; an answer is (S, 10).


def fit_nearest(learned: Lessons, width: float) -> Arrays:
    """Return the arrays of a mixture of all measured curves, weighted by exp(-distance^2 / (2 width^2)).

    The distance is the root mean square over standardized features; an endless width gives every setup the same
    answer, which is the best fixed temperature.
    """
    complete = _complete(learned.features)
    center, spread = _scale(complete)
    return {"x": (complete - center) / spread, "center": center, "spread": spread, "width": np.array(width),
            "gain": learned.gain, "weight": learned.weight}  # fmt: skip


def curves_nearest(model: Arrays, rows: Array) -> Array:
    """Answer with the weighted mixture of measured curves."""
    scaled = (rows - model["center"]) / model["spread"]
    square = ((scaled[:, None] - model["x"][None]) ** 2).mean(2)
    closeness = np.exp(-(square - square.min(1, keepdims=True)) / (2 * model["width"] ** 2)) * model["weight"]
    return draw(model["gain"], (closeness / closeness.sum(1, keepdims=True)).mean(0))


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
    return {
        "feature": np.where(inner, np.concatenate([tree.feature for tree in grown]), 0).astype(np.int16),
        "threshold": np.concatenate([tree.threshold for tree in grown]),
        "left": np.where(inner, children[0] + shift, np.arange(len(shift))).astype(np.int32),
        "right": np.where(inner, children[1] + shift, np.arange(len(shift))).astype(np.int32),
        "roots": starts[:-1].astype(np.int32),
        "leaves": leaves.astype(np.int32),
        "gain": learned.gain,
        "weight": learned.weight,
    }


def curves_forest(model: Arrays, rows: Array) -> Array:
    """Answer with the curves of the setups in the same leaves, every tree having one vote."""
    node = np.repeat(model["roots"][None], len(rows), axis=0)
    feature, threshold, left, right = (model[name] for name in ("feature", "threshold", "left", "right"))
    while True:
        value = np.take_along_axis(rows, feature[node].astype(np.intp), axis=1)
        after = np.where(value <= threshold[node], left[node], right[node])
        if (after == node).all():
            break
        node = after
    vote = np.zeros(len(model["gain"]))
    for here in node:
        shared = (model["leaves"] == here) * model["weight"][:, None]
        vote += (shared / shared.sum(0)).sum(1)
    return draw(model["gain"], vote)


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
    terms = _terms((complete - center) / spread)
    ridge = Ridge(alpha=penalty).fit(terms, target, sample_weight=learned.weight * len(learned))
    left = learned.gain - mean - (terms @ ridge.coef_.T + ridge.intercept_) @ basis
    return {"center": center, "spread": spread, "mean": mean, "basis": basis, "coefficient": ridge.coef_,
            "intercept": ridge.intercept_, "left": left, "weight": learned.weight}  # fmt: skip


def _terms(scaled: Array) -> Array:
    """Return features and products, shape (n, terms), of standardized features within three deviations."""
    x = np.clip(scaled, -3, 3)
    names = list(VECTOR)
    key = [names.index(name) for name in ("log2_soft_odds", "log2_steps", "log2_logit_std", "sgd")]
    products = [x[:, i] * x[:, j] for i in key for j in range(x.shape[1]) if j not in key or j >= i]
    terms: Array = np.c_[x, np.stack(products, 1)]
    return terms


def curves_ridge(model: Arrays, rows: Array) -> Array:
    """Answer with the predicted curve, spread by what the fit left over."""
    scores = _terms((rows - model["center"]) / model["spread"]) @ model["coefficient"].T + model["intercept"]
    predicted = model["mean"] + scores @ model["basis"]
    rest = draw(model["left"], model["weight"])
    return predicted[(np.arange(N_CURVES) * len(predicted)) // N_CURVES] + rest[_shuffled(N_CURVES)]


def fit_process(learned: Lessons, length: float) -> Arrays:
    """Return a Gaussian process for each of the curves' three main directions.

    The kernel is a squared exponential of the given length, in root-mean-square distances of standardized features;
    its height and the noise maximize the marginal likelihood.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    complete = _complete(learned.features)
    center, spread = _scale(complete)
    x = (complete - center) / spread
    mean, basis = _basis(learned.gain)
    target = (learned.gain - mean) @ basis.T
    alphas, inverses, heights, noises = [], [], [], []
    for column in target.T / target.std(0)[:, None]:
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(length * x.shape[1] ** 0.5, "fixed")
        process = GaussianProcessRegressor(kernel + WhiteKernel(1.0, (1e-2, 1e2)), alpha=1e-9, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a height or noise at its bound is an answer
            process.fit(x, column)
        alphas.append(process.alpha_.ravel())
        lower = np.linalg.inv(process.L_)
        inverses.append(lower.T @ lower)
        heights.append(process.kernel_.k1.k1.constant_value)
        noises.append(process.kernel_.k2.noise_level)
    return {"x": x, "center": center, "spread": spread, "mean": mean, "basis": basis, "unit": target.std(0),
            "alpha": np.array(alphas), "inverse": np.array(inverses), "height": np.array(heights),
            "noise": np.array(noises), "length": np.array(length)}  # fmt: skip


def curves_process(model: Arrays, rows: Array) -> Array:
    """Answer with curves of the predictive distribution, noise included: setups alike in features differ too."""
    from tempadvisor.response import normals

    square = ((((rows - model["center"]) / model["spread"])[:, None] - model["x"][None]) ** 2).mean(2)
    shape = np.exp(-square / (2 * model["length"] ** 2))
    which = (np.arange(N_CURVES) * len(rows)) // N_CURVES
    scores = []
    points = normals(N_CURVES, 4)[_shuffled(N_CURVES)]
    for i, height in enumerate(model["height"]):
        kernel = height * shape
        variance = height + model["noise"][i] - np.einsum("mi,ij,mj->m", kernel, model["inverse"][i], kernel)
        mean = kernel @ model["alpha"][i]
        scores.append(model["unit"][i] * (mean[which] + np.sqrt(np.maximum(variance, 0))[which] * points[:, i]))
    answer: Array = model["mean"] + np.stack(scores, 1) @ model["basis"]
    return answer


def _shuffled(n: int) -> NDArray[np.intp]:
    return np.argsort((np.arange(n) * _GOLDEN) % 1.0)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to learn: how it is fitted with its one setting, and how its arrays answer."""

    fit: Callable[[Lessons, float], Arrays]
    curves: Callable[[Arrays, Array], Array]


KINDS: Mapping[str, Kind] = {
    "nearest": Kind(fit_nearest, curves_nearest),
    "forest": Kind(lambda learned, leaf: fit_forest(learned, int(leaf)), curves_forest),
    "ridge": Kind(fit_ridge, curves_ridge),
    "process": Kind(fit_process, curves_process),
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
)
