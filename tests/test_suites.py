"""Suites: what cannot be is refused before training; rows are paired, resumable and repeat from their fields."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tempadvisor import bench, material
from tempadvisor.bench import run_job, run_suite
from tempadvisor.errors import InputError, UsageError
from tempadvisor.evidence import profiles_path, read_profiles
from tempadvisor.models import build
from tempadvisor.runs import Run, read_runs, write_runs
from tempadvisor.suites import read_suite

SUITE = """
name = "small"
temperatures = [1, 4]
seeds = 2
[teachers.t]
model = "mlp-16"
epochs = 30
label_smoothing = 0.1
[[design]]
dataset = "sklearn/digits"
teacher = "t"
student = "mlp-8"
epochs = 2
batch_size = 32
n_train = 100
n_val = 50
n_test = 60
kd_weight = 0.9
[design.axes]
recipe = [{optimizer = "sgd", lr = 0.05}, {optimizer = "adamw", lr = 0.01}]
"""
LOOP = SUITE.replace('"mlp-8"', '"cnn-2"').replace("seeds = 2", "seeds = 1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    for function in (material.views_of, material.samples_of, material._data):
        function.cache_clear()


def suite(folder: Path, text: str = SUITE) -> Path:
    file = folder / "small.toml"
    file.write_text(text)
    return file


def timeless(file: Path) -> list[Run]:
    return [dataclasses.replace(run, time=None, train_seconds=None) for run in read_runs(file)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "[design.axes]",
            "[design.axes]\noptimiser = ['sgd']",
            "'optimiser' is not a key of a design. Did you mean optimizer",
        ),
        ("[design.axes]", "[design.axes]\nbatch_size = []", "axis batch_size must be a list with at least one level"),
        ("[1, 4]", "[0, 4]", "temperatures must be numbers from 0.001 to 1e+06. Got 0"),
        ("[1, 4]", "[4, 4]", "temperatures must be a list of different numbers"),
        ("seeds = 2", "seeds = 0", "seeds must be"),
        ('teacher = "t"', 'teacher = "u"', "teacher must be one of t. Got 'u'"),
        ('teacher = "t"', 'teacher = "t"\nsample = 3', "sample must be from 1 to 2"),
        ('"sgd"', '"lion"', "optimizer must be one of sgd, adam, adamw"),
        ("kd_weight = 0.9", "kd_weight = -1", "kd_weight must be a number above 0"),
        ("kd_weight = 0.9", "", "kd_weight must be given"),
        ("epochs = 30", "", "teacher t must have a model and epochs"),
        ("[[design]]", "[[desing]]", "Did you mean design"),
        ("[[design]]", "[design", "must be TOML"),
    ],
)
def test_a_bad_suite_ends_in_one_line_that_names_its_file(tmp_path: Path, old: str, new: str, says: str):
    with pytest.raises(UsageError) as caught:
        read_suite(suite(tmp_path, SUITE.replace(old, new, 1)))
    assert says in str(caught.value)
    assert "small.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sklearn/digits", "/nowhere/at/all", "must be a data set"),
        ("n_train = 100", "n_train = 5000", "n_train must be at most 1687"),
        ("n_train = 100", "n_train = 5", "every class must have a training sample"),
        ('"mlp-8"', '"resnet1888"', "must be a model"),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_any_training(tmp_path, monkeypatch, old, new, says):
    for module in (bench, material):
        monkeypatch.setattr(module, "train", None)
    with pytest.raises(InputError, match=says):
        run_suite(suite(tmp_path, SUITE.replace(old, new)), tmp_path / "runs.csv")
    assert not (tmp_path / "runs.csv").exists()


def test_a_design_without_a_sample_is_the_whole_product_and_names_do_not_move_when_it_grows(tmp_path: Path):
    small = read_suite(suite(tmp_path))
    large = read_suite(suite(tmp_path, SUITE + "batch_size = [32, 64]\n"))
    assert (len(small.curves), len(large.curves)) == (2, 4)
    assert {c.name for c in small.curves} < {c.name for c in large.curves}
    assert small.n_runs == 2 * 3 * 2


def test_a_sample_is_decided_by_its_seed(tmp_path: Path):
    def names(text: str) -> set[str]:
        return {curve.name for curve in read_suite(suite(tmp_path, text)).curves}

    axes = "batch_size = [8, 16, 32, 64]\nkd_weight = [0.1, 0.5]\n"
    drawn = [
        {
            c.name
            for c in read_suite(
                suite(tmp_path, SUITE.replace("[design.axes]", f"{keys}\n[design.axes]") + axes)
            ).curves
        }
        for keys in ("sample = 4", "sample = 4", "sample = 4\nsample_seed = 1")
    ]
    assert [len(one) for one in drawn] == [4, 4, 4]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_sample_has_every_level_equally_often(tmp_path: Path):
    axes = "batch_size = [8, 16, 32, 64]\nkd_weight = [0.1, 0.5, 0.9]\n"
    text = SUITE.replace("kd_weight = 0.9", "").replace("[design.axes]", "sample = 12\n[design.axes]") + axes
    setups = [curve.setup for curve in read_suite(suite(tmp_path, text)).curves]
    for field, times in (("batch_size", 3), ("kd_weight", 4), ("optimizer", 6)):
        values = [getattr(setup, field) for setup in setups]
        assert {values.count(value) for value in values} == {times}


@pytest.mark.parametrize("text", [SUITE, LOOP], ids=["batched", "loop"])
def test_rows_are_paired_complete_and_the_same_in_every_order_of_events(tmp_path: Path, text: str):
    file, whole, cut = suite(tmp_path, text), tmp_path / "whole.csv", tmp_path / "cut.csv"
    plan = run_suite(file, whole)
    runs = timeless(whole)
    assert len(runs) == plan.n_runs == plan.n_todo
    assert {run.temperature for run in runs} == {None, 1.0, 4.0}
    assert {run.status for run in runs} == {"FINISHED"}
    assert {run.setup.teacher_label_smoothing for run in runs} == {0.1}
    cut.write_text("".join(whole.read_text().splitlines(keepends=True)[:3]))
    resumed = run_suite(file, cut, resume=True)
    assert resumed.n_todo >= len(runs) - 2
    assert timeless(cut) == runs
    assert run_suite(file, cut, resume=True).n_todo == 0
    profiles = read_profiles(profiles_path(whole))
    assert profiles.keys() == {run.curve for run in runs}
    assert profiles == read_profiles(profiles_path(cut))


def test_students_of_one_seed_start_alike_at_every_temperature(tmp_path: Path):
    file = suite(tmp_path, SUITE.replace("lr = 0.05", "lr = 1e-12").replace("lr = 0.01", "lr = 1e-12"))
    run_suite(file, tmp_path / "runs.csv")
    untrained: dict[int, set[float | None]] = {}
    for run in read_runs(tmp_path / "runs.csv"):
        untrained.setdefault(run.seed or 0, set()).add(run.test_accuracy)
    assert [len(scores) for scores in untrained.values()] == [1, 1]
    assert untrained[0] != untrained[1]


def test_a_row_is_reproduced_from_its_curve_and_seed_alone(tmp_path: Path):
    file = suite(tmp_path, LOOP)
    run_suite(file, tmp_path / "runs.csv")
    row = timeless(tmp_path / "runs.csv")[-1]
    (curve,) = (curve for curve in read_suite(file).curves if curve.name == row.curve)
    (again,) = run_job(bench.Job("small", curve, (row.temperature,), (row.seed or 0,)))
    assert dataclasses.replace(again, time=None, train_seconds=None) == row


@pytest.mark.parametrize("text", [SUITE, LOOP], ids=["batched", "loop"])
def test_a_diverged_run_is_a_failed_row_with_its_reason(tmp_path: Path, text: str):
    run_suite(suite(tmp_path, text.replace("lr = 0.05", "lr = 1e30")), tmp_path / "runs.csv")
    failed = [run for run in read_runs(tmp_path / "runs.csv") if run.setup.optimizer == "sgd"]
    assert {(run.status, run.error) for run in failed} == {("FAILED", "diverged: the loss is not finite")}


def test_a_row_tells_the_batch_that_a_step_really_saw(tmp_path: Path):
    run_suite(suite(tmp_path, SUITE.replace("batch_size = 32", "batch_size = 512")), tmp_path / "runs.csv")
    assert {run.setup.batch_size for run in read_runs(tmp_path / "runs.csv")} == {100}


def test_a_dry_run_trains_and_writes_nothing(tmp_path: Path):
    plan = run_suite(suite(tmp_path), tmp_path / "runs.csv", dry_run=True)
    assert (plan.n_runs, plan.n_todo) == (12, 12)
    assert 0 < plan.minutes < 1
    assert not (tmp_path / "runs.csv").exists()


def test_an_existing_file_is_never_overwritten_without_resume(tmp_path: Path):
    (tmp_path / "runs.csv").write_text("precious")
    with pytest.raises(UsageError, match=r"must not exist yet\. Add --resume"):
        run_suite(suite(tmp_path), tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == "precious"


def test_target_initialization_and_label_noise_and_scaled_logits_change_the_student(tmp_path: Path):
    def accuracies(extra: str) -> list[float | None]:
        out = tmp_path / "runs.csv"
        out.unlink(missing_ok=True)
        run_suite(suite(tmp_path, SUITE.replace("kd_weight = 0.9", f"kd_weight = 0.9\n{extra}")), out)
        return [run.val_loss for run in read_runs(out) if run.temperature == 4.0]

    plain = accuracies("")
    for extra in (
        'student_init = "target"',
        "label_noise = 0.5",
        "teacher_logit_scale = 3.0",
        'augmentation = "mixup"',
    ):
        assert all(a != b for a, b in zip(accuracies(extra), plain, strict=True))


@pytest.mark.parametrize("text", [SUITE, LOOP], ids=["batched", "loop"])
def test_threads_that_share_one_material_give_the_rows_of_one_process(tmp_path: Path, text: str):
    file = suite(tmp_path, text)
    run_suite(file, tmp_path / "one.csv")
    todo = list(bench._jobs(read_suite(file), ()))
    runs = [run for done in bench._shared(todo, 3, None) for run in done]
    write_runs(tmp_path / "threads.csv", runs)
    assert timeless(tmp_path / "threads.csv") == timeless(tmp_path / "one.csv")
    assert {run.device for run in runs} == {"cpu"}


@pytest.mark.slow
def test_processes_give_the_rows_of_one_process(tmp_path: Path):
    file = suite(tmp_path, LOOP)
    run_suite(file, tmp_path / "one.csv")
    run_suite(file, tmp_path / "two.csv", jobs=2)
    assert timeless(tmp_path / "one.csv") == timeless(tmp_path / "two.csv")


def test_curves_run_one_after_the_other_in_an_order_drawn_once(tmp_path: Path):
    text = LOOP.replace("[design.axes]", "[design.axes]\nbatch_size = [8, 16, 32]").replace("batch_size = 32\n", "")
    declared = read_suite(suite(tmp_path, text))
    names = [job.curve.name for job in bench._jobs(declared, ())]
    order = list(dict.fromkeys(names))
    assert names == [name for name in order for _ in range(3)]
    assert sorted(order) == sorted(curve.name for curve in declared.curves)
    assert order != [curve.name for curve in declared.curves]
    rest = list(bench._jobs(declared, [(declared.name, order[0], 0, t or 0.0) for t in declared.temperatures]))
    assert list(dict.fromkeys(job.curve.name for job in rest)) == order[1:]


def test_pooling_before_the_relu_changes_no_bit_of_the_gradient():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = build("cnn-2", image_shape=(3, 8, 8), n_classes=5, seed=0).to(memory_format=torch.channels_last)
    moved = material.channels_last(build("cnn-2", image_shape=(3, 8, 8), n_classes=5, seed=0))
    assert [type(part).__name__ for part in moved][2:4] == ["MaxPool2d", "ReLU"]
    for model in (plain, moved):
        model(images).square().sum().backward()
    pairs = list(zip(plain.named_parameters(), moved.named_parameters(), strict=True))
    assert all(a == b and torch.equal(p.grad, q.grad) for (a, p), (b, q) in pairs)


def test_channels_last_changes_a_student_that_pools_in_nothing_but_rounding():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, laid = (build("cnn-2", image_shape=(3, 8, 8), n_classes=5, seed=0).eval() for _ in range(2))
    laid = material.channels_last(laid)
    assert laid[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert laid[:3](images).is_contiguous(memory_format=torch.channels_last)  # whatever the images' own layout
    torch.testing.assert_close(laid(images), plain(images))
    residual = material.channels_last(build("resnet8-8", image_shape=(3, 8, 8), n_classes=5, seed=0))
    assert residual.conv1.weight.is_contiguous()
