"""What a teacher's classes have to do with each other: which are alike, how fine the labels are.

Everything starts from the class margins D_ij, the mean over samples of class i of z_i - z_j, in their symmetric
form d_ij = (D_ij + D_ji) / 2, which acts as a distance between classes. It is always divided by a temperature of
the same teacher's softness, so neither the scale of the logits nor a constant added to a row changes a measure,
nor does the order of the classes. What the classes are called is not looked at.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tempadvisor.measures import Floats, Split, Whole

MAX_CLASSES = 4096  # a matrix of classes by classes stays below 150 MB
_LIMIT = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class MarginSums:
    """Hold sums over some samples of their margins r_j = z_target - z_j, by target class.

    For n classes among them: `classes` and `counts` (n,), `sums` (n, C) of r_j; and over all samples the squares of
    the row means of r over the other classes (`level`), and of what is left when these are taken out (`shape`).
    """

    classes: Whole
    counts: Whole
    sums: Floats
    level: float
    shape: float


def margin_sums(parts: Split) -> MarginSums:
    """Sum the margins of N samples."""
    order = np.argsort(parts.target, kind="stable")
    target, ahead, rest = parts.target[order], parts.ahead[order], parts.rest
    if (np.diff(order) != 1).any():
        rest = rest[order]
    classes, starts, counts = np.unique(target, return_index=True, return_counts=True)
    sums = np.add.reduceat(ahead, starts)[:, None] - np.add.reduceat(rest, starts, axis=0)
    sums[np.arange(len(classes)), classes] = 0.0
    means = parts.total / (rest.shape[1] - 1)
    level = float(((parts.ahead - means) ** 2).sum())
    return MarginSums(classes, counts, sums, level, float((parts.squares - parts.total * means).sum()))


class ClassMargins:
    """Gather margins by class, block by block."""

    def __init__(self, n_classes: int) -> None:
        self.sums = np.zeros((n_classes, n_classes))
        self.counts = np.zeros(n_classes, np.int64)
        self.level = self.shape = 0.0

    def add(self, block: MarginSums) -> None:
        """Add the sums over a block of samples."""
        self.sums[block.classes] += block.sums
        self.counts[block.classes] += block.counts
        self.level += block.level
        self.shape += block.shape

    def distances(self) -> Floats:
        """Return d_ij (n, n) over the n classes seen, in logit units, cleared of sampling noise; 0 on the diagonal.

        With few samples a class, noise spreads the d_ij, and classes look more alike than they are. In
        d_ij = d + a_i + a_j + e_ij, the a_i and the e_ij are shrunk to the variance that is left when that of their
        noise, known from the spread of samples within classes, is taken out; no e_ij is moved by more than half of
        its standard error, so that a few classes truly alike stay so.
        """
        seen = np.flatnonzero(self.counts)
        n, others = len(seen), len(self.counts) - 1
        if n < 2:
            return np.zeros((n, n))
        counts = self.counts[seen]
        margins = self.sums[seen] / counts[:, None]
        levels = margins.sum(axis=1) / others
        freedom = max(int(counts.sum()) - n, 1)
        per_class = float((1 / counts).mean())
        level_noise = (self.level - float(counts @ levels**2)) / freedom * per_class / 4
        squares = np.einsum("ij,ij->i", margins, margins) - others * levels**2
        shape_noise = (self.shape - float(counts @ squares)) / (freedom * max(others - 1, 1)) * per_class / 2

        found = margins[:, seen]
        found += found.T.copy()
        found /= 2
        mean = float(found.sum()) / (n * (n - 1))
        if n > 2:
            level = (found.sum(axis=1) / (n - 1) - mean) * (n - 1) / (n - 2)
            found -= mean + level[:, None] + level
            np.fill_diagonal(found, 0.0)
            kept = _kept(float(np.einsum("ij->", found * found)) / (n * (n - 1)), shape_noise)
            limit = _LIMIT * math.sqrt(max(shape_noise, 0.0))
            found -= np.clip((1 - kept) * found, -limit, limit)
            level *= _kept(float((level**2).mean()), level_noise)
            found += mean + level[:, None] + level
        np.fill_diagonal(found, 0.0)
        return np.maximum(found, 0.0, out=found)


def _kept(variance: float, noise: float) -> float:
    """Return the factor that leaves of a spread with this variance what is not noise."""
    return math.sqrt(min(max(variance - noise, 0.0) / variance, 1.0)) if variance > 0 else 1.0


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
    distances = distances.astype(np.float32)
    sizes = np.exp(-distances / np.float32(sharp)).sum(axis=1, dtype=np.float64)
    granularity, confusable = float(np.log(sizes).mean()), float(sizes.mean()) - 1
    if n < 3:
        return Relations(0.0, confusable, 0.0, granularity)
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    shares = np.exp((others.min(axis=1, keepdims=True) - others) / np.float32(soft))
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
        closed += int(related[near][:, near].sum())
        pairs += len(near) * (len(near) - 1)
    return max(0.0, (closed / pairs - chance) / (1 - chance)) if pairs and chance < 1 else 0.0
