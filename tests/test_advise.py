"""Advice: sensible where little is known, different where it should be, and each direction owed to a named rule."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import pytest

from tempadvisor.advise import CURVE_TEMPERATURES, recommend
from tempadvisor.errors import OutOfScopeError, UsageError
from tempadvisor.profiling import profile
from tempadvisor.records import Recommendation, TeacherProfile, TrainingSetup
from tempadvisor.rules import load_rules
from tempadvisor.teachers import demo_profile

pytestmark = pytest.mark.usefixtures("rules_alone")
BOOK = load_rules()


@functools.cache
def logits(scale: float = 1.0, n_classes: int = 10, blocks: int = 1) -> np.ndarray:
    """Return 1500 samples of a teacher: a spike on the right class, noise elsewhere, kin classes close behind."""
    rng = np.random.default_rng(0)
    labels = rng.integers(n_classes, size=1500)
    values = rng.normal(size=(1500, n_classes)) * 2
    kin = (labels[:, None] // blocks) == (np.arange(n_classes)[None, :] // blocks)
    values += 5.0 * kin
    values[np.arange(1500), labels] += 7.0 if blocks > 1 else 6.0
    return scale * values


@functools.cache
def teacher(scale: float = 1.0, n_classes: int = 10, blocks: int = 1) -> TeacherProfile:
    return profile(logits(scale, n_classes, blocks), logits_from="train", read_all=True)


def advice(measured: TeacherProfile | None = None, *without: str, **setup: Any) -> Recommendation:
    return recommend(measured, TrainingSetup(**setup), book=BOOK.without(*without))


class TestSensible:
    def test_the_demo_gets_an_answer_between_one_and_eight(self) -> None:
        answer = recommend(demo_profile())
        assert 1 < answer.temperature < 8
        assert answer.verdict == "use"
        assert answer.confidence == "medium"

    def test_nothing_known_gives_about_the_best_fixed_temperature_with_low_confidence(self) -> None:
        answer = recommend()
        assert 2 < answer.temperature < 5
        assert (answer.confidence, answer.profile) == ("low", None)

    def test_the_temperature_lies_in_its_interval_and_the_interval_in_the_range_of_the_curve(self) -> None:
        answer = recommend(teacher())
        assert 0.5 <= answer.interval[0] <= answer.temperature <= answer.interval[1] <= 64
        assert answer.best_temperature_ci90[0] < answer.temperature < answer.best_temperature_ci90[1]

    def test_the_curve_is_relative_to_the_best_and_loses_at_most_the_tolerance_inside_the_interval(self) -> None:
        answer = recommend(teacher())
        assert tuple(point.temperature for point in answer.curve) == CURVE_TEMPERATURES
        assert max(point.mean for point in answer.curve) <= 1e-6
        low, high = answer.interval
        for point in answer.curve:
            assert (point.mean >= -0.002 - 1e-4) == (low * 0.98 <= point.temperature <= high * 1.02)

    def test_gains_are_uncertain_and_never_below_zero_over_a_fixed_temperature(self) -> None:
        gains = recommend(teacher()).expected_gain
        assert set(gains) == {"over_t4", "over_t1", "over_no_kd"}
        assert all(gain.std > 0 for gain in gains.values())
        assert gains["over_t4"].mean >= -1e-6
        assert gains["over_t1"].mean >= -1e-6

    def test_three_kd_weights_are_answered_and_one_pair_is_marked(self) -> None:
        options = recommend(teacher()).kd_weights
        assert [option.kd_weight for option in options] == [0.1, 0.5, 0.9]
        assert [option.best for option in options].count(True) == 1

    def test_the_weights_asked_for_are_answered_as_the_setup_itself(self) -> None:
        answer = advice(teacher(), kd_weight=0.5)
        assert [option.temperature for option in answer.kd_weights if option.kd_weight == 0.5] == [answer.temperature]

    def test_where_kd_loses_the_smallest_weight_loses_least_and_is_the_best_pair(self) -> None:
        proud = dataclasses.replace(teacher(3.0), accuracy=0.5)
        options = advice(proud, augmentation="strong", epochs=450).kd_weights
        gains = [option.expected_accuracy for option in options]
        assert max(gains) < 0
        assert gains == sorted(gains, reverse=True)
        assert [option.best for option in options] == [True, False, False]

    def test_a_handful_of_samples_earns_low_confidence(self) -> None:
        few = profile(logits()[:30], logits_from="train")
        assert recommend(few).confidence == "low"

    def test_raw_logits_are_refused_with_the_next_step(self) -> None:
        with pytest.raises(UsageError, match=r"Got ndarray\. tempadvisor\.profile makes one"):
            recommend(logits())  # type: ignore[arg-type]

    def test_knowing_more_names_fewer_unknowns(self) -> None:
        few = {unknown.name for unknown in advice(epochs=100, optimizer="sgd").unknown}
        many = {unknown.name for unknown in advice().unknown}
        assert few < many
        assert "optimizer" not in few

    def test_the_version_names_the_rules_it_used(self) -> None:
        assert recommend().version["knowledge"] == BOOK.version


class TestTheTeachersScale:
    @pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 2.0])
    def test_three_times_the_logits_get_a_clearly_higher_temperature(self, scale: float) -> None:
        base, tripled = recommend(teacher(scale)), recommend(teacher(3 * scale))
        assert base.temperature <= 10
        assert 1.5 <= tripled.temperature / base.temperature <= 4

    def test_the_temperature_rises_with_the_scale_from_end_to_end(self) -> None:
        temperatures = [
            recommend(teacher(scale)).temperature for scale in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
        ]
        assert temperatures == sorted(temperatures)
        assert temperatures[-1] > 20

    def test_below_one_the_answer_warns_and_trusts_itself_less(self) -> None:
        answer = recommend(teacher(0.1))
        assert answer.temperature < 1
        assert answer.confidence == "low"
        assert "below_one" in {notice.code for notice in answer.warnings}

    def test_without_the_softness_rule_the_scale_hardly_counts(self) -> None:
        base, tripled = (advice(teacher(scale), "S7-softness") for scale in (1.0, 3.0))
        assert tripled.temperature / base.temperature < 1.5

    def test_standardized_logits_make_the_scale_irrelevant(self) -> None:
        one, two = (advice(teacher(scale), standardized=True) for scale in (1.0, 1.2))
        assert two.temperature == pytest.approx(one.temperature, rel=0.03)

    def test_permuting_the_classes_changes_nothing(self) -> None:
        order = np.random.default_rng(1).permutation(10)
        permuted = profile(logits()[:, order], logits_from="train", read_all=True)
        assert recommend(permuted).temperature == pytest.approx(recommend(teacher()).temperature, rel=1e-3)

    def test_adding_a_constant_to_each_row_changes_nothing(self) -> None:
        shift = np.random.default_rng(1).normal(size=(1500, 1)) * 10
        shifted = profile(logits() + shift, logits_from="train", read_all=True)
        assert recommend(shifted).temperature == pytest.approx(recommend(teacher()).temperature, rel=1e-3)


def octaves(low: Recommendation, high: Recommendation) -> float:
    return math.log2(high.temperature / low.temperature)


class TestDirections:
    """Each pair of setups differs in one thing; the rule that says so is named, and without it nothing is left."""

    @pytest.mark.parametrize(
        ("low", "high", "rule"),
        [
            ({"optimizer": "sgd", "epochs": 10}, {"optimizer": "sgd", "epochs": 64}, "S2-sgd-short"),
            (
                {"optimizer": "sgd", "epochs": 64, "augmentation": "none"},
                {"optimizer": "sgd", "epochs": 300, "augmentation": "none"},
                "S2-sgd-long",
            ),
            ({}, {"granularity": "fine"}, "S4-fine"),
            ({"granularity": "coarse"}, {}, "S4-coarse"),
            ({"augmentation": "mixup"}, {"augmentation": "none"}, "mixed-inputs"),
            ({"augmentation": "strong"}, {"augmentation": "none"}, "strong-augmentation"),
            ({"t_squared": False}, {"t_squared": True}, "missing-t-squared"),
            ({"teacher_label_smoothing": 0.1}, {"teacher_label_smoothing": 0.0}, "label-smoothed-teacher"),
            ({"teacher_augmentation": "mixup"}, {"teacher_augmentation": "none"}, "mixed-teacher"),
            ({"label_noise": 0.3}, {"label_noise": 0.0}, "label-noise"),
            (
                {"teacher_params": 6400, "student_params": 100},
                {"teacher_params": 200, "student_params": 100},
                "small-student",
            ),
            (
                {"optimizer": "adam", "augmentation": "mixup", "epochs": 512},
                {"optimizer": "adam", "augmentation": "mixup", "epochs": 60},
                "mixed-long-adam",
            ),
        ],
    )
    def test_of_a_setup(self, low: dict[str, Any], high: dict[str, Any], rule: str) -> None:
        with_rule = octaves(advice(**low), advice(**high))
        without = octaves(advice(None, rule, **low), advice(None, rule, **high))
        assert with_rule > 0.3
        assert abs(without) < with_rule / 2

    def test_of_a_smoothed_teacher_is_measured_once_the_teacher_is_seen(self) -> None:
        assert octaves(advice(teacher(), teacher_label_smoothing=0.1), advice(teacher())) == pytest.approx(
            0, abs=1e-9
        )

    def test_of_a_mean_reduction_needs_the_number_of_classes(self) -> None:
        mean, batchmean = ({"reduction": word} for word in ("mean", "batchmean"))
        assert octaves(advice(teacher(), **mean), advice(teacher(), **batchmean)) > 0.3
        left = octaves(*(advice(teacher(), "mean-reduction", **word) for word in (mean, batchmean)))
        assert abs(left) < 0.05

    def test_of_scarce_data(self) -> None:
        scarce, ample = advice(teacher(), n_train=160), advice(teacher(), n_train=50_000)
        assert octaves(ample, scarce) > 0.3
        assert scarce.expected_gain["over_no_kd"].mean > ample.expected_gain["over_no_kd"].mean
        left = octaves(*(advice(teacher(), "scarce-data", n_train=n) for n in (50_000, 160)))
        assert abs(left) < 0.05

    def test_of_an_over_confident_against_a_soft_teacher(self) -> None:
        assert octaves(advice(teacher(0.3)), advice(teacher(2.0))) > 0.8
        without = ("S7-softness", "soft-teacher", "confident-teacher", "one-hot-teacher")
        left = octaves(advice(teacher(0.3), *without), advice(teacher(2.0), *without))
        assert abs(left) < 0.3

    def test_of_class_relations_in_a_long_training(self) -> None:
        kin = dataclasses.replace(teacher(), related_mass=0.6)
        strangers = dataclasses.replace(teacher(), related_mass=0.0)
        long, short = {"epochs": 300}, {"epochs": 30}
        assert octaves(advice(strangers, **long), advice(kin, **long)) > 0.3
        assert abs(octaves(advice(strangers, **short), advice(kin, **short))) < 0.05
        left = octaves(*(advice(one, "S3-relations-long", **long) for one in (strangers, kin)))
        assert abs(left) < 0.05

    def test_of_logits_from_held_out_inputs(self) -> None:
        assert octaves(advice(logits_from="train"), advice(logits_from="test")) > 0.1
        left = octaves(*(advice(None, "held-out-logits", logits_from=one) for one in ("train", "test")))
        assert left == 0

    def test_adamw_widens_the_interval(self) -> None:
        def width(answer: Recommendation) -> float:
            return math.log2(answer.interval[1] / answer.interval[0])

        assert width(advice(optimizer="adamw")) > width(advice(optimizer="adam"))
        without = advice(None, "S2-adamw-robust", optimizer="adamw")
        assert width(without) == pytest.approx(width(advice(optimizer="adam")))

    def test_a_pretrained_student_expects_less(self) -> None:
        def gain(*without: str, init: str) -> float:
            return advice(None, *without, student_init=init).expected_gain["over_no_kd"].mean

        assert 0 < gain(init="pretrained") < 0.7 * gain(init="random")
        assert gain("S6-pretrained-student", init="pretrained") == gain(init="random")

    def test_heavy_fine_tuning_of_the_teacher_expects_less_and_warns(self) -> None:
        def answer(*without: str, epochs: int) -> Recommendation:
            origin = {"teacher_origin": "pretrained-finetuned", "teacher_finetune_epochs": epochs}
            return advice(None, *without, **origin)

        light, heavy = answer(epochs=3), answer(epochs=150)
        assert heavy.expected_gain["over_no_kd"].mean < light.expected_gain["over_no_kd"].mean / 2
        assert "s5-heavy-finetuning" in {notice.code for notice in heavy.warnings}
        left = answer("S5-heavy-finetuning", epochs=150)
        assert "s5-heavy-finetuning" not in {notice.code for notice in left.warnings}


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_a_loss_without_t_squared_never_promises_more_than_one_with_it(scale: float) -> None:
    without, usual = (advice(teacher(scale), t_squared=word, kd_weight=0.9) for word in (False, True))
    assert without.expected_gain["over_no_kd"].mean <= usual.expected_gain["over_no_kd"].mean
    assert without.temperature < usual.temperature


class TestVerdicts:
    def test_a_strong_long_recipe_may_hurt(self) -> None:
        assert advice(augmentation="strong", epochs=450).verdict == "kd_may_hurt"
        assert advice(None, "strong-recipe", augmentation="strong", epochs=450).verdict != "kd_may_hurt"

    def test_an_over_confident_teacher_may_hurt(self) -> None:
        proud = dataclasses.replace(teacher(), accuracy=0.75)
        assert advice(proud).verdict == "kd_may_hurt"
        assert advice(proud, "overconfident-teacher").verdict != "kd_may_hurt"

    def test_where_kd_is_worth_little_temperature_hardly_matters(self) -> None:
        answer = advice(optimizer="adamw", student_init="pretrained", kd_weight=0.1)
        assert answer.verdict == "indifferent"
        assert "hardly matters" in answer.headline

    def test_more_classes_than_any_study_is_unknown_and_gives_a_usual_temperature(self) -> None:
        answer = advice(dataclasses.replace(teacher(), n_classes=5000))
        assert (answer.verdict, answer.confidence) == ("unknown", "low")
        assert answer.temperature == BOOK.anchor.temperature
        assert answer.headline.startswith("Outside what is known")
        assert "is a usual choice in the literature" in answer.headline

    def test_imagenet_size_is_answered_with_a_warning_and_low_confidence(self) -> None:
        answer = advice(dataclasses.replace(teacher(), n_classes=1000))
        assert answer.verdict == "use"
        assert answer.confidence == "low"
        assert "beyond_most_evidence" in {notice.code for notice in answer.warnings}
        assert "1,000 classes are more than most" in answer.headline

    def test_imagenet_length_is_answered_with_a_headline_that_says_so(self) -> None:
        answer = advice(teacher(), n_train=1_281_167, epochs=100)
        assert answer.confidence == "low"
        assert "1,281,167 training samples are more than most" in answer.headline

    def test_recipes_longer_than_any_study_are_unknown(self) -> None:
        assert advice(epochs=1000).verdict == "unknown"

    def test_an_answer_outside_of_what_is_known_warns_of_the_temperature_it_gives_only(self) -> None:
        answer = advice(teacher(0.1), epochs=1000)
        assert answer.temperature == BOOK.anchor.temperature
        assert "below_one" not in {notice.code for notice in answer.warnings}

    def test_the_highest_temperature_is_named_as_an_edge(self) -> None:
        edge = advice(teacher(1000.0), optimizer="sgd", epochs=300, augmentation="none", kd_weight=1.0)
        assert edge.temperature == 40
        assert "at_edge" in {notice.code for notice in edge.warnings}

    def test_a_language_models_vocabulary_is_refused_by_name(self) -> None:
        with pytest.raises(OutOfScopeError, match="Language-model vocabularies"):
            advice(dataclasses.replace(teacher(), n_classes=32_000))


class TestReasons:
    def test_the_method_is_always_among_the_reasons(self) -> None:
        assert "S1-fixed-temperature" in {reason.id for reason in advice().reasons}

    def test_a_reason_tells_its_direction_size_and_source(self) -> None:
        (reason,) = (one for one in advice(augmentation="mixup").reasons if one.id == "mixed-inputs")
        assert (reason.effect, reason.octaves, reason.kind, reason.source) == ("lowers", -1.2, "rule", "evidence")

    def test_the_strongest_reason_comes_first(self) -> None:
        assert advice(augmentation="mixup", logits_from="test").reasons[0].id == "mixed-inputs"

    def test_rules_that_disagree_are_named_and_widen_the_answer(self) -> None:
        torn = advice(granularity="fine", augmentation="mixup")
        (conflict,) = (notice for notice in torn.warnings if notice.code == "rules_conflict")
        assert "S4-fine" in conflict.text
        assert "mixed-inputs" in conflict.text

        def width(answer: Recommendation) -> float:
            return math.log2(answer.best_temperature_ci90[1] / max(0.5, answer.best_temperature_ci90[0]))

        assert width(torn) > width(advice())

    def test_a_schedule_is_offered_for_long_sgd_only(self) -> None:
        long = advice(optimizer="sgd", epochs=240, augmentation="standard")
        assert long.schedule is not None
        assert long.schedule.start < long.temperature < long.schedule.end
        assert advice(optimizer="adamw", epochs=240, augmentation="standard").schedule is None
        assert advice(optimizer="sgd", epochs=20, augmentation="standard").schedule is None


class TestStandardizedContract:
    def test_the_usual_weights_are_nine_and_a_tenth_and_no_rule_moves_them(self) -> None:
        answer = advice(standardized=True)
        assert (answer.loss_contract.kd_weight, answer.loss_contract.hard_weight) == (9.0, 0.1)
        assert not [reason.id for reason in answer.reasons if abs(reason.octaves) > 0.05]
        assert [option.kd_weight for option in answer.kd_weights] == [0.9, 3.0, 9.0]

    def test_the_temperature_counts_in_units_of_the_logits_standard_deviation(self) -> None:
        answer = advice(teacher(), standardized=True, kd_weight=9.0, hard_weight=0.1)
        assert 1 < answer.temperature < 5
        assert answer.loss_contract.standardized
