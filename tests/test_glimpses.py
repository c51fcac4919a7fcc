"""What a verification teaches: a few paired trainings become a whole curve. It moves the advice, and judges none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_regressor import made, teacher

from tempadvisor import evaluation, fitting, holdings, render_knowledge
from tempadvisor.advise import recommend
from tempadvisor.belief import rules_response
from tempadvisor.coverage import coverage
from tempadvisor.curves import TEMPERATURES
from tempadvisor.evaluation import cases_of, choose, evaluate
from tempadvisor.evidence import profiles_path, write_profiles
from tempadvisor.fitting import fit, refit, version_of
from tempadvisor.glimpses import Glimpse, glimpses_of, teaches
from tempadvisor.holdings import add
from tempadvisor.learned import load
from tempadvisor.regressor import lessons
from tempadvisor.resources import model_path
from tempadvisor.rules import load_rules
from tempadvisor.runs import Run, write_runs

pytestmark = pytest.mark.usefixtures("rules_alone")
SETUP = made("new", 0, 3).run.setup
UP_TO_16 = {2.0: 0.02, 4.0: 0.03, 8.0: 0.05, 16.0: 0.09}  # gain over no KD


def verified(gain: Mapping[float, float], n_seeds: int = 3, *, without: bool = True, **other: Any) -> list[Run]:
    """Trainings of a setup whose best temperature is 4 by the law of `made`, as `verify` writes them."""
    values = {"suite": "verify", "curve": "v", "source": "new", "dataset": "new", "teacher": "t", "teacher_hash": "h",
              "setup": SETUP, "n_classes": 10, "n_val": 1000, "status": "FINISHED"}  # fmt: skip
    cells = [(t, over) for t, over in gain.items()] + ([(None, 0.0)] if without else [])
    return [
        Run(
            **(values | other),
            seed=seed,
            temperature=t,
            val_accuracy=0.7 + 0.01 * seed + over + 0.001 * ((seed + i) % 2),
        )
        for i, (t, over) in enumerate(cells)
        for seed in range(n_seeds)
    ]


def glimpse(gain: Mapping[float, float] = UP_TO_16, n_seeds: int = 3, **other: Any) -> Glimpse:
    (found,) = glimpses_of([verified(gain, n_seeds, **other)], {"v": teacher(0)})
    return found


def corpus() -> list[Any]:
    """Setups of about as many epochs as the one verified, none of them the same."""
    numbers = {"a": (0, 5), "b": (1, 4), "c": (2, 6)}
    return [made(source, octaves, n) for source, some in numbers.items() for octaves in (-1, 0, 1, 2) for n in some]


def test_a_glimpse_goes_through_what_was_measured_and_holds_all_temperatures():
    found = glimpse(n_seeds=6)
    measured = found.gain[[TEMPERATURES.index(t) for t in UP_TO_16]]
    np.testing.assert_allclose(measured, list(UP_TO_16.values()), atol=0.006)
    assert found.gain.shape == (10,)
    assert found.best >= 16
    assert 0.02 < found.gain[TEMPERATURES.index(3.0)] < 0.035


def test_without_students_without_kd_the_level_is_what_the_rules_expect():
    with_level, level = glimpse({4.0: 0.03, 8.0: 0.05}), glimpse({4.0: 0.03, 8.0: 0.05}, without=False)
    np.testing.assert_allclose(np.diff(level.gain), np.diff(with_level.gain), atol=1e-12)
    expected = rules_response(teacher(0), SETUP, SETUP.loss_contract(), load_rules()).at(4.0).mean()
    assert level.gain[TEMPERATURES.index(4.0)] == pytest.approx(expected)


def test_a_failed_training_counts_as_guessing_and_a_pruned_one_not_at_all():
    runs = verified({4.0: 0.03, 16.0: 0.03})
    lost = {"val_accuracy": None, "status": "FAILED", "error": "nan"}
    failed = [dataclasses.replace(run, **lost) if run.temperature == 16 else run for run in runs]
    pruned = [dataclasses.replace(run, **lost | {"status": "PRUNED", "error": None}) for run in runs]
    (found,) = glimpses_of([failed], {"v": teacher(0)})
    assert found.gain[TEMPERATURES.index(16.0)] < -0.3
    assert found.best <= 6
    assert not teaches(pruned, teacher(0))


@pytest.mark.parametrize(
    ("runs", "known"),
    [
        (verified({4.0: 0.03, 8.0: 0.05}, 2), True),
        (verified({4.0: 0.03, 8.0: 0.05}, 1), False),
        (verified({4.0: 0.03}, 9), False),
        ([run for run in verified({4.0: 0.03, 8.0: 0.05}, 4) if (run.temperature == 4) == (run.seed < 2)], False),
        (verified(UP_TO_16, n_val=None), False),
        (verified(UP_TO_16, setup=dataclasses.replace(SETUP, standardized=True)), False),
        (verified(UP_TO_16, setup=dataclasses.replace(SETUP, reduction="mean")), False),
    ],
)
def test_two_temperatures_need_two_seeds_in_common_and_the_loss_must_be_the_usual_one(runs: list[Run], known: bool):
    assert teaches(runs, teacher(0)) is known
    assert not teaches(runs, None)
    assert len(glimpses_of([runs], {"v": teacher(0)})) == known
    assert glimpses_of([runs], {}) == []


@pytest.mark.parametrize("n_val", [1, 10**9])
@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_students_that_are_all_right_or_all_wrong_teach_that_no_temperature_matters(n_val: int, accuracy: float):
    runs = [dataclasses.replace(run, val_accuracy=accuracy) for run in verified(UP_TO_16, 9, n_val=n_val)]
    (found,) = glimpses_of([runs], {"v": teacher(0)})
    assert np.abs(found.gain).max() < 0.02


def test_more_seeds_make_a_glimpse_more_reliable():
    few, many = glimpse(n_seeds=2), glimpse(n_seeds=8)
    assert many.squared_error < few.squared_error
    weight = lessons(corpus(), [few, dataclasses.replace(many, run=made("other", 0, 3).run)]).weight
    assert weight[-1] > weight[-2]


def test_without_glimpses_lessons_are_as_before_and_with_them_the_other_sources_keep_their_weights():
    before, after = lessons(corpus()), lessons(corpus(), [glimpse()])
    np.testing.assert_array_equal(after.features[:-1], before.features)
    np.testing.assert_array_equal(after.gain[:-1], before.gain)
    np.testing.assert_allclose(after.weight[:-1] / after.weight[:-1].sum(), before.weight)
    assert 0 < after.weight[-1] <= 1 / 4
    assert after.names[-1] == "v"


def advised(model: Any) -> float:
    return recommend(teacher(0), SETUP, learned=model).temperature


def test_a_verification_that_contradicts_the_model_moves_the_advice_for_its_setup_and_one_that_agrees_hardly():
    agrees = glimpse({2.0: 0.025, 4.0: 0.03, 8.0: 0.025, 16.0: 0.01})
    before = advised(fit(corpus()))
    model = fit(corpus(), [glimpse()])
    assert 2.5 < before < 6.5
    assert advised(model) > 1.4 * before
    assert abs(np.log2(advised(fit(corpus(), [agrees])) / before)) < 0.3
    row = glimpse().features
    assert (model.nearest(row)[0].setup, model.nearest(row)[0].distance) == ("v", 0)
    assert model.nearest(row)[0].best_temperature >= 16
    assert version_of(corpus()) != version_of(corpus(), [agrees]) != model.version


@pytest.mark.parametrize("by", ["source", "teacher", "setup"])
def test_what_is_held_out_is_not_learned_from_in_a_glimpse_either(monkeypatch: Any, by: str):
    key, value = {"source": ("source", "a"), "teacher": ("teacher_hash", "a0"), "setup": ("curve", "a00")}[by]
    one = dataclasses.replace(glimpse(), run=dataclasses.replace(glimpse().run, **{key: value}))
    told: list[tuple[set[Any], int]] = []

    def spied(curves: Any, glimpses: Any = ()) -> Any:
        told.append(({getattr(curve.run, key) for curve in curves}, len(glimpses)))
        return lessons(curves, glimpses)

    monkeypatch.setattr(evaluation, "lessons", spied)
    choose(cases_of(corpus()), by, glimpses=[one])
    assert {n for _, n in told} == {0, 1}
    assert all((value in known) == bool(n) for known, n in told)


@pytest.mark.slow
def test_glimpses_of_a_source_change_nothing_of_what_is_said_of_it_and_are_not_scored():
    wild = glimpse({2.0: -0.3, 4.0: -0.3, 8.0: -0.2, 16.0: 0.2})
    alone = evaluate(corpus())
    with_its_own = evaluate(corpus(), glimpses=[dataclasses.replace(wild, run=made("a", 0, 3).run)])
    assert len(with_its_own.cases) == len(alone.cases)
    one, other = (found.score("process 1").temperatures[:8] for found in (alone, with_its_own))
    np.testing.assert_array_equal(one, other)
    others = [found.score("process 1").temperatures[8:] for found in (alone, with_its_own)]
    assert not np.array_equal(*others)


def test_fit_with_verifications_alone_learns_from_them_and_stats_count_them(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)
    monkeypatch.setattr(fitting, "shipped_curves", corpus)
    monkeypatch.setattr(holdings, "knowledge_path", lambda _: tmp_path / "no corpus")
    path = tmp_path / "verified.csv"
    write_runs(path, verified(UP_TO_16))
    write_profiles(profiles_path(path), {"v": teacher(0)})
    (added,) = add([str(path)], {}, {})
    assert (added.refused, added.profiles) == ((), 1)
    assert coverage().glimpses == 1
    assert "incomplete, but they teach        0    1" in render_knowledge.coverage(coverage())
    done = refit(force=True)
    assert (done.activated, done.n_own, done.n_curves) == (True, 1, len(corpus()) + 1)
    assert load(model_path()).lessons.names[-1] == "v"
