"""Learned response curves: a made corpus with a known law is recovered, whatever the way of learning."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from tempadvisor.advise import recommend
from tempadvisor.calibration import Calibration
from tempadvisor.curves import LOG_T, TEMPERATURES, Curve, floor, oracle, regrets
from tempadvisor.errors import KnowledgeError
from tempadvisor.evaluation import bootstrap, calibrate, cases_of, choose, evaluate
from tempadvisor.features import COLD, VECTOR, vector
from tempadvisor.learned import ANSWERS, Learned, draw, fade, fill, load, medians, save, weigh
from tempadvisor.profiling import profile
from tempadvisor.records import LossContract, Recommendation, TrainingSetup
from tempadvisor.regressor import CANDIDATES, FITS, lessons, row_of
from tempadvisor.response import Response
from tempadvisor.rivals import macro
from tempadvisor.runs import Run

pytestmark = pytest.mark.usefixtures("rules_alone")
SOURCES = ("a", "b", "c", "d")
ANY = CANDIDATES[0]


@functools.cache
def teacher(octaves: int):
    """A teacher whose logits are 2 ** octaves times those of the teacher of 0."""
    logits = 2.0**octaves * np.random.default_rng(0).standard_normal((100, 10))
    return profile(logits, name="made", logits_from="train", read_all=True)


def made(source: str, octaves: int, number: int, noise: float = 0.001) -> Curve:
    """A curve whose best temperature is 2 ** (2 + octaves); a factor of 2 away from it costs half a point."""
    rng = np.random.default_rng([number, octaves + 10])
    gain = 0.03 - 0.005 * (LOG_T - 2 - octaves) ** 2
    without = 0.7 + 0.01 * rng.standard_normal(8)
    setup = TrainingSetup(
        optimizer="sgd", lr=0.05, epochs=10 + number, batch_size=32, n_train=320, kd_weight=0.9, student="mlp-64",
        student_params=1000, teacher_params=5000, student_init="random", augmentation="none", label_noise=0.0,
        teacher_origin="scratch", teacher_augmentation="none", teacher_label_smoothing=0.0, t_squared=True,
    )  # fmt: skip
    run = Run(
        suite="made", curve=f"{source}{octaves}{number}", seed=0, source=source, dataset=source, teacher="t",
        teacher_hash=f"{source}{octaves}", setup=setup, n_classes=10, status="FINISHED", val_accuracy=0.7,
        test_accuracy=0.7,
    )  # fmt: skip
    parts = [without[:, None] + gain + noise * rng.standard_normal((8, 10)) for _ in range(2)]
    return Curve(
        run=run, profile=teacher(octaves), without=without, accuracy=parts[0], val_without=without,
        val_accuracy=parts[1], fit=np.zeros(11), n_failed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def corpus() -> list[Curve]:
    return [made(source, octaves, number) for source in SOURCES for octaves in (-1, 0, 1, 2) for number in (0, 1, 2)]


def test_the_vector_has_one_number_a_name_and_nan_where_nothing_is_known():
    known = vector(teacher(0), made("a", 0, 0).run.setup, LossContract())
    assert known.shape == (len(VECTOR),)
    assert np.isfinite(known).all()
    unknown = dict(zip(VECTOR, vector(None, TrainingSetup(), LossContract()), strict=True))
    assert {name for name, value in unknown.items() if np.isfinite(value)} == {"t_squared", "log2_soft_odds"}


def test_reach_and_heat_are_octaves_that_add_up():
    profiled, setup = teacher(0), TrainingSetup(optimizer="sgd", lr=0.2, epochs=1, n_train=64, batch_size=8)
    named = dict(zip(VECTOR, vector(profiled, setup, LossContract(kd_weight=0.5)), strict=True))
    scale = np.log2(profiled.logit_std)
    assert named["log2_reach"] == pytest.approx(1 + 3 - scale)  # twice the usual rate, 8 steps
    assert named["log2_heat"] == pytest.approx(1 - 1 + scale)  # half of the loss
    adaptive = vector(profiled, dataclasses.replace(setup, optimizer="adam"), LossContract())
    assert dict(zip(VECTOR, adaptive, strict=True))["log2_heat"] == 0


def lone(gap: float):
    """A teacher whose top logit lies `gap` above nine others that differ by next to nothing."""
    logits = gap * np.eye(10)[np.arange(200) % 10] + 1e-6 * np.random.default_rng(0).standard_normal((200, 10))
    return profile(logits, name="lone", logits_from="train", read_all=True)


def test_a_sure_teacher_pulls_as_labels_do_at_t_1_and_harder_with_t_until_it_is_soft():
    setup = TrainingSetup(optimizer="sgd", lr=0.2, epochs=1, n_train=64, batch_size=8)
    named = dict(zip(VECTOR, vector(lone(40), setup, LossContract(kd_weight=0.5)), strict=True))
    assert named["soft_share_1"] == pytest.approx(0.5, abs=1e-3)
    top = min(1 / (1 + 9 * np.exp(-10)), 0.999)  # 40 above the others at T=4
    assert named["log2_push_4"] == pytest.approx(np.log2(0.5 + 0.5 * 4 * (top - 0.1) / 0.9), abs=1e-6)
    assert named["log2_hot_4"] == pytest.approx(1 + named["log2_push_4"])  # twice the usual rate
    assert named["log2_distance_4"] == pytest.approx(1 + 3 + named["log2_push_4"])  # 8 steps
    soft = vector(lone(1), setup, LossContract(kd_weight=0.5, t_squared=False))
    assert dict(zip(VECTOR, soft, strict=True))["log2_push_16"] < 0


def test_what_a_student_must_reach_is_the_gap_that_the_softened_teacher_shows():
    setup = TrainingSetup(optimizer="adam", lr=0.01, epochs=4, n_train=64, batch_size=8)
    named = dict(zip(VECTOR, vector(lone(8), setup, LossContract()), strict=True))
    assert named["log2_distance"] == named["log2_distance_4"] == pytest.approx(5)  # 32 steps at the usual rate
    assert named["log2_reach_4"] == pytest.approx(5 - 3, abs=1e-4)
    assert named["log2_hot_4"] == COLD


def test_steps_are_epochs_times_whole_batches():
    setup = TrainingSetup(epochs=10, n_train=100, batch_size=32)
    assert dict(zip(VECTOR, vector(None, setup, LossContract()), strict=True))["log2_steps"] == pytest.approx(
        np.log2(30)
    )


def test_a_feature_s_median_is_of_the_setups_that_know_it_and_0_where_none_does():
    features = np.array([[3.0, np.nan, np.nan], [1.0, 5.0, np.nan], [2.0, 7.0, np.nan]])
    np.testing.assert_array_equal(medians(features), [2.0, 6.0, 0.0])


def test_what_is_unknown_is_drawn_from_every_setup_and_what_is_known_stays():
    drawn = fill(np.array([1.0, np.nan]), np.array([[5.0, 7.0], [6.0, 8.0]]))
    np.testing.assert_array_equal(drawn, [[1.0, 7.0], [1.0, 8.0]])
    np.testing.assert_array_equal(fill(np.array([1.0, 2.0]), np.zeros((3, 2))), [[1.0, 2.0]])


def test_the_average_is_half_of_a_forest_and_half_of_a_process(corpus: list[Curve]):
    learned = lessons(corpus)
    row = row_of(made("z", 1, 1))
    alone = [
        ANSWERS[kind](FITS[kind](learned, setting), row[None]).mean(0)
        for kind, setting in (("forest", 3), ("process", 0.5))
    ]
    both = ANSWERS["average"](FITS["average"](learned, 0.5), row[None]).mean(0)
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-12)


def test_drawn_curves_stand_for_their_mixture():
    gain = np.array([np.zeros(10), np.ones(10)])
    assert draw(gain, np.array([1.0, 3.0])).mean() == pytest.approx(0.75)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda c: f"{c[0]}-{c[1]:g}")
def test_a_model_finds_the_law_on_a_source_it_has_not_seen(corpus, candidate):
    kind, setting = candidate
    learned = lessons([curve for curve in corpus if curve.run.source != "d"])
    model = FITS[kind](learned, setting)
    found = {}
    for octaves in (-1, 2):
        answer = ANSWERS[kind](model, fill(row_of(made("d", octaves, 1)), learned.features))
        assert answer.shape[1] == len(TEMPERATURES)
        found[octaves] = TEMPERATURES[int(answer.mean(0).argmax())]
    if candidate == ANY:
        assert found[-1] == found[2]  # the same for all
    else:
        assert found[-1] <= 3 < 12 <= found[2]


def test_every_tree_shares_its_vote_among_the_setups_of_the_leaf_that_a_row_falls_into():
    stump = {"feature": [0, 0, 0, 1, 0, 0], "threshold": [0.5, -2, -2, 0.5, -2, -2]}
    children = {"left": [1, 1, 2, 4, 4, 5], "right": [2, 1, 2, 5, 4, 5], "roots": [0, 3]}
    setups = {"leaves": [[1, 4], [2, 4], [2, 5]], "held": [1, 1, 2, 1, 2, 1], "weight": np.ones(3)}
    gain = np.repeat([[0.0], [1.0], [4.0]], 10, axis=1)
    model = {name: np.array(value) for name, value in (stump | children | setups | {"gain": gain}).items()}
    one, two = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(ANSWERS["forest"](model, one).mean(0), (0.5 * 0 + 1 * 1 + 0.5 * 4) / 2)
    np.testing.assert_allclose(ANSWERS["forest"](model, two).mean(0), (1.5 * 0 + 1 * 1 + 1.5 * 4) / 4)


def test_a_forest_knows_the_weight_that_each_leaf_holds(corpus):
    learned = lessons(corpus)
    model = FITS["forest"](learned, 3)
    for tree in (0, 199):
        for leaf in model["leaves"][:, tree]:
            assert model["held"][leaf] == pytest.approx(learned.weight[model["leaves"][:, tree] == leaf].sum())


def test_an_unknown_teacher_is_answered_by_a_wider_mixture(corpus):
    learned = lessons(corpus)
    kind, setting = "forest", 3
    model = FITS[kind](learned, setting)
    row = row_of(made("d", 2, 1))
    blind = row.copy()
    blind[[list(VECTOR).index(name) for name in ("log2_softness", "entropy_share", "log2_logit_std")]] = np.nan
    spread = [ANSWERS[kind](model, fill(r, learned.features)).std(0).mean() for r in (row, blind)]
    assert spread[1] > 1.5 * spread[0]


def test_advice_beats_the_best_fixed_temperature_where_there_is_a_law(corpus):
    found = evaluate([curve for curve in corpus if curve.run.source != "d"])
    sources = [case.source for case in found.cases]
    lost = {score.name: macro(score.regret, sources) for score in found.scores}
    assert lost["advice"] < 0.3 * lost["best fixed T"]
    assert abs(lost["perfect advisor"]) < 0.0005
    low, high = bootstrap(found, next(score.regret for score in found.scores if score.name == "best fixed T"))
    assert low <= lost["best fixed T"] <= high
    assert found.verdicts.covers_best.mean() > 0.8


def test_without_a_law_the_answers_lie_within_an_octave():
    curves = [made(source, 0, number, noise=0.01) for source in SOURCES for number in range(4)]
    choice = choose(cases_of(curves))
    learned = lessons(curves)
    model = FITS[choice.kind](learned, choice.setting)
    rows = [fill(row_of(curve), learned.features) for curve in curves]
    best = [TEMPERATURES[int(ANSWERS[choice.kind](model, row).mean(0).argmax())] for row in rows]
    assert max(best) / min(best) <= 2


def test_regret_floor_and_oracle_vanish_without_noise():
    accuracy = made("a", 0, 0, noise=0.0).accuracy
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(regrets(accuracy, rng), 0.005 * (LOG_T - 2) ** 2, atol=1e-9)
    assert floor(accuracy, rng) == pytest.approx(0, abs=1e-9)
    assert oracle(accuracy, rng) == pytest.approx(0, abs=1e-9)


def a_model(corpus: list[Curve]) -> Learned:
    learned = lessons(corpus)
    return Learned(
        kind="forest", setting=3, share=0.5, calibration=Calibration(0.002, 0.05, 0.95, 0.3, 0.001), reach=1.5,
        version="abc", lessons=learned, best=np.array([curve.best for curve in corpus]),
        arrays=FITS["forest"](learned, 3),
    )  # fmt: skip


def test_a_saved_model_answers_as_before_and_holds_no_pickle(corpus, tmp_path):
    model, path = a_model(corpus), tmp_path / "model.npz"
    save(model, path)
    row = row_of(made("d", 1, 1))
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    read = load(path)
    np.testing.assert_array_equal(
        read.response(row, np.array([1.0, 8.0])).gain, model.response(row, np.array([1.0, 8.0])).gain
    )
    assert (read.kind, read.share, read.calibration, read.version) == ("forest", 0.5, model.calibration, "abc")


def test_a_setup_that_was_measured_itself_answers_for_itself_as_far_as_its_runs_are_reliable(corpus):
    row, temperatures = row_of(corpus[0]), np.array(TEMPERATURES)
    model = a_model(corpus)
    measured, r = model.lessons.gain[0], model.lessons.reliability[0]
    assert 0.5 < r < 1
    weighed = weigh(model, row, Response(temperatures, np.zeros((128, 10))))[1]
    assert weighed.calibration is not None
    assert (weighed.calibration.low, weighed.calibration.high) == (0.05, 0.95), "it is read as it is"
    forest = dataclasses.replace(
        model, lessons=dataclasses.replace(model.lessons, features=model.lessons.features + 1)
    )
    before, after = forest.response(row, temperatures), model.response(row, temperatures)
    np.testing.assert_allclose(after.gain.mean(0), r * measured + (1 - r) * before.gain.mean(0), atol=1e-9)
    np.testing.assert_allclose(after.gain.std(0), (1 - r) ** 0.5 * before.gain.std(0), atol=1e-9)


def test_the_nearest_setup_is_the_one_alike_and_what_is_unknown_counts_as_far(corpus):
    model = a_model(corpus)
    row = row_of(made("a", 2, 1))
    nearest = model.nearest(row)
    assert nearest[0].distance == 0
    assert nearest[0].best_temperature in (12.0, 16.0, 24.0)
    row[list(VECTOR).index("log2_epochs")] = np.nan
    assert model.nearest(row)[0].distance == pytest.approx((4 / len(VECTOR)) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"plain text"])
def test_a_damaged_model_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(KnowledgeError, match=r"must be a model as `tempadvisor knowledge fit` writes it"):
        load(path)


def test_a_model_of_other_features_is_refused(corpus, tmp_path):
    path = tmp_path / "model.npz"
    save(a_model(corpus), path)
    with np.load(path) as file:
        content = dict(file)
    np.savez(path, **(content | {"columns": content["columns"][:-1]}))
    with pytest.raises(KnowledgeError, match="must be a model of this version"):
        load(path)


def advised(corpus: list[Curve], octaves: int, share: float = 1.0, **changes: object) -> Recommendation:
    model = dataclasses.replace(a_model(corpus), share=share)
    setup = dataclasses.replace(made("a", octaves, 1).run.setup, **changes)
    return recommend(teacher(octaves), setup, learned=model)


def test_advice_follows_the_measured_runs_where_they_are_near(corpus):
    assert advised(corpus, -1).temperature <= 3
    assert advised(corpus, 2).temperature >= 12
    answer = advised(corpus, 2)
    assert answer.nearest[0].distance == 0
    assert answer.reasons[0].kind == "measured"
    assert answer.reasons[0].effect == "raises"
    assert answer.confidence == "medium"
    assert answer.version["knowledge"].endswith("-abc")
    assert answer.interval[0] <= answer.temperature <= answer.interval[1]


def test_a_share_of_none_is_the_rules_alone(corpus):
    alone = recommend(teacher(2), made("a", 2, 1).run.setup)
    assert advised(corpus, 2, share=0.0).temperature == alone.temperature
    halfway = advised(corpus, 2, share=0.5).temperature
    assert alone.temperature < halfway < advised(corpus, 2).temperature


def test_far_from_every_measured_setup_the_rules_answer_alone_and_say_so(corpus):
    far = advised(corpus, 2, student_params=10**9, teacher_params=10**11, epochs=500, n_train=100_000)
    assert far.nearest[0].distance > 1.5
    (notice,) = [notice for notice in far.warnings if notice.code == "far_from_runs"]
    assert "beyond 1.9 the runs count for nothing" in notice.text  # 1.25 times the reach of 1.5
    assert far.temperature == recommend(teacher(2), far.setup).temperature


def test_a_loss_that_no_run_has_is_answered_by_the_rules_alone(corpus):
    answer = advised(corpus, 0, standardized=True, kd_weight=9.0, hard_weight=0.1)
    assert "no_runs_of_this_loss" in {notice.code for notice in answer.warnings}
    assert answer.reasons[0].kind == "rule"


def test_a_curve_of_noisy_seeds_teaches_less_than_a_sure_one_and_every_source_as_much_as_another():
    sure, noisy, other = made("a", 0, 0), made("a", 0, 1, noise=0.1), made("b", 0, 2)
    weight = lessons([sure, noisy, other]).weight
    assert weight[0] > 2 * weight[1]
    assert weight[0] + weight[1] == pytest.approx(weight[2]) == pytest.approx(0.5)


def test_what_is_expected_is_the_exact_mean_of_a_mixture_however_few_curves_stand_for_it():
    rng = np.random.default_rng(0)
    gain, weight = rng.standard_normal((30, 10)), rng.random(30)
    exact = weight @ gain / weight.sum()
    np.testing.assert_allclose(draw(gain, weight, 8).mean(0), exact, atol=1e-12)


def test_the_models_share_fades_out_between_its_reach_and_a_quarter_more():
    assert [fade(d, 2.0) for d in (0.0, 2.0, 2.25, 2.5, 9.0)] == [1, 1, 0.5, 0, 0]


def test_a_model_of_a_kind_that_is_not_known_is_refused_in_one_line(corpus, tmp_path):
    path = tmp_path / "model.npz"
    save(dataclasses.replace(a_model(corpus), kind="oracle"), path)
    with pytest.raises(KnowledgeError, match=r"Run: tempadvisor knowledge restore\."):
        load(path)


def test_where_harm_comes_as_a_surprise_everything_is_flagged(corpus):
    sure = Response(np.array(TEMPERATURES), np.full((8, 10), 0.05))  # no curve of it lies below no KD
    harmed = [dataclasses.replace(c, val_without=c.val_without + 0.5, without=c.without + 0.5) for c in corpus]
    assert calibrate(cases_of(harmed), [sure] * len(harmed)).harm == -1
