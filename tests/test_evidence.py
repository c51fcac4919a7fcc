"""The profiles beside the runs: what each curve's students saw of their teacher."""

from pathlib import Path

import numpy as np
import pytest

from tempadvisor.errors import KnowledgeError
from tempadvisor.evidence import profiles_path, read_profiles, write_profiles
from tempadvisor.profiling import profile
from tempadvisor.runs import read_runs

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
