"""Image files to pixels: opened with care, decoded, and brought to the size and crop that a model was made for.

Which files there are is told by `folders.py` and `shards.py`; how a model wants its images by `preprocessing.py`.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tempadvisor.errors import InputError
from tempadvisor.files import check_regular

Pixels = npt.NDArray[np.uint8]

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # Pillow would hand others, such as EPS, to programs of the system
MOST_PIXELS = 1 << 26  # of one image, 200 MB once decoded
_THREADS = min(os.cpu_count() or 1, 16)


class Framing(NamedTuple):
    """How an image becomes one of `size` (height, width), as timm evaluates.

    `crop_pct` of it remain, from its center. `crop_mode` center keeps the shape of what is shown, squash does not.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image is resized to before it is cropped.

        >>> Framing((224, 224), 0.875).scaled(500, 375)
        (341, 256)
        """
        tall, wide = (int(side / self.crop_pct) for side in self.size)
        if self.crop_mode == "squash":
            return tall, wide
        if tall == wide:
            return (int(tall * height / width), wide) if width <= height else (tall, int(wide * width / height))
        fit = max(tall / height, wide / width)
        return round(height * fit), round(width * fit)


def framed(picture: Any, framing: Framing) -> Any:
    """Return a Pillow image resized and cropped."""
    from PIL import Image

    height, width = framing.scaled(picture.height, picture.width)
    method = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}.get(
        framing.interpolation, Image.Resampling.BICUBIC
    )
    if (picture.height, picture.width) != (height, width):
        picture = picture.resize((width, height), method)
    if (height, width) != framing.size:
        top, left = round((height - framing.size[0]) / 2), round((width - framing.size[1]) / 2)
        picture = picture.crop((left, top, left + framing.size[1], top + framing.size[0]))
    return picture


def decoded(source: Any, where: str, framing: Framing | None = None) -> Pixels:
    """Return an image as (3, height, width).

    Args:
        source: a file, the bytes of one, or an image of Pillow.
        where: what it is called in messages.
        framing: what it is brought to; None leaves it as it is.

    Raises:
        InputError: it is no image, or one too large to be decoded.
    """
    from PIL import Image

    try:
        if isinstance(source, Path):
            check_regular(source, "an image")
        opened = source
        if isinstance(source, (Path, bytes)):
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
        with opened as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise _too_large(where, f"{picture.width:,} x {picture.height:,}")
            whole = picture.convert("RGB")
            return np.moveaxis(np.asarray(whole if framing is None else framed(whole, framing)), 2, 0)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(where, "far more") from None
    except Exception:  # whatever a decoder meets in a broken file
        raise InputError(f"{where} must be an image. It is damaged or something else.", code="bad_data") from None


def _too_large(where: str, got: str) -> InputError:
    return InputError(
        f"{where} must have at most {MOST_PIXELS:,} pixels to be decoded. Got {got}. Resize it first.",
        code="too_large",
    )


def all_decoded(
    sources: Iterable[tuple[Any, str]], framing: Framing | None, place: Callable[[int, Pixels], None]
) -> None:
    """Decode images on threads and give each to `place` with its number, in order.

    Raises:
        InputError: one cannot be decoded, or differs in size from the first.
    """
    first: tuple[tuple[int, ...], str] | None = None
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")  # of what is odd in a file and does no harm
        jobs = ((source, where, pool.submit(decoded, source, where, framing)) for source, where in sources)
        for number, (_, where, job) in enumerate(_ahead(jobs)):
            pixels = job.result()
            first = first or (pixels.shape, where)
            if pixels.shape != first[0]:
                raise InputError(
                    f"images must have one size where neither the model nor a flag names it. {where} differs from "
                    f"{first[1]}. Give --image-size to verify, --preprocess size=N for a teacher, or resize them.",
                    code="bad_data",
                )
            place(number, pixels)


def _ahead(jobs: Iterable[Any]) -> Iterable[Any]:
    """Yield jobs a few behind, so that the next are at work already and memory stays bounded."""
    waiting: list[Any] = []
    for job in jobs:
        waiting.append(job)
        if len(waiting) > 2 * _THREADS:
            yield waiting.pop(0)
    yield from waiting
