"""What a teacher's classes have to do with each other: which are alike, how fine the labels are.

Everything starts from the class margins D_ij, the mean over samples of class i of z_i - z_j, and their symmetric
form d_ij = (D_ij + D_ji) / 2 >= 0 for a teacher better than chance. All measures are ratios of margins, so
neither the scale of the logits nor a constant added to a row changes them, nor does the order of the classes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tempadvisor.measures import Floats, Whole

MAX_CLASSES = 4096  # class by class matrices of 8 bytes stay below 150 MB


class ClassMargins:
    """Gather the sums over samples of z_target - z_j for each target class, block by block."""

    def __init__(self, n_classes: int) -> None:
        self.sums = np.zeros((n_classes, n_classes))
        self.counts = np.zeros(n_classes, np.int64)

    def add(self, logits: Floats, target: Whole) -> None:
        """Add a block of logits (N, C) with their classes (N,)."""
        order = np.argsort(target, kind="stable")
        classes, starts, counts = np.unique(target[order], return_index=True, return_counts=True)
        own = logits[np.arange(len(logits)), target]
        self.sums[classes] -= np.add.reduceat(logits[order] - own[order][:, None], starts, axis=0)
        self.counts[classes] += counts

    def symmetric(self) -> Floats:
        """Return d_ij (n, n) over the n classes seen, in logit units; 0 on the diagonal."""
        seen = np.flatnonzero(self.counts)
        margins = self.sums[np.ix_(seen, seen)]
        margins /= self.counts[seen][:, None]
        margins += margins.T.copy()
        margins /= 2
        return margins


@dataclasses.dataclass(frozen=True, slots=True)
class Relations:
    """Hold what the classes have to do with each other; see `relations`."""

    related_mass: float
    confusable_classes: float
    block_structure: float
    granularity: float


def similarity(margins: Floats) -> Floats:
    """Return how alike classes are: Z_ij = max(0, 1 - 2 d_ij / typical), the typical d being the median.

    Args:
        margins: (n, n), d_ij in logit units.

    Returns:
        (n, n), between 0 (at least half as far apart as classes typically are) and 1 (not told apart).
    """
    n = len(margins)
    typical = float(np.median(margins[~np.eye(n, dtype=bool)])) if n > 2 else 0.0
    alike = np.clip(1 - 2 * margins / typical, 0, 1) if typical > 0 else np.zeros_like(margins)
    np.fill_diagonal(alike, 1.0)
    return alike


def relations(margins: Floats, temperature: float) -> Relations:
    """Measure class relations from symmetric class margins.

    With Z_ij the similarity: `confusable_classes` is the mean over i of sum_{j != i} Z_ij; `granularity` is the
    mean over i of log sum_j Z_ij, in nats: log K less the log of the effective number of distinct classes.
    With q_i the softened non-target prediction of class i, proportional to exp(-d_ij / T): `related_mass` is the
    mean of sum_j q_ij Z_ij, less what uniform q gives, as a share of what is left to gain; `block_structure`
    is the share of pairs of relatives of a class that are relatives of each other, beyond chance.

    Args:
        margins: (n, n), d_ij in logit units.
        temperature: T at which the non-target part is softened.

    Source: leinster-cobbold.
    """
    n = len(margins)
    if n < 3:
        return Relations(0.0, 0.0, 0.0, 0.0)
    alike = similarity(margins)
    sizes = alike.sum(axis=1)
    np.fill_diagonal(alike, 0.0)
    weights = np.exp(-(margins - _nearest(margins)) / temperature)
    np.fill_diagonal(weights, 0.0)
    related = float(((weights * alike).sum(axis=1) / weights.sum(axis=1)).mean())
    chance = float(alike.sum() / (n * (n - 1)))
    return Relations(
        related_mass=_beyond(related, chance),
        confusable_classes=n * chance - chance,
        block_structure=_blocks(alike, chance),
        granularity=float(np.log(sizes).mean()),
    )


def _nearest(margins: Floats) -> Floats:
    others = margins.copy()
    np.fill_diagonal(others, np.inf)
    nearest: Floats = others.min(axis=1, keepdims=True)
    return nearest


def _beyond(share: float, chance: float) -> float:
    return max(0.0, (share - chance) / (1 - chance)) if chance < 1 else 0.0


def _blocks(alike: Floats, chance: float) -> float:
    """Return the weighted transitivity of similarity beyond chance: sum Z_ij Z_jk Z_ki / sum Z_ij Z_jk (k != i)."""
    paths = alike @ alike
    closed = float((paths * alike).sum())
    paths_total = float(paths.sum() - np.trace(paths))
    return _beyond(closed / paths_total, chance) if paths_total > 0 else 0.0
