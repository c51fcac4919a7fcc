"""What a user may name as TEACHER: each kind comes to the same profile, and wrong pairs are told apart."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tempadvisor import datasets, models
from tempadvisor.documents import save_profile
from tempadvisor.errors import ClassOrderError, InputError, UsageError
from tempadvisor.profiling import profile
from tempadvisor.teachers import demo_profile, profile_of


@functools.cache
def trained() -> nn.Module:
    """Return a small perceptron that knows the digits: 60 steps of Adam on all of them."""
    data = datasets.load("sklearn/digits")
    model = models.build("mlp-32", image_shape=(1, 8, 8), n_classes=10, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(datasets.as_float(data.images)), data.labels).backward()
        optimizer.step()
    return model.eval()


def logits() -> np.ndarray:
    with torch.inference_mode():
        return trained()(datasets.as_float(datasets.load("sklearn/digits").images)).numpy()


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    save_file(trained().state_dict(), tmp_path / "teacher.safetensors")
    return str(tmp_path / "teacher.safetensors")


def test_a_checkpoint_and_its_stored_logits_have_the_same_profile(checkpoint: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "logits.npz", logits=logits(), labels=datasets.load("sklearn/digits").labels.numpy())
    live = profile_of(checkpoint, data="sklearn/digits", model="mlp-32", logits_from="train", read_all=True)
    stored = profile_of(str(tmp_path / "logits.npz"), logits_from="train", read_all=True)
    assert live.accuracy == stored.accuracy
    assert live.accuracy is not None
    assert live.accuracy > 0.9
    assert live.entropy_nats == pytest.approx(stored.entropy_nats, abs=1e-4)


def test_a_factory_in_the_working_directory_is_found(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factories.py").write_text(
        "from tempadvisor import models\n"
        f"def best():\n    return models.live({checkpoint!r}, model='mlp-32', image_shape=(1, 8, 8)).teacher\n"
    )
    monkeypatch.chdir(tmp_path)
    named = profile_of("factories:best", data="sklearn/digits", logits_from="train")
    assert named.teacher == "factories:best"
    assert named.logits_from == "train"


def test_of_data_with_a_test_split_the_training_part_is_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for label in ("a", "b"):
            folder = tmp_path / "photos" / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, size=(8, 8, 3)) + (100 if label == "b" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    bright = models.build("mlp-1", image_shape=(3, 8, 8), n_classes=2, seed=0)
    with torch.no_grad():
        for parameter in bright.parameters():
            parameter.zero_()
        bright[1].weight += 1 / 192  # the mean brightness, about 0.2 or 0.6
        bright[3].weight += torch.tensor([[-20.0], [20.0]])
        bright[3].bias += torch.tensor([8.0, -8.0])
    save_file(bright.state_dict(), tmp_path / "bright.safetensors")
    found = profile_of(str(tmp_path / "bright.safetensors"), data=str(tmp_path / "photos"), model="mlp-1")
    assert (found.n_samples, found.accuracy) == (12, 1.0)


def test_a_teacher_whose_classes_are_in_another_order_gets_a_map_that_names_the_datas_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    for name, level in (("dark", 30), ("gray", 120), ("light", 220)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (level + i % 5, level, level)).save(folder / f"{i}.png")
    levels = models.build("mlp-1", image_shape=(3, 8, 8), n_classes=4, seed=0)
    with torch.no_grad():  # outputs: light, nothing, dark, gray
        for parameter in levels.parameters():
            parameter.zero_()
        levels[1].weight += 1 / 192
        levels[3].weight += torch.tensor([[40.0], [0.0], [-40.0], [6.0]])
        levels[3].bias += torch.tensor([-22.0, -50.0, 14.0, 1.0])
    file = str(tmp_path / "levels.safetensors")
    save_file(levels.state_dict(), file)
    with pytest.raises(ClassOrderError, match="3 of its 4 outputs in another order") as error:
        profile_of(file, data=str(tmp_path / "photos"), model="mlp-1")
    written = str(error.value).rpartition(" ")[2]
    assert Path(written).read_text() == "class,output\ndark,2\ngray,3\nlight,0\n"
    mended = profile_of(file, data=str(tmp_path / "photos"), model="mlp-1", class_map=written)
    assert (mended.n_classes, mended.accuracy) == (3, 1.0)


def test_a_timm_model_is_run_at_its_own_size_and_random_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10)
    save_file(model.state_dict(), tmp_path / "random.safetensors")
    images = np.random.default_rng(0).integers(0, 256, size=(200, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(200) % 10)
    with pytest.raises(InputError) as error:
        profile_of(str(tmp_path / "random.safetensors"), data=str(tmp_path / "data.npz"), model="test_resnet")
    assert "chance" in str(error.value)


def test_stored_images_reach_the_teacher_as_floats_of_the_size_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_module(
        tmp_path,
        monkeypatch,
        "wants_sixteen",
        "class Spy(nn.Identity):\n    pretrained_cfg = {'input_size': (3, 16, 16), 'mean': (9, 9, 9)}\n",
    )
    seen = models.live("wants_sixteen:Spy")(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))
    torch.testing.assert_close(seen, torch.ones(1, 3, 16, 16))


@pytest.mark.parametrize(("model", "size"), [("resnet8", 8), ("test_resnet", 160)])
def test_gray_images_are_repeated_over_the_channels_of_a_teacher_of_colors_and_that_is_said(
    tmp_path: Path, model: str, size: int
) -> None:
    torch.manual_seed(0)
    colored = models.build(model, image_shape=(3, size, size), n_classes=10, seed=0).eval()
    save_file(colored.state_dict(), tmp_path / "t.safetensors")
    gray = np.random.default_rng(0).integers(0, 256, size=(24, 1, size, size), dtype=np.uint8)
    with torch.inference_mode():
        labels = models.live(str(tmp_path / "t.safetensors"), model=model)(torch.from_numpy(gray.repeat(3, axis=1)))
    found = []
    for name, images in (("gray", gray), ("three", gray.repeat(3, axis=1))):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels.argmax(1).cpu().numpy())
        found.append(profile_of(str(tmp_path / "t.safetensors"), data=str(tmp_path / f"{name}.npz"), model=model))
    one, other = found
    assert one.entropy_nats == pytest.approx(other.entropy_nats, rel=1e-6)
    assert one.accuracy == other.accuracy == 1.0
    assert {n.code for n in one.warnings} - {n.code for n in other.warnings} == {"gray_repeated"}


def test_a_teacher_of_gray_images_is_not_run_on_colors(tmp_path: Path) -> None:
    gray = models.build("resnet8", image_shape=(1, 8, 8), n_classes=2, seed=0)
    save_file(gray.state_dict(), tmp_path / "t.safetensors")
    np.savez(tmp_path / "d.npz", images=np.zeros((9, 3, 8, 8), np.uint8), labels=np.arange(9) % 2)
    with pytest.raises(InputError, match=r"has conv1\.weight of shape \(16, 1, 3, 3\), not \(16, 3, 3, 3\)"):
        profile_of(str(tmp_path / "t.safetensors"), data=str(tmp_path / "d.npz"), model="resnet8")


def test_a_saved_profile_comes_back_as_it_was(tmp_path: Path) -> None:
    measured = profile(logits(), logits_from="train")
    save_profile(measured, tmp_path / "profile.json")
    assert profile_of(str(tmp_path / "profile.json")) == measured


def test_the_demo_is_a_real_teacher_of_the_digits() -> None:
    demo = demo_profile()
    assert (demo.n_classes, demo.logits_from) == (10, "train")
    assert demo.accuracy is not None
    assert demo.accuracy > 0.9


@pytest.mark.parametrize(
    ("teacher", "data", "code"),
    [("resnet18", None, "no_data"), ("logits.npz", "sklearn/digits", "contradiction")],
)
def test_teacher_and_data_must_go_together(teacher: str, data: str | None, code: str) -> None:
    with pytest.raises(UsageError) as error:
        profile_of(teacher, data=data)
    assert error.value.code == code


def user_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(f"from torch import nn\nprint('hello')\n{body}")
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def make():\n    return nn.Flatten()\n", "it fails on a list of them: "),
        ("def make():\n    return nn.Conv2d(3, 2, 1)\n", "It takes images, and the data are texts"),
    ],
)
def test_texts_for_a_model_of_images_are_refused_as_texts(
    body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_module(tmp_path, monkeypatch, f"of_images_{len(body)}", body)
    (tmp_path / "texts.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(InputError, match=f"{said}.*Give --data images"):
        profile_of(f"of_images_{len(body)}:make", data="texts.csv")


def test_a_factory_that_exits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_module(tmp_path, monkeypatch, "exits_at_once", "def make():\n    raise SystemExit(7)\n")
    with pytest.raises(InputError, match="SystemExit: 7"):
        profile_of("exits_at_once:make", data="sklearn/digits")


def test_a_model_that_exits_is_refused_and_prints_nothing_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "class Net(nn.Module):\n    def forward(self, x):\n        print('in')\n        raise SystemExit(7)\n"
    user_module(tmp_path, monkeypatch, "exits_in_forward", body)
    with pytest.raises(InputError, match="It ended the program"):
        profile_of("exits_in_forward:Net", data="sklearn/digits")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\nin\n")


def test_a_model_name_beside_stored_logits_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "logits.npz", logits=logits())
    with pytest.raises(UsageError, match="--model must be left out for stored logits"):
        profile_of(str(tmp_path / "logits.npz"), model="mlp-32")
