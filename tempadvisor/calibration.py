"""Read a belief about response curves so that what is said of it holds as often as it says.

Near-optimal intervals, the interval of the best temperature and verdicts come from the curves of a `Response` and
from thresholds that were calibrated on held-out setups (`evaluation.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.response import GRID, LOG_GRID, Response

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

USUAL = (1.0, 2.0, 4.0, 8.0)
HARM = 0.002  # accuracy lost against no KD that counts as harm


class Calibration(NamedTuple):
    """How held-out answers must be read for their intervals and verdicts to hold as often as they say.

    `tolerance` is the expected loss that bounds the near-optimal interval; `low` and `high` are the quantiles of the
    predicted best temperature that bound its 90 % interval; KD may hurt where the chance of a loss exceeds
    `harm`; and the temperature is indifferent where the usual ones are expected to lose at most `indifferent`.
    """

    tolerance: float
    low: float
    high: float
    harm: float
    indifferent: float


def at(temperatures: Array, gain: Array) -> Response:
    """Return curves given at the temperatures of the corpus (S, 10) as a response at others; flat beyond."""
    places = np.interp(np.log2(temperatures), LOG_GRID, np.arange(len(LOG_GRID)))
    low = places.astype(int)
    high = np.minimum(low + 1, len(LOG_GRID) - 1)
    return Response(temperatures, gain[:, low] + (places - low) * (gain[:, high] - gain[:, low]))


def blend(rules: Response, learned: Response, share: float) -> Response:
    """Return the mixture of both beliefs, `share` of the learned one, from T=1 on, below which no run was measured.

    Both hold equally many curves at the same temperatures.
    """
    n = len(rules.gain)
    taken = round(share * n)
    pick = (np.arange(n) * taken) // n != (np.arange(1, n + 1) * taken) // n
    mixed = Response(rules.temperatures, np.where(pick[:, None], learned.gain, rules.gain))
    above = rules.temperatures > GRID[0]
    return Response(np.append(GRID[0], rules.temperatures[above]), np.c_[mixed.at(GRID[0]), mixed.gain[:, above]])


def ci90_of(answer: Response, calibration: Calibration) -> tuple[float, float]:
    """Return the calibrated 90 % interval of the best temperature."""
    best = np.sort(best_temperatures(answer))
    low = best[min(int(calibration.low * len(best)), len(best) - 1)]
    high = best[min(int(calibration.high * len(best)), len(best) - 1)]
    return float(min(low, high)), float(max(low, high))


def best_temperatures(answer: Response) -> Array:
    """Return each curve's own best temperature, (S,)."""
    best: Array = answer.temperatures[np.argmax(answer.gain, axis=1)]
    return best


def chance_of_harm(answer: Response, temperature: float) -> float:
    """Return the share of curves that lie below no KD by more than the harm tolerated."""
    return float(np.mean(answer.at(temperature) < -HARM))


def most_lost(answer: Response) -> float:
    """Return what the worst of the usual temperatures is expected to lose against the best."""
    return max(answer.gain_over(answer.best, t).mean for t in USUAL)
