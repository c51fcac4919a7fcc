"""What a user's teacher answers to exactly what the students see: it is run, or its stored logits are read.

A teacher may be the user's code: what it prints is no result, whatever it raises is said in one line, and its answers
are kept for as long as it gives the same to a few samples. Nothing is trained here.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tempadvisor import models
from tempadvisor.class_maps import read_class_map
from tempadvisor.datasets import Data
from tempadvisor.errors import InputError, UsageError
from tempadvisor.logits import SUFFIXES as LOGITS_SUFFIXES
from tempadvisor.logits import open_logits
from tempadvisor.material import cached
from tempadvisor.models import tensor_hash, weights_hash
from tempadvisor.teachers import MODEL_SUFFIXES

BATCH, FEW = 500, 8  # samples


class Answers(NamedTuple):
    """Logits (views, n, K), with a hash of the teacher and how many parameters it has, 0 where that is not known."""

    logits: Tensor
    hash: str
    n_params: int


class Asked(Protocol):
    """What a user says of a teacher, see `case.Task`."""

    @property
    def teacher(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def class_map(self) -> str | None: ...
    @property
    def preprocess(self) -> str | None: ...


def answers(asked: Asked, loaded: Data, rows: Tensor, views: Tensor, kind: str) -> Answers:
    """Return what a teacher answers to views of the training split.

    Args:
        asked: names a model as in `models.live`, or a file of logits of the training samples in their order.
        loaded: the data.
        rows: of the data, those of the training split (n,).
        views: what students see, (views, n, channels, height, width) in [0, 1].
        kind: of augmentation.

    Raises:
        UsageError: the teacher cannot be asked about these views.
        InputError: it cannot be had, or answers with something else than logits of the data's classes.
    """
    teacher, model = asked.teacher, asked.model
    said, suffix = teacher[:100], Path(teacher).suffix.lower()
    if suffix == ".json":
        raise UsageError(
            f"teacher must be a model or a file of its logits, to train students with. Got a profile ({said}), "
            "which holds none.",
            code="contradiction",
        )
    if suffix in LOGITS_SUFFIXES and (model is None or suffix not in MODEL_SUFFIXES):
        if model is not None or kind != "none":
            what, word = ("model", model) if model is not None else ("augmentation", kind)
            raise UsageError(
                f"{what} must be {'left out' if model is not None else 'none'} with stored logits, which hold no "
                f"augmented views. Got {word} beside {said}. Or name the teacher's model instead of its logits.",
                code="contradiction",
            )
        found = _stored(Path(teacher), loaded, rows)
    else:
        found = _asked(asked, loaded, views)
    if asked.class_map is not None:
        columns = read_class_map(Path(asked.class_map), loaded.class_names)
        if max(columns) >= found.logits.shape[2]:
            raise InputError(
                f"{asked.class_map} must name outputs of the teacher, 0 to {found.logits.shape[2] - 1}. "
                f"Got {max(columns)}.",
                code="bad_class_map",
            )
        found = found._replace(logits=found.logits[:, :, list(columns)])
    if found.logits.shape[2] != loaded.n_classes:
        raise InputError(
            f"teacher must have the {loaded.n_classes} classes of {loaded.name}. "
            f"Got {found.logits.shape[2]} ({said}). Give --class-map; 'tempadvisor profile' proposes one.",
            code="other_classes",
        )
    return found


def _asked(asked: Asked, loaded: Data, views: Tensor) -> Answers:
    channels, height, width = loaded.images.shape[1:]
    said = asked.teacher[:100]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = models.live(
                asked.teacher,
                model=asked.model,
                image_shape=(channels, height, width),
                preprocess=asked.preprocess,
            ).eval()
            weights = weights_hash(module)
            few = _logits(module, views[0, :FEW])
            key = f"logits-{weights}-{tensor_hash(few.half())}-{tensor_hash(views)}"
            logits = cached(key, lambda: {"logits": torch.stack([_logits(module, view) for view in views])})["logits"]
    except InputError as error:
        raise InputError(f"{error} ({said})", code=error.code) if error.code == "bad_teacher" else error from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the model is the user's code, which may even exit
        ended = isinstance(error, SystemExit)
        told = "It ended the program." if ended else f"Got {type(error).__name__}: {str(error)[:200].rstrip('.')}."
        shape = (channels, height, width)
        raise InputError(
            f"teacher must return logits of images {shape}. {told} ({said})", code="bad_teacher"
        ) from None
    return Answers(logits.float(), weights, sum(p.numel() for p in module.parameters()))


@torch.no_grad()
def _logits(module: nn.Module, images: Tensor) -> Tensor:
    """Return a prepared teacher's logits (n, K) of images in [0, 1]; it takes pixels as they are stored."""
    where = next((p.device for p in module.parameters()), torch.device("cpu"))
    parts = []
    for batch in torch.split(images, BATCH):
        logits = module(batch.to(where) * 255)
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
            raise InputError(
                f"teacher must return one tensor of logits ({len(batch)}, K) for {len(batch)} images. Got {shape}.",
                code="bad_teacher",
            )
        if not logits.isfinite().all():
            raise InputError("teacher must return finite logits. Got NaN or infinity.", code="bad_teacher")
        parts.append(logits.float().cpu())
    return torch.cat(parts)


def _stored(path: Path, loaded: Data, rows: Tensor) -> Answers:
    """Return logits (1, n, K) of `rows`, from a file with a row for each sample in the order of the data."""
    n = loaded.test_start or len(loaded.labels)
    stored = open_logits(path)
    if stored.n_samples not in (n, len(loaded.labels)):
        raise InputError(
            f"{path} must hold the logits of all {n} training samples of {loaded.name}, in their order. "
            f"Got {stored.n_samples} rows.",
            code="other_samples",
        )
    if stored.labels is not None:
        wrong = np.flatnonzero(stored.labels != loaded.labels[: stored.n_samples].numpy())
        if len(wrong):
            raise InputError(
                f"{path} must hold the labels of {loaded.name} in its order. "
                f"{len(wrong)} differ, row {wrong[0]} first.",
                code="other_samples",
            )
    wanted = rows.numpy()
    block = stored.read(wanted)[np.argsort(np.argsort(wanted))]
    logits = torch.from_numpy(block.astype(np.float32))[None]
    return Answers(logits, tensor_hash(logits), 0)
