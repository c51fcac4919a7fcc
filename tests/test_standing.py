"""How measured setups stand to the rules, on curves whose tilts are known to the digit."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempadvisor.advise import recommend
from tempadvisor.curves import TEMPERATURES, Curve
from tempadvisor.errors import KnowledgeError, UsageError
from tempadvisor.records import Standing, TrainingSetup, as_dict
from tempadvisor.resources import knowledge_path, standing_path
from tempadvisor.rules import Gauge, Rule, RuleBook, load_rules
from tempadvisor.runs import Run
from tempadvisor.standing import HIGH, load_standings, save_standings, standings_in_use, tally
from tempadvisor.teachers import demo_profile

SHIPPED = load_rules()
SEED_ERROR = 0.001 * math.sqrt(4 / 3) / 2  # of the mean over four seeds that lie 0.001 below and above
OTHERS = (0.0, 0.01)  # tilts of setups in which the rule keeps silent: mean 0.005, standard error 0.005
BOUND = 2 * math.hypot(SEED_ERROR, 0.005)


def curve(tilt: float, *, source: str = "a", **setup: Any) -> Curve:
    """A curve whose accuracy is higher by `tilt` at the high temperatures than at all others."""
    accuracy = np.full((4, len(TEMPERATURES)), 0.7)
    each = tilt + 0.001 * np.array([-1.0, -1.0, 1.0, 1.0])
    accuracy[:, [TEMPERATURES.index(t) for t in HIGH]] += each[:, None]
    run = Run(
        suite="made", curve="c", seed=0, source=source, dataset=source, teacher="t", status="FINISHED", n_classes=10,
        setup=TrainingSetup(**{"optimizer": "sgd", **setup}), val_accuracy=0.7, test_accuracy=0.7,
    )  # fmt: skip
    without = np.full(4, 0.6)
    return Curve(
        run=run, profile=demo_profile(), without=without, accuracy=accuracy, val_without=without,
        val_accuracy=accuracy, fit=np.zeros(11), n_failed=0,
    )  # fmt: skip


def rule(**effect: Any) -> Rule:
    return Rule(**{"id": "r", "why": "w", "source": "study", "grade": "C", "when": {"optimizer": ("sgd",)}, **effect})


def book(*rules: Rule) -> RuleBook:
    return dataclasses.replace(SHIPPED, rules=rules)


def counted(tilts: tuple[float, ...], *rules: Rule, **setup: Any) -> tuple[int, int, int]:
    """Return the counts of the only rule over setups in which it fires, beside two in which it does not."""
    others = [curve(tilt, optimizer="adam") for tilt in OTHERS]
    (found,) = tally([*others, *(curve(tilt, **setup) for tilt in tilts)], book(*rules))
    return found.n_fired, found.n_for, found.n_against


def test_a_setup_speaks_where_its_tilt_differs_from_the_others_by_more_than_two_errors_in_quadrature() -> None:
    up, down = 0.005 + BOUND, 0.005 - BOUND
    assert counted((up + 1e-6, up - 1e-6, 0.005, down + 1e-6, down - 1e-6), rule(shift=0.5)) == (5, 1, 1)


def test_a_rule_for_lower_temperatures_is_spoken_for_by_curves_that_fall() -> None:
    tilts = (-0.02, -0.03, 0.03)
    assert counted(tilts, rule(shift=-0.5)) == (3, 2, 1)
    assert counted(tilts, rule(shift=0.5)) == (3, 1, 2)


def test_where_a_rule_shifts_the_other_way_the_other_way_speaks_for_it() -> None:
    gauge = Gauge(feature="log2_epochs", zero=3.0, full=4.0, low=-1.0)
    assert counted((0.05,), rule(shift=0.5, strength=(gauge,)), epochs=16) == (1, 1, 0)
    assert counted((0.05,), rule(shift=0.5, strength=(gauge,)), epochs=4) == (1, 0, 1)


def test_a_rule_that_shifts_by_less_than_a_twentieth_of_an_octave_does_not_fire() -> None:
    assert counted((0.05,), rule(shift=0.049)) == (0, 0, 0)
    assert counted((0.05,), rule(shift=0.051)) == (1, 1, 0)


def test_a_rule_that_does_not_shift_has_no_tally() -> None:
    (found,) = tally([curve(0.05)], book(rule(id="wide", widen=1.0), rule(id="up", shift=0.5)))
    assert found.rule == "up"


def test_setups_are_compared_within_their_source_and_are_silent_without_two_others() -> None:
    one_other = [curve(0.0, source="b", optimizer="adam"), curve(0.05, source="b")]
    elsewhere = [curve(tilt, optimizer="adam") for tilt in OTHERS]
    (found,) = tally([*elsewhere, *one_other, curve(0.05, source="c")], book(rule(shift=0.5)))
    assert (found.n_fired, found.n_for, found.n_against) == (2, 0, 0)


def test_curves_without_a_profile_do_not_count() -> None:
    unseen = dataclasses.replace(curve(0.05), profile=None)
    (found,) = tally([unseen], book(rule(shift=0.5)))
    assert found.n_fired == 0


def test_a_rule_that_depends_on_the_temperature_is_asked_at_the_anchors() -> None:
    lost = 2 * math.log2(SHIPPED.anchor.temperature)  # octaves of soft odds lost there without T squared
    for full, fires in ((-lost / 0.051, 0), (-lost / 0.11, 1)):
        gauge = Gauge(feature="odds_lost_t_squared", zero=0.0, full=full)
        half = rule(shift=-0.5, strength=(gauge,))
        assert counted((-0.05,), half, t_squared=False, kd_weight=0.5) == (fires, fires, 0)


def test_no_curves_make_a_tally_of_nothing_for_every_shipped_rule_that_shifts() -> None:
    found = tally([], SHIPPED)
    assert [one.rule for one in found] == [one.id for one in SHIPPED.rules if one.shift]
    assert {(one.n_fired, one.n_for, one.n_against) for one in found} == {(0, 0, 0)}


@pytest.mark.parametrize("counts", [(1, 1, 1), (-1, 0, 0), (2, 1.0, 0), (True, 0, 0)])
def test_counts_that_contradict_each_other_are_refused(counts: tuple[Any, Any, Any]) -> None:
    with pytest.raises(UsageError, match="n_fired at least the sum of the others"):
        Standing(rule="r", n_fired=counts[0], n_for=counts[1], n_against=counts[2])


FIVE = Standing(rule="S4-fine", n_fired=5, n_for=3, n_against=1)


def test_a_tally_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_standings(tmp_path / "standing.json", [FIVE], SHIPPED)
    assert load_standings(tmp_path / "standing.json", SHIPPED) == {"S4-fine": FIVE}
    assert [path.name for path in tmp_path.iterdir()] == ["standing.json"]


def test_a_tally_of_other_rules_or_none_at_all_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"
    assert load_standings(path, SHIPPED) == {}
    save_standings(path, [FIVE], dataclasses.replace(SHIPPED, version="another"))
    assert load_standings(path, SHIPPED) == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"{}", b'{"schema": 1, "rules": "VERSION", "standing": [{"rule": "r"}]}',
     b'{"schema": 1, "rules": "VERSION", "standing": [{"rule": "r", "n_fired": 0, "n_for": 1, "n_against": 0}]}'],
)  # fmt: skip
def test_a_damaged_tally_is_said_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "standing.json"
    path.write_bytes(content.replace(b"VERSION", SHIPPED.version.encode()))
    with pytest.raises(KnowledgeError, match="Delete it: advice does not hang on it"):
        load_standings(path, SHIPPED)


class TestInUse:
    @pytest.fixture(autouse=True)
    def homes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user without a tally, and shipped knowledge without one."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        monkeypatch.setattr("tempadvisor.standing.knowledge_path", lambda name: tmp_path / name)
        standing_path("abc").parent.mkdir()

    def test_the_tally_of_the_model_goes_before_the_shipped_one(self, tmp_path: Path) -> None:
        assert standings_in_use(SHIPPED, "abc") == {}
        save_standings(tmp_path / "standing.json", [FIVE], SHIPPED)
        assert standings_in_use(SHIPPED, "abc") == {"S4-fine": FIVE}
        own = dataclasses.replace(FIVE, n_fired=6)
        save_standings(standing_path("abc"), [own], SHIPPED)
        assert standings_in_use(SHIPPED, "abc") == {"S4-fine": own}
        assert standings_in_use(SHIPPED, "def") == standings_in_use(SHIPPED, None) == {"S4-fine": FIVE}

    def test_a_damaged_tally_counts_as_none_and_advice_is_given_without_it(self, tmp_path: Path) -> None:
        standing_path("abc").write_text("{")
        assert standings_in_use(SHIPPED, "abc") == {}
        save_standings(tmp_path / "standing.json", [FIVE], SHIPPED)
        assert standings_in_use(SHIPPED, "abc") == {"S4-fine": FIVE}
        (tmp_path / "standing.json").write_text("{")
        assert recommend(None, TrainingSetup(granularity="fine")).temperature > 0

    def test_a_reason_carries_the_tally_of_its_rule(self, tmp_path: Path) -> None:
        save_standings(tmp_path / "standing.json", [FIVE], SHIPPED)
        reasons = {one.id: one for one in recommend(None, TrainingSetup(granularity="fine")).reasons}
        assert reasons["S4-fine"].standing == FIVE
        assert reasons["S1-fixed-temperature"].standing is None
        told = as_dict(reasons["S4-fine"])["standing"]
        assert told == {"rule": "S4-fine", "n_fired": 5, "n_for": 3, "n_against": 1}


@pytest.mark.skipif(
    not knowledge_path("rules.toml").with_name("standing.json").exists(), reason="benchmarks/corpus.py writes it"
)
def test_the_shipped_tally_is_of_the_shipped_rules() -> None:
    path = knowledge_path("standing.json")
    assert json.loads(path.read_text())["rules"] == SHIPPED.version, "run benchmarks/corpus.py again"
    assert list(load_standings(path, SHIPPED)) == [one.id for one in SHIPPED.rules if one.shift]
