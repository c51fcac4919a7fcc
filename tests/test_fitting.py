"""Fitting the model in use: from the made corpus of `test_regressor.py`, whose law is known."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_regressor import SOURCES, a_model, made
from typer.testing import CliRunner

from tempadvisor import fitting, holdings
from tempadvisor.advise import recommend
from tempadvisor.cli import app
from tempadvisor.curves import LOG_T, TEMPERATURES
from tempadvisor.errors import UsageError
from tempadvisor.evaluation import Evaluation, cases_of
from tempadvisor.evidence import write_profiles
from tempadvisor.fitting import Comparison, compare, fit, known_curves, refit, restore, together, use, version_of
from tempadvisor.learned import load, save
from tempadvisor.records import Standing, TrainingSetup
from tempadvisor.resources import model_path
from tempadvisor.rivals import score
from tempadvisor.rules import load_rules
from tempadvisor.runs import Run, write_runs
from tempadvisor.teachers import demo_profile

pytestmark = pytest.mark.usefixtures("rules_alone")
WRITERS = Path(__file__).with_name("writers.py")


def curves(sources=SOURCES[:3], numbers=(0, 1)):
    return [made(source, octaves, number) for source in sources for octaves in (-1, 0, 1, 2) for number in numbers]


def test_the_fitted_model_knows_the_law_its_reach_and_its_corpus():
    model = fit(curves())
    assert model.share > 0
    assert model.version == version_of(curves()) != version_of(curves(numbers=(0, 2)))
    assert 0 <= model.reach < 1
    low, high = (
        recommend(made("d", octaves, 1).profile, made("d", octaves, 1).run.setup, learned=model).temperature
        for octaves in (-1, 2)
    )
    assert TEMPERATURES[0] <= low <= 3 < 12 <= high


def test_two_sources_are_too_few_to_learn_from():
    with pytest.raises(UsageError, match="must be of at least 3 data sources"):
        fit(curves(SOURCES[:2]))


@pytest.mark.slow
def test_new_runs_that_agree_are_not_held_to_make_advice_worse():
    steps = []
    found = compare(curves(numbers=(0,)), curves(("d",)), lambda done, n: steps.append((done, n)))
    assert steps == [(i, 6) for i in (0, *range(4), *range(3, 7))]
    assert found.after <= found.before + 0.002
    assert not found.worse


def runs(first_seed, n_seeds, **other):
    setup = TrainingSetup(kd_weight=0.9, t_squared=True, epochs=3)
    values = {"suite": "mine", "curve": "c", "source": "photos", "dataset": "photos", "teacher": "t", "setup": setup}
    return [
        Run(**(values | other), seed=s, temperature=t, status="FINISHED", val_accuracy=s / 100, test_accuracy=0.5)
        for s in range(first_seed, first_seed + n_seeds)
        for t in (None, *TEMPERATURES)
    ]


def known(tmp_path, monkeypatch, own, profiles=None):
    """What there is to learn from, beside a shipped curve of four seeds."""
    write_runs(tmp_path / "mine.csv", runs(0, 4))
    write_profiles(tmp_path / "mine.teachers.jsonl", {"c": demo_profile()})
    monkeypatch.setattr(holdings, "knowledge_path", lambda _: tmp_path)
    monkeypatch.setattr(fitting, "own_runs", lambda _: (tuple(own), dict(profiles or {})))
    return known_curves()


def test_own_seeds_of_a_shipped_curve_join_it_and_stand_in_its_place(tmp_path, monkeypatch):
    shipped, own, glimpses = known(tmp_path, monkeypatch, runs(4, 2))
    assert glimpses == []
    assert [len(curve.accuracy) for curve in shipped] == [4]
    assert [curve.val_without.tolist() for curve in own] == [[0.0, 0.01, 0.02, 0.03, 0.04, 0.05]]
    assert own[0].profile == shipped[0].profile
    assert together(shipped, own) == own
    other = made("a", 0, 0)
    assert together([other, *shipped], own) == [other, *own]


def test_own_runs_that_are_shipped_or_of_another_setup_or_half_a_seed_join_no_curve(tmp_path, monkeypatch):
    another = runs(6, 4, setup=TrainingSetup(kd_weight=0.5, t_squared=True, epochs=3))
    assert known(tmp_path, monkeypatch, [*runs(2, 2), *another, *runs(4, 1)[:5]])[1:] == ([], [])


def test_seeds_that_were_not_tested_make_no_curve_complete_but_are_a_glimpse(tmp_path, monkeypatch):
    untested = [dataclasses.replace(run, curve="d", test_accuracy=None) for run in runs(0, 4, n_val=100)]
    _, own, glimpses = known(tmp_path, monkeypatch, untested, {"d": demo_profile()})
    assert own == []
    assert [glimpse.run.curve for glimpse in glimpses] == ["d"]


def test_renamed_copies_are_not_learned_from(tmp_path, monkeypatch):
    copied = runs(0, 4, suite="own", curve="d", source="maps")
    fresh = [dataclasses.replace(run, curve="e", test_accuracy=0.4) for run in copied]
    own = known(tmp_path, monkeypatch, [*copied, *fresh], {"d": demo_profile(), "e": demo_profile()})[1]
    assert [curve.run.curve for curve in own] == ["e"]


def test_new_seeds_are_compared_by_the_accuracies_that_were_measured_before(monkeypatch):
    """What is scored with the new seeds is the temperature alone, not what they measure of it."""
    old = curves(numbers=(0,))
    new = [
        dataclasses.replace(old[0], accuracy=old[0].accuracy - 0.1 * (LOG_T == 0), val_accuracy=old[0].val_accuracy)
    ]
    seen = []

    def evaluated(some, *, beside=(), **_):
        seen.append((list(some), list(beside)))
        cases = cases_of(some)
        return Evaluation("source", cases, (score("advice", cases, np.full(len(cases), 1.0)),), {}, None)

    monkeypatch.setattr(fitting, "evaluate", evaluated)
    found = compare(old, [*new, made("d", 0, 0)])
    assert [curve.run.curve for curve in seen[1][0]] == [curve.run.curve for curve in old]
    assert seen[1][0][0] is new[0]
    assert [curve.run.source for curve in seen[1][1]] == ["d"]
    assert found.before == found.after
    assert (found.low, found.high) == (0, 0)


def test_advice_without_the_new_curves_is_evaluated_once_as_long_as_nothing_changes(monkeypatch):
    old, seen = curves(numbers=(0,)), []

    def evaluated(some, *, beside=(), progress, **_):
        seen.append(len(beside))
        progress(3, 3)
        cases = cases_of(some)
        temperatures = np.full(len(cases), 8.0 if beside else 1.0)
        return Evaluation("source", cases, (score("advice", cases, temperatures),), {}, None)

    def compared(some=old):
        steps = []
        seen.clear()
        return compare(some, [made("d", 0, 0)], lambda *step: steps.append(step)), list(seen), steps

    monkeypatch.setattr(fitting, "evaluate", evaluated)
    first, evaluations, steps = compared()
    assert (evaluations, steps) == ([0, 1], [(0, 6), (3, 6), (6, 6)])
    assert first.before != first.after
    assert compared() == (first, [1], [(0, 3), (3, 3)])
    assert compared([dataclasses.replace(old[0], val_accuracy=old[0].val_accuracy + 0.01), *old[1:]])[1] == [0, 1]
    model_path().with_name("compared.json").write_text("{}")
    assert compared()[1] == [0, 1]


def test_an_interrupted_comparison_keeps_the_half_that_it_has_done(monkeypatch):
    old, seen = curves(numbers=(0,)), []

    def evaluated(some, *, beside=(), **_):
        seen.append(len(beside))
        if seen == [0, 1]:
            raise KeyboardInterrupt
        cases = cases_of(some)
        return Evaluation("source", cases, (score("advice", cases, np.full(len(cases), 1.0)),), {}, None)

    monkeypatch.setattr(fitting, "evaluate", evaluated)
    with pytest.raises(KeyboardInterrupt):
        compare(old, [made("d", 0, 0)])
    compare(old, [made("d", 0, 0)])
    assert seen == [0, 1, 1]


@pytest.mark.parametrize("begin", [refit, fitting.evaluated])
def test_before_the_folds_are_known_runs_are_said_to_be_read(monkeypatch, begin):
    told = []

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "known_curves", stop)
    with pytest.raises(KeyboardInterrupt):
        begin(progress=lambda *step: told.append(step))
    assert told == [(0, None, "reading all runs")]


def test_worse_means_that_the_whole_interval_lies_above_zero():
    assert Comparison(0.01, 0.02, 0.005, 0.015).worse
    assert not Comparison(0.01, 0.02, -0.005, 0.025).worse


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """A user without any knowledge of their own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("TEMPADVISOR_KNOWLEDGE", raising=False)


def version(**options):
    return recommend(made("a", 0, 0).profile, made("a", 0, 0).run.setup, **options).version["knowledge"]


def test_a_model_in_use_answers_and_restore_swaps_it_with_the_one_before():
    shipped, model = version(), a_model(curves())
    with pytest.raises(UsageError, match="restore needs a model of yours in use"):
        restore()
    use(model)
    assert version() == f"{shipped}-abc"
    assert restore() == version() == shipped
    assert version(knowledge_version=f"{shipped}-abc") == f"{shipped}-abc"
    assert restore() == version() == f"{shipped}-abc"
    use(dataclasses.replace(model, version="def"))
    assert version() == f"{shipped}-def"
    for now, other in (("abc", "def"), ("def", "abc")):
        assert restore() == version() == f"{shipped}-{now}"
        assert version(knowledge_version=f"{shipped}-{other}") == f"{shipped}-{other}"
    assert sorted(path.name for path in model_path().parent.glob("model*")) == ["model.npz", "model.previous.npz"]


def test_a_fit_killed_at_any_moment_leaves_a_whole_model_in_use_and_restore_works(tmp_path):
    files = [tmp_path / f"{name}.npz" for name in ("abc", "def")]
    for path in files:
        save(dataclasses.replace(a_model(curves()), version=path.stem), path)
    command = [sys.executable, "-W", "error", WRITERS, "fits-killed", *files, "40", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["found"]) == 40
    assert told["amid"] > 10  # so the kills did hit the writing
    for in_use, advised, kept, restored in told["found"]:
        assert in_use == advised
        assert kept == restored
        assert {in_use, kept} <= {"abc", "def"}


@pytest.mark.parametrize("step", range(4))
def test_between_any_two_steps_of_a_fit_the_old_model_is_in_use(monkeypatch, step):
    """The moments too short to be hit by chance: every rename of a file but the last leaves the old model."""

    class Killed(BaseException):
        pass

    renames, replace = [], Path.replace

    def rename(path, target):
        if len(renames) == step:
            raise Killed
        renames.append(Path(target).name)
        replace(path, target)

    before = a_model(curves())
    use(dataclasses.replace(before, version="old"))
    use(before)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", rename)
        with pytest.raises(Killed):
            use(dataclasses.replace(before, version="new"))
    assert model_path().name not in renames
    assert load(model_path()).version == "abc"
    assert restore().split("-")[1] in ("old", "abc")
    assert load(model_path()).version in ("old", "abc")


def test_a_model_that_was_moved_away_is_mended_by_restore():
    use(a_model(curves()))
    model_path().replace(fitting.previous_path())
    assert restore().endswith("-abc")
    assert model_path().exists()


def test_the_tally_counted_with_the_model_in_use_stands_beside_the_rules_reasons():
    setup = TrainingSetup(granularity="fine")
    tallies = [Standing(rule="S4-fine", n_fired=n, n_for=1, n_against=0) for n in (3, 4)]
    for version, told in zip(("abc", "def"), tallies, strict=True):
        use(dataclasses.replace(a_model(curves()), version=version), [told])

    def standing():
        return next(reason for reason in recommend(None, setup).reasons if reason.id == "S4-fine").standing

    assert standing() == tallies[1]
    restore()
    assert standing() == tallies[0]


def test_an_answer_can_be_had_again_by_the_version_it_names():
    before, model = version(), a_model(curves())
    use(model)
    use(dataclasses.replace(model, version="def"))
    assert version(knowledge_version=f"{before}-abc") == f"{before}-abc"
    assert version(knowledge_version=before) == before
    with pytest.raises(
        UsageError, match=f"must be one that lies here: {before}, {before}-def, {before}-abc. Got 'x'"
    ):
        version(knowledge_version="x")


def test_a_damaged_model_in_use_is_one_line_and_the_rules_can_be_asked_for():
    before = version()
    use(a_model(curves()))
    model_path().write_bytes(b"damaged")
    result = CliRunner().invoke(app, ["recommend", "--epochs", "10"])
    assert "must be a model as `tempadvisor knowledge fit` writes it" in str(result.exception)
    assert version(knowledge_version=before) == before
    assert restore() == version() == before
    with pytest.raises(UsageError, match="restore needs a model of yours in use"):
        restore()


def test_a_pinned_version_is_found_behind_a_damaged_model_and_not_found_says_what_is_damaged():
    before = version()
    use(a_model(curves()))
    use(dataclasses.replace(a_model(curves()), version="def"))
    model_path().write_bytes(b"damaged")
    assert version(knowledge_version=f"{before}-abc") == f"{before}-abc"
    with pytest.raises(
        UsageError, match=rf"lies here: {before}, {before}-abc\. Got 'x'\. .*model\.npz must be a model"
    ):
        version(knowledge_version="x")


def test_fit_without_runs_of_ones_own_says_what_it_needs():
    with pytest.raises(
        UsageError, match=r"fit needs temperature curves of your own.*as verify writes them.*add runs.csv"
    ):
        refit()


def test_evaluate_by_something_else_is_refused():
    result = CliRunner().invoke(app, ["knowledge", "evaluate", "--by", "moon"])
    assert "--by must be one of source, teacher, setup. Got 'moon'" in str(result.exception)


@pytest.mark.slow
def test_a_worse_model_is_not_put_to_use_unless_forced(monkeypatch):
    monkeypatch.setattr(fitting, "known_curves", lambda _: (curves(numbers=(0,)), curves(("d",), (0,)), []))
    monkeypatch.setattr(fitting, "compare", lambda *_, **__: Comparison(0.01, 0.02, 0.005, 0.015))
    result = CliRunner().invoke(app, ["knowledge", "fit", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["activated"] is False
    shifting = [rule.id for rule in load_rules().rules if rule.shift]
    assert [one["rule"] for one in told["standing"]] == shifting
    assert all(one.keys() == {"rule", "n_fired", "n_for", "n_against"} for one in told["standing"])
    assert list(model_path().parent.glob("*")) == []
    assert not model_path().exists()
    forced = CliRunner().invoke(app, ["knowledge", "fit", "--force"])
    assert forced.exit_code == 0
    assert "Measured setups that speak for and against each rule that moves T" in forced.stdout
    assert model_path().exists()
    assert f"In use now, as knowledge {version()}." in forced.stdout
    assert told["version"] == version()


@pytest.mark.slow
def test_the_table_has_the_advice_its_rivals_and_the_floor(monkeypatch):
    monkeypatch.setattr(fitting, "known_curves", lambda _: (curves(numbers=(0,)), [], []))
    found = json.loads(CliRunner().invoke(app, ["knowledge", "evaluate", "--json"]).stdout)
    methods = [line["method"] for line in found["lines"]]
    assert {"advice", "rules alone", "best fixed T", "T=4", "3-point grid", "perfect advisor"} <= set(methods)
    assert found["n_curves"] == 12
    assert [(one["source"], one["n_curves"]) for one in found["by_source"]] == [("a", 4), ("b", 4), ("c", 4)]
    shares = [one["share"] for one in found["costliest"]]
    assert shares == sorted(shares, reverse=True)
    advice = next(line for line in found["lines"] if line["method"] == "advice")
    assert sum(one["regret"] for one in found["by_source"]) / 3 == pytest.approx(advice["regret"])
    text = CliRunner().invoke(app, ["knowledge", "evaluate"]).stdout
    assert "Regret in points on 12 setups, each source held out in turn" in text
    assert "Setups that carry most of the advice's regret" in text
