"""Render characters from the fonts that are installed: images whose classes are coarse, medium or fine at will.

A character is drawn in every font that has it, on a fixed baseline, so that o and O differ. It is a data source, not
a font tool: no shaping, no color.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tempadvisor.errors import InputError

FONTS = Path("/usr/share/fonts")
LATIN = string.ascii_lowercase + string.ascii_uppercase + string.digits
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
KANA += "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
MISSING = "\U0010ffff"  # no font has it: what is drawn instead is what a missing character looks like
JITTERS = 6  # variants of each kana, since few fonts have them


class Rendered(NamedTuple):
    """Images, (N, 1, size, size), uint8, and labels, (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def render(labeling: str, size: int, fonts: Sequence[Path] | None = None) -> Rendered:
    """Return every character of a labeling in every font that has it.

    latin-coarse: lower case, upper case or digit (3 classes); latin-medium: the letter or digit, whatever its case
    (36); latin-fine: the character, and bold or not (124). The images of the three are the same. kana: the
    character (92), drawn in six sizes and slants.

    Args:
        labeling: one of the four.
        size: pixels of height and width.
        fonts: font files; None takes all that are installed under /usr/share/fonts.

    Raises:
        InputError: no font has the characters, or a class of the labeling stays empty.
    """
    from PIL import Image, ImageDraw, ImageFont

    files = (
        sorted(f for f in FONTS.rglob("*") if f.suffix in (".ttf", ".otf", ".ttc")) if fonts is None else list(fonts)
    )
    kana = labeling == "kana"
    characters = KANA if kana else LATIN
    jitter = np.random.default_rng(0)
    images, labels = [], []

    def draw(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
        canvas = Image.new("L", (4 * size, 4 * size))
        ImageDraw.Draw(canvas).text((2 * size, 3.1 * size), text, 255, font=font, anchor="ms")
        return canvas

    for file in files:
        try:
            font = ImageFont.truetype(str(file), int(3.2 * size))
            blank = draw(MISSING, font).tobytes()
            drawn = [draw(character, font) for character in characters]
        except OSError:
            continue
        if any(one.tobytes() == blank or one.getbbox() is None for one in drawn):
            continue
        bold = any(word in file.name.lower() for word in ("bold", "black", "heavy"))
        for index, one in enumerate(drawn):
            for _ in range(JITTERS if kana else 1):
                if kana:
                    turn, zoom = jitter.uniform(-12, 12), jitter.uniform(0.85, 1.15)
                    a, b = zoom * np.cos(np.radians(turn)), zoom * np.sin(np.radians(turn))
                    c = 2 * size
                    one = drawn[index].transform(
                        one.size, Image.Transform.AFFINE, (a, b, c - c * a - c * b, -b, a, c + c * b - c * a)
                    )
                images.append(np.asarray(one.resize((size, size), Image.Resampling.BOX)))
                labels.append(_label(labeling, index, bold))
    found = set(labels)
    expected = {"latin-coarse": 3, "latin-medium": 36, "latin-fine": 124, "kana": len(KANA)}[labeling]
    if len(found) < expected:
        package = "fonts-ipafont fonts-noto-cjk" if kana else "fonts-dejavu fonts-liberation"
        raise InputError(
            f"glyphs/{labeling} must have all {expected} classes. The {len(files)} fonts give {len(found)}. "
            f"Install more fonts: apt install {package}.",
            code="no_fonts",
        )
    unique, keep = np.unique(np.stack(images).reshape(len(images), -1), axis=0, return_index=True)
    keep = np.sort(keep[: len(unique)])  # two files of one font are one
    return Rendered(np.stack(images)[keep][:, None], np.array(labels, dtype=np.int64)[keep])


def _label(labeling: str, index: int, bold: bool) -> int:
    if labeling == "kana":
        return index
    if labeling == "latin-coarse":
        return min(index // 26, 2)
    if labeling == "latin-medium":
        return index % 26 if index < 52 else index - 26
    return 2 * index + bold
