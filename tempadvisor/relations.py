"""What a teacher's classes have to do with each other: which are alike, how fine the labels are.

Everything starts from the class margins D_ij, the mean over samples of class i of z_i - z_j, in their symmetric
form d_ij = (D_ij + D_ji) / 2, which acts as a distance between classes. It is always divided by a temperature of
the same teacher's softness, so neither the scale of the logits nor a constant added to a row changes a measure,
nor does the order of the classes. What the classes are called is not looked at.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tempadvisor.measures import Floats, Whole

MAX_CLASSES = 4096  # a matrix of classes by classes stays below 150 MB


class ClassMargins:
    """Gather the sums over samples of z_target - z_j for each target class, block by block."""

    def __init__(self, n_classes: int) -> None:
        self.sums = np.zeros((n_classes, n_classes))
        self.squares = 0.0
        self.counts = np.zeros(n_classes, np.int64)

    def add(self, logits: Floats, target: Whole) -> None:
        """Add a block of logits (N, C) with their classes (N,)."""
        own = logits[np.arange(len(logits)), target]
        if (np.diff(target) < 0).any():
            order = np.argsort(target, kind="stable")
            logits, target, own = logits[order], target[order], own[order]
        classes, starts, counts = np.unique(target, return_index=True, return_counts=True)
        margins = own[:, None] - logits
        self.sums[classes] += np.add.reduceat(margins, starts, axis=0)
        self.squares += float(np.vecdot(margins, margins).sum(dtype=np.float64))
        self.counts[classes] += counts

    def distances(self) -> Floats:
        """Return d_ij (n, n) over the n classes seen, in logit units, cleared of sampling noise; 0 on the diagonal.

        With few samples a class, noise spreads the d_ij, and classes look more alike than they are. So their
        spread around the mean is shrunk to the variance that is left after that of the noise.
        """
        seen = np.flatnonzero(self.counts)
        n = len(seen)
        if n < 2:
            return np.zeros((n, n))
        counts = self.counts[seen]
        found = self.sums[np.ix_(seen, seen)] / counts[:, None]
        own = float((self.sums**2).sum(axis=1)[seen] @ (1 / counts))  # sum of n_i D_ij^2, over all columns
        freedom = max(int(counts.sum()) - n, 1) * (len(self.counts) - 1)
        noise = max(self.squares - own, 0.0) / freedom * float((1 / counts).mean()) / 2
        found += found.T.copy()
        found /= 2
        off = ~np.eye(n, dtype=bool)
        values = found[off]
        spread = float(values.var())
        kept = np.sqrt(max(spread - noise, 0.0) / spread) if spread > 0 else 1.0
        found[off] = np.maximum(values.mean() + kept * (values - values.mean()), 0.0)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Relations:
    """Hold what the classes have to do with each other; see `relations`."""

    related_mass: float
    confusable_classes: float
    block_structure: float
    granularity: float


def relations(distances: Floats, sharp: float, soft: float) -> Relations:
    """Measure class relations.

    `granularity` is the mean over i of log sum_j Z_ij with Z_ij = exp(-d_ij / T), in nats: log K less the log of
    the effective number of distinct classes; `confusable_classes` is the mean of sum_{j != i} Z_ij. Both at the
    temperature `sharp`. At `soft`, q_i is the softened non-target prediction of class i, q_ij ~ exp(-d_ij / T):
    `related_mass` is the mean of sum_j max(0, q_ij - 1 / (K - 1)), the share of it that goes to related classes
    beyond what uniform q gives them; `block_structure` is the share of relatives of a relative that are
    relatives, beyond chance, where relatives are pairs with twice the uniform q or more both ways.

    Args:
        distances: (K, K), d_ij at least 0, in logit units.
        sharp: the temperature with entropy level 0.3.
        soft: the temperature with entropy level 0.5.

    Returns:
        All 0 for unrelated or for fewer than three classes, but for a granularity of about 0.05 to 0.15.

    Source: leinster-cobbold.

    >>> relations(np.log(2) * (1 - np.eye(3)), 1.0, 1.0).confusable_classes.__round__(6)  # twice one half
    1.0
    """
    n = len(distances)
    alike = np.exp(-distances / sharp)
    sizes = alike.sum(axis=1)
    granularity, confusable = float(np.log(sizes).mean()), float(sizes.mean()) - 1
    if n < 3:
        return Relations(0.0, confusable, 0.0, granularity)
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    shares = np.exp((others.min(axis=1, keepdims=True) - others) / soft)
    shares *= (n - 1) / shares.sum(axis=1, keepdims=True)  # of uniform
    related = float(np.maximum(shares - 1, 0.0).sum(axis=1).mean()) / (n - 1)
    return Relations(related, confusable, _transitivity((shares >= 2) & (shares.T >= 2)), granularity)


def _transitivity(related: Floats) -> float:
    """Return the share of pairs of relatives of one class (n, n) that are relatives themselves, beyond chance."""
    n = len(related)
    chance = float(related.mean()) * n / (n - 1)
    closed = pairs = 0
    for row in related:
        near = np.flatnonzero(row)
        closed += int(related[np.ix_(near, near)].sum())
        pairs += len(near) * (len(near) - 1)
    return max(0.0, (closed / pairs - chance) / (1 - chance)) if pairs and chance < 1 else 0.0
