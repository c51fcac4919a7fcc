"""The fitted model as it is shipped: plain arrays with what they were fitted on, saved, loaded and asked.

Every way of learning answers with equally likely curves of gain over no KD, so that they can be compared, blended
with the rules and asked the same questions (`response.py`). What is not known of a setup is drawn from the corpus:
the answer is a mixture over values that setups have of it.
`knowledge/model.npz` holds no code and nothing pickled. It is asked with numpy alone, so `recommend` stays fast. How
it is chosen and calibrated is decided in `evaluation.py`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tempadvisor.calibration import Calibration, at, blend, ci90_of
from tempadvisor.errors import KnowledgeError
from tempadvisor.features import VECTOR
from tempadvisor.files import refuse_special
from tempadvisor.records import Nearest, Notice, Reason
from tempadvisor.response import LOG_GRID, TOLERANCE, Response, normals
from tempadvisor.temperatures import written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Arrays = Mapping[str, NDArray[Any]]

SCHEMA = 4
N_CURVES = 128
N_DRAWN = 16  # setups that stand for all where something is unknown
_GOLDEN = 0.6180339887498949
N_NEAREST = 3
FADED = 1.25  # of the reach: there measured runs count for nothing
SAME = 0.005  # distance within which a setup is the one asked about


@dataclasses.dataclass(frozen=True, eq=False)
class Lessons:
    """What is learned from: n setups with their `features` (n, d) and smoothed validation `gain` (n, 10) over no KD.

    Losses against a setup's best temperature are cut at 30 points. `weight` (n,) lets every source count alike;
    `reliability` (n,) is the share of a curve's variance over temperatures that is not the runs' own error.
    """

    features: Array
    gain: Array
    weight: Array
    reliability: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def fill(row: Array, features: Array) -> Array:
    """Return `row` with what is unknown drawn from setups of `features` in turn, shape (M, d).

    M is 1 where all is known, else about `N_DRAWN`, evenly taken from the n setups, or n if they are fewer.
    """
    unknown = np.isnan(row)
    if not unknown.any():
        return row[None]
    drawn = np.where(unknown, features[:: max(1, len(features) // N_DRAWN)], row)
    lacking = np.isnan(drawn)
    if lacking.any():
        drawn = np.where(lacking, medians(features), drawn)
    return drawn


def medians(features: Array) -> Array:
    """Return the median of each feature over the setups that know it, (d,); 0 where none does.

    Not `np.nanmedian`, whose import of masked arrays takes longer than all else that is asked of a model.
    """
    ordered, n = np.sort(features, axis=0), (~np.isnan(features)).sum(0)  # unknowns are sorted to the end
    middle: Array = np.mean(
        [ordered[place, np.arange(features.shape[1])] for place in ((n - 1) // 2, n // 2)], axis=0
    )
    return np.where(n > 0, middle, 0.0)


def draw(gain: Array, weight: Array, n: int = N_CURVES) -> Array:
    """Return n curves that stand for a mixture of `gain` (n, G) under `weight` (n,).

    They are drawn by systematic resampling and moved together to the exact mean of the mixture, so that what is
    expected is smooth in the weights and does not hang on which curve was drawn.
    """
    order = np.argsort(gain @ LOG_GRID, kind="stable")
    reached = np.cumsum(weight[order])
    places = np.searchsorted(reached / reached[-1], (np.arange(n) + 0.5) / n)
    drawn = gain[order[np.minimum(places, len(order) - 1)]]
    moved: Array = drawn + (weight @ gain / weight.sum() - drawn.mean(0))
    return moved


def terms(scaled: Array) -> Array:
    """Return features and products, shape (n, terms), of standardized features within three deviations."""
    x = np.clip(scaled, -3, 3)
    names = list(VECTOR)
    key = [names.index(name) for name in ("log2_soft_odds", "log2_steps", "log2_logit_std", "sgd")]
    products = [x[:, i] * x[:, j] for i in key for j in range(x.shape[1]) if j not in key or j >= i]
    joined: Array = np.c_[x, np.stack(products, 1)]
    return joined


def curves_nearest(model: Arrays, rows: Array) -> Array:
    """Answer with the weighted mixture of measured curves."""
    scaled = (rows - model["center"]) / model["spread"]
    square = ((scaled[:, None] - model["x"][None]) ** 2).mean(2)
    closeness = np.exp(-(square - square.min(1, keepdims=True)) / (2 * model["width"] ** 2)) * model["weight"]
    return draw(model["gain"], (closeness / closeness.sum(1, keepdims=True)).mean(0))


def curves_forest(model: Arrays, rows: Array) -> Array:
    """Answer with the curves of the setups in the same leaves, every tree having one vote."""
    node = np.repeat(model["roots"][None], len(rows), axis=0).astype(np.intp)
    feature, threshold, left, right = (model[name] for name in ("feature", "threshold", "left", "right"))
    start = np.arange(rows.size, step=rows.shape[1])[:, None]
    while True:
        value = rows.take(start + feature.take(node))
        after = np.where(value <= threshold.take(node), left.take(node), right.take(node)).astype(np.intp)
        if (after == node).all():
            break
        node = after
    votes = np.bincount(node.ravel(), minlength=len(left)) / model["held"]
    return draw(model["gain"], model["weight"] * votes[model["leaves"]].sum(1))


def curves_ridge(model: Arrays, rows: Array) -> Array:
    """Answer with the predicted curve, spread by what the fit left over."""
    scores = terms((rows - model["center"]) / model["spread"]) @ model["coefficient"].T + model["intercept"]
    predicted = model["mean"] + scores @ model["basis"]
    rest = draw(model["left"], model["weight"])
    return predicted[(np.arange(N_CURVES) * len(predicted)) // N_CURVES] + rest[_shuffled(N_CURVES)]


def curves_process(model: Arrays, rows: Array) -> Array:
    """Answer with curves of the predictive distribution, noise included: setups alike in features differ too."""
    scaled, x = (rows - model["center"]) / model["spread"], model["x"]
    square = ((scaled**2).sum(1)[:, None] + (x**2).sum(1) - 2 * scaled @ x.T) / x.shape[1]
    kernel = (1 - model["noise"]) * np.exp(-square / (2 * model["length"] ** 2))
    which = (np.arange(N_CURVES) * len(rows)) // N_CURVES
    single = kernel.astype(np.float32)
    spread = np.sqrt(np.maximum(1 - ((single @ model["inverse"].astype(np.float32)) * single).sum(1), 0))
    points = normals(N_CURVES, 4)[_shuffled(N_CURVES)][:, : len(model["basis"])]
    scores = (kernel @ model["alpha"])[which] + spread[which, None] * points
    answer: Array = model["mean"] + model["unit"] * scores @ model["basis"]
    return answer


def curves_average(model: Arrays, rows: Array) -> Array:
    """Answer with the mixture of a forest and a process in equal parts."""
    parts = [
        ask({name.removeprefix(start): values for name, values in model.items() if name.startswith(start)}, rows)
        for start, ask in (("forest_", curves_forest), ("process_", curves_process))
    ]
    both = np.concatenate(parts)
    return draw(both, np.ones(len(both)))


def _shuffled(n: int) -> NDArray[np.intp]:
    return np.argsort((np.arange(n) * _GOLDEN) % 1.0)


# How the arrays of each way of learning answer: `rows` is (M, d), complete, an answer (S, 10).
ANSWERS: Mapping[str, Callable[[Arrays, Array], Array]] = {
    "nearest": curves_nearest,
    "forest": curves_forest,
    "ridge": curves_ridge,
    "process": curves_process,
    "average": curves_average,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What the corpus taught.

    `share` is how much of the blend with the rules is the model's; beyond `reach` from every setup it fades out.
    `best` (n,) is the best temperature of each setup of `lessons`, `version` a checksum of the runs.
    """

    kind: str
    setting: float
    share: float
    calibration: Calibration
    reach: float
    version: str
    lessons: Lessons
    best: Array
    arrays: Arrays

    def response(self, row: Array, temperatures: Array) -> Response:
        """Return the model's belief for a setup with the features `row` (d,), at `temperatures` (G,).

        Where this very setup was measured, that decides as far as it is reliable, as a measurement of variance e^2
        does beside a belief of variance v: with r = v / (v + e^2) the mean moves there by r, and the spread falls to
        sqrt(1 - r) of what it was.
        """
        curves = ANSWERS[self.kind](self.arrays, fill(row, self.lessons.features))
        same = distances(row, self.lessons.features) <= SAME
        if same.any():
            sure = self.lessons.reliability[same]
            measured, rest = sure @ self.lessons.gain[same] / sure.sum(), float(np.prod(1 - sure))
            mean = curves.mean(0)
            curves = measured + rest * (mean - measured) + math.sqrt(rest) * (curves - mean)
        return at(temperatures, curves)

    def nearest(self, row: Array) -> tuple[Nearest, ...]:
        """Return the setups nearest to `row`, the nearest first."""
        far = distances(row, self.lessons.features)
        return tuple(
            Nearest(
                setup=self.lessons.names[i], distance=round(float(far[i]), 3), best_temperature=float(self.best[i])
            )
            for i in np.argsort(far, kind="stable")[:N_NEAREST]
        )


class Weighed(NamedTuple):
    """What the measured runs add to an answer; without `calibration` the rules stand alone, and a notice says why."""

    calibration: Calibration | None = None
    nearest: tuple[Nearest, ...] = ()
    reasons: tuple[Reason, ...] = ()
    notices: tuple[Notice, ...] = ()

    def interval(self, response: Response) -> tuple[float, float]:
        """Return the near-optimal interval, calibrated where it can be."""
        return response.interval(self.calibration.tolerance) if self.calibration else response.interval()

    def best_ci90(self, response: Response) -> tuple[float, float]:
        """Return the 90 % interval of the best temperature, calibrated where it can be."""
        return ci90_of(response, self.calibration) if self.calibration else response.best_ci90()


def weigh(learned: Learned, row: Array | None, rules: Response, *, seen: bool = True) -> tuple[Response, Weighed]:
    """Return the belief of rules and measured runs together, and what the runs add.

    Args:
        learned: the model.
        row: features of the setup (d,), or None where no teacher was seen or no run has its kind of loss.
        rules: what the rules believe.
        seen: whether a teacher was.
    """
    if not seen:
        return rules, Weighed(notices=(Notice("no_teacher_seen", "No teacher was seen: the rules answer alone."),))
    if row is None:
        notice = Notice("no_runs_of_this_loss", "No measured run has such a loss: the rules answer alone.")
        return rules, Weighed(notices=(notice,))
    nearest = learned.nearest(row)
    distance = nearest[0].distance
    share = learned.share * fade(distance, learned.reach)
    if not share:
        text = (
            f"The nearest measured setup is {distance:.2g} away, and beyond {FADED * learned.reach:.2g} "
            "the runs count for nothing: the rules answer alone. What is unknown counts as far."
        )
        return rules, Weighed(nearest=nearest, notices=(Notice("far_from_runs", text),))
    response = blend(rules, learned.response(row, rules.temperatures), share)
    reason = _measured(len(learned.lessons), share, rules.best, response.best, nearest[0])
    calibration = learned.calibration
    if nearest[0].distance <= SAME:  # measured, not predicted: it is read as it is
        calibration = calibration._replace(tolerance=TOLERANCE, low=0.05, high=0.95, indifferent=TOLERANCE)
    return response, Weighed(calibration, nearest, (reason,))


def _measured(n: int, share: float, before: float, after: float, nearest: Nearest) -> Reason:
    octaves = math.log2(after / before)
    alike = (
        f"this very one among them (best at T={written(nearest.best_temperature)})"
        if nearest.distance <= SAME
        else f"those alike most (the nearest {nearest.distance:.2g} away)"
    )
    return Reason(
        id="measured-runs",
        kind="measured",
        effect="none" if abs(octaves) < 0.05 else "raises" if octaves > 0 else "lowers",
        octaves=round(octaves, 3) + 0.0,
        text=f"{n} measured setups, {alike}, with a weight of {share:.0%} against the rules, which alone say "
        f"T={written(before)}.",
        source="knowledge/runs",
        grade="own runs",
    )


def fade(distance: float, reach: float) -> float:
    """Return how much of the model's share is left at a distance: all within `reach`, none from `FADED` of it on."""
    if distance <= reach:
        return 1.0
    return max(0.0, (FADED - distance / reach) / (FADED - 1)) if reach else 0.0


def distances(row: Array, features: Array) -> Array:
    """Return the distance of `row` (d,) to each of `features` (n, d): root mean square over what is known of these.

    Each feature counts in units of its standard deviation over setups, or of one where all are alike. What is unknown
    of `row` counts as two of them, since nothing says that it is near.
    """
    known = ~np.isnan(features)
    n, values = np.maximum(known.sum(0), 1), np.where(known, features, 0.0)
    spread = np.sqrt(np.where(known, (values - values.sum(0) / n) ** 2, 0.0).sum(0) / n)
    square = np.where(np.isnan(row), 4.0, ((values - row) / np.where(spread > 0, spread, 1.0)) ** 2)
    far: Array = np.sqrt(np.where(known, square, 0.0).sum(1) / np.maximum(known.sum(1), 1))
    return far


def save(learned: Learned, path: Path) -> None:
    """Write a model, all or nothing."""
    content: dict[str, Any] = {f"model_{name}": value for name, value in learned.arrays.items()}
    content |= {
        "schema": SCHEMA,
        "columns": np.array(list(VECTOR)),
        "kind": learned.kind,
        "numbers": np.array([learned.setting, learned.share, learned.reach, *learned.calibration]),
        "version": learned.version,
        "features": learned.lessons.features,
        "gain": learned.lessons.gain,
        "weight": learned.lessons.weight,
        "reliability": learned.lessons.reliability,
        "names": np.array(learned.lessons.names),
        "best": learned.best,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(temporary, **content)
    temporary.replace(path)


def load(path: Path) -> Learned:
    """Read a model.

    Raises:
        KnowledgeError: the file is missing, damaged, no regular file, or of another version of tempadvisor.
    """
    refuse_special(path, "a model as `tempadvisor knowledge fit` writes it")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        if int(content["schema"]) != SCHEMA or tuple(content["columns"].tolist()) != tuple(VECTOR):
            raise KnowledgeError(
                f"{path} must be a model of this version. It is of another. Run: tempadvisor knowledge fit.",
                code="other_version",
            )
        setting, share, reach, *calibration = content["numbers"].tolist()
        kind, gain = str(content["kind"]), content["gain"]
        if kind not in ANSWERS or not np.isfinite(gain).all() or len(gain) != len(content["names"]):
            raise ValueError
        learned = Lessons(
            features=content["features"],
            gain=content["gain"],
            weight=content["weight"],
            reliability=content["reliability"],
            names=tuple(map(str, content["names"].tolist())),
        )
        return Learned(
            kind=kind,
            setting=setting,
            share=share,
            calibration=Calibration(*calibration),
            reach=reach,
            version=str(content["version"]),
            lessons=learned,
            best=content["best"],
            arrays={name[6:]: value for name, value in content.items() if name.startswith("model_")},
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise KnowledgeError(
            f"{path} must be a model as `tempadvisor knowledge fit` writes it. Got {type(error).__name__}. "
            "Run: tempadvisor knowledge restore. If that does not help, install tempadvisor again.",
            code="bad_model",
        ) from None
