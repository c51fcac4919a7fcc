"""A temperature that moves while training, where a rule supports one: a straight line from start to end.

The one rule that does (`S2-sgd-long`, grade C) is the study's, on long trainings with SGD. No measured run had a
schedule, so none is advised where measured runs answer, and nothing else than this line is offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from tempadvisor.errors import UsageError
from tempadvisor.records import Recommendation
from tempadvisor.temperatures import written

if TYPE_CHECKING:
    from tempadvisor.loss import KDLoss


class TemperatureSchedule:
    """Move the temperature of a loss over the training, as a learning-rate scheduler moves the rate of an optimizer.

    T = start + (end - start) * done / steps

    From `steps` on it stays at `end`. A step may be a batch or an epoch, as long as `steps` counts the same.

    Args:
        loss: whose temperature it sets, at once and with every step.
        start: T before the first step, above 0, in the units of the loss.
        end: T after the last step, above 0.
        steps: of the whole training, at least 1.

    Raises:
        UsageError: a value is out of its range.

    Source: study

    >>> from tempadvisor.loss import KDLoss
    >>> loss = KDLoss(4.0)
    >>> schedule = TemperatureSchedule(loss, start=2.0, end=6.0, steps=4)
    >>> schedule.step()
    >>> loss.temperature
    3.0
    """

    def __init__(self, loss: KDLoss, *, start: float, end: float, steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UsageError(f"steps must be a whole number of at least 1. Got {steps!r}.", code="bad_schedule")
        self._loss, self._start, self._end, self._steps = loss, start, end, steps
        for temperature in (end, start):  # the loss refuses what is none
            loss.temperature = temperature
        self._done = 0

    @classmethod
    def from_recommendation(cls, recommendation: Recommendation, loss: KDLoss, *, steps: int) -> Self:
        """Return the schedule that a recommendation offers, which is an option beside its constant temperature.

        Raises:
            UsageError: it offers none, or is something else than a recommendation.

        >>> import tempadvisor as ta
        >>> advice = ta.recommend(setup=ta.TrainingSetup(optimizer="sgd", epochs=240, augmentation="standard"))
        >>> loss = ta.KDLoss.from_recommendation(advice)
        >>> schedule = ta.TemperatureSchedule.from_recommendation(advice, loss, steps=240)
        >>> loss.temperature == advice.schedule.start < advice.temperature
        True
        """
        if not isinstance(recommendation, Recommendation):
            raise UsageError(
                f"recommendation must be a Recommendation. Got {type(recommendation).__name__}. "
                "tempadvisor.recommend makes one.",
                code="not_a_recommendation",
            )
        offered = recommendation.schedule
        if offered is None:
            raise UsageError(
                f"the recommendation must offer a schedule. It offers none: T={written(recommendation.temperature)} "
                "stays constant. Use KDLoss alone where recommendation.schedule is None.",
                code="no_schedule",
            )
        return cls(loss, start=offered.start, end=offered.end, steps=steps)

    def step(self, done: int | None = None) -> None:
        """Set the temperature for the next step.

        Args:
            done: how many steps are done; one more than before unless given. A trainer that counts them, such as
                Lightning (`global_step`), gives its number, and a training that it resumes is right by itself.

        Raises:
            UsageError: `done` is below 0.
        """
        done = self._done + 1 if done is None else done
        if done < 0:
            raise UsageError(f"done must be at least 0. Got {done!r}.", code="bad_schedule")
        share = min(done / self._steps, 1.0)
        self._loss.temperature = self._start + (self._end - self._start) * share
        self._done = done

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs beside the arguments that made the schedule: the steps done."""
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a `state_dict`, and set the temperature of the loss accordingly.

        Raises:
            UsageError: it is none of this class.
        """
        if set(state) != {"done"}:
            raise UsageError(
                f"the state of a TemperatureSchedule must hold done alone. Got {', '.join(state) or 'nothing'}.",
                code="bad_schedule",
            )
        self.step(state["done"])

    def __repr__(self) -> str:
        return (
            f"TemperatureSchedule(start={self._start:g}, end={self._end:g}, steps={self._steps}, done={self._done})"
        )
