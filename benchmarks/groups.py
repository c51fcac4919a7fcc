"""Compare groups of measured curves within their sources, then over sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tempadvisor.curves import Curve

Array = npt.NDArray[np.float64]


def by_source(curves: Iterable[Curve], value: Callable[[Curve], float]) -> dict[str, Array]:
    """Return the values of curves, by source."""
    groups: dict[str, list[float]] = {}
    for curve in curves:
        groups.setdefault(str(curve.run.source), []).append(value(curve))
    return {source: np.array(values) for source, values in sorted(groups.items())}


def macro(curves: Sequence[Curve], value: Callable[[Curve], float]) -> tuple[float, float]:
    """Return mean and standard error of a value of curves: the mean of the sources' means."""
    parts = [part for part in by_source(curves, value).values() if len(part) > 1]
    if not parts:
        return float("nan"), float("nan")
    variance = sum(part.var(ddof=1) / len(part) for part in parts)
    return float(np.mean([part.mean() for part in parts])), float(variance**0.5 / len(parts))


def difference(
    one: Sequence[Curve], other: Sequence[Curve], value: Callable[[Curve], float]
) -> tuple[float, float, int]:
    """Return how a value differs between two groups, within each source and averaged over sources.

    Returns:
        Mean of `one` less `other`, its standard error over curves, and in how many sources both have two curves.
    """
    parts = by_source(one, value), by_source(other, value)
    shared = [source for source in parts[0] if all(len(part.get(source, ())) > 1 for part in parts)]
    if not shared:
        return float("nan"), float("nan"), 0
    gaps = [parts[0][source].mean() - parts[1][source].mean() for source in shared]
    variance = sum(part[source].var(ddof=1) / len(part[source]) for source in shared for part in parts)
    return float(np.mean(gaps)), float(variance**0.5 / len(shared)), len(shared)
