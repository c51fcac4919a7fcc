"""Models: names build, the same seed gives the same weights, checkpoints fit or say what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tempadvisor import architectures
from tempadvisor.errors import InputError
from tempadvisor.models import build, live, tensor_hash, weights_hash

NAMES = ["mlp-8", "mlp-8-4", "cnn-4", "resnet8", "resnet20-4", "vit-16", "mixer-16"]
SHAPE = (1, 8, 8)
IMAGES = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def made(name: str, seed: int = 0) -> nn.Module:
    return build(name, image_shape=SHAPE, n_classes=5, seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_every_family_gives_logits_and_is_decided_by_its_seed(name):
    state = torch.random.get_rng_state()
    model = made(name)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert weights_hash(model) == weights_hash(made(name)) != weights_hash(made(name, seed=1))
    assert model(torch.rand(3, *SHAPE)).shape == (3, 5)


def test_a_perceptron_has_the_parameters_one_counts_by_hand():
    assert sum(p.numel() for p in made("mlp-8-4").parameters()) == (64 + 1) * 8 + (8 + 1) * 4 + (4 + 1) * 5


def test_resnet20_has_the_parameters_of_the_paper():
    model = build("resnet20", image_shape=(3, 32, 32), n_classes=10, seed=0)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 0.27


def test_a_hash_sees_values_and_shapes():
    assert tensor_hash(torch.zeros(4)) == tensor_hash(torch.zeros(4)) != tensor_hash(torch.zeros(2, 2))
    assert tensor_hash(torch.zeros(4)) != tensor_hash(torch.ones(4))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".th"])
def test_a_checkpoint_comes_back_in_evaluation_mode_whatever_its_wrapping(tmp_path: Path, suffix: str):
    model, file = made("resnet8", seed=7).eval(), tmp_path / f"teacher{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), file)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, file)
    teacher = live(str(file), model="resnet8", image_shape=SHAPE)
    assert not teacher.training
    torch.testing.assert_close(teacher(IMAGES), model(IMAGES / 255))


def test_color_resnet_checkpoints_get_the_normalization_they_were_trained_with(tmp_path: Path):
    model = build("resnet8", image_shape=(3, 8, 8), n_classes=5, seed=0).eval()
    save_file(model.state_dict(), tmp_path / "t.safetensors")
    teacher = live(str(tmp_path / "t.safetensors"), model="resnet8", image_shape=(3, 8, 8))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(teacher(255 * mean), model(torch.zeros(1, 3, 8, 8)))


def test_what_does_not_fit_is_named(tmp_path: Path):
    save_file(made("mlp-8").state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(
        InputError, match=r"must fit the model mlp-9\. It has 1\.weight of shape \(8, 64\), not \(9, 64\)"
    ):
        live(str(tmp_path / "t.safetensors"), model="mlp-9", image_shape=SHAPE)
    with pytest.raises(InputError, match=r"It lacks 5\.weight"):
        live(str(tmp_path / "t.safetensors"), model="mlp-8-4", image_shape=SHAPE)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
        lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {k: v + 1 for k, v in state.items()}, "state_dict_ema": state},
        lambda state: {"model_state_dict": state},
        lambda state: {"state_dict": {f"net.inner.{k}": v for k, v in state.items()}},
    ],
    ids=["model", "Lightning", "compiled and parallel", "averaged", "the average goes first", "plain PyTorch", "net"],
)
def test_what_trainers_wrap_weights_in_is_unwrapped(tmp_path: Path, wrap):
    model, file = made("mlp-8", seed=7).eval(), tmp_path / "teacher.pt"
    torch.save(wrap(model.state_dict()), file)
    assert torch.equal(live(str(file), model="mlp-8", image_shape=SHAPE)(IMAGES), model(IMAGES / 255))


@pytest.mark.parametrize(("own", "said"), [("resnet26", "resnet34"), ("mobilenetv2_050", "mobilenetv2_140")])
def test_the_model_that_a_checkpoint_belongs_to_is_named(tmp_path: Path, own: str, said: str):
    save_file(timm.create_model(own, num_classes=7).state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=f"must fit the model {said}.*give --model {own}"):
        live(str(tmp_path / "t.safetensors"), model=said)


@pytest.mark.parametrize("extra", ["net.extra", "other.extra"])
def test_names_of_another_wrapper_are_told_where_they_do_not_all_fit_without_it(tmp_path: Path, extra: str):
    state = made("mlp-8").state_dict()
    save_file({extra: torch.ones(2), **{f"net.{k}": v for k, v in state.items()}}, tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=r"none of its names is the model's, the first is net\.1\.bias") as error:
        live(str(tmp_path / "t.safetensors"), model="mlp-8", image_shape=SHAPE)
    assert "backbone" not in str(error.value)


def test_another_model_with_its_classifier_is_no_backbone(tmp_path: Path):
    save_file(timm.create_model("mobilenetv2_100", num_classes=7).state_dict(), tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=r"give --model mobilenetv2_100\.$"):
        live(str(tmp_path / "t.safetensors"), model="resnet18")


@pytest.mark.parametrize(
    ("own", "model", "begins"),
    [
        ("test_resnet", "test_resnet.r160_in1k", r"lacks fc\.weight; it lacks fc\.bias\. It holds a backbone"),
        ("resnet26", "resnet34", r".*Its tensors are those of resnet26: give --model resnet26\. It holds a backbone"),
    ],
)
def test_a_backbone_is_told_from_another_model(tmp_path: Path, own: str, model: str, begins: str):
    state = timm.create_model(own, num_classes=7).state_dict()
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=rf"must fit the model {model}\. It {begins} without the classifier: give"):
        live(str(tmp_path / "t.safetensors"), model=model)


class Trap:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"state_dict": Trap()}, tmp_path / "t.pt")
    with pytest.raises(InputError, match="must be a checkpoint of tensors"):
        live(str(tmp_path / "t.pt"), model="mlp-8", image_shape=SHAPE)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "model", "says"),
    [
        ("none.pt", "mlp-8", "It does not exist"),
        ("none.pt", None, "Add --model NAME"),
        ("json:loads", None, "must be a callable without arguments"),
        ("no_such_module:teacher", None, "ModuleNotFoundError"),
        ("collections:OrderedDict", None, "must return an nn.Module. Got OrderedDict"),
        ("resnet1888", None, "Did you mean resnet18"),
    ],
)
def test_a_teacher_that_cannot_be_had_ends_in_one_line(spec, model, says):
    with pytest.raises(InputError, match=says):
        live(spec, model=model)


def test_a_misspelt_built_in_name_is_told_at_once_and_none_of_timms_is_taken_for_one():
    for name, meant in (("mpl-8", "mlp-64"), ("cnn16", "cnn-16"), ("mlp-x", "mlp-64"), ("vit", "vit-64")):
        with pytest.raises(InputError, match=f"{name} must be a model.*Did you mean {meant}"):
            made(name)
    assert [name for name in timm.list_models() if architectures.meant(name)] == []


@pytest.mark.parametrize("name", ["mlp-999999999999", "mlp-90000-90000", "cnn-90000", f"mlp-{'9' * 5000}"])
def test_what_no_memory_holds_is_refused_before_it_is_made(name: str):
    with pytest.raises(InputError, match="must be at most 100000 wide"):
        made(name)


def test_a_long_number_in_a_name_is_no_failure():
    with pytest.raises(InputError, match="must be a model"):
        made("resnet" + "9" * 5000)


def test_a_vit_has_a_width_that_its_heads_share():
    with pytest.raises(InputError, match=r"vit-33 must have .* Got 33 for 2 heads\. Try vit-32"):
        made("vit-33")
    assert made("vit-34")(torch.rand(3, *SHAPE)).shape == (3, 5)


def test_a_factory_is_called():
    assert isinstance(live("torch.nn:Identity").teacher, nn.Identity)


@pytest.mark.parametrize("spec", ["a:b:c", "../file.py:make", "folder/file:make"])
def test_what_is_almost_a_factory_is_told_how_one_is_named(spec: str) -> None:
    with pytest.raises(InputError, match=r"must be package\.module:factory"):
        live(spec)


def test_a_long_name_is_shortened_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        live("x" * 5000)
    assert len(str(caught.value)) < 500
