"""How a temperature is written, and where it lies on a logarithmic scale: the same in panel, page and exports."""

from __future__ import annotations

import dataclasses
import decimal
import math
from collections.abc import Iterable

USUAL = (0.5, 64.0)  # what a scale shows at least
MOST_TICKS = 10
_THREE = decimal.Context(prec=3, rounding=decimal.ROUND_HALF_UP)  # as JavaScript's toPrecision rounds


def written(temperature: float) -> str:
    """Write a temperature in three significant digits, as all advice is rounded.

    >>> written(3.45), written(0.175), written(12), written(1.125)
    ('3.45', '0.175', '12', '1.13')
    """
    return f"{_THREE.create_decimal_from_float(temperature).normalize():f}"


def span(ends: tuple[float, float]) -> str:
    """Write where temperatures lie.

    >>> span((1.14, 3.45))
    '1.14 to 3.45'
    """
    return f"{written(ends[0])} to {written(ends[1])}"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A logarithmic scale of temperatures, from one power of two to another.

    >>> Axis.holding([2.9]), Axis.holding([0.175, 2.9])
    (Axis(low=0.5, high=64.0), Axis(low=0.125, high=64.0))
    """

    low: float
    high: float

    @staticmethod
    def holding(temperatures: Iterable[float]) -> Axis:
        """Return the usual scale, 0.5 to 64, lengthened by whole octaves until it holds all of `temperatures`."""
        logs = [math.log2(t) for t in (*USUAL, *temperatures)]
        return Axis(2.0 ** math.floor(min(logs)), 2.0 ** math.ceil(max(logs)))

    @property
    def octaves(self) -> int:
        """How many there are."""
        return round(math.log2(self.high / self.low))

    @property
    def ticks(self) -> list[float]:
        """The powers of two to label, at most ten, 1 among them."""
        first, step = round(math.log2(self.low)), math.ceil((self.octaves + 1) / MOST_TICKS)
        return [2.0**k for k in range(first, first + self.octaves + 1) if k % step == 0]

    def share(self, temperature: float) -> float:
        """Return where a temperature lies, from 0 at the lower end to 1 at the upper; beyond them it lies there.

        >>> Axis(0.5, 64.0).share(4)
        0.42857142857142855
        """
        return math.log2(min(max(temperature, self.low), self.high) / self.low) / self.octaves

    def grid(self, steps: int) -> list[float]:
        """Return temperatures at `steps` equal distances, both ends among them."""
        return [self.low * 2 ** (self.octaves * i / steps) for i in range(steps + 1)]
