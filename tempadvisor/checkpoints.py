"""Checkpoints: the tensors of a file, under the names that a model knows, and what does not fit.

Only tensors are ever unpickled (`weights_only=True`). Which model they belong to is said by the user.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tempadvisor.errors import InputError
from tempadvisor.files import check_regular
from tempadvisor.hub import quiet

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")
# What trainers keep weights under; the average of the weights comes first, as in timm.
_WRAPPINGS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_BEYOND = ("n_averaged",)  # what an averaged model counts
_MOST_RATIO = 200  # to which weights are ever packed

Shapes = Mapping[str, tuple[int, ...]]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: wrappings are unpacked, `module.` and `_orig_mod.` stripped from the names.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors.
    """
    check_regular(path, "a checkpoint of tensors")
    if zipfile.is_zipfile(path):
        _check_packing(path)
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            with quiet():
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile, pickle and safetensors each have their own
        why = "It holds more than tensors, which is never loaded: it could run code"
        told = why if "weights_only" in str(error).lower() else f"Got {type(error).__name__}: it is damaged"
        raise InputError(
            f"{path} must be a checkpoint of tensors. {told}. Save the model's state_dict, best as .safetensors.",
            code="bad_checkpoint",
        ) from None
    for key in _WRAPPINGS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {}
    if isinstance(state, dict):
        tensors = {stripped(str(k)): v for k, v in state.items() if isinstance(v, Tensor) and k not in _BEYOND}
    if not tensors:
        raise InputError(f"{path} must hold a state_dict. Got no tensors.", code="bad_checkpoint")
    return tensors


def stripped(name: str) -> str:
    """Return a tensor's name without what wrappers of a model put before it.

    >>> stripped("_orig_mod.module.fc.weight")
    'fc.weight'
    """
    while found := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(found)
    return name


def _check_packing(path: Path) -> None:
    """See that a zip file does not unpack to far more than it is: torch stores tensors as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            whole = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError):
        return  # torch says what is wrong with it
    if whole > max(_MOST_RATIO * path.stat().st_size, 1 << 26):
        raise InputError(
            f"{path} must be a checkpoint of tensors. It unpacks to {whole:,} bytes, far more than weights do. "
            "Save the model's state_dict, best as .safetensors.",
            code="too_large",
        )


def named_as(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors under names that a model knows.

    Lightning's `model.` is left out where that fits better, and what else all names begin with where all fit then.
    """
    known = set(wanted)
    without = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    if len(known & without.keys()) > len(known & tensors.keys()):
        return without
    first = min(tensors).split(".")
    for depth in range(1, len(first)):
        prefix = ".".join(first[:depth]) + "."
        inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if len(inner) == len(tensors) and inner.keys() <= known:
            return inner
    return dict(tensors)


def misfits(tensors: Mapping[str, Tensor], wanted: Shapes) -> list[str]:
    """Return what does not fit, in words, the most telling first; empty where all fits."""
    return [
        *(f"lacks {key}" for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")),
        *(
            f"has {key} of shape {tuple(tensors[key].shape)}, not {shape}"
            for key, shape in wanted.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ),
        *(f"has {key} that the model lacks" for key in tensors if key not in wanted),
    ]


def nearest(tensors: Mapping[str, Tensor], names: Iterable[str], shapes: Callable[[str], Shapes]) -> str | None:
    """Return the first of the models `names` whose tensors are nearest to these, if most of them fit.

    Args:
        tensors: of a checkpoint.
        names: of models, the likeliest first.
        shapes: returns those of a model's tensors.
    """
    best, share = None, 0.5
    own = {(name, tuple(value.shape)) for name, value in tensors.items()}
    for name in names:
        other = set(shapes(name).items())
        found = len(own & other) / max(len(own | other), 1)
        if found > share:
            best, share = name, found
        if found > 0.97:  # all but a classifier
            break
    return best
