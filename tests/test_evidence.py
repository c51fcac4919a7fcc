"""The profiles beside the runs: what each curve's students saw of their teacher."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tempadvisor import material, suites
from tempadvisor.bench import Job, run_job, run_suite
from tempadvisor.errors import KnowledgeError
from tempadvisor.evidence import profiles_path, read_profiles, write_profiles
from tempadvisor.profiling import profile
from tempadvisor.runs import read_runs
from tempadvisor.suites import BENCH_COLUMNS, Bench, Curve, Teacher

RUNS = Path(__file__).resolve().parent.parent / "knowledge" / "runs"


def a_profile():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    logits = 3 * rng.standard_normal((200, 5)) + 4 * np.eye(5)[labels]
    return profile(logits, labels, name="small", read_all=True)


def test_profiles_come_back_as_they_were_to_eight_digits(tmp_path):
    path, written = tmp_path / "runs.teachers.jsonl", a_profile()
    write_profiles(path, {"b": written, "a": written})
    read = read_profiles(path)
    assert list(read) == ["a", "b"]
    assert read["a"].n_classes == 5
    assert read["a"].entropy_nats == pytest.approx(written.entropy_nats, rel=1e-7)
    assert read["a"].std_errors == pytest.approx(written.std_errors, rel=1e-7)


def test_writing_what_was_read_changes_no_byte(tmp_path):
    path = tmp_path / "runs.teachers.jsonl"
    write_profiles(path, {"a": a_profile()})
    before = path.read_bytes()
    write_profiles(path, read_profiles(path))
    assert path.read_bytes() == before


def test_runs_without_profiles_have_none(tmp_path):
    assert read_profiles(tmp_path / "runs.teachers.jsonl") == {}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 must be a JSON object with curve and profile"),
        ("[1]", "line 2 must be a JSON object with curve and profile"),
        ('{"curve": "b"}', "line 2 must be a JSON object with curve and profile"),
        ('{"curve": "b", "profile": {"teacher": "x"}}', "line 2 must be a profile"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, problem):
    path = tmp_path / "runs.teachers.jsonl"
    write_profiles(path, {"a": a_profile()})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(KnowledgeError, match=problem):
        read_profiles(path)


def test_a_curve_stands_once(tmp_path):
    path = tmp_path / "runs.teachers.jsonl"
    write_profiles(path, {"a": a_profile()})
    path.write_text(2 * path.read_text())
    with pytest.raises(KnowledgeError, match="must name a curve once"):
        read_profiles(path)


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.teachers.jsonl")), ids=lambda path: path.name)
def test_the_profiles_of_the_corpus_fit_their_runs(path):
    runs = {run.curve: run for run in read_runs(path.with_name(path.name.replace(".teachers.jsonl", ".csv")))}
    profiles = read_profiles(path)
    assert path == profiles_path(path.with_name(path.name.replace(".teachers.jsonl", ".csv")))
    assert profiles.keys() <= runs.keys()
    for name, found in profiles.items():
        run = runs[name]
        assert (found.teacher, found.n_classes, found.logits_from) == (
            run.teacher,
            run.n_classes,
            run.setup.logits_from,
        )
        assert found.n_samples == run.setup.n_train * run.augmentation_views


SUITE = """
temperatures = [4]
[teachers.t]
model = "mlp-16"
epochs = 100
[[design]]
dataset = "sklearn/digits"
teacher = "t"
student = "cnn-2"
optimizer = "sgd"
lr = 0.05
epochs = 2
batch_size = 32
n_train = 100
n_val = 50
n_test = 60
kd_weight = 0.9
split_seed = 3
augmentation = "standard"
teacher_logit_scale = 2.0
label_noise = 0.2
"""


def test_a_row_and_its_line_are_enough_to_make_the_run_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPADVISOR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.toml").write_text(SUITE)
    run_suite(tmp_path / "small.toml", tmp_path / "runs.csv")
    row = read_runs(tmp_path / "runs.csv")[-1]
    made = json.loads(profiles_path(tmp_path / "runs.csv").read_text())["made"]
    told = {column.name: getattr(row, column.name, None) for column in BENCH_COLUMNS}
    derived = dict.fromkeys(suites.DERIVED)
    curve = Curve(
        name=row.curve,
        bench=Bench(**(told | {"dataset": made["dataset"]})),
        setup=dataclasses.replace(row.setup, **derived),
        teacher=Teacher(**made["teacher"]),
    )
    shutil.rmtree(tmp_path / "cache")
    for function in (material.views_of, material.samples_of):
        function.cache_clear()
    (again,) = run_job(Job(row.suite, curve, (row.temperature,), (row.seed,)))
    assert dataclasses.replace(again, time=row.time, train_seconds=row.train_seconds) == row
