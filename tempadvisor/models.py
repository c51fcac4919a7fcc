"""Build named students and teachers, and load a teacher's weights from wherever they are.

Built in, small enough for a CPU: `mlp-64`, `mlp-256-128` (hidden widths), `cnn-16` (three blocks, first width),
`resnet20`, `resnet20-32` (CIFAR ResNet of depth 6 n + 2, first width 16 unless given), `vit-64`, `mixer-64` (width).
Any other name is timm's. Inputs of the built-in ones are floats in [0, 1]. Only tensors are ever unpickled.
"""

from __future__ import annotations

import dataclasses
import difflib
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

from tempadvisor.architectures import FAMILIES, CifarResNet, built_in, check_size, meant
from tempadvisor.checkpoints import SUFFIXES as CHECKPOINTS
from tempadvisor.checkpoints import Shapes, misfits, named_as, nearest, read_checkpoint
from tempadvisor.errors import InputError, did_you_mean
from tempadvisor.hub import offline_without_network, quiet
from tempadvisor.huggingface import is_transformer, load_transformer
from tempadvisor.preprocessing import Normalize, Prepared, Preprocessing, changed, stated
from tempadvisor.programs import SUFFIXES as PROGRAMS
from tempadvisor.programs import is_program, load_program

TIMM_PREFIXES = ("hf-hub:", "local-dir:")
COMMON = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "mobilenetv3_small_100", "mobilenetv3_large_100"),
    *("efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv2_100", "convnext_tiny", "vit_tiny_patch16_224"),
    *("vit_small_patch16_224", "vit_base_patch16_224", "densenet121", "regnety_002", "vgg16_bn", "wide_resnet50_2"),
)
_DRAWING = threading.Lock()  # first weights are drawn from a state that all threads share
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


def live(
    spec: str,
    *,
    model: str | None = None,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    preprocess: str | None = None,
) -> Prepared:
    """Return a teacher that takes uint8 images as they are stored, on a GPU if there is one.

    Args:
        spec: a timm name; a folder of transformers, or `transformers:NAME`; a checkpoint, with `model`; a program
            (TorchScript, `torch.export` or ONNX); or `package.module:factory`, a callable that returns an nn.Module
            and takes nothing.
        model: name of the checkpoint's architecture.
        image_shape: (channels, height, width) of the data, for the built-in architectures; where it has one channel
            and the teacher takes three, gray images are repeated.
        preprocess: what a user says of the model's inputs, see `preprocessing.changed`; the model itself knows the
            rest, but for a factory's module, whose normalization belongs in it.

    Raises:
        InputError: it cannot be had, or the weights do not fit; what does not fit is named.
        UsageError: `preprocess` is not understood.
    """
    raw, channels = _raw(spec, model, image_shape)
    own = changed(own_preprocessing(raw, factory=_is_factory(spec)), preprocess)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Prepared(_behind(raw, own), own.framing, channels).to(device).train(raw.training)


def _raw(spec: str, model: str | None, image_shape: tuple[int, int, int]) -> tuple[nn.Module, int | None]:
    """Return the module that a user names, as it is, and how many channels it takes, where that is known."""
    if Path(spec).suffix.lower() in (*CHECKPOINTS, *PROGRAMS):
        if is_program(Path(spec)):
            program = load_program(Path(spec))
            return program, program.channels
        if model is None:
            raise InputError(
                f"{spec} must come with the name of its model. Got none. Add --model NAME.", code="no_model"
            )
        loaded, channels = _from_checkpoint(Path(spec), model, image_shape)
        return loaded.eval(), channels
    if is_transformer(spec):
        classifier = load_transformer(spec)
        return classifier, classifier.channels
    if _is_factory(spec):
        return _from_factory(spec), None
    if ":" in spec and not spec.removeprefix("timm/").startswith(TIMM_PREFIXES):
        raise InputError(
            f"a factory must be package.module:factory. Got {spec[:100]!r}. Name its module by dots.",
            code="bad_factory",
        )
    return _timm(spec, None, image_shape[0], pretrained=True).eval(), image_shape[0]


def _is_factory(spec: str) -> bool:
    return bool(re.fullmatch(r"[\w.]+:\w+", spec)) and not spec.startswith((*TIMM_PREFIXES, "transformers:"))


def own_preprocessing(model: nn.Module, *, factory: bool = False) -> Preprocessing:
    """Return what a model says of its inputs: timm's own configuration; ImageNet's numbers for a CIFAR ResNet.

    A factory's module brings its normalization with it; only a size that a part of it states is heeded.
    """
    configs: list[Any] = [getattr(module, "pretrained_cfg", None) for module in model.modules()]
    own = stated(next((config for config in configs if config), {}))
    if factory:
        return dataclasses.replace(own, crop=1.0, mean=None, std=None)
    if isinstance(model, CifarResNet) and model.conv1.in_channels == 3:
        own = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return own


def normalized(model: nn.Module) -> nn.Module:
    """Return `model` behind the normalization that its weights expect."""
    return _behind(model, own_preprocessing(model))


def _behind(model: nn.Module, own: Preprocessing) -> nn.Module:
    """Return a model behind a normalization, averaged where the model was built for one channel."""
    if own.mean is None and own.std is None:
        return model
    mean, std = own.mean or (0.0,), own.std or (1.0,)
    first = next((p for p in model.parameters() if p.ndim == 4), None)
    if first is not None and first.shape[1] == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return nn.Sequential(Normalize(mean, std), model)


def _from_checkpoint(path: Path, name: str, image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """Return a model with the weights of a file, and how many channels it takes: three, if so, of gray images too."""
    tensors = read_checkpoint(path)

    def shapes(name: str, n_classes: int, image_shape: tuple[int, int, int] = image_shape) -> Shapes:
        with torch.device("meta"):
            model = build(name, image_shape=image_shape, n_classes=n_classes, seed=0)
        return {key: tuple(value.shape) for key, value in model.state_dict().items()}

    two = shapes(name, 2)
    tensors = named_as(tensors, two)
    head = [key for key, shape in shapes(name, 3).items() if shape != two[key]]
    sizes = [len(tensors[key]) for key in head if key in tensors and tensors[key].ndim]
    n_classes = sizes[0] if sizes else 2
    wrong = misfits(tensors, shapes(name, n_classes))
    if wrong and image_shape[0] == 1:
        colored = (3, image_shape[1], image_shape[2])
        if not misfits(tensors, shapes(name, n_classes, colored)):
            image_shape, wrong = colored, []
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        if not tensors.keys() & two.keys():
            more += f"; none of its names is the model's, the first is {min(tensors)[:100]}"
        near = nearest(tensors, _alike(name), lambda other: shapes(other, n_classes))
        hint = f" Its tensors are those of {near}: give --model {near}." if near else ""
        if not set(head_names(near or name, image_shape)) & tensors.keys() and (near or tensors.keys() <= two.keys()):
            hint += (
                " It holds a backbone without the classifier: give a checkpoint of the whole teacher, trained on "
                "these classes."
            )
        raise InputError(
            f"{path} must fit the model {name}. It {'; it '.join(wrong[:3])}{more}.{hint}", code="misfit"
        )
    model = build(name, image_shape=image_shape, n_classes=n_classes, seed=0)
    model.load_state_dict(tensors, strict=False)
    return model, image_shape[0]


def _alike(name: str) -> list[str]:
    """Return names of models that a checkpoint may belong to instead: of other sizes first, then what is common."""
    if re.match(r"(mlp|cnn|vit|mixer)-", name):
        return []  # their widths are too many to be tried

    import timm

    known = timm.list_models()
    sizes = [other for other in known if re.sub(r"\d+", "#", other) == re.sub(r"\d+", "#", name)]
    near = difflib.get_close_matches(name, known, n=4)
    own = [f"resnet{depth}" for depth in (8, 20, 32, 56, 110)]
    names = [*sizes[:20], *own, *near, *(other for other in COMMON if other in known)]
    return [other for other in dict.fromkeys(names) if other != name.removeprefix("timm/").split(".")[0]]


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
