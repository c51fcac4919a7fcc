"""Pretraining: the body comes from elsewhere and the head from the seed; nothing that was named before is renamed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tempadvisor import bench, material
from tempadvisor.bench import run_suite
from tempadvisor.errors import InputError, UsageError
from tempadvisor.material import material_of, samples_of, start_of, student_of, views_of
from tempadvisor.models import build, head_names
from tempadvisor.pretrained import Scaled, load_body, located
from tempadvisor.runs import read_runs
from tempadvisor.suites import Curve, read_suite

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
name = "small"
temperatures = [1, 4]
seeds = 2
[teachers.t]
model = "mlp-16"
epochs = 10
[pretraining.other]
dataset = "OTHER"
n_train = 60
epochs = 5
[[design]]
dataset = "sklearn/digits"
pretraining = "other"
teacher = "t"
student = "cnn-2"
optimizer = "adamw"
lr = 0.01
epochs = 1
batch_size = 32
n_train = 100
n_val = 50
n_test = 60
kd_weight = 0.9
[design.axes]
student_init = ["pretrained"]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    for function in (views_of, samples_of, material._data, material._pretraining_data, material._body):
        function.cache_clear()


def suite(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the suite, and the data of its pretraining: color images of 10 pixels in four classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4
    images = (rng.random((80, 3, 10, 10)) * 60 + 50 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "other.npz", images=images, labels=labels)
    text = SUITE.replace("OTHER", str(folder / "other.npz"))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


def start(curve: Curve, seed: int) -> dict[str, torch.Tensor]:
    samples, views, _ = material_of(curve)
    return start_of(curve, samples, views, seed).state_dict()


@pytest.mark.parametrize("student", ["cnn-2", "mlp-8", "vit-16"])
def test_a_pretrained_student_has_one_body_for_all_seeds_and_the_head_of_its_seed(tmp_path: Path, student: str):
    (curve,) = read_suite(suite(tmp_path, ("cnn-2", student))).curves
    head = set(head_names(student, (1, 8, 8)))
    zero, one = start(curve, 0), start(curve, 1)
    fresh = student_of(curve, samples_of(curve), 0).state_dict()
    assert head < zero.keys()
    for name, value in zero.items():
        assert torch.equal(value, one[name]) is (name not in head)
        assert torch.equal(value, fresh[name]) is (name in head)


def test_finetuned_starts_from_pretrained_and_goes_on_with_the_labels(tmp_path: Path):
    file = suite(tmp_path, ('["pretrained"]', '["pretrained", "pretrained-finetuned", "target"]'))
    plain, tuned, target = (start(curve, 0) for curve in read_suite(file).curves)
    first = next(iter(plain))
    assert not torch.equal(plain[first], tuned[first])
    assert not torch.equal(target[first], tuned[first])
    assert (tuned[first] - plain[first]).norm() < (target[first] - plain[first]).norm()


@pytest.mark.parametrize("init", ["pretrained", "pretrained-finetuned"])
def test_students_of_one_seed_start_alike_at_every_temperature_and_again_from_the_cache(tmp_path: Path, init: str):
    file = suite(tmp_path, ('["pretrained"]', f'["{init}"]'), ("lr = 0.01", "lr = 1e-12"))
    run_suite(file, tmp_path / "runs.csv")
    runs = read_runs(tmp_path / "runs.csv")
    losses = {seed: [run.val_loss for run in runs if run.seed == seed] for seed in (0, 1)}
    for values in losses.values():
        assert len(values) == 3
        assert max(values) - min(values) < 1e-5
    assert abs(losses[0][0] - losses[1][0]) > 1e-3
    assert {run.setup.student_init for run in runs} == {init}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('pretraining = "other"\n', "", "pretraining must be one of other. Got None (design 1)"),
        ('pretraining = "other"\n', 'pretraining = "more"\n', "pretraining must be one of other. Got 'more'"),
        (
            "[pretraining.other]",
            "[pretraining.other]\nmodel = 'cnn-2'",
            "'model' is not a key of a pretraining.other",
        ),
        ("epochs = 5", "", "pretraining.other must have dataset, n_train and epochs"),
        ("epochs = 5", "epochs = 0", "pretraining.other must have dataset, n_train and epochs"),
        ('["pretrained"]', '["imagenet"]', "student_init must be one of random, target, pretrained"),
        ('"sklearn/digits"', '"OTHER"', "pretraining must be on another data set than the design's"),
    ],
)
def test_a_pretraining_that_cannot_be_is_refused_in_one_line(tmp_path: Path, old: str, new: str, says: str):
    with pytest.raises(UsageError) as caught:
        read_suite(suite(tmp_path, (old, new.replace("OTHER", str(tmp_path / "other.npz")))))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_suite_without_pretrainings_cannot_have_pretrained_students(tmp_path: Path):
    text = suite(tmp_path).read_text()
    file = tmp_path / "bare.toml"
    file.write_text(text[: text.index("[pretraining")] + text[text.index("[[design]]") :])
    with pytest.raises(UsageError, match="of which there is none"):
        read_suite(file)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("other.npz", "nothing.npz", "must be an .npz with images, or vectors, and labels"),
        ("n_train = 60", "n_train = 600", "n_train must be at most 80"),
        (
            '"mlp-16"',
            '"mlp-16"\ncheckpoint = "none.pt"',
            "none.pt must be a checkpoint of tensors. It does not exist",
        ),
        ('"mlp-16"', '"mlp-16"\ncheckpoint = "no_such_thing:a.pt"', "Run: pip install no-such-thing"),
    ],
)
def test_missing_data_or_weights_are_found_before_any_training(tmp_path, monkeypatch, old, new, says):
    for module in (bench, material):
        monkeypatch.setattr(module, "train", None)
    with pytest.raises(InputError, match=says):
        run_suite(suite(tmp_path, (old, new)), tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("n_values", "says"), [(9, "must be none or mixup for vectors"), (7, "as large as the student")]
)
def test_vectors_are_not_shifted_and_need_a_pretraining_on_others_as_long(tmp_path, n_values, says):
    file = suite(tmp_path, ('"cnn-2"', '"mlp-8"'))
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 10
    np.savez(tmp_path / "own.npz", vectors=rng.random((400, 9)), labels=labels)
    np.savez(tmp_path / "other.npz", vectors=rng.random((400, n_values)), labels=labels)
    text = file.read_text().replace('"sklearn/digits"', f'"{tmp_path / "own.npz"}"')
    if n_values == 9:
        text = text.replace("[design.axes]", 'augmentation = "standard"\n[design.axes]')
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        run_suite(file, tmp_path / "runs.csv")


def test_only_what_uses_a_pretraining_is_named_after_it(tmp_path: Path):
    both = ('["pretrained"]', '["random", "pretrained"]')
    before = read_suite(suite(tmp_path, both)).curves
    after = read_suite(suite(tmp_path, both, ("epochs = 5", "epochs = 6"))).curves
    assert [a.name == b.name for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("runs", sorted((ROOT / "knowledge/runs").glob("*.csv")), ids=lambda path: path.stem)
def test_the_curves_of_the_corpus_keep_their_names(runs: Path):
    with runs.open(newline="") as file:
        names = {row["curve"] for row in csv.DictReader(file)}
    suites = ROOT / "benchmarks" / "suites" / f"{runs.stem}.toml"
    assert names <= {curve.name for curve in read_suite(suites).curves}


def test_a_checkpoint_under_other_names_is_taken_in_order_and_a_head_for_other_classes_stays_behind():
    shape = (1, 4, 4)
    model, theirs = (build("cnn-2", image_shape=shape, n_classes=n, seed=n) for n in (3, 5))
    foreign = {f"_part{i}.{k.split('.')[-1]}": v for i, (k, v) in enumerate(theirs.state_dict().items())}
    own_head = model.state_dict()["14.weight"].clone()
    assert load_body(model, foreign, head_names("cnn-2", shape)) is False
    assert torch.equal(model.state_dict()["0.weight"], theirs.state_dict()["0.weight"])
    assert torch.equal(model.state_dict()["14.weight"], own_head)
    wrong = foreign | {"_part0.weight": torch.zeros(7, 1, 3, 3)}
    with pytest.raises(InputError, match=r"must fit its model\. 0\.weight does not"):
        load_body(model, wrong, head_names("cnn-2", shape))


@pytest.mark.parametrize("n_classes", [10, 3])
def test_a_checkpoint_is_a_teacher_without_finetuning_only_where_it_knows_the_classes(tmp_path: Path, n_classes: int):
    state = build("mlp-16", image_shape=(1, 8, 8), n_classes=n_classes, seed=1).state_dict()
    torch.save(state, tmp_path / "theirs.pt")
    entry = f'"mlp-16"\ncheckpoint = "{tmp_path / "theirs.pt"}"'
    (curve,) = read_suite(suite(tmp_path, ('"mlp-16"', entry), ("epochs = 10", "epochs = 0"))).curves
    if n_classes == 3:
        with pytest.raises(InputError, match="must be fine-tuned for at least 1 epoch"):
            samples_of(curve)
        return
    assert curve.teacher.origin == "pretrained"
    teacher, _ = material.teacher_of(curve, samples_of(curve))
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())


def test_a_scaled_teacher_takes_small_gray_images_at_its_own_size_normalized():
    seen = []

    class Spy(torch.nn.Module):
        pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # noqa: RUF012

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean((2, 3))

    logits = Scaled(Spy(), 32)(torch.ones(2, 1, 8, 8))
    assert seen[0].shape == (2, 3, 32, 32)
    assert torch.equal(logits, torch.ones(2, 3))  # white is 1, and (1 - 0.5) / 0.5 is 1


def test_a_timm_teacher_of_its_own_size_gives_logits_for_the_classes_of_the_data(tmp_path: Path):
    entry = '"lcnet_035"\nimage_size = 32\nn_train = 40'
    (curve,) = read_suite(suite(tmp_path, ('"mlp-16"', entry), ("epochs = 10", "epochs = 1"))).curves
    logits = views_of(curve)[0].teacher_logits
    assert logits is not None
    assert logits.shape == (1, 100, 10)


def test_a_file_of_an_installed_package_is_found_and_a_plain_path_stays_what_it_is():
    assert located("tempadvisor:models.py") == ROOT / "tempadvisor" / "models.py"
    assert located("../data/a.th") == Path("../data/a.th")
