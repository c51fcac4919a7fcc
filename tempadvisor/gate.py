"""Are these logits at all? The sanity gate before any advice.

What makes an answer meaningless raises an error; what only lowers trust becomes a `Notice`. Shapes and labels of
stored files are checked where they are opened, in `logits.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tempadvisor.errors import ClassOrderError, InputError
from tempadvisor.measures import Floats, Whole
from tempadvisor.orders import other_order
from tempadvisor.records import Notice

_LARGEST_SPAN = 1e12  # squares and sums of this stay far inside float32
_JUDGED = 256  # rows of a first block that are enough to tell what they are
_LUCK = 3.0  # standard deviations
_RAW = "Take the outputs of the last layer, before softmax."


def check_size(n_samples: int, n_classes: int, where: str) -> None:
    """Check that there are at least two classes and two samples.

    Raises:
        InputError: there are fewer.
    """
    if n_classes < 2:
        raise InputError(
            f"logits must have at least two classes. Got {n_classes} ({where}). "
            "A binary teacher with one output z has logits [0, z].",
            code="one_class",
        )
    if n_samples < 2:
        raise InputError(
            f"logits must have at least two samples. Got {n_samples} ({where}). Give a few hundred or more.",
            code="too_few_samples",
        )


def check_finite(logits: Floats, where: str) -> None:
    """Check that a block holds neither NaN nor infinity, nor numbers beyond single precision's reach.

    Raises:
        InputError: it does; the message counts them.
    """
    low, high = float(logits.min()), float(logits.max())  # NaN if any value is
    if math.isfinite(low) and math.isfinite(high):
        if high - low > _LARGEST_SPAN:
            raise InputError(
                f"logits must be numbers a network gives. Got values from {low:.1e} to {high:.1e} ({where}). {_RAW}",
                code="too_large",
            )
        return
    finite = np.isfinite(logits)
    bad = int((~finite).sum())
    kinds = "NaN" if np.isnan(logits).any() else "infinity"
    hint = (
        "-inf stands for masked or clipped classes"
        if np.isneginf(logits).any()
        else "perhaps half precision overflowed"
    )
    raise InputError(
        f"logits must be finite. Got {bad} of {logits.size} values that are {kinds} or not finite ({where}): {hint}. "
        f"{_RAW}",
        code="not_finite",
    )


def check_meaning(logits: Floats, where: str) -> Iterator[Notice]:
    """Check on a first block of random rows (N, C) that they are logits, all of them, and not the same all over.

    Raises:
        InputError: probabilities, clamped log-probabilities, stored top-k logits, or constant ones.
    """
    n, k = logits.shape
    rows = logits[:: max(n // _JUDGED, 1)].astype(np.float64)
    low, high = rows.min(axis=1), rows.max(axis=1)
    if (low == high).all() or (rows == rows[0]).all():
        what = "value" if (low == high).all() else "row"
        raise InputError(
            f"logits must differ between classes and samples. Got one {what} "
            f"over and over ({where}). Check that the teacher's weights were loaded.",
            code="constant",
        )
    totals = rows.sum(axis=1)
    for whole in (1, 100):
        if low.min() >= -1e-6 and high.max() <= whole * 1.001 and (np.abs(totals - whole) < 0.01 * whole).all():
            raise InputError(
                f"logits must be raw scores. Got probabilities: rows in [0, {whole}] that sum to {whole} ({where}). "
                "Take the outputs before softmax, or their logarithm.",
                code="probabilities",
            )
    if low.min() >= 0 and high.max() <= 1:
        yield Notice(
            "in_unit_range",
            "All values lie in [0, 1], as sigmoid outputs do: those are no logits, and independent sigmoids are "
            "multi-label, which this advice does not cover.",
        )
    if k >= 4 and (np.diff(rows, axis=1) <= 0).all():
        yield Notice(
            "sorted_rows", "Every row falls from first to last class, as sorted scores do: the classes are lost then."
        )
    if k >= 4:
        filler = np.median(rows, axis=1)
        filled = (rows == filler[:, None]).sum(axis=1) > k / 2
        if filled.mean() > 0.9:
            raise InputError(
                f"logits must be complete. Got rows where {_share(rows, filler)} of the values are one and the same, "
                f"{filler[0]:g} ({where}): stored top-k, clipped or rectified logits, whose tail is lost, and high "
                "temperatures live in the tail. Store all classes.",
                code="top_k",
            )
    if high.max() <= 1e-3 and (np.abs(np.log(np.exp(rows).sum(axis=1))) < 0.01).all():
        floor = (rows == rows.min()).mean()
        if floor > 1 / (2 * k) and (rows == rows.min()).sum() > 2:
            raise InputError(
                f"log-probabilities must not be clamped. Got {floor:.0%} of the values at {rows.min():g} ({where}). "
                f"{_RAW}",
                code="clamped",
            )
        yield Notice("log_probabilities", "These are log-probabilities: valid logits, taken as such.")
    if n < 100:
        yield Notice("few_samples", f"Only {n} samples: the profile is rough. A few thousand make it firm.")


def _share(rows: Floats, filler: Floats) -> str:
    return f"{(rows == filler[:, None]).mean():.0%}"


def check_labels(labels: npt.NDArray[Any], n_classes: int, where: str, *, whole: bool = False) -> Whole:
    """Check that labels (N,) are class numbers; the row is named if they are the `whole` of a file, in its order.

    Raises:
        InputError: one is below 0 or at least n_classes.
    """
    bad = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(bad):
        row = f", in row {bad[0]} counted from 0" if whole else ""
        hint = (
            "Do they start at 1? Subtract 1."
            if labels.min() == 1 and labels.max() == n_classes
            else ("Check that they belong to this teacher.")
        )
        raise InputError(
            f"labels must lie between 0 and {n_classes - 1}. Got {len(bad)} outside, {labels[bad[0]]} the first{row} "
            f"({where}). {hint}",
            code="labels_out_of_range",
        )
    return labels


def check_order(
    labels: Whole, predicted: Whole, n_outputs: int, where: str, *, stated: bool = False
) -> Iterator[Notice]:
    """Check that a teacher's outputs are the classes of the labels in their order; arguments as `other_order`.

    Args:
        labels: see there.
        predicted: see there.
        n_outputs: see there.
        where: what messages call the data.
        stated: the user has said which output is which class, and is warned at most.

    Raises:
        ClassOrderError: another order explains the labels.
    """
    found = other_order(labels, predicted, n_outputs)
    if found is None:
        return
    own, n_classes = float((labels == predicted).mean()), len(found.columns)
    moved = [f"{label} is output {output}" for label, output in enumerate(found.columns) if label != output]
    more = ", and so on" if len(moved) > 3 else " and the others as they are" if len(moved) < n_classes else ""
    of_them = f"{n_classes} of its {n_outputs} outputs" if n_classes < n_outputs else "its outputs"
    got = (
        f"Got accuracy {own:.3g}, but {found.accuracy:.3g} with {of_them} in another order: class "
        f"{', '.join(moved[:3])}{more} ({where})."
    )
    if stated:
        yield Notice("class_order", f"The class map looks wrong. {got}")
        return
    if found.accuracy < (1 + 1 / n_classes) / 2:
        got += " Random weights may come as far: were the teacher's loaded?"
    raise ClassOrderError(
        f"the teacher's outputs must be the classes of the labels, in their order. {got}",
        code="class_order",
        columns=found.columns,
        accuracy=found.accuracy,
    )


def check_accuracy(
    labels: Whole, predicted: Whole, n_outputs: int, where: str, *, stated: bool = False
) -> Iterator[Notice]:
    """Check that a teacher beats chance, and beats itself with its outputs shuffled.

    A network with random weights tells inputs apart in ways of its own, so some are right more often than 1 / K,
    however many samples there are; but its outputs could as well stand for the classes in any other order.

    Args:
        labels: (n,), class numbers.
        predicted: (n,), the output that is largest.
        n_outputs: K, of the teacher.
        where: what the logits are called.
        stated: whether the user said which output is which class, which is then believed.

    Raises:
        ClassOrderError: its accuracy is not above chance, by more than a fifth of it or one standard error; or its
            mean accuracy over classes is not, by three standard deviations over orders (fewer below 7 classes), and
            their order is not stated.
    """
    accuracy, chance = float((labels == predicted).mean()), 1 / n_outputs
    error = math.sqrt(chance * (1 - chance) / len(labels))
    over_classes, spread = shuffled(labels, predicted, n_outputs)
    luck = min(_LUCK, 0.5 * (len(np.unique(labels)) - 1)) * spread  # K - 1 spreads are as far as any teacher comes
    above = accuracy > chance + min(error, chance / 5)
    in_order = stated or luck < 1e-6 or over_classes > chance + luck  # one answer to all has no luck
    if not above or not in_order:
        read = ", read by the class map that was given: is it the right way round?" if stated else ""
        weak = " A weak teacher with its classes in this order is taken with a --class-map that says so." * above
        raise ClassOrderError(
            "the teacher must be better than chance, and than itself with its outputs shuffled. Got accuracy "
            f"{accuracy:.3g} where chance is {chance:.3g}{read} ({where}). Were its weights loaded, does it know "
            f"these classes, in this order, and are its inputs normalized as it expects?{weak}",
            code="class_order",
        )
    if accuracy <= chance + max(3 * error, chance / 5) or over_classes <= chance + 4 / 3 * luck:
        yield Notice(
            "near_chance",
            f"The teacher's accuracy {accuracy:.3g} is hardly above chance ({chance:.3g}): class order?",
        )


def shuffled(labels: Whole, predicted: Whole, n_outputs: int) -> tuple[float, float]:
    """Return a teacher's mean accuracy over classes, and the standard deviation of it over all orders of its outputs.

    Let c_ij be the share of answers j among the samples of class i, divided by the number of classes. Over orders,
    the sum of c_ij where i = j has the mean 1 / K and the variance
    sum_ij (c_ij - r_i / K - s_j / K + 1 / K^2)^2 / (K - 1), with r and s the sums of rows and columns.

    >>> right = np.array([0, 1, 2])  # in all orders: 1, three times 1/3, twice 0
    >>> [round(one, 3) for one in shuffled(right, right, 3)]
    [1.0, 0.333]
    """
    counts = np.bincount(labels, minlength=n_outputs)
    n_classes = int((counts > 0).sum())
    pairs, found = np.unique(labels.astype(np.int64) * n_outputs + predicted, return_counts=True)
    label, answer = np.divmod(pairs, n_outputs)
    cells = found / (counts[label] * n_classes)
    columns = np.bincount(answer, weights=cells, minlength=n_outputs)
    squares = (cells**2).sum() - (1 / n_classes + (columns**2).sum()) / n_outputs + 1 / n_outputs**2
    return float(cells[label == answer].sum()), math.sqrt(max(float(squares), 0.0) / (n_outputs - 1))


def trust_notices(top1_probability: float, logits_from: str | None) -> Iterator[Notice]:
    """Say what lowers trust in a profile: a one-hot teacher, or logits of inputs the student does not see.

    Args:
        top1_probability: its mean at T = 1.
        logits_from: which inputs the logits come from.
    """
    if top1_probability >= 0.99:
        yield Notice(
            "one_hot",
            f"The teacher is almost one-hot on these inputs (mean top probability {top1_probability:.4f}): little "
            "dark knowledge, and raising T amplifies noise.",
        )
    if logits_from is None:
        yield Notice(
            "logits_from_unknown",
            "Where the logits come from is unknown; those of held-out inputs are softer than what a student sees. "
            "Say --logits-from.",
        )
    elif logits_from in ("validation", "test"):
        yield Notice(
            "logits_from_held_out",
            f"These are {logits_from} logits, softer than those on training inputs, which a student sees: the "
            "temperature may come out low. Give the teacher's logits on training inputs.",
        )
