"""TemperatureSchedule moves a loss along the one line that a rule supports, and goes on where it was."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

import tempadvisor as ta
from tempadvisor.errors import UsageError
from tempadvisor.loss import KDLoss
from tempadvisor.schedule import TemperatureSchedule

LONG_SGD = ta.TrainingSetup(optimizer="sgd", epochs=240, augmentation="standard")


def made(steps: int = 4, **changed: Any) -> tuple[KDLoss, TemperatureSchedule]:
    loss = KDLoss(4.0)
    return loss, TemperatureSchedule(loss, **{"start": 2.0, "end": 6.0, "steps": steps} | changed)


def test_it_is_a_straight_line_from_start_to_end_and_stays_there() -> None:
    loss, schedule = made()
    seen = [loss.temperature]
    for _ in range(6):
        schedule.step()
        seen.append(loss.temperature)
    assert seen == [2.0, 3.0, 4.0, 5.0, 6.0, 6.0, 6.0]


def test_a_recommendation_that_offers_one_brings_its_ends() -> None:
    advice = ta.recommend(setup=LONG_SGD)
    loss = KDLoss.from_recommendation(advice)
    schedule = TemperatureSchedule.from_recommendation(advice, loss, steps=240)
    assert advice.schedule is not None
    assert loss.temperature == advice.schedule.start
    schedule.step(240)
    assert loss.temperature == advice.schedule.end


def test_a_recommendation_that_offers_none_is_refused_with_what_to_do() -> None:
    advice = ta.recommend(setup=ta.TrainingSetup(optimizer="adamw"))
    with pytest.raises(UsageError, match=r"It offers none: T=.* stays constant\. Use KDLoss alone"):
        TemperatureSchedule.from_recommendation(advice, KDLoss.from_recommendation(advice), steps=10)
    with pytest.raises(UsageError, match="Got TrainingSetup"):
        TemperatureSchedule.from_recommendation(LONG_SGD, KDLoss(4.0), steps=10)


def test_a_training_that_is_resumed_goes_on_at_its_temperature() -> None:
    loss, schedule = made()
    schedule.step()
    schedule.step()
    resumed, other = made()
    other.load_state_dict(schedule.state_dict())
    assert resumed.temperature == loss.temperature == 4.0
    other.step()
    assert resumed.temperature == 5.0


def test_a_trainer_may_count_the_steps_itself() -> None:
    loss, schedule = made()
    for done, wanted in ((0, 2.0), (3, 5.0), (3, 5.0), (1, 3.0)):
        schedule.step(done)
        assert loss.temperature == wanted
    assert schedule.state_dict() == {"done": 1}


def test_a_pickle_holds_the_schedule_and_its_loss() -> None:
    schedule = pickle.loads(pickle.dumps(made()[1]))
    schedule.step()
    assert repr(schedule) == "TemperatureSchedule(start=2, end=6, steps=4, done=1)"
    assert schedule._loss.temperature == 3.0


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1. Got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"start": 0.0}, "temperature must be a number above 0. Got 0.0"),
        ({"end": math.nan}, "temperature must be a number above 0. Got nan"),
    ],
)
def test_values_out_of_range_are_refused(changed: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        made(**changed)


def test_a_step_before_the_first_and_a_foreign_state_are_refused_and_change_nothing() -> None:
    loss, schedule = made()
    with pytest.raises(UsageError, match=r"done must be at least 0\. Got -1"):
        schedule.step(-1)
    with pytest.raises(UsageError, match=r"must hold done alone\. Got last_epoch, base_lrs"):
        schedule.load_state_dict({"last_epoch": 3, "base_lrs": 1})
    assert (loss.temperature, schedule.state_dict()) == (2.0, {"done": 0})
