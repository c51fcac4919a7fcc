"""Preprocessing: a model's own words are followed as timm follows them, and a user's words go before them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tempadvisor import models
from tempadvisor.checkpoints import named_as
from tempadvisor.errors import UsageError
from tempadvisor.images import Framing, decoded
from tempadvisor.preprocessing import Prepared, Preprocessing, changed, resized, stated


def photo(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("shape", [(50, 70), (70, 50), (41, 41), (20, 23)])
@pytest.mark.parametrize(
    ("size", "crop", "mode"), [((32, 32), 0.875, "center"), ((32, 32), 0.9, "squash"), ((24, 40), 0.95, "center")]
)
def test_images_are_framed_as_timm_evaluates_to_the_pixel(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int], crop: float, mode: str
) -> None:
    photo(*shape).save(tmp_path / "photo.png")
    transform = timm.data.create_transform(
        (3, *size), interpolation="bicubic", crop_pct=crop, crop_mode=mode, mean=(0, 0, 0), std=(1, 1, 1)
    )
    config = {"input_size": (3, *size), "interpolation": "bicubic", "crop_pct": crop, "crop_mode": mode}
    ours = decoded(tmp_path / "photo.png", "photo", stated(config).framing)
    theirs = transform(Image.open(tmp_path / "photo.png")).numpy() * 255
    assert np.abs(ours - theirs).max() < 0.01


def test_images_in_memory_are_framed_nearly_as_files_are() -> None:
    image = photo(50, 70)
    framing = Framing((32, 32), 0.875)
    stored = torch.from_numpy(np.moveaxis(np.asarray(image), 2, 0).copy())[None].float() / 255
    from_file = decoded(image, "photo", framing)
    assert np.abs(resized(stored, framing)[0].numpy() * 255 - from_file).max() < 2  # Pillow rounds in between


def test_an_image_of_the_models_size_is_left_as_it_is() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert resized(images, Framing((8, 8), 0.5)) is images


def test_words_of_a_user_go_before_those_of_a_model() -> None:
    own = stated({"input_size": (3, 224, 224), "crop_pct": 0.875, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    said = changed(own, "size=96x128 crop=1 std=0.25 interpolation=bilinear")
    assert said == Preprocessing(
        size=(96, 128), crop=1.0, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25,), crop_mode="center"
    )
    assert changed(own, None) == own


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("size", "size must be a number of pixels"),
        ("size=0", "size must be a number of pixels"),
        ("size=99999", "at most 4096"),
        ("sise=8", "Did you mean size"),
        ("size=8 crop=2", "crop must be a share"),
        ("mean=1,2", "mean must be one or three numbers"),
        ("mean=nan", "mean must be one or three numbers"),
        ("std=0", "std must be one or three numbers above 0"),
        ("size=8 interpolation=magic", "one of bicubic, bilinear, nearest"),
        ("crop=0.9", "must name a size"),
    ],
)
def test_words_that_are_not_understood_are_refused(words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        changed(Preprocessing(), words)


def test_a_timm_model_gets_its_own_mean_and_deviation_and_a_users_instead(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4).eval()
    torch.save(model.state_dict(), tmp_path / "t.pt")
    images = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    with torch.inference_mode():
        own = models.live(str(tmp_path / "t.pt"), model="test_resnet").cpu()(images)
        said = models.live(str(tmp_path / "t.pt"), model="test_resnet", preprocess="mean=0 std=1").cpu()(images)
        torch.testing.assert_close(own, model((images / 255 - mean) / std), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(said, model(images / 255), rtol=1e-3, atol=1e-4)


def test_a_model_of_one_channel_gets_the_mean_of_a_normalization_for_three(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=4, in_chans=1).eval()
    torch.save(model.state_dict(), tmp_path / "t.pt")
    live = models.live(str(tmp_path / "t.pt"), model="test_resnet", image_shape=(1, 28, 28))
    assert live(torch.zeros(2, 1, 28, 28, dtype=torch.uint8).to(next(live.parameters()).device)).shape == (2, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_teacher_gets_inputs_of_its_own_precision(dtype: torch.dtype) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).to(dtype)
    assert Prepared(linear, None)(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == dtype


def test_the_prefix_of_lightning_goes_where_the_model_does_not_know_it() -> None:
    tensors = {"model.fc.weight": torch.zeros(1), "loss.weight": torch.zeros(1)}
    assert named_as(tensors, ["fc.weight"]).keys() == {"fc.weight"}
    assert named_as(tensors, ["model.fc.weight"]).keys() == tensors.keys()
