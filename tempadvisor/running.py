"""Run a live teacher: batches of its inputs to blocks of logits, in evaluation mode and without gradients.

It is run as it is, on inputs that are preprocessed already; where memory runs out, on half as many at once. What the
logits mean is not judged here: `profiling.py` and `gate.py` do that.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tempadvisor.errors import InputError, UsageError
from tempadvisor.logits import check_shape, from_arrays
from tempadvisor.measures import Floats, Whole
from tempadvisor.records import Notice

LIVE_BATCH, _LIVE_ROWS = 64, 512
_INPUTS = ("pixel_values", "image", "images", "img", "inputs")  # what loaders of dicts call them
_LABELS = ("labels", "label", "targets", "target")


class Block(NamedTuple):
    """Some rows of logits (N, C) and their labels (N,), where known."""

    logits: Floats
    labels: Whole | None


def is_module(teacher: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(teacher, torch.nn.Module)


def mode_notices(teacher: Any) -> Iterator[Notice]:
    """Say that a teacher was handed over in training mode, where that would change what it answers."""
    import torch

    kinds = (torch.nn.modules.batchnorm._NormBase, torch.nn.modules.dropout._DropoutNd)
    if any(part.training for part in teacher.modules() if isinstance(part, kinds)):
        yield Notice(
            "training_mode",
            "The teacher came in training mode; it was run in evaluation mode. Call teacher.eval() before you "
            "distill from it too, or dropout and batch statistics change what students see.",
        )


def as_numpy(values: Any) -> Any:
    """Return a tensor as an array, on any device, bfloat16 included; anything else as it is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(values, torch.Tensor):
        return values
    values = values.detach()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).cpu().numpy()


def answered(teacher: Any, data: Any, labels: Any, seed: int) -> tuple[Iterator[Block], str, int | None]:
    """Run a teacher on data, in random order where that can be.

    Args:
        teacher: an `nn.Module`.
        data: as in `profiling.profile`.
        labels: (N,), where they are not in `data`.
        seed: of the order.

    Returns:
        Its answers, as they come; what they are called in messages; and the number of samples there are, if their
        order is random.

    Raises:
        UsageError: there are no data.
        InputError: the teacher does not run on them, or answers with something else than logits.
    """
    if data is None:
        raise UsageError(
            "data must be given with a live teacher. Got none. Give inputs to run it on.", code="no_data"
        )
    where = f"{type(teacher).__name__} on data"
    batches, n_available = _batches(data, labels, np.random.default_rng(seed))
    return _regroup(_run(teacher, batches, where)), where, n_available


def _batches(data: Any, labels: Any, rng: np.random.Generator) -> tuple[Iterable[Any], int | None]:
    """Return batches as `_parted` takes them, and how many samples there are if their order is random."""
    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    tensors = (torch.Tensor, np.ndarray)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, tensors) for part in data):
        data, labels = data if labels is None else (data[0], labels)
    if isinstance(data, tensors):
        inputs = torch.as_tensor(data)
        n = len(inputs)
        if labels is not None and len(labels) != n:
            raise InputError(
                f"labels must have one entry for each input. Got {len(labels)} for {n}. Check where both come from.",
                code="labels_length",
            )
        return _picked(inputs, None if labels is None else torch.as_tensor(labels), rng.permutation(n)), n
    loader = data if isinstance(data, DataLoader) else None
    data_set = data if loader is None else loader.dataset
    of_rows = loader is not None and hasattr(data_set, "__len__")  # such as those of Hugging Face
    mapped = (of_rows or isinstance(data_set, Dataset)) and not isinstance(data_set, IterableDataset)
    if labels is not None or not mapped or (loader is not None and loader.batch_size is None):
        return (data if labels is None else _beside(data, labels)), None
    order: list[int] = rng.permutation(len(data_set)).tolist()  # type: ignore[arg-type]  # map-style: has a length
    size, workers, collate = (
        (LIVE_BATCH, 0, None) if loader is None else (loader.batch_size, loader.num_workers, loader.collate_fn)
    )
    shuffled: Iterable[Any] = DataLoader(
        data_set, batch_size=size, sampler=order, num_workers=workers, collate_fn=collate
    )
    return shuffled, len(order)


def _picked(inputs: Any, labels: Any, order: Whole) -> Iterator[Any]:
    """Yield batches of tensors in an order."""
    for start in range(0, len(order), LIVE_BATCH):
        rows = order[start : start + LIVE_BATCH]
        yield inputs[rows] if labels is None else (inputs[rows], labels[rows])


def _beside(batches: Iterable[Any], labels: Any) -> Iterator[tuple[Any, Any]]:
    """Yield batches of inputs with their labels, which come in the same order."""
    start = 0
    for batch in batches:
        inputs, _ = _parted(batch)
        yield inputs, labels[start : start + len(inputs)]
        start += len(inputs)
    if start != len(labels):
        raise InputError(
            f"labels must have one entry for each input. Got {len(labels)} for {start}. Check where both come from.",
            code="labels_length",
        )


def _parted(batch: Any) -> tuple[Any, Any]:
    """Return the inputs of a batch, a tensor or a list of texts, and its labels, or None.

    A batch is x, (x, y), or a dict that names both as loaders of Hugging Face do.

    Raises:
        InputError: no inputs are found in it.
    """
    import torch

    form = "must be inputs x, a pair (x, y), or a dict"
    if isinstance(batch, Mapping):
        named = next((key for key in _INPUTS if key in batch), None)
        if named is None:
            raise InputError(
                f"a batch {form} with one of {', '.join(_INPUTS)}. Got a dict of {', '.join(map(str, batch))[:100]}. "
                "Give pairs, data=((batch[...], batch[...]) for batch in loader), or store the logits.",
                code="bad_data",
            )
        inputs, labels = batch[named], next((batch[key] for key in _LABELS if key in batch), None)
    else:
        inputs, labels = (*batch, None)[:2] if isinstance(batch, (tuple, list)) else (batch, None)
    if isinstance(inputs, list) and all(isinstance(one, str) for one in inputs):
        return inputs, labels
    try:
        return torch.as_tensor(inputs), labels
    except (RuntimeError, TypeError, ValueError):
        raise InputError(
            f"a batch {form}, of tensors. Got {type(inputs).__name__} for inputs. "
            "Convert them first, such as with torchvision's ToTensor.",
            code="bad_data",
        ) from None


def _run(teacher: Any, batches: Iterable[Any], where: str) -> Iterator[Block]:
    """Run a teacher in evaluation mode and without gradients; its mode is restored afterwards."""
    import torch

    first = next((t for t in (*teacher.parameters(), *teacher.buffers())), torch.empty(0))
    modes = [(module, module.training) for module in teacher.modules()]
    most = sys.maxsize
    try:
        teacher.eval()
        for batch in batches:
            inputs, labels = _parted(batch)
            if not isinstance(inputs, list) and inputs.is_floating_point() and first.is_floating_point():
                inputs = inputs.to(first.dtype)
            try:
                parts, most = _parts(teacher, inputs, first.device, most, where)
            except (RuntimeError, TypeError, ValueError) as error:
                got = f"{len(inputs)} texts" if isinstance(inputs, list) else f"shape {tuple(inputs.shape)} and dtype"
                got = got if isinstance(inputs, list) else f"{got} {inputs.dtype}"
                raise InputError(
                    f"the teacher must run on the data. It failed on inputs of {got}: {error} ({where}). "
                    "Check size, normalization and dtype.",
                    code="teacher_failed",
                ) from error
            logits = from_arrays(np.concatenate(parts), as_numpy(labels), where=where)
            yield Block(logits.read(np.arange(logits.n_samples)), logits.labels)
    finally:
        for module, training in modes:
            module.training = training


def _parts(teacher: Any, inputs: Any, device: Any, most: int, where: str) -> tuple[list[Any], int]:
    """Return the logits of a batch in parts, and how many inputs a part may have: half where memory runs out."""
    import torch

    parts: list[Any] = []
    start = 0
    while start < len(inputs):
        part = inputs[start : start + most]
        try:
            with torch.inference_mode():
                outputs = teacher(part if isinstance(part, list) else part.to(device))
            parts.append(as_numpy(_logits_of(outputs, where)))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or len(part) < 2:
                raise
            most = len(part) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += len(part)
    return parts, most


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out; torch says it on a CPU in words alone."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _logits_of(outputs: Any, where: str) -> Any:
    """Return the logits among a teacher's outputs: a tensor, or what is called `logits`."""
    import torch

    found = outputs.get("logits") if isinstance(outputs, dict) else getattr(outputs, "logits", outputs)
    if not isinstance(found, torch.Tensor):
        raise InputError(
            f"the teacher must return a tensor of logits, or an output with `logits`. Got {type(outputs).__name__} "
            f"({where}). Wrap the teacher in a module that returns the logits.",
            code="no_logits",
        )
    check_shape(tuple(found.shape), where)
    return found


def _regroup(blocks: Iterator[Block]) -> Iterator[Block]:
    """Join small batches into blocks large enough to judge."""
    with contextlib.closing(blocks):  # type: ignore[type-var]
        held: list[Block] = []
        for block in blocks:
            held.append(block)
            if sum(len(b.logits) for b in held) >= _LIVE_ROWS:
                yield _joined(held)
                held = []
        if held:
            yield _joined(held)


def _joined(blocks: list[Block]) -> Block:
    labels = [block.labels for block in blocks if block.labels is not None]
    return Block(
        np.concatenate([block.logits for block in blocks]),
        np.concatenate(labels) if len(labels) == len(blocks) else None,
    )
