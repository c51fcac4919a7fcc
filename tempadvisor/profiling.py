"""From a teacher, or its stored logits, to a `TeacherProfile`: one pass, as few samples as it takes.

Samples come in random order wherever that is possible, since files are often sorted by class, and reading stops
when the standard errors of what drives the advice are below a tolerance. What is measured stands in `measures.py`
and `relations.py`, what is refused in `gate.py`. A teacher is run as it is, on inputs that are preprocessed
already: names of models and data sets are resolved elsewhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tempadvisor import gate
from tempadvisor.arguments import check_arguments
from tempadvisor.errors import InputError, UsageError, did_you_mean
from tempadvisor.exhibits import Reservoir
from tempadvisor.logits import StoredLogits, from_arrays, open_logits
from tempadvisor.measures import (
    SOFTNESS_LEVELS,
    TEMPERATURES,
    Floats,
    Whole,
    calibration_error,
    calibration_temperature,
    spike_temperature,
)
from tempadvisor.records import LOGITS_FROM, Notice, TeacherProfile
from tempadvisor.running import Block, answered, as_numpy, is_module, mode_notices
from tempadvisor.tally import PILOT_ROWS, THREADS, Tally, grid_for

TOLERANCE = 0.006
_BLOCK_VALUES = 1 << 21
_MIN_SAMPLES = 1024
_MIN_PER_CLASS = 6
_RELATED_PER_CLASS, _RELATED_SAMPLES = 40, 6144  # class relations settle slowly; from there on they are firm enough

Progress = Callable[[int, int | None], None]


class Stream(NamedTuple):
    """Blocks of logits from `where`; `n_available` samples in all where known; adaptive if their order is random.

    `pilot` holds a few random rows, where they can be had before the first block.
    """

    blocks: Iterator[Block]
    where: str
    n_available: int | None
    adaptive: bool
    pilot: Floats | None = None


def profile(
    teacher: Any,
    labels: Any = None,
    *,
    data: Any = None,
    name: str | None = None,
    class_map: Sequence[int] | None = None,
    logits_from: str | None = None,
    read_all: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
    reservoir: Reservoir | None = None,
) -> TeacherProfile:
    """Measure a teacher.

    Args:
        teacher: a logits file (`logits.open_logits`), an array or tensor of logits (N, C), or an `nn.Module`.
        labels: (N,), class numbers, where they are not in the file or in `data`.
        data: for a module, its inputs: a tensor or array of them, a pair (inputs, labels), a map-style data set
            or a `DataLoader` over one, all sampled at random; or any other iterable of batches, read in its order and
            to its end. A batch is x, (x, y), or a dict with `pixel_values` or `image`, and `labels` or `label`.
        name: what to call the teacher.
        class_map: for each class of the labels, the number of the teacher's output that stands for it; others are
            left out.
        logits_from: which inputs the logits come from, one of `records.LOGITS_FROM`.
        read_all: read every sample; otherwise stop when the profile is firm.
        tolerance: the standard error to stop at: of the log of the temperatures that give entropy levels 0.3, 0.5
            and 0.7 (twice that at 0.1 and 0.9), of the entropy at T = 1 as a share of log K, of the top
            probability and of the accuracy.
        seed: of the random order.
        progress: called with the samples used so far and those available.
        reservoir: sees the logits that are read, to show some of them later.

    Raises:
        InputError: the input cannot be read, or an answer about it would be meaningless.
        ClassOrderError: the teacher's outputs are not the classes of the labels.
        OutOfScopeError: not a classifier with one label a sample.
        UsageError: an argument is missing or unknown.

    >>> found = profile(np.eye(3).repeat(50, axis=0) * [[2.0]] + np.arange(450).reshape(150, 3) % 7 / 10)
    >>> found.n_samples, found.n_classes
    (150, 3)
    """
    check_arguments(teacher, labels, data)
    if logits_from is not None and logits_from not in LOGITS_FROM:
        raise UsageError(
            f"logits_from must be one of {', '.join(LOGITS_FROM)}. Got {logits_from!r}. "
            f"{did_you_mean(logits_from, LOGITS_FROM)}",
            code="bad_setup",
        )
    if not tolerance > 0:
        raise UsageError(f"tolerance must be above 0. Got {tolerance!r}.", code="bad_setup")
    notices: list[Notice] = []
    stored: StoredLogits | None = None
    if is_module(teacher):
        notices = list(mode_notices(teacher))
        blocks, where, n_available = answered(teacher, data, labels, seed)
        stream = Stream(blocks, where, n_available, adaptive=n_available is not None and not read_all)
        title = name or type(teacher).__name__
    else:
        if data is not None:
            raise UsageError("data must be left out for stored logits. Got both. Drop data.", code="contradiction")
        stored = open_logits(teacher) if isinstance(teacher, (str, Path)) else from_arrays(as_numpy(teacher))
        stored = stored if labels is None else stored.with_labels(as_numpy(labels))
        stated = stored.metadata.get("logits_from")
        logits_from = logits_from or (stated if stated in LOGITS_FROM else None)
        n_classes = stored.n_classes if class_map is None else len(class_map)
        stream = _stored_stream(stored, seed, read_all, n_classes)
        title = name or (Path(teacher).name if isinstance(teacher, (str, Path)) else "logits")
    with contextlib.closing(stream.blocks), _row_named(stored, class_map):  # type: ignore[type-var]
        mapped = stream if class_map is None else _mapped(stream, class_map)
        tally, found = _measure(mapped, tolerance, progress, reservoir, stated=class_map is not None)
    return _record(tally, stream, title, logits_from, [*notices, *found])


def _measure(
    stream: Stream, tolerance: float, progress: Progress | None, reservoir: Reservoir | None, *, stated: bool
) -> tuple[Tally, list[Notice]]:
    """Read blocks until the profile is firm or the stream ends; `stated` is whether the order of classes is."""
    tally: Tally | None = None
    notices: list[Notice] = []
    seen: list[tuple[Whole, Whole]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for logits, labels in stream.blocks:
            if labels is not None:
                gate.check_labels(labels, logits.shape[1], stream.where)
            if tally is None:
                gate.check_size(stream.n_available or len(logits), logits.shape[1], stream.where)
                pilot = logits if stream.pilot is None else stream.pilot
                gate.check_finite(logits, stream.where)
                gate.check_finite(pilot, stream.where)
                notices.extend(gate.check_meaning(logits, stream.where))
                tally = Tally(logits.shape[1], grid_for(pilot), stream.where, labelled=labels is not None)
            tally.add(logits, labels, pool)
            if reservoir:
                reservoir.add(logits, labels)
            if labels is not None:
                seen.append((labels, logits.argmax(axis=1)))
            if progress:
                progress(tally.n_samples, stream.n_available)
            if stream.adaptive and _is_firm(tally, tolerance):
                break
    if tally is None:
        raise InputError(f"logits must have at least two samples. Got none ({stream.where}).", code="too_few_samples")
    if reservoir and (found := tally.distances()):
        reservoir.relate(*found)
    if seen:
        labels, predicted = (np.concatenate(part) for part in zip(*seen, strict=True))
        notices.extend(gate.check_order(labels, predicted, tally.n_classes, stream.where, stated=stated))
        notices.extend(gate.check_accuracy(labels, predicted, tally.n_classes, stream.where, stated=stated))
    return tally, notices


def _mapped(stream: Stream, columns: Sequence[int]) -> Stream:
    """Return a stream of the outputs `columns` alone."""
    chosen = np.asarray(columns, np.int64)

    def of(logits: Floats) -> Floats:
        if chosen.max() >= logits.shape[1]:
            raise InputError(
                f"a class map must name outputs of the teacher, 0 to {logits.shape[1] - 1}. Got {chosen.max()} "
                f"({stream.where}).",
                code="bad_class_map",
            )
        return logits.take(chosen, axis=1)

    blocks = (Block(of(logits), labels) for logits, labels in stream.blocks)
    return stream._replace(blocks=blocks, pilot=None if stream.pilot is None else of(stream.pilot))


def _is_firm(tally: Tally, tolerance: float) -> bool:
    """Tell whether the standard errors of what drives the advice are below the tolerance."""
    related = min(_RELATED_PER_CLASS * tally.n_classes, _RELATED_SAMPLES)
    if tally.n_samples < max(_MIN_SAMPLES, _MIN_PER_CLASS * tally.n_classes, related):
        return False
    errors = [
        float(tally.at_one("entropy_nats").error) / math.log(tally.n_classes),
        float(tally.at_one("top1_probability").error),
    ]
    if tally.labelled:
        errors.append(float(tally.at_one("accuracy").error))
    for level in SOFTNESS_LEVELS:
        found = tally.softness_temperature(level)
        if found:
            errors.append(found[1] if 0.2 < level < 0.8 else found[1] / 2)
    return max(errors) <= tolerance


def _record(
    tally: Tally, stream: Stream, title: str, logits_from: str | None, notices: list[Notice]
) -> TeacherProfile:
    """Put what was measured into a profile."""
    scalars = {
        name: tally.at_one(name)
        for name in ("entropy_nats", "top1_probability", "nontarget_entropy_nats")
        + ("margin", "logit_std", "top_gap", "rest_std")
        + (("accuracy", "nll_nats") if tally.labelled else ())
    }
    errors = {name: float(mean.error) for name, mean in scalars.items()}
    levels = [tally.softness_temperature(level) for level in SOFTNESS_LEVELS]
    for level, found in zip(SOFTNESS_LEVELS, levels, strict=True):
        if found:
            errors[f"softness_temperature_{level:g}"] = found[0] * found[1]
    notices = [*notices, *gate.trust_notices(float(scalars["top1_probability"].value), logits_from)]
    gap, rest = float(scalars["top_gap"].value), float(scalars["rest_std"].value)
    related = tally.relations()
    return TeacherProfile(
        teacher=title,
        n_samples=tally.n_samples,
        n_available=stream.n_available if stream.adaptive else tally.n_samples,
        n_classes=tally.n_classes,
        logits_from=logits_from,
        temperatures=TEMPERATURES,
        entropy_nats=tally.public(tally.mean("entropy_nats").value),
        top1_probability=tally.public(tally.mean("top1_probability").value),
        nontarget_entropy_nats=tally.public(tally.mean("nontarget_entropy_nats").value),
        softness_levels=SOFTNESS_LEVELS,
        softness_temperatures=tuple(found[0] if found else None for found in levels),
        spike_temperature=spike_temperature(gap, rest, tally.n_classes),
        margin=float(scalars["margin"].value),
        logit_std=float(scalars["logit_std"].value),
        top_gap=gap,
        rest_std=rest,
        related_mass=related.related_mass if related else None,
        confusable_classes=related.confusable_classes if related else None,
        block_structure=related.block_structure if related else None,
        granularity=related.granularity if related else None,
        accuracy=float(scalars["accuracy"].value) if tally.labelled else None,
        nll_nats=float(scalars["nll_nats"].value) if tally.labelled else None,
        calibration_error=calibration_error(tally.calibration_bins()) if tally.labelled else None,
        calibration_temperature=(
            calibration_temperature(tally.grid, tally.mean("nll_nats").value) if tally.labelled else None
        ),
        std_errors=errors,
        warnings=tuple(notices),
    )


# stored logits -------------------------------------------------------------------------------------------------


def _stored_stream(stored: StoredLogits, seed: int, read_all: bool, n_classes: int) -> Stream:
    gate.check_size(stored.n_samples, stored.n_classes, stored.where)
    if stored.labels is not None:
        gate.check_labels(stored.labels, n_classes, stored.where, whole=True)
    rows = _rows_at_once(stored)
    rng = np.random.default_rng(seed)
    pilot = stored.read(rng.integers(stored.n_samples, size=min(PILOT_ROWS, stored.n_samples)))
    order = np.arange(stored.n_samples)
    if not read_all:
        rng.shuffle(order)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(order), rows):
            chosen = np.sort(order[start : start + rows])
            yield Block(stored.read(chosen), None if stored.labels is None else stored.labels[chosen])

    return Stream(blocks(), stored.where, stored.n_samples, not read_all, pilot)


def _rows_at_once(stored: StoredLogits) -> int:
    return min(max(_BLOCK_VALUES // stored.n_classes, 64), 2048)


@contextlib.contextmanager
def _row_named(stored: StoredLogits | None, columns: Sequence[int] | None) -> Iterator[None]:
    """Say where in a file logits are not finite: they are read in random order, so the file is looked through."""
    try:
        yield
    except InputError as error:
        if stored is None or error.code != "not_finite":
            raise
        step = _rows_at_once(stored)
        for start in range(0, stored.n_samples, step):
            block = stored.read(np.arange(start, min(start + step, stored.n_samples)))
            block = block if columns is None else block.take(columns, axis=1)
            if (bad := np.flatnonzero(~np.isfinite(block).all(axis=1))).size:
                row = f"The first is in row {start + bad[0]} counted from 0."
                raise InputError(f"{error} {row}", code=error.code) from None
        raise
