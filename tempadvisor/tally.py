"""Sums over samples, block by block, and the means and standard errors that follow from them.

Memory is bounded by one block and by classes, not by samples. Blocks are cut into slices that fit a core's cache;
slices run on threads (numpy lets them), and are added up in order, so that results do not depend on the threads.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tempadvisor.gate import check_finite
from tempadvisor.measures import (
    N_BINS,
    SOFTNESS_LEVELS,
    TEMPERATURES,
    Floats,
    Whole,
    calibration_bins,
    curve_temperature,
    geometry,
    softness,
    split,
)
from tempadvisor.relations import MAX_CLASSES, ClassMargins, MarginSums, Relations, margin_sums, relations

_SLICE_VALUES = 1 << 19  # small enough for a core's cache, large enough for threads
_OCTAVES = tuple(2.0**k for k in range(-7, 11))  # softness temperatures are looked for in 1/128 to 1024
PILOT_ROWS = 256
_MARGIN = 2  # steps of the grid beyond the temperatures that the first rows ask for
THREADS = min(os.cpu_count() or 1, 16)


def grid_for(logits: Floats) -> tuple[float, ...]:
    """Return the temperatures to measure: `TEMPERATURES`, and as many steps more as the softness levels need.

    Args:
        logits: (N, C), finite rows that stand for all.
    """
    pilot = logits[:: max(len(logits) // PILOT_ROWS, 1)]
    curve = softness(split(pilot, pilot.argmax(axis=1)), _OCTAVES).entropy.mean(axis=0)
    wanted = np.array([SOFTNESS_LEVELS[0], SOFTNESS_LEVELS[-1]]) * math.log(logits.shape[1])
    low, high = np.interp(wanted, curve, np.log2(_OCTAVES))
    first = min(4 * math.log2(TEMPERATURES[0]), max(4 * low - _MARGIN, 4 * math.log2(_OCTAVES[0])))
    last = max(4 * math.log2(TEMPERATURES[-1]), min(4 * high + _MARGIN, 4 * math.log2(_OCTAVES[-1])))
    return tuple(2.0 ** (k / 4) for k in range(math.floor(first), math.ceil(last) + 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Mean:
    """A mean over n samples with its standard error; arrays over temperatures, or single numbers."""

    value: Floats
    error: Floats


class Tally:
    """Add up what is measured of blocks of logits."""

    def __init__(self, n_classes: int, grid: tuple[float, ...], where: str, *, labelled: bool) -> None:
        self.n_samples = 0
        self.where = where
        self.n_classes = n_classes
        self.grid = np.asarray(grid)
        self._grid = grid
        self.labelled = labelled
        self._sums: dict[str, Floats] = {}
        self._squares: dict[str, Floats] = {}
        self._bins = np.zeros((3, N_BINS))
        self._margins = ClassMargins(n_classes) if n_classes <= MAX_CLASSES else None
        self._one = grid.index(1.0)

    def add(self, logits: Floats, labels: Whole | None, pool: ThreadPoolExecutor) -> None:
        """Add a block of logits (N, C), with labels (N,) if this tally is labelled.

        Raises:
            InputError: the block holds NaN or infinity.
        """
        rows = max(1, _SLICE_VALUES // self.n_classes)
        parts = [slice(start, start + rows) for start in range(0, len(logits), rows)]
        for measured, margins in pool.map(
            lambda part: self._measure(logits[part], None if labels is None else labels[part]), parts
        ):
            for name, values in measured.items():
                self._sums[name] = self._sums.get(name, 0.0) + values.sum(axis=0)
                self._squares[name] = self._squares.get(name, 0.0) + np.square(values).sum(axis=0)
            if self.labelled:
                self._bins += calibration_bins(measured["top1_probability"][:, self._one], measured["accuracy"] > 0)
            if self._margins and margins:
                self._margins.add(margins)
        self.n_samples += len(logits)

    def _measure(self, logits: Floats, labels: Whole | None) -> tuple[Mapping[str, Floats], MarginSums | None]:
        check_finite(logits, self.where)
        parts = split(logits, logits.argmax(axis=1) if labels is None else labels)
        soft, shape = softness(parts, self._grid), geometry(parts)
        measured = {
            "entropy_nats": soft.entropy,
            "top1_probability": soft.top1_probability,
            "nontarget_entropy_nats": soft.nontarget_entropy,
            "margin": shape.margin,
            "logit_std": shape.logit_std,
            "top_gap": shape.top_gap,
            "rest_std": shape.rest_std,
        }
        if self.labelled:
            measured["nll_nats"] = soft.target_loss
            measured["accuracy"] = (parts.ahead > 0).astype(np.float64)
        return measured, margin_sums(parts) if self._margins else None

    def mean(self, name: str) -> Mean:
        """Return the mean of a measure; one value per temperature of the grid for curves."""
        mean = self._sums[name] / self.n_samples
        variance = np.maximum(self._squares[name] / self.n_samples - mean**2, 0.0)
        return Mean(mean, np.sqrt(variance / max(self.n_samples - 1, 1)))

    def at_one(self, name: str) -> Mean:
        """Return the mean of a measure at T = 1."""
        curve = self.mean(name)
        return Mean(curve.value[self._one], curve.error[self._one]) if np.ndim(curve.value) else curve

    def public(self, curve: Floats) -> tuple[float, ...]:
        """Return the part of a curve over the grid that belongs to `TEMPERATURES`."""
        start = int(np.searchsorted(self.grid, TEMPERATURES[0]))
        return tuple(float(value) for value in curve[start : start + len(TEMPERATURES)])

    def softness_temperature(self, level: float) -> tuple[float, float] | None:
        """Return the temperature with mean entropy `level` * log K, and the standard error of its logarithm.

        By the delta method the error is that of the mean entropy there, over its slope in log T.
        """
        entropy = self.mean("entropy_nats")
        found = curve_temperature(self.grid, entropy.value, level * math.log(self.n_classes))
        if found is None:
            return None
        log_t, at = np.log(self.grid), math.log(found)
        slope = np.interp(at, log_t, np.gradient(entropy.value, log_t))
        return found, float(np.interp(at, log_t, entropy.error) / slope)

    def calibration_bins(self) -> Floats:
        """Return the summed bins of `measures.calibration_bins`."""
        return self._bins

    def distances(self) -> tuple[Whole, Floats] | None:
        """Return the classes seen and `relations.ClassMargins.distances` between them; None for too many classes."""
        return (np.flatnonzero(self._margins.counts), self._margins.distances()) if self._margins else None

    def relations(self) -> Relations | None:
        """Return class relations at entropy levels 0.3 and 0.5; None for too many classes."""
        sharp, soft = self.softness_temperature(0.3), self.softness_temperature(0.5)
        if self._margins is None or sharp is None or soft is None:
            return None
        return relations(self._margins.distances(), sharp[0], soft[0])
