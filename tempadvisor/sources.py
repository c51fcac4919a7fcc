"""Data sets of other libraries: torchvision's by name (`torch/cifar10`), and those of Hugging Face (`hfds/NAME`).

torchvision's are read where they lie, and never downloaded here. Those of Hugging Face are a folder that
`save_to_disk` wrote, a folder of Parquet or image files, or a name on the hub, which its library fetches and keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tempadvisor.errors import InputError, did_you_mean
from tempadvisor.hub import offline_without_network, quiet
from tempadvisor.images import Framing
from tempadvisor.inputs import Inputs, of_pictures

# Those whose files torchvision checks against a hash, or reads without a pickle.
TORCHVISION = {
    "torch/cifar10": ("CIFAR10", "mirror"),
    "torch/cifar100": ("CIFAR100", "mirror"),
    "torch/mnist": ("MNIST", "shift"),
    "torch/fashionmnist": ("FashionMNIST", "mirror"),
    "torch/kmnist": ("KMNIST", "shift"),
}
_TEXTS, _LABELS = ("text", "sentence", "content"), ("label", "labels", "fine_label", "coarse_label")


class Whole(NamedTuple):
    """Images (N, channels, height, width), labels (N,), where the test split begins, and the names of the classes."""

    images: Tensor
    labels: Tensor
    test_start: int
    class_names: tuple[str, ...]


def torchvision_set(name: str) -> Whole:
    """Return a data set of torchvision from the folder `$TEMPADVISOR_DATA`, `data` or the one that is worked in.

    Raises:
        InputError: it is not known, not there, or damaged.
    """
    if name not in TORCHVISION:
        raise InputError(
            f"{name[:100]} must be a data set that is read. {did_you_mean(name[:100], TORCHVISION)}", code="no_data"
        )
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name][0])
    roots = [Path(root) for root in (os.environ.get("TEMPADVISOR_DATA"), "data", ".") if root]
    for root in roots:
        try:
            with quiet():
                parts = [kind(str(root), train=part, download=False) for part in (True, False)]
        except (RuntimeError, OSError, ValueError, EOFError, KeyError):  # not here, or not as its hash says
            continue
        images = torch.cat([_pixels(part.data) for part in parts])
        labels = torch.cat([torch.as_tensor(part.targets, dtype=torch.int64) for part in parts])
        return Whole(images, labels, len(parts[0]), tuple(map(str, parts[0].classes)))
    raise InputError(
        f"{name} must lie in {' or '.join(str(root) for root in roots)}, complete. It does not; nothing is "
        f"downloaded. Get it: python -c \"import torchvision; torchvision.datasets.{kind.__name__}('data', "
        'download=True)"',
        code="no_data",
    )


def _pixels(data: Any) -> Tensor:
    """Return images of torchvision with their channels second."""
    images = torch.as_tensor(np.asarray(data))
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def hub_set(name: str) -> Inputs:
    """Return the training split of a data set of Hugging Face, images or texts; `NAME:SPLIT` names another split.

    Raises:
        InputError: it cannot be had, or has no column of images or texts and one of class numbers.
    """
    spec = name.removeprefix("hfds/")
    place, _, split = spec.partition(":")
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{name[:100]} must have its library. Install it: pip install 'tempadvisor[hfds]'.",
            code="missing_package",
        ) from None
    datasets.disable_progress_bars()
    try:
        with quiet(), offline_without_network(not Path(place).is_dir()):
            saved = (Path(place) / "state.json").is_file() or (Path(place) / "dataset_dict.json").is_file()
            found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place)
    except Exception as error:  # the library and its hub raise whatever they meet on the way
        reason = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".")
        raise InputError(
            f"{name[:100]} must be a data set that can be loaded. Got {type(error).__name__}: {reason}. "
            "Check the folder, or the name and the network.",
            code="no_data",
        ) from None
    if isinstance(found, datasets.DatasetDict):
        split = split or next((one for one in ("train", *found) if one in found), "")
        if split not in found:
            raise InputError(
                f"{name[:100]} must have the split it is asked for. {did_you_mean(split, found)}", code="no_data"
            )
        found = found[split]
    return _of_columns(found, name, datasets)


def _of_columns(found: Any, name: str, datasets: Any) -> Inputs:
    kinds = found.features
    image = next((column for column, kind in kinds.items() if isinstance(kind, datasets.Image)), None)
    text = next((column for column in _TEXTS if column in kinds), None)
    named = [column for column, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    label = next((column for column in (*_LABELS, *named) if column in kinds), None)
    if label is None or (image is None and text is None):
        held = ", ".join(kinds)[:100]
        raise InputError(
            f"{name[:100]} must have a column of images or texts ({', '.join(_TEXTS)}) and one of labels. "
            f"It has {held}.",
            code="bad_data",
        )
    labels = np.asarray(found[label])
    if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
        raise InputError(
            f"{name[:100]} must have class numbers from 0. Got {labels.dtype} ({label}).", code="bad_data"
        )
    kind = kinds[label]
    names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
    read: Callable[[Sequence[int], Framing | None], Any]
    if image is None:
        texts = found.select_columns([text])
        read, shape = (lambda rows, _: list(texts[list(rows)][text])), None
    else:
        stored = found.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        read = of_pictures(lambda row: (_source(stored[row][image]), f"image {row} of {name[:100]}"))
        first = read([0], None).shape
        shape = (int(first[1]), int(first[2]), int(first[3]))
    return Inputs(
        name=name,
        labels=torch.from_numpy(labels.astype(np.int64)),
        n_classes=len(names) if names else int(labels.max()) + 1,
        shape=shape,
        read=read,
        class_names=names,
    )


def _source(stored: Any) -> bytes | Path:
    return stored["bytes"] if stored["bytes"] is not None else Path(stored["path"])
