"""What a model does to its inputs first: size, crop, interpolation, mean and standard deviation.

Each model says it of itself where it can: timm's `pretrained_cfg`, or the image processor of a Hugging Face model,
which `transformer.py` brings to the same words. A user's text has the last word. Teacher and student have each their
own, since both take images in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from tempadvisor.errors import InputError, UsageError, did_you_mean
from tempadvisor.images import Framing

_INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
_CROP_MODES = ("center", "squash")
_LARGEST = 4096  # pixels a side


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How images in [0, 1] become a model's inputs; None leaves them as they are."""

    size: tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def framing(self) -> Framing | None:
        """Return how images are brought to the model's size, if it has one."""
        return Framing(self.size, self.crop, self.interpolation, self.crop_mode) if self.size else None


def stated(config: Mapping[str, Any]) -> Preprocessing:
    """Return what a timm configuration (`pretrained_cfg`) says.

    >>> stated({"input_size": (3, 224, 224), "crop_pct": 0.875, "mean": (0.5,), "std": (0.5,)}).framing.size
    (224, 224)
    """
    size, mean, std = config.get("input_size"), config.get("mean"), config.get("std")
    interpolation, mode = config.get("interpolation"), config.get("crop_mode")
    return Preprocessing(
        size=(int(size[1]), int(size[2])) if size else None,
        crop=float(config.get("crop_pct") or 1.0),
        interpolation=interpolation if interpolation in _INTERPOLATIONS else "bicubic",
        crop_mode=mode if mode in _CROP_MODES else "center",
        mean=tuple(map(float, mean)) if mean else None,
        std=tuple(map(float, std)) if std else None,
    )


def changed(own: Preprocessing, text: str | None) -> Preprocessing:
    """Return a model's preprocessing with what a user says of it instead.

    Args:
        own: what the model says.
        text: words `key=value`, such as `size=224 crop=0.875 mean=0.5,0.5,0.5`; a size may be `192x256`.

    Raises:
        UsageError: a word is not understood.

    >>> changed(Preprocessing(), "size=96 std=0.25").std
    (0.25,)
    """
    given: dict[str, Any] = {}
    for word in (text or "").split():
        key, _, value = word.partition("=")
        if key not in _READERS:
            raise UsageError(
                f"--preprocess must be words key=value. Got {word[:60]!r}. {did_you_mean(key[:60], _READERS)}",
                code="bad_preprocess",
            )
        try:
            given[key] = _READERS[key](value)
        except ValueError:
            raise UsageError(
                f"--preprocess {key} must be {_RULES[key]}. Got {value[:60]!r}.", code="bad_preprocess"
            ) from None
    found = dataclasses.replace(own, **given)
    if found.size is None and given.keys() & {"crop", "interpolation"}:
        raise UsageError(
            "--preprocess must name a size for images to be cropped and resized to: the model states none. "
            "Add size=N.",
            code="bad_preprocess",
        )
    return found


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    size = int(height), int(width or height)
    if not 1 <= min(size) <= max(size) <= _LARGEST:
        raise ValueError(size)
    return size


def _share(text: str) -> float:
    share = float(text)
    if not 0.1 <= share <= 1:
        raise ValueError(share)
    return share


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split(","))
    if len(numbers) not in (1, 3) or not all(-1e6 < number < 1e6 for number in numbers):
        raise ValueError(numbers)
    return numbers


def _scales(text: str) -> tuple[float, ...]:
    if min(scales := _numbers(text)) <= 0:
        raise ValueError(scales)
    return scales


def _interpolation(text: str) -> str:
    if text not in _INTERPOLATIONS:
        raise ValueError(text)
    return text


_READERS = {"size": _size, "crop": _share, "interpolation": _interpolation, "mean": _numbers, "std": _scales}
_RULES = {
    "size": f"a number of pixels, or HEIGHTxWIDTH, at most {_LARGEST}",
    "crop": "a share of the image, from 0.1 to 1",
    "interpolation": f"one of {', '.join(_INTERPOLATIONS)}",
    "mean": "one or three numbers, for values in [0, 1]",
    "std": "one or three numbers above 0, for values in [0, 1]",
}


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Prepared(nn.Module):
    """A teacher that takes uint8 images (n, channels, height, width) as they are stored, of any size it can have.

    `channels` is what it was built for, where that is known: gray images are repeated for one of colors.
    """

    def __init__(self, teacher: nn.Module, framing: Framing | None, channels: int | None = None) -> None:
        super().__init__()
        self.teacher, self.framing, self.channels = teacher, framing, channels
        self.convolves = any(isinstance(part, nn.Conv2d) for part in teacher.modules())
        if self.convolves:
            teacher.to(memory_format=torch.channels_last)  # about 1.7 times faster on a CPU

    def forward(self, images: Any) -> Any:
        if isinstance(images, list):
            return self._of_texts(images)
        kind = next((p.dtype for p in self.teacher.parameters() if p.is_floating_point()), torch.float32)
        pixels = resized(images.float() / 255, self.framing).to(kind)
        if self.repeats(images.shape[1]):
            pixels = pixels.expand(-1, 3, -1, -1)
        return self.teacher(pixels.contiguous(memory_format=torch.channels_last) if self.convolves else pixels)

    def repeats(self, channels: int) -> bool:
        """Tell whether images of so many channels are gray ones that a teacher of colors gets."""
        return channels == 1 and self.channels == 3

    def _of_texts(self, texts: list[str]) -> Any:
        if self.convolves or any(isinstance(part, Normalize) for part in self.teacher.modules()):
            got = "It takes images, and the data are texts"
        else:
            try:
                return self.teacher(texts)
            except (AttributeError, IndexError, TypeError, ValueError) as error:
                got = f"The data are texts, and it fails on a list of them: {type(error).__name__}: {error}"
        raise InputError(
            f"the data must be what the teacher takes. {got[:300].rstrip('.')}. Give --data images, such as a folder "
            "with one folder a class, or a teacher of texts.",
            code="other_inputs",
        )


def resized(images: Tensor, framing: Framing | None) -> Tensor:
    """Return images (n, channels, height, width) in [0, 1] brought to the size of `framing`.

    Images that have this size already are taken to have been framed when they were read.
    """
    if framing is None or tuple(images.shape[2:]) == framing.size:
        return images
    height, width = framing.scaled(images.shape[2], images.shape[3])
    smooth = {} if framing.interpolation == "nearest" else {"antialias": True}
    large = interpolate(images, (height, width), mode=framing.interpolation, **smooth).clamp(0, 1)
    top, left = round((height - framing.size[0]) / 2), round((width - framing.size[1]) / 2)
    around = (-left, left + framing.size[1] - width, -top, top + framing.size[0] - height)
    return pad(large, around)
