"""What the measured corpus promises: enough setups, of enough sources, no source or teacher too heavy, every axis."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from tempadvisor.fitting import shipped_curves, version_of
from tempadvisor.learned import load
from tempadvisor.resources import shipped_model_path

ROOT = Path(__file__).resolve().parent.parent
RUNS = sorted(p for p in (ROOT / "knowledge" / "runs").glob("*.csv") if not p.stem.startswith("frozen"))
CONVOLUTIONAL = ("cnn", "resnet", "vit", "mixer")


@pytest.fixture(scope="module")
def setups() -> list[dict[str, str]]:
    """One row of every setup that has runs at all ten temperatures and without KD with at least five seeds."""
    found = []
    for path in RUNS:
        seeds: dict[str, Counter[str]] = {}
        first: dict[str, dict[str, str]] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                seeds.setdefault(row["curve"], Counter())[row["seed"]] += 1
                first.setdefault(row["curve"], row)
        least = 5 if path.stem.startswith(("conv", "pretrained")) else 10 if path.stem.startswith("wide") else 20
        found += [first[name] for name, counts in seeds.items() if sum(n == 11 for n in counts.values()) >= least]
    return found


def test_there_are_150_setups_of_5_sources_none_above_30_percent(setups):
    sources = Counter(row["source"] for row in setups)
    assert len(setups) >= 150
    assert len(sources) >= 5
    assert max(sources.values()) <= 0.3 * len(setups)


def test_no_teacher_has_more_than_5_percent_of_the_setups(setups):
    assert max(Counter(row["teacher_hash"] for row in setups).values()) <= 0.05 * len(setups)


def test_30_setups_have_convolutional_or_attention_students_on_real_images(setups):
    real = [row for row in setups if row["student"].startswith(CONVOLUTIONAL)]
    assert {row["source"] for row in real} == {"cifar10", "fashion-mnist"}
    assert len(real) >= 30


def test_every_source_has_two_teachers_and_two_splits(setups):
    for source in {row["source"] for row in setups}:
        own = [row for row in setups if row["source"] == source]
        assert len({row["teacher_hash"] for row in own}) >= 2, source
        assert len({row["split_seed"] for row in own}) >= 2, source


@pytest.mark.parametrize(
    ("axis", "levels"),
    [
        ("optimizer", {"sgd", "adam", "adamw"}),
        ("batch_size", {"32", "64", "128", "256"}),
        ("epochs", {"10", "40", "160"}),
        ("teacher_origin", {"scratch", "pretrained-finetuned"}),
        ("student_init", {"random", "target", "pretrained", "pretrained-finetuned"}),
        ("teacher_augmentation", {"none", "mixup"}),
        ("teacher_label_smoothing", {"0", "0.1"}),
        ("granularity", {"coarse", "fine"}),
        ("kd_weight", {"0.1", "0.5", "0.9", "1"}),
        ("augmentation", {"none", "standard", "mixup"}),
        ("teacher_logit_scale", {"1", "3"}),
        ("label_noise", {"0", "0.2"}),
        ("t_squared", {"true", "false"}),
        ("label_smoothing", {"0", "0.1"}),
    ],
)
def test_every_axis_has_its_levels_in_three_setups_or_more(setups, axis, levels):
    counts = Counter(row[axis] for row in setups)
    assert {level: counts[level] >= 3 for level in levels} == dict.fromkeys(levels, True), counts


def test_the_page_counts_the_curves_that_there_are(setups):
    page = (ROOT / "knowledge" / "README.md").read_text(encoding="utf-8")
    told = re.search(r"(\d+) complete curves \((.*?)\)", page, re.DOTALL)
    assert told, "run benchmarks/corpus.py"
    assert int(told[1]) >= len(setups), "run benchmarks/corpus.py"  # it counts curves from four seeds on
    assert {part.rsplit(" ", 1)[0].strip() for part in told[2].split(",")} == {row["source"] for row in setups}


@pytest.mark.slow
def test_the_shipped_model_was_fitted_to_the_shipped_corpus():
    curves = shipped_curves()
    model = load(shipped_model_path())
    assert model.version == version_of(curves), "run benchmarks/model.py"
    assert set(model.lessons.names) == {curve.run.curve for curve in curves}
