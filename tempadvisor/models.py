"""Build named students and teachers, and load a teacher's weights from wherever they are.

Built in, small enough for a CPU: `mlp-64`, `mlp-256-128` (hidden widths), `cnn-16` (three blocks, first width),
`resnet20`, `resnet20-32` (CIFAR ResNet of depth 6 n + 2, first width 16 unless given), `vit-64`, `mixer-64` (width).
Any other name is timm's. Inputs of the built-in ones are floats in [0, 1]. Only tensors are ever unpickled.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tempadvisor.architectures import FAMILIES, CifarResNet, built_in, check_size, meant
from tempadvisor.errors import InputError, did_you_mean
from tempadvisor.hub import offline_without_network, quiet

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".th", ".bin")
_DRAWING = threading.Lock()  # first weights are drawn from a state that all threads share
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    """A teacher that takes uint8 images as they are stored: to floats in [0, 1], and to its size where it has one."""

    def __init__(self, teacher: nn.Module, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.teacher, self.size = teacher, size

    def forward(self, images: Tensor) -> Any:
        pixels = images.float() / 255
        if self.size and pixels.shape[2:] != self.size:
            pixels = interpolate(pixels, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        return self.teacher(pixels)


def build(
    name: str, *, image_shape: tuple[int, int, int], n_classes: int, seed: int, pretrained: bool = False
) -> nn.Module:
    """Return the model `name` at its start; the same `seed` gives the same weights.

    Args:
        name: built in, or timm's.
        image_shape: (channels, height, width).
        n_classes: K.
        seed: of the first weights; the caller's random state is left alone.
        pretrained: whether timm's weights are loaded.

    Raises:
        InputError: the name is not known, the model is too large, or pretrained weights cannot be had.
    """
    check_size(name, image_shape, n_classes)
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = built_in(name, image_shape, n_classes)
        if model is None:
            return _timm(name, n_classes, image_shape[0], pretrained)
    if pretrained:
        raise InputError(
            f"{name} must be a timm name to have pretrained weights. Got a built-in model.", code="no_weights"
        )
    return model


def _timm(name: str, n_classes: int | None, channels: int, pretrained: bool) -> nn.Module:
    families = ", ".join(FAMILIES)
    said = f"{name[:100]} must be a model. Built in: {families} and other widths; all other names are timm's."
    near = meant(name)
    if near:
        raise InputError(f"{said} Did you mean {near}?", code="no_model")
    import timm

    plain = name.removeprefix("timm/")
    if not plain.startswith(("hf-hub:", "local-dir:")) and not timm.is_model(plain.split(".")[0]):
        hint = did_you_mean(name[:100], (*FAMILIES, *timm.list_models()))
        raise InputError(f"{said} {hint if 'mean' in hint else ''}".strip(), code="no_model")
    extra: dict[str, Any] = {} if n_classes is None else {"num_classes": n_classes}
    try:
        with quiet(), offline_without_network(pretrained):
            model: nn.Module = timm.create_model(plain, pretrained=pretrained, in_chans=channels, **extra)
    except Exception as error:  # timm and its hub raise whatever they meet on the way
        raise InputError(
            f"{name[:100]} must have weights that can be loaded. "
            f"Got {type(error).__name__}: {str(error).split('. ')[0][:160]}. "
            "Without a network, give a checkpoint file and --model NAME.",
            code="no_weights",
        ) from None
    return model


def weights_hash(model: nn.Module) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all parameters and buffers, names and shapes included."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def tensor_hash(*tensors: Tensor) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of tensors, shapes and types included."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint: `state_dict` or `model` unpacked, `module.` stripped from the names.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            with quiet():
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile, pickle and safetensors each have their own
        missing = "It does not exist." if not path.exists() else f"Got {type(error).__name__}."
        raise InputError(
            f"{path} must be a checkpoint of tensors. {missing} Save the model's state_dict, best as .safetensors.",
            code="bad_checkpoint",
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {}
    if isinstance(state, dict):
        tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise InputError(f"{path} must hold a state_dict. Got no tensors.", code="bad_checkpoint")
    return tensors


def load_teacher(
    spec: str, *, model: str | None = None, image_shape: tuple[int, int, int] = (3, 32, 32)
) -> nn.Module:
    """Return a teacher in evaluation mode, normalization of its inputs included where it is known.

    Args:
        spec: a timm name; a checkpoint, with `model`; or `package.module:factory`, a callable that returns an
            nn.Module and takes nothing.
        model: name of the checkpoint's architecture.
        image_shape: (channels, height, width), for the built-in architectures.

    Raises:
        InputError: it cannot be had, or the weights do not fit; what does not fit is named.
    """
    if Path(spec).suffix in CHECKPOINTS:
        if model is None:
            raise InputError(
                f"{spec} must come with the name of its model. Got none. Add --model NAME.", code="no_model"
            )
        return _from_checkpoint(Path(spec), model, image_shape).eval()
    if re.fullmatch(r"[\w.]+:\w+", spec) and not spec.startswith(("hf-hub:", "local-dir:")):
        return _from_factory(spec).eval()
    if ":" in spec and not spec.removeprefix("timm/").startswith(("hf-hub:", "local-dir:")):
        raise InputError(
            f"a factory must be package.module:factory. Got {spec[:100]!r}. Name its module by dots.",
            code="bad_factory",
        )
    return normalized(_timm(spec, None, image_shape[0], pretrained=True)).eval()


def prepared(teacher: nn.Module) -> nn.Module:
    """Return `teacher` made to take uint8 images, of any size where timm states its own; on a GPU if there is one."""
    stated: list[Any] = [getattr(module, "pretrained_cfg", None) for module in teacher.modules()]
    size = next((config.get("input_size") for config in stated if config), None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Prepared(teacher, (size[1], size[2]) if size else None).to(device).eval()


def normalized(model: nn.Module) -> nn.Module:
    """Return `model` behind the normalization that its weights expect: timm's own; ImageNet's for a CIFAR ResNet."""
    config: Any = getattr(model, "pretrained_cfg", {})
    mean, std = config.get("mean"), config.get("std")
    if isinstance(model, CifarResNet) and model.conv1.in_channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return nn.Sequential(Normalize(mean, std), model) if mean and std else model


def _from_checkpoint(path: Path, name: str, image_shape: tuple[int, int, int]) -> nn.Module:
    tensors = read_checkpoint(path)
    model = build(name, image_shape=image_shape, n_classes=_n_classes(name, image_shape, tensors), seed=0)
    wanted = model.state_dict()
    wrong = [f"lacks {key}" for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    wrong += [f"has {key} that the model lacks" for key in tensors if key not in wanted]
    wrong += [
        f"has {key} of shape {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(f"{path} must fit the model {name}. It {'; it '.join(wrong[:3])}{more}.", code="misfit")
    model.load_state_dict(tensors, strict=False)
    return normalized(model)


def _n_classes(name: str, image_shape: tuple[int, int, int], tensors: dict[str, Tensor]) -> int:
    """Return how many classes the tensors are for: the length of their classifier."""
    heads = [tensors[key] for key in head_names(name, image_shape) if key in tensors and tensors[key].ndim]
    return len(heads[0]) if heads else 2


def head_names(name: str, image_shape: tuple[int, int, int]) -> list[str]:
    """Return the names of the classifier's tensors, which grow with the number of classes.

    >>> head_names("mlp-8", (1, 2, 2))
    ['3.weight', '3.bias']
    """
    with torch.device("meta"):
        two, three = (build(name, image_shape=image_shape, n_classes=n, seed=0).state_dict() for n in (2, 3))
    return [key for key, value in two.items() if value.shape != three[key].shape]


def _from_factory(spec: str) -> nn.Module:
    module, name = spec.split(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module), name)
        model = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it is the user's code, which may even exit
        raise InputError(
            f"{spec[:100]} must be a callable without arguments. Got {type(error).__name__}: {str(error)[:200]}.",
            code="bad_factory",
        ) from None
    finally:
        sys.path.remove(here)
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} must return an nn.Module. Got {type(model).__name__}.", code="bad_factory")
    return model
