"""The rules: what the file may say, when a rule speaks, and what it must cite."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from tempadvisor.corpus import load_sources
from tempadvisor.errors import KnowledgeError
from tempadvisor.features import FEATURES, features
from tempadvisor.records import LossContract, TrainingSetup
from tempadvisor.rules import Gauge, Rule, load_rules

BOOK = load_rules()
GRID = np.array([1.0, 4.0])
WORDS = """
[anchor]
temperature = 3.0
octaves_std = 1.0
half_width = 0.5
gain = 0.01
gain_std = 0.01
low_cost = 0.02
low_cost_std = 0.01
high_cost = 0.02
high_cost_std = 0.01
source = "evidence"
[anchor_standardized]
temperature = 2.0
[[rule]]
id = "one"
why = "because"
source = "study"
grade = "C"
"""


def seen(**setup: object) -> dict[str, object]:
    """Return the features of a setup without a teacher, whose loss is the usual one."""
    known = TrainingSetup(**setup)  # type: ignore[arg-type]
    return dict(features(None, known, known.loss_contract(), GRID))


@pytest.mark.parametrize("rule", BOOK.rules, ids=lambda rule: rule.id)
class TestEachShippedRule:
    def test_cites_a_source_that_the_knowledge_base_has(self, rule: Rule) -> None:
        assert rule.source in load_sources()

    def test_says_why_in_one_sentence(self, rule: Rule) -> None:
        assert rule.why.endswith(".")
        assert "\n" not in rule.why

    def test_fires_where_its_condition_holds_in_full(self, rule: Rule) -> None:
        values = dict.fromkeys(FEATURES)
        values |= {name: allowed[0] for name, allowed in rule.when.items()}
        values |= {gauge.feature: gauge.full for gauge in rule.strength}
        assert rule.fires(values) == pytest.approx(1.0)

    def test_keeps_silent_where_nothing_is_known_or_its_condition_fails(self, rule: Rule) -> None:
        if not (rule.when or rule.strength):
            pytest.skip("holds everywhere")
        assert rule.fires(dict.fromkeys(FEATURES)) is None
        values = {name: allowed[0] for name, allowed in rule.when.items()}
        values |= {gauge.feature: gauge.zero for gauge in rule.strength}
        for name in rule.when:
            assert rule.fires({**dict.fromkeys(FEATURES), **values, name: "something else"}) is None
        if rule.strength:
            assert rule.fires({**dict.fromkeys(FEATURES), **values}) is None

    def test_has_an_effect_or_is_the_method_itself(self, rule: Rule) -> None:
        neutral = Rule(id="", why="", source="", grade="")
        effects = ("shift", "gain_factor", "gain_shift", "low_cost_factor", "high_cost_factor", "widen")
        moved = [name for name in effects if getattr(rule, name) != getattr(neutral, name)]
        assert moved or rule.id == "S1-fixed-temperature"

    def test_states_its_uncertainty_when_it_shifts_the_temperature(self, rule: Rule) -> None:
        assert (rule.shift == 0) == (rule.shift_std == 0)

    def test_attributes_no_number_to_the_study(self, rule: Rule) -> None:
        if rule.source == "study":
            assert rule.grade == "C"
            assert not any(character.isdigit() for character in rule.why)


def test_the_anchors_cite_sources_that_the_knowledge_base_has() -> None:
    assert {BOOK.anchor.source, BOOK.anchor_standardized.source} <= load_sources().keys()


def test_every_finding_of_the_study_has_a_rule() -> None:
    assert {rule.finding for rule in BOOK.rules} >= {f"S{n}" for n in range(1, 8)}


def test_a_gauge_is_zero_at_zero_full_at_full_and_limited_beyond() -> None:
    gauge = Gauge(feature="log2_epochs", zero=6.0, full=4.0)
    assert [gauge.strength(x) for x in (7.0, 6.0, 5.0, 4.0, 3.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_gauge_over_temperatures_gives_one_strength_each() -> None:
    gauge = Gauge(feature="odds_lost_t_squared", zero=0.0, full=-1.0, high=9.0)
    assert gauge.strength(np.array([0.0, -4.0])).tolist() == [0.0, 4.0]  # type: ignore[union-attr]


def test_two_gauges_multiply() -> None:
    rule = Rule(
        id="both",
        why="",
        source="",
        grade="C",
        strength=(
            Gauge(feature="log2_epochs", zero=0.0, full=1.0),
            Gauge(feature="related_mass", zero=0.0, full=1.0),
        ),
    )
    assert rule.fires({**dict.fromkeys(FEATURES), "log2_epochs": 0.5, "related_mass": 0.5}) == 0.25


def test_a_book_without_a_rule_lacks_just_that_rule() -> None:
    ids = {rule.id for rule in BOOK.rules}
    assert {rule.id for rule in BOOK.without("label-noise").rules} == ids - {"label-noise"}


class TestFeatures:
    def test_an_unknown_setup_has_no_features_but_those_of_the_loss(self) -> None:
        known = {name for name, value in seen().items() if value is not None}
        assert known == {"teacher_seen", "t_squared", "reduction", "log2_soft_odds", "odds_lost_t_squared"}

    def test_soft_odds_are_the_ratio_of_the_weights_in_octaves(self) -> None:
        assert seen(kd_weight=0.5)["log2_soft_odds"] == 0.0
        assert seen(kd_weight=0.8)["log2_soft_odds"] == pytest.approx(2.0)

    def test_a_hard_weight_of_zero_makes_large_but_finite_odds(self) -> None:
        assert seen(kd_weight=1.0)["log2_soft_odds"] == 6.0

    def test_without_t_squared_the_soft_term_loses_two_octaves_per_octave_of_temperature(self) -> None:
        lost = seen(kd_weight=0.5, t_squared=False)["odds_lost_t_squared"]
        assert lost.tolist() == [0.0, -4.0]  # type: ignore[attr-defined]

    def test_without_a_hard_term_nothing_is_lost_to_it(self) -> None:
        lost = seen(kd_weight=1.0, t_squared=False)["odds_lost_t_squared"]
        assert lost.tolist() == [0.0, 0.0]  # type: ignore[attr-defined]

    def test_declared_granularity_outranks_the_measured_one(self) -> None:
        assert seen(granularity="fine")["fineness"] == 1.0
        assert seen(granularity="coarse")["fineness"] == 0.0
        assert seen(granularity="auto")["fineness"] is None

    def test_capacity_counts_in_octaves(self) -> None:
        assert seen(teacher_params=800, student_params=100)["log2_capacity_ratio"] == 3.0

    def test_standardized_weights_count_from_the_usual_nine_to_a_tenth(self) -> None:
        contract = LossContract(kd_weight=9, hard_weight=0.1, standardized=True)
        values = features(None, TrainingSetup(), contract, GRID)
        assert values["log2_soft_odds"] == pytest.approx(math.log2(9))


class TestBadRuleFiles:
    def written(self, folder: Path, text: str) -> Path:
        path = folder / "rules.toml"
        path.write_text(text)
        return path

    def test_a_sound_file_loads_and_its_version_follows_the_text(self, tmp_path: Path) -> None:
        one = load_rules(self.written(tmp_path, WORDS))
        two = load_rules(self.written(tmp_path, WORDS + "# a remark\n"))
        assert [rule.id for rule in one.rules] == ["one"]
        assert one.version != two.version

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ("shfit = 1.0", "unknown key 'shfit'. Did you mean shift?"),
            ("when = { optimiser = ['sgd'] }", "unknown feature 'optimiser'. Did you mean optimizer?"),
            ("strength = [{ feature = 'epochs', zero = 1, full = 2 }]", "unknown feature 'epochs'"),
        ],
    )
    def test_unknown_words_are_named_with_the_nearest_known_one(
        self, tmp_path: Path, extra: str, message: str
    ) -> None:
        with pytest.raises(KnowledgeError) as error:
            load_rules(self.written(tmp_path, WORDS + extra))
        assert message in str(error.value)

    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        text = WORDS.replace('grade = "C"', 'grade = "Z"') + '[[rule]]\nid = "one"\nwhy = "x."\ngrade = "C"\n'
        with pytest.raises(KnowledgeError) as error:
            load_rules(self.written(tmp_path, text))
        assert "Got 'Z'" in str(error.value)
        assert "lacks 'source'" in str(error.value)

    def test_a_rule_that_stands_twice_is_refused(self, tmp_path: Path) -> None:
        twice = WORDS + WORDS[WORDS.index("[[rule]]") :]
        with pytest.raises(KnowledgeError, match="stands twice"):
            load_rules(self.written(tmp_path, twice))

    @pytest.mark.parametrize("text", ["", "not toml [", WORDS.replace("gain = 0.01\n", "")])
    def test_a_file_without_its_tables_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(KnowledgeError, match="must be TOML with"):
            load_rules(self.written(tmp_path, text))


def test_rule_ids_are_unique() -> None:
    assert all(len(list(group)) == 1 for _, group in itertools.groupby(sorted(rule.id for rule in BOOK.rules)))
