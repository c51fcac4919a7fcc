"""Which output of a teacher is which class: where confusions say that outputs are in another order than the labels.

A weak teacher confuses classes too, so an order is found on one half of the samples and must hold on the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tempadvisor.measures import Floats, Whole

LEAST_GAIN = 0.01  # in accuracy; what is swapped in fewer samples changes no advice
_SURE = 3.0  # standard errors
_TIMES = 1.5  # as often right as in their own order are outputs that stand for other classes, at least
_MORE = 2  # times as many classes must gain as lose
_SEED = 71_993  # of the halves: none that samples are drawn by
_CHANCE = 1.2  # times 1 / K is an accuracy that speaks for no order at all


class Order(NamedTuple):
    """The output that stands for each class of the labels, and the teacher's accuracy with these."""

    columns: tuple[int, ...]
    accuracy: float


def other_order(labels: Whole, predicted: Whole, n_outputs: int) -> Order | None:
    """Return in which order a teacher's outputs are the classes of the labels, if not in their own.

    Half of the samples say which output stands for a class. The rest must bear it out: the new order must gain over
    0.01 in accuracy, and on the classes that it moves be right over 1.5 times as often as their own order, by three
    standard errors. Classes are moved in chains that follow each other's outputs, each if over twice as many of its
    classes gain as lose, unless the teacher is at chance in its own order. So two classes that a teacher cannot tell
    apart, or calls by one name, are left where they are.

    Args:
        labels: (n,), class numbers from 0.
        predicted: (n,), the output that is largest.
        n_outputs: of the teacher.
    """
    n_classes = int(labels.max()) + 1
    if not 2 <= n_classes <= n_outputs:
        return None
    ordered = (labels == predicted).mean() > _CHANCE / n_classes
    first = np.random.default_rng(_SEED).random(len(labels)) < 0.5  # labels may come in any order, by turns too
    columns = _assigned(labels[first], predicted[first], n_classes, n_outputs, ordered)
    if columns is None:
        return None
    kept, answers = labels[~first], predicted[~first]
    own, moved = kept == answers, columns[kept] == answers
    gained, lost = int((moved & ~own).sum()), int((own & ~moved).sum())
    error = (gained + _TIMES**2 * lost) ** 0.5
    if gained - lost <= LEAST_GAIN * len(kept) or gained - _TIMES * lost <= _SURE * error:
        return None
    whole = _assigned(labels, predicted, n_classes, n_outputs, ordered)  # twice the samples name more of them rightly
    return Order(tuple(map(int, columns if whole is None else whole)), float(moved.mean()))


def _assigned(
    labels: Whole, predicted: Whole, n_classes: int, n_outputs: int, ordered: bool
) -> npt.NDArray[np.int64] | None:
    """Return the output that each class is taken for most, each output once; None where their own are.

    Pairs are taken by how much more often they occur than by chance, as weak teachers have favorite outputs. What
    `ordered` outputs lose counts.
    """
    found, counts = np.unique(labels.astype(np.int64) * n_outputs + predicted, return_counts=True)
    rows, outputs = np.divmod(found, n_outputs)
    most, own = np.zeros((2, n_classes), np.int64)
    np.maximum.at(most, rows, counts)
    own[rows[rows == outputs]] = counts[rows == outputs]
    if (most - own).sum() <= LEAST_GAIN * len(labels):
        return None
    totals = np.bincount(labels, minlength=n_classes), np.bincount(predicted, minlength=n_outputs)
    lift = counts - totals[0][rows] * totals[1][outputs] / len(labels)
    columns = _greedy(rows, outputs, lift, n_classes, n_outputs)
    hits = np.bincount(rows, counts * (outputs == columns[rows]), minlength=n_classes)
    for chain in _chains(columns):
        more = hits[chain] - own[chain]
        few = ordered and (more > 0).sum() <= _MORE * (more < 0).sum()
        if few or hits[chain].sum() < _TIMES * own[chain].sum():
            columns[chain] = chain
    return columns


def _greedy(rows: Whole, outputs: Whole, lift: Floats, n_classes: int, n_outputs: int) -> npt.NDArray[np.int64]:
    """Return an output for each class: pairs by their lift, then its own if it is left, then any."""
    columns = np.full(n_classes, -1)
    taken = np.zeros(n_outputs, bool)
    for i in np.lexsort((rows != outputs, -lift)):
        if columns[rows[i]] < 0 and not taken[outputs[i]]:
            columns[rows[i]] = outputs[i]
            taken[outputs[i]] = True
    for row in np.flatnonzero(columns < 0):
        if not taken[row]:
            columns[row] = row
            taken[row] = True
    columns[columns < 0] = np.flatnonzero(~taken)[: (columns < 0).sum()]
    return columns


def _chains(columns: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield the moved classes in chains, each followed by the class whose own output it takes; some are rings."""
    after: list[int] = columns.tolist()
    taken = set(after)
    left = {row for row, output in enumerate(after) if row != output}
    for start in sorted(left, key=lambda row: row in taken):  # rings come last, as they have no first
        chain, row = [], start
        while row in left:
            left.remove(row)
            chain.append(row)
            row = after[row]
        if chain:
            yield chain
