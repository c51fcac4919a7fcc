"""What a teacher is run on: samples with labels, each read only when its batch is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tempadvisor.images import Framing, all_decoded

BATCH = 64
Reader = Callable[[Sequence[int], Framing | None], Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Hold what is known of all samples, and how to read some of them.

    labels: (N,), 0 to K - 1; `shape` is (channels, height, width) of the first image as it is stored, None for texts;
    `read` returns rows as uint8 images, brought to a framing where one is given, or as a list of texts.
    """

    name: str
    labels: Tensor
    n_classes: int
    shape: tuple[int, int, int] | None
    read: Reader
    class_names: tuple[str, ...] | None = None

    def loader(self, framing: Framing | None) -> DataLoader[Any]:
        """Return batches (inputs, labels); images are brought to `framing` as they are decoded."""
        return DataLoader(_Batches(self, framing), batch_size=BATCH, collate_fn=_whole)


class _Batches(Dataset[Any]):
    """Reads a whole batch at once."""

    def __init__(self, inputs: Inputs, framing: Framing | None) -> None:
        self.inputs, self.framing = inputs, framing

    def __len__(self) -> int:
        return len(self.inputs.labels)

    def __getitem__(self, row: int) -> tuple[Any, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> tuple[Any, Tensor]:
        return self.inputs.read(rows, self.framing), self.inputs.labels[rows]


def _whole(batch: Any) -> Any:
    return batch


def of_tensor(images: Tensor) -> Reader:
    """Return a reader of images in memory, which a model resizes itself."""
    return lambda rows, _: images[list(rows)]


def of_pictures(source: Callable[[int], tuple[Any, str]]) -> Reader:
    """Return a reader of images that are decoded when they are asked for.

    Args:
        source: returns of a row what `images.decoded` takes, and what it is called.
    """

    def read(rows: Sequence[int], framing: Framing | None) -> Tensor:
        found: list[np.ndarray[Any, Any]] = []
        all_decoded((source(row) for row in rows), framing, lambda _, pixels: found.append(pixels))
        return torch.from_numpy(np.stack(found))

    return read
