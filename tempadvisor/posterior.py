"""What a few paired trainings and a prior belief together say of a response curve: equally likely curves again.

The prior's curves, as they are or flatter, plus a smooth deviation, are weighed by how likely they make the
accuracies seen. Which training comes next, and what may be claimed, is decided in `search.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.response import Response

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Cell = tuple[float, int]  # temperature and seed of one training

# Prior weights, read off own runs: what holds of the prior's curves is mostly all or nothing.
FACTORS = {0.0: 0.35, 0.3: 0.2, 1.0: 0.45}  # on the prior's curves
DEVIATIONS = {0.001: 0.5, 0.004: 0.1, 0.015: 0.15, 0.04: 0.1, 0.1: 0.15}  # from them, standard deviation in accuracy
NOISES = {0.5: 0.15, 0.7: 0.2, 1.0: 0.25, 1.4: 0.15, 2.0: 0.1, 4.0: 0.1, 8.0: 0.05}  # in typical standard deviations
OCTAVES = 2.0  # over which deviations are alike
# Variances in units of p (1 - p) / n_val, the last two for every octave between two temperatures.
OWN, SHARED = 0.08, 0.06  # of a training's noise: its own, and what nearby temperatures share within a seed
SAMPLED = 0.03  # of what the sample that is the validation split does to all seeds alike
N_CURVES = 512
_LEVEL_STD = 1.0  # of a seed's level, wide enough to leave only comparisons within seeds


class Posterior(NamedTuple):
    """Equally likely `curves` of accuracy over that at the recommended temperature.

    `noise` (G,) is the variance with which one seed more would tell each difference to it.
    """

    curves: Response
    noise: Array


def condition(
    prior: Response, recommended: float, temperatures: Sequence[float], cells: Mapping[Cell, float], n_val: int
) -> Posterior:
    """Return what is believed of the accuracy at `temperatures` (G,) over that at `recommended`, one of them.

    y(T, s) = level(s) + f(T) + v(T) + e(T, s): f is a curve of the prior times a factor, plus a Matern 3/2 process
    over log2 T; v, a random walk over log2 T, is what the validation split's sample does to every seed alike, and no
    number of seeds averages it away; e is each training's own noise plus a random walk over log2 T for each seed.
    Sizes of deviation and noise, factors and curves are averaged over by their likelihood; f is returned.

    Args:
        prior: equally likely curves of gain over no KD.
        recommended: the temperature that the others are compared with.
        temperatures: those asked about, all that were tried among them.
        cells: validation accuracy by temperature and seed, as a fraction.
        n_val: number of samples of the validation split.

    As measured on own runs (`benchmarks/verify.py`): v and e grow by the octave, and how fast.
    """
    keys = sorted(cells)
    rows = np.array([temperatures.index(t) for t, _ in keys], int)
    seeds = np.array([seed for _, seed in keys], int)
    y = np.array([cells[key] for key in keys])
    level = float(y.mean()) if len(y) else 0.5
    unit = max(level * (1 - level), 1 / n_val) / n_val
    logs = np.log2(np.array(temperatures))
    walk = np.minimum(logs[:, None], logs[None]) - logs.min()
    reference = temperatures.index(recommended)

    gain = np.stack([prior.at(t) for t in temperatures])
    mean = np.concatenate([factor * (gain - gain[reference]) for factor in FACTORS], axis=1)
    deviation, noise = (part.ravel() for part in np.meshgrid(list(DEVIATIONS), list(NOISES), indexing="ij"))
    odds = np.outer(np.outer(list(DEVIATIONS.values()), list(NOISES.values())), list(FACTORS.values()))
    smooth = deviation[:, None, None] ** 2 * _matern(logs)

    seen = np.ix_(rows, rows)
    same = seeds[:, None] == seeds[None]
    fixed = unit * SAMPLED * walk[seen] + _LEVEL_STD**2 * same
    varying = unit * (OWN * np.eye(len(rows)) + SHARED * walk[seen] * same)
    lower = np.linalg.cholesky(fixed + smooth[:, rows[:, None], rows] + noise[:, None, None] ** 2 * varying)
    inverse = np.linalg.inv(lower)
    left = inverse @ (y[:, None] - level - mean[rows])
    likelihood = -0.5 * (left**2).sum(1) - np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)[:, None]
    likelihood += np.log(np.repeat(odds, gain.shape[1]).reshape(likelihood.shape))
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()

    slope = inverse @ smooth[:, rows]
    center = mean + slope.transpose(0, 2, 1) @ left
    values, vectors = np.linalg.eigh(smooth - slope.transpose(0, 2, 1) @ slope)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    places = (np.arange(N_CURVES) + 0.5) / N_CURVES
    kind, curve = np.divmod(np.searchsorted(weight.cumsum(), places).clip(max=weight.size - 1), mean.shape[1])
    normal = np.random.default_rng(0).standard_normal((N_CURVES, len(logs), 1))
    drawn = center[kind, :, curve] + (root[kind] @ normal)[..., 0]
    drawn -= drawn[:, [reference]]
    away = np.abs(logs - logs[reference])
    size = float(weight.sum(1) @ noise**2)
    return Posterior(Response(np.array(temperatures), drawn), unit * size * (2 * OWN + SHARED * away))


def _matern(logs: Array) -> Array:
    away = 3**0.5 * np.abs(logs[:, None] - logs[None]) / OCTAVES
    near: Array = (1 + away) * np.exp(-away)
    return near
