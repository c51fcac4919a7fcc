"""Load named or user data as tensors, with train, validation and test splits fixed by a seed.

Names: `sklearn/digits`; `fashion-mnist` (Debian's folder) or any folder of IDX files; an image folder
(`train/<class>/*` and `test/<class>/*`, or classes directly); an `.npz` with `labels` and with `images`, (N, H, W),
(N, H, W, C) or (N, C, H, W) with C of 1 or 3, or `vectors`, (N, d), as uint8 or as floats in [0, 1];
`torch/NAME` and `hfds/NAME` (`sources.py`); `.tar` shards; a `.csv` of texts, to run a teacher on (`collected.py`);
`glyphs/latin-coarse|medium|fine`, the same rendered characters under three labelings, and `glyphs/kana`.
Nothing is downloaded but by `hfds/`, and nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tempadvisor.arrays import npz_arrays
from tempadvisor.collected import collected
from tempadvisor.errors import InputError, did_you_mean
from tempadvisor.files import check_regular
from tempadvisor.folders import listed
from tempadvisor.images import Framing, all_decoded, decoded
from tempadvisor.inputs import Inputs, of_tensor
from tempadvisor.resources import cache_folder
from tempadvisor.sources import TORCHVISION, torchvision_set

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAMES = (
    "sklearn/digits",
    "fashion-mnist",
    "glyphs/latin-coarse",
    "glyphs/latin-medium",
    "glyphs/latin-fine",
    "glyphs/kana",
)
MOST_BYTES = 8 * 10**9  # of a data set that is scaled
# What leaves a label as it is: nothing (vectors), a shift, or a shift and a mirror.
Moves = Literal["none", "shift", "mirror"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Hold all images of a data set.

    images: (N, channels, height, width), uint8; labels: (N,), 0 to K - 1; `source` is shared by labelings of the
    same images; from `test_start` on they are the official test split, None if there is none; `moves` says what
    leaves a label as it is; `class_names` (K,) where known. Vectors are stored as (N, 1, 1, d) and nothing moves
    them: their values are no neighbors.
    """

    name: str
    source: str
    images: Tensor
    labels: Tensor
    n_classes: int
    moves: Moves
    test_start: int | None = None
    class_names: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Indices of the three splits; `train` is in an order that makes every prefix a fair sample."""

    train: Tensor
    val: Tensor
    test: Tensor


def load(name: str, *, image_size: int | None = None) -> Data:
    """Return the data set `name`, resized to `image_size` pixels where given.

    Raises:
        InputError: the name is not known, or what it points to is missing, damaged or no data set.
    """
    path = Path(name)
    if name == "sklearn/digits":
        data = _digits()
    elif name.startswith("glyphs/") and name in NAMES:
        data = _glyphs(name, image_size or 16)
    elif name.startswith("torch/"):
        data = _torchvision(name)
    elif path.suffix == ".npz":
        data = _npz(path)
    elif name == "fashion-mnist" or (path.is_dir() and any(path.glob("*idx3-ubyte*"))):
        data = _idx(FASHION_MNIST if name == "fashion-mnist" else path)
    elif path.is_dir():
        data = _folder(path, image_size)
    elif (found := collected(name)) is not None:
        data = _whole(found, image_size)
    else:
        raise InputError(
            f"{name} must be a data set. {did_you_mean(name, NAMES)} A folder or .npz works too.", code="no_data"
        )
    if data.n_classes < 2:
        raise InputError(f"{name} must have at least 2 classes. Got 1.", code="one_class")
    if image_size is not None and data.moves == "none":
        raise InputError(
            f"{name} must be used without image_size, since it holds vectors. Got {image_size}. Leave it out.",
            code="bad_data",
        )
    return data if image_size in (None, data.images.shape[2]) else _resized(data, image_size or 0)


def opened(name: str) -> Inputs:
    """Return the samples of `name` to run a teacher on: all but an official test split, read when asked for.

    Raises:
        InputError: as `load`.
    """
    found = None if name in NAMES else collected(name)
    if found is not None:
        return found
    data = load(name)
    return Inputs(
        name=data.name,
        labels=data.labels[: data.test_start],
        n_classes=data.n_classes,
        shape=(data.images.shape[1], data.images.shape[2], data.images.shape[3]),
        read=of_tensor(data.images),
        class_names=data.class_names,
    )


def split(data: Data, *, n_train: int, n_val: int, n_test: int, seed: int) -> Split:
    """Return disjoint splits of `data`: the same `seed` gives the same test and validation samples for every n_train.

    The official test split is used where there is one; else the splits come from one shuffled pool.

    Raises:
        InputError: there are fewer samples than asked for, or a class has none, or none to train on.
    """
    if not (there := torch.bincount(data.labels, minlength=data.n_classes)).all():
        raise InputError(
            f"data must hold samples of every class from 0 to {data.n_classes - 1}; none of class "
            f"{int((there == 0).nonzero()[0])} ({data.name}). Number the classes without a gap.",
            code="empty_class",
        )
    rng = np.random.default_rng(seed)
    pool = rng.permutation(data.test_start or len(data.labels))
    if data.test_start is None:
        test, rest = pool[:n_test], pool[n_test:]
    else:
        test, rest = data.test_start + rng.permutation(len(data.labels) - data.test_start)[:n_test], pool
    val, train = rest[:n_val], rest[n_val : n_val + n_train]
    for what, wanted, got in (("n_train", n_train, train), ("n_val", n_val, val), ("n_test", n_test, test)):
        if len(got) < wanted:
            raise InputError(
                f"{what} must be at most {len(got)} for {data.name}. Got {wanted}.", code="too_few_samples"
            )
    indices = [torch.from_numpy(part.copy()) for part in (train, val, test)]
    counts = torch.bincount(data.labels[indices[0]], minlength=data.n_classes)
    if not counts.all():
        empty = (counts == 0).nonzero().flatten().tolist()
        after = "Raise n_train" if 2 * n_train < len(rest) else "Each class needs more samples"
        raise InputError(
            f"every class must have a training sample. Got none for {len(empty)} of {data.n_classes} classes, "
            f"class {empty[0]} first ({data.name}, n_train {n_train}, split seed {seed}). {after}.",
            code="empty_class",
        )
    return Split(train=indices[0], val=indices[1], test=indices[2])


def as_float(images: Tensor) -> Tensor:
    """Return uint8 images as floats in [0, 1]."""
    return images.float() / 255


def _digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor((digits.images * 255 / 16).round(), dtype=torch.uint8)[:, None]
    labels = torch.tensor(digits.target, dtype=torch.int64)
    return Data(
        name="sklearn/digits",
        source="digits",
        images=images,
        labels=labels,
        n_classes=10,
        moves="shift",
        class_names=tuple(map(str, digits.target_names)),
    )


def _torchvision(name: str) -> Data:
    images, labels, test_start, names = torchvision_set(name)
    return Data(
        name=name,
        source=name.removeprefix("torch/"),
        images=images,
        labels=labels,
        n_classes=len(names),
        moves="mirror" if TORCHVISION[name][1] == "mirror" else "shift",
        test_start=test_start,
        class_names=names,
    )


def _whole(inputs: Inputs, image_size: int | None) -> Data:
    """Return all images of data that are read sample by sample."""
    if inputs.shape is None:
        raise InputError(
            f"{inputs.name} must hold images to train students on. It holds texts, which recommend takes alone.",
            code="bad_data",
        )
    framing = None if image_size is None else Framing((image_size, image_size))
    n, first = len(inputs.labels), inputs.read([0], framing)[0]
    if n * first.numel() > MOST_BYTES:
        raise InputError(
            f"images must take at most {MOST_BYTES / 1e9:.0f} GB. Got {n:,} of {inputs.name}. Lower --image-size.",
            code="too_large",
        )
    images = torch.empty((n, *first.shape), dtype=torch.uint8)
    for start in range(0, n, 1024):
        images[start : start + 1024] = inputs.read(range(start, min(start + 1024, n)), framing)
    return Data(
        name=inputs.name,
        source=Path(inputs.name).stem,
        images=images,
        labels=inputs.labels,
        n_classes=inputs.n_classes,
        moves="mirror",
        class_names=inputs.class_names,
    )


def _idx(folder: Path) -> Data:
    parts = {}
    for stem, kind in itertools.product(("train", "t10k"), ("images-idx3-ubyte", "labels-idx1-ubyte")):
        found = [file for file in (folder / f"{stem}-{kind}", folder / f"{stem}-{kind}.gz") if file.is_file()]
        if not found:
            raise InputError(
                f"{folder} must hold {stem}-{kind}, plain or .gz. Got none. "
                "For Fashion-MNIST: apt install dataset-fashion-mnist.",
                code="no_data",
            )
        try:
            raw = gzip.decompress(found[0].read_bytes()) if found[0].suffix == ".gz" else found[0].read_bytes()
            shape = np.frombuffer(raw, ">i4", raw[3], 4)
            parts[stem, kind[0]] = torch.from_numpy(
                np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
            )
        except (OSError, EOFError, ValueError, IndexError):
            raise InputError(
                f"{found[0]} must be an IDX file. It is damaged or something else.", code="bad_data"
            ) from None
    images = torch.cat([parts["train", "i"], parts["t10k", "i"]])[:, None]
    labels = torch.cat([parts["train", "l"], parts["t10k", "l"]]).long()
    return Data(
        name=folder.name,
        source=folder.name,
        images=images,
        labels=labels,
        n_classes=int(labels.max()) + 1,
        moves="mirror" if "fashion" in folder.name else "shift",
        test_start=len(parts["train", "l"]),
    )


def _npz(path: Path) -> Data:
    check_regular(path, "an .npz with images, or vectors, and labels")

    def pick(found: Iterable[str]) -> list[str]:
        names = ["vectors" if "vectors" in found else "images", "labels"]
        for name in names:
            if name not in found:
                held = ", ".join(sorted(found)[:5])[:100] or "nothing"
                raise InputError(
                    f"{path} must be an .npz with images, or vectors, and labels. It lacks {name} and holds {held}.",
                    code="bad_data",
                )
        vectors.append("vectors" in names)
        return names

    vectors: list[bool] = []
    images, labels = (stored.array for stored in npz_arrays(path, pick))
    if images.size > MOST_BYTES:
        raise InputError(
            f"{path} must hold at most {MOST_BYTES / 1e9:.0f} GB of images. Got {images.size / 1e9:.0f} GB.",
            code="too_large",
        )
    if vectors[0]:
        if images.ndim != 2 or not images.shape[1]:
            raise InputError(f"{path} must hold vectors (N, d). Got {images.shape}.", code="bad_data")
        images = images[:, None]
    plain = images.ndim == 3
    if plain:
        images = images[..., None]
    if (
        images.ndim != 4
        or labels.shape != images.shape[:1]
        or not len(labels)
        or labels.dtype.kind not in "iu"
        or labels.min() < 0
    ):
        raise InputError(
            f"{path} must hold images (N, height, width[, channels]) and labels (N,) from 0. "
            f"Got {images.shape} and {labels.dtype} {labels.shape}.",
            code="bad_data",
        )
    first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last and not plain:
        raise InputError(
            f"{path} must hold images with 1 or 3 channels, either second or last. Got {images.shape}. "
            "Store them as (N, height, width, channels).",
            code="bad_data",
        )
    if first and not plain:
        images = np.moveaxis(images, 1, 3)
    if images.dtype != np.uint8:
        if images.dtype.kind != "f" or not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
            raise InputError(
                f"{path} must hold images as uint8, or as floats in [0, 1]. Got {images.dtype}.", code="bad_data"
            )
        images = (images * 255).round().astype(np.uint8)
    return Data(
        name=path.name,
        source=path.stem,
        images=torch.from_numpy(np.moveaxis(images, 3, 1).copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        n_classes=int(labels.max()) + 1,
        moves="none" if vectors[0] else "shift",
    )


def _folder(folder: Path, image_size: int | None) -> Data:
    """Decode an image folder, once: its pixels are kept in the cache."""
    found = listed(folder)
    stamp = found.stamp if image_size is None else f"{found.stamp}-{image_size}"
    cached = cache_folder() / f"images-{stamp}.npy"
    framing = None if image_size is None else Framing((image_size, image_size))
    images = np.load(cached, allow_pickle=False) if cached.is_file() else _decoded(found.files, framing, cached)
    return Data(
        name=folder.name,
        source=folder.name,
        images=torch.from_numpy(images),
        n_classes=len(found.classes),
        moves="mirror",
        labels=torch.tensor(found.labels),
        test_start=found.test_start,
        class_names=found.classes,
    )


def _decoded(files: list[Path], framing: Framing | None, cached: Path) -> npt.NDArray[np.uint8]:
    first = decoded(files[0], str(files[0]), framing)
    n_bytes = len(files) * first.size
    if n_bytes > MOST_BYTES:
        raise InputError(
            f"images must take at most {MOST_BYTES / 1e9:.0f} GB. Got {n_bytes / 1e9:.0f} GB for {len(files)} files "
            f"like {files[0]}. Lower --image-size.",
            code="too_large",
        )
    images = np.empty((len(files), *first.shape), np.uint8)
    all_decoded(((file, str(file)) for file in files), framing, images.__setitem__)
    temporary = cached.with_name(f".{os.getpid()}-{cached.name}")
    np.save(temporary, images)
    temporary.replace(cached)
    return images


def _resized(data: Data, size: int) -> Data:
    n_bytes = len(data.images) * data.images.shape[1] * size * size
    if n_bytes > MOST_BYTES:
        raise InputError(
            f"images must take at most {MOST_BYTES / 1e9:.0f} GB. Got {n_bytes / 1e9:.0f} GB for {data.name} at "
            f"{size} pixels. Lower image_size.",
            code="too_large",
        )
    small = [
        interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        for part in torch.split(data.images, 4096)
    ]
    return dataclasses.replace(data, images=torch.cat(small))


def _glyphs(name: str, size: int) -> Data:
    from tempadvisor.glyphs import render

    rendered = render(name.split("/")[1], size)
    return Data(
        name=name,
        source=f"glyphs-{name.split('/')[1].split('-')[0]}",
        images=torch.from_numpy(rendered.images),
        moves="shift",
        labels=torch.from_numpy(rendered.labels),
        n_classes=int(rendered.labels.max()) + 1,
    )
