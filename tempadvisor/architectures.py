"""The built-in architectures: perceptrons, CNNs, CIFAR ResNets, and small ViTs and MLP-Mixers, by name.

It knows no seeds and no weights from elsewhere: `models.py` does.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tempadvisor.errors import InputError

FAMILIES = ("mlp-64", "cnn-16", "resnet20", "vit-64", "mixer-64")
_BUILT_IN = re.compile(r"(mlp(-\d+)+|(cnn|vit|mixer)-\d+|resnet(20|8|14|32|44|56|110)(-\d+)?)", re.ASCII)
WIDEST, MOST_PARAMETERS = 100_000, 10**9  # of a built-in model


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters: subsample, and pad the channels with zeros."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.grown = stride, (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(out + pad(short, (0, 0, 0, 0, self.grown, self.grown)))


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. 2015, depth 6 n + 2, with the parameter names of its well-known checkpoints."""

    def __init__(self, depth: int, width: int, n_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width]
        stages = [
            nn.Sequential(
                *(
                    Block(widths[i] if block == 0 else widths[i + 1], widths[i + 1], 2 if i > 0 and block == 0 else 1)
                    for block in range((depth - 2) // 6)
                )
            )
            for i in range(3)
        ]
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(4 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(out.mean((2, 3)))
        return logits


class Transformer(nn.Module):
    """A small ViT, or with `mixer` an MLP-Mixer: patches of a fourth of the image, four layers, mean pooling."""

    def __init__(self, width: int, size: int, n_classes: int, channels: int, *, mixer: bool) -> None:
        super().__init__()
        patch = max(1, size // 4)
        tokens = (size // patch) ** 2
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        layers: list[nn.Module] = [
            MixerLayer(width, tokens)
            if mixer
            else nn.TransformerEncoderLayer(width, _heads(width), 2 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(4)
        ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.layers(tokens).mean(1))
        return logits


def _heads(width: int) -> int:
    return max(1, width // 16)


class MixerLayer(nn.Module):
    """Mix over tokens, then over channels, each by a small perceptron."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.over_tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = x + self.over_channels(self.norms[1](x))
        return mixed


@functools.cache
def check_size(name: str, image_shape: tuple[int, int, int], n_classes: int) -> None:
    """Refuse a built-in model that no memory holds, before any of it is taken."""
    if max((int(part[:9]) for part in re.findall(r"\d+", name)), default=0) <= WIDEST:
        with torch.device("meta"):
            model = built_in(name, image_shape, n_classes)
        if model is None or sum(p.numel() for p in model.parameters()) <= MOST_PARAMETERS:
            return
    elif not _BUILT_IN.fullmatch(name):
        return
    raise InputError(
        f"{name[:100]} must be at most {WIDEST} wide, with at most {MOST_PARAMETERS} parameters. It is larger.",
        code="too_large",
    )


def built_in(name: str, image_shape: tuple[int, int, int], n_classes: int) -> nn.Module | None:
    """Return the built-in model `name`, its first weights drawn from torch's own state, or None if there is none.

    Raises:
        InputError: a ViT's width is no multiple of its heads.
    """
    channels, height, width = image_shape
    numbers = [int(part) for part in re.findall(r"\d+", name)] if _BUILT_IN.fullmatch(name) else [0]
    if 0 in numbers:
        return None
    family = name.rstrip("-0123456789")
    if family == "mlp":
        sizes = [channels * height * width, *numbers, n_classes]
        layers: list[nn.Module] = [nn.Flatten()]
        for i, (inside, outside) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.ReLU()] * (i > 0) + [nn.Linear(inside, outside)]
        return nn.Sequential(*layers)
    if family == "cnn":
        return _cnn(numbers[0], n_classes, channels)
    if family == "resnet":
        return CifarResNet(numbers[0], numbers[1] if len(numbers) > 1 else 16, n_classes, channels)
    if family == "vit" and numbers[0] % _heads(numbers[0]):
        raise InputError(
            f"{name} must have a width that is a multiple of its heads, one for each 16. "
            f"Got {numbers[0]} for {_heads(numbers[0])} heads. Try vit-{numbers[0] // 16 * 16}.",
            code="bad_width",
        )
    return Transformer(numbers[0], height, n_classes, channels, mixer=family == "mixer")


def _cnn(width: int, n_classes: int, channels: int) -> nn.Sequential:
    """Return three blocks of convolution, batch norm, ReLU and pooling, and a linear layer on the mean."""
    layers: list[nn.Module] = []
    for inside, outside in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        layers += [nn.MaxPool2d(2, ceil_mode=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, n_classes))


def meant(name: str) -> str | None:
    """Return a name of the built-in family that `name` can only mean: nearly its word, then no more than numbers.

    >>> meant("mpl-8"), meant("cnn16"), meant("vit_small_patch16_224"), meant("resnet18")
    ('mlp-64', 'cnn-16', None, None)
    """
    word = re.fullmatch(r"([A-Za-z]+)[-\dx.]*", name)
    families = {family.split("-")[0]: family for family in FAMILIES if "-" in family}
    near = difflib.get_close_matches(word[1].lower(), families, n=1) if word else []
    return families[near[0]] if near else None
