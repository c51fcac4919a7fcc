"""What a page shows of a teacher beside its profile: a few samples' logits, and which classes it thinks alike.

A profile holds no sample. Whoever wants to show some gives `profiling.profile` a `Reservoir`, which sees the blocks
that are read anyway; without one nothing is kept. What a temperature makes of the logits is computed on the page.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tempadvisor.measures import Floats, Whole, split

MOST_SAMPLES, LEAST_SAMPLES = 12, 3
MOST_VALUES = 60_000  # logits on a page: 12 samples of up to 5,000 classes
WHOLE_MAP = 64  # classes, of which all distances are shown
NEIGHBORS = 8  # of each class
_ROWS, _VALUES = 512, 1 << 21  # held to choose from


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A sample's logits less the highest, its label where known, and its top probability at T = 1."""

    logits: tuple[float, ...]
    label: int | None
    confidence: float

    @property
    def is_wrong(self) -> bool:
        """Whether the label is known and is not the highest class."""
        return self.label is not None and self.logits[self.label] < 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alike:
    """Which classes are alike, of those seen: `relations.ClassMargins.distances`, in logit units, rounded.

    `order` puts classes that are alike beside each other; `near` has for each class the nearest others with their
    distances; `distances` (n, n) in the order of `classes` is None for more than 64 classes.
    """

    classes: tuple[int, ...]
    order: tuple[int, ...]
    near: tuple[tuple[tuple[int, float], ...], ...]
    distances: tuple[tuple[float, ...], ...] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exhibits:
    """What is shown of a teacher: samples from sure to unsure, the wrong ones last; `class_names` where known."""

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...] | None
    alike: Alike | None


class Reservoir:
    """Keep a uniform random sample of the rows that pass, and the distances between classes at the end.

    >>> kept = Reservoir()
    >>> kept.add(np.array([[9.0, 0.0], [0.5, 0.0], [0.0, 3.0]]), np.array([0, 0, 0]))
    >>> [(s.logits, s.is_wrong) for s in kept.exhibits().samples]
    [((0.0, -9.0), False), ((0.0, -0.5), False), ((-3.0, 0.0), True)]
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._logits: Floats | None = None
        self._labels: Whole | None = None
        self._distances: tuple[Whole, Floats] | None = None
        self.class_names: tuple[str, ...] | None = None

    def add(self, logits: Floats, labels: Whole | None) -> None:
        """See a block of logits (N, C) with labels (N,), where known."""
        most = max(min(_ROWS, _VALUES // logits.shape[1]), 4 * LEAST_SAMPLES)
        keys = self._rng.random(len(logits))
        new = keys < (self._keys.max() if len(self._keys) == most else 1.0)
        before = logits[:0] if self._logits is None else self._logits
        keys, rows = np.concatenate([self._keys, keys[new]]), np.concatenate([before, logits[new]])
        kept = np.sort(np.argsort(keys)[:most])
        if labels is not None:
            known = labels[:0] if self._labels is None else self._labels
            self._labels = np.concatenate([known, labels[new]])[kept]
        self._keys, self._logits = keys[kept], rows[kept]

    def relate(self, classes: Whole, distances: Floats) -> None:
        """Take the distances (n, n) between the n classes that were seen."""
        self._distances = classes, distances

    def exhibits(self) -> Exhibits | None:
        """Return what is to be shown; None where nothing passed."""
        if self._logits is None:
            return None
        return Exhibits(
            samples=tuple(_chosen(self._logits.astype(np.float64), self._labels)),
            class_names=self.class_names,
            alike=_alike(*self._distances) if self._distances else None,
        )


def _chosen(logits: Floats, labels: Whole | None) -> list[Sample]:
    """Return samples that span what the teacher answers: evenly spaced margins, up to a third of them wrong."""
    below = logits - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(below).sum(axis=1)
    margin = split(logits, logits.argmax(axis=1)).ahead
    most = min(max(MOST_VALUES // logits.shape[1], LEAST_SAMPLES), MOST_SAMPLES, len(logits))
    wrong = np.zeros(len(logits), bool) if labels is None else below[np.arange(len(labels)), labels] < 0
    n_wrong = max(min(int(wrong.sum()), most // 3), most - int((~wrong).sum()))
    rows = [
        *_spread(np.flatnonzero(~wrong), margin, most - n_wrong),
        *_spread(np.flatnonzero(wrong), margin, n_wrong),
    ]
    decimals = _decimals(float(logits.std(axis=1).mean()))
    return [
        Sample(
            logits=_rounded(below[row], decimals),
            label=None if labels is None else int(labels[row]),
            confidence=float(confidence[row]),
        )
        for row in rows
    ]


def _spread(rows: Whole, margin: Floats, n: int) -> list[int]:
    """Return n of the rows, the largest margin first, those between as evenly spaced as they come."""
    left = rows[np.argsort(-margin[rows], kind="stable")]
    chosen: list[int] = []
    for wanted in np.linspace(margin[left[0]], margin[left[-1]], n) if n else ():
        near = int(np.argmin(np.abs(margin[left] - wanted)))
        chosen.append(int(left[near]))
        left = np.delete(left, near)
    return sorted(chosen, key=lambda row: -float(margin[row]))


def _alike(classes: Whole, distances: Floats) -> Alike | None:
    n = len(classes)
    if n < 3:  # a pair is in every sample
        return None
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    nearest = np.argsort(others, axis=1, kind="stable")[:, : min(NEIGHBORS, n - 1)]
    decimals = _decimals(float(distances.sum()) / (n * (n - 1)))
    return Alike(
        classes=tuple(int(one) for one in classes),
        order=_order(distances) if n <= WHOLE_MAP else tuple(range(n)),
        near=tuple(
            tuple(zip(row.tolist(), _rounded(distances[i, row], decimals), strict=True))
            for i, row in enumerate(nearest)
        ),
        distances=tuple(_rounded(row, decimals) for row in distances) if n <= WHOLE_MAP else None,
    )


def _order(distances: Floats) -> tuple[int, ...]:
    """Return the order of a graph's second eigenvector, which puts classes beside those they are like."""
    likeness = np.exp(-distances / max(float(np.median(distances)) / 3, 1e-9))
    values = np.linalg.eigh(np.diag(likeness.sum(axis=1)) - likeness)[1][:, 1]
    return tuple(np.argsort(values, kind="stable").tolist())


def _decimals(scale: float) -> int:
    """Return how many decimals leave less than a thousandth of `scale`."""
    return 3 - math.floor(math.log10(scale)) if scale > 0 else 3


def _rounded(values: Floats, decimals: int) -> tuple[float, ...]:
    return tuple((np.round(values.astype(np.float64), decimals) + 0.0).tolist())
