"""Suites: what cannot be is refused before training; rows are paired, resumable and repeat from their fields."""

from __future__ import annotations

import dataclasses
import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from tempadvisor import bench, material
from tempadvisor.architectures import FAMILIES
from tempadvisor.bench import run_job, run_suite
from tempadvisor.datasets import NAMES
from tempadvisor.errors import InputError, KnowledgeError, UsageError
from tempadvisor.evidence import profiles_path, read_profiles
from tempadvisor.fields import columns
from tempadvisor.models import build
from tempadvisor.records import SETUP_COLUMNS
from tempadvisor.runs import Run, read_runs, write_runs
from tempadvisor.suites import BENCH_COLUMNS, DERIVED, Teacher, read_suite

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
name = "small"
temperatures = [1, 4]
seeds = 2
[teachers.t]
model = "mlp-16"
epochs = 100
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
        ("epochs = 100", "", "teacher t must have a model and epochs"),
        ("[[design]]", "[[desing]]", "Did you mean design"),
        ("[[design]]", "[design", "must be TOML"),
        ("[1, 4]", "[1e200]", "temperatures must be numbers from 0.001 to 1e+06. Got 1e+200"),
        ("[1, 4]", "[1e-300]", "Got 1e-300"),
        ("[1, 4]", "[[1]]", "Got [1]"),
        ("[1, 4]", f"[{'9' * 400}]", f"Got {'9' * 60}."),
        ("[1, 4]", f"[{'9' * 5000}]", "must be TOML"),
        ('name = "small"', 'name = ""', "name must be a text. Got ''"),
        ('name = "small"', 'name = ["a"]', "name must be a text. Got ['a']"),
        ("seeds = 2", "seeds = [99999999999999999999]", "whole numbers of at most 15 digits"),
        ("seeds = 2", "seeds = 999999999999", "seeds must be a number from 1 to 100000"),
        ("[design.axes]", "sample = 2\nsample_seed = [1]\n[design.axes]", "sample_seed must be a whole number"),
        ("lr = 0.05", "lr = 2026-11-24", "lr must be a number above 0. Got a date. (design 1)"),
        ("n_train = 100", "n_train = 100\nimage_size = 100000", "image_size must be at most 1024. Got 100000"),
        ("epochs = 100", "epochs = 100\nimage_size = 100000", "at most 1024. Got 100000. (t)"),
        ("[design.axes]", "[design.axes]\nlr = [0.1, 0.2]", "lr must be in one axis. Got two"),
        ("[[design]]", "[design]", "a design must be headed [[design]]. Got [design]"),
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
        ('"mlp-8"', '"resnet1888"', r"must be a model.*\(design 1\)"),
        ('"mlp-8"', '"mlp-999999999999"', "must be at most 100000 wide"),
        ('"mlp-16"', '"vit-33"', r"multiple of its heads.* Got 33 for 2 heads.*\(teacher t\)"),
        (
            "[[design]]",
            '[teachers.idle]\nmodel = "mlp"\nepochs = 1\n[[design]]',
            r"Did you mean mlp-64\? \(teacher idle",
        ),
        ("epochs = 100", 'epochs = 100\ncheckpoint = "gone.pt"', r"It does not exist.*\(teacher t\)"),
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


def test_the_same_design_twice_is_refused(tmp_path: Path):
    _, _, design = SUITE.partition("[[design]]")
    with pytest.raises(UsageError, match=r"a setup that no design before it has \(design 2\)"):
        read_suite(suite(tmp_path, f"{SUITE}[[design]]{design}"))


def test_a_data_set_of_one_class_is_refused(tmp_path: Path):
    np.savez(tmp_path / "one.npz", images=np.zeros((300, 4, 4)), labels=np.zeros(300, int))
    file = suite(tmp_path, SUITE.replace("sklearn/digits", str(tmp_path / "one.npz")))
    with pytest.raises(InputError, match=r"one\.npz must have at least 2 classes. Got 1. \(design 1\)"):
        run_suite(file, tmp_path / "runs.csv")


@pytest.mark.parametrize(("n", "axes"), [(3, 2), (5, 3), (7, 4), (8, 4)])
def test_a_sample_brings_as_many_setups_as_it_says(tmp_path: Path, n: int, axes: int):
    levels = f"batch_size = {[8, 16, 32, 64][:axes]}\n"
    for seed in range(5):
        text = SUITE.replace("[design.axes]", f"sample = {n}\nsample_seed = {seed}\n[design.axes]") + levels
        assert len(read_suite(suite(tmp_path, text)).curves) == n


def test_a_level_written_twice_counts_once_in_the_whole_product_and_is_no_setup_more_to_draw(tmp_path: Path):
    twice = "batch_size = [8, 8, 16]\n"
    assert len(read_suite(suite(tmp_path, SUITE + twice)).curves) == 4
    with pytest.raises(UsageError, match="sample must be from 1 to 4"):
        read_suite(suite(tmp_path, SUITE.replace("[design.axes]", "sample = 6\n[design.axes]") + twice))


def test_the_table_of_keys_has_all_of_them():
    told = (ROOT / "benchmarks" / "suites" / "README.md").read_text()
    keys = {column.name for column in (*BENCH_COLUMNS, *SETUP_COLUMNS, *columns(Teacher))} - DERIVED
    assert {key for key in keys if f"`{key}`" not in told} == set()
    assert [name for name in (*FAMILIES, *NAMES) if f"`{name}`" not in told] == []


def test_the_names_of_measured_curves_stay_what_they_are():
    for file in sorted(ROOT.glob("knowledge/runs/*.csv")):
        names = {curve.name for curve in read_suite(ROOT / "benchmarks" / "suites" / f"{file.stem}.toml").curves}
        assert {run.curve for run in read_runs(file)} <= names


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


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"small"', '"other"', "must hold runs of suite other as it is now. Got 12 of suite small"),
        ("lr = 0.05", "lr = 0.06", "Got 6 of curve digits-[0-9a-f]{8}, which the suite does not have"),
        ("n_val = 50", "n_val = 51", "Got 6 of curve .*, and 6 more that do not belong there"),
    ],
)
def test_rows_of_other_suites_or_of_setups_that_are_gone_are_not_mixed_with_new_ones(tmp_path: Path, old, new, says):
    out = tmp_path / "runs.csv"
    run_suite(suite(tmp_path), out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match=says):
        run_suite(suite(tmp_path, SUITE.replace(old, new)), out, resume=True)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("/proc/x.csv", "must be writable"),
        ("/dev/full", "must be a file"),
        (".", "must be a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_training(tmp_path: Path, monkeypatch, out, says):
    monkeypatch.setattr(material, "train", None)
    with pytest.raises(UsageError, match=says):
        run_suite(suite(tmp_path), Path(out), resume=True)


@pytest.mark.parametrize("damaged", [b"{bad\n", b"\xff\xfe"])
def test_damaged_profiles_are_told_before_any_training_and_made_anew(tmp_path: Path, monkeypatch, damaged: bytes):
    out = tmp_path / "runs.csv"
    run_suite(suite(tmp_path), out)
    profiles_path(out).write_bytes(damaged)
    monkeypatch.setattr(material, "train", None)
    with pytest.raises(KnowledgeError, match="Delete it: they are measured anew"):
        run_suite(suite(tmp_path), out, resume=True)
    profiles_path(out).unlink()
    run_suite(suite(tmp_path), out, resume=True)  # the teacher lies in the cache
    assert len(read_profiles(profiles_path(out))) == 2


def test_a_teacher_that_diverged_teaches_nobody_and_the_rows_of_others_stay(tmp_path: Path):
    _, _, design = SUITE.partition("[[design]]")
    more = '[teachers.broken]\nmodel = "mlp-16"\nepochs = 30\nlr = 1e30\n[[design]]'
    text = SUITE + more + design.replace('"t"', '"broken"')
    run_suite(suite(tmp_path), tmp_path / "runs.csv")
    before = read_runs(tmp_path / "runs.csv")
    with pytest.raises(InputError, match=r"teacher broken must train to finite logits"):
        run_suite(suite(tmp_path, text), tmp_path / "runs.csv", resume=True)
    assert read_runs(tmp_path / "runs.csv") == before


def test_a_full_disk_is_told_of_the_file_and_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    def full(file: Path, *_: object, **__: object) -> None:
        file.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_runs(tmp_path / "runs.csv", [])
    assert caught.value.filename == str(tmp_path / "runs.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_full_cache_is_told_in_one_line(tmp_path: Path, monkeypatch):
    def full(_: object, file: Path) -> None:
        file.touch()
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match=r"cache must have room for what is kept there\. No space left on device"):
        run_suite(suite(tmp_path), tmp_path / "runs.csv")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_error_comes_back_whole_from_another_process():
    again = pickle.loads(pickle.dumps(InputError("no such thing", code="gone")))
    assert (type(again), str(again), again.code) == (InputError, "no such thing", "gone")


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
