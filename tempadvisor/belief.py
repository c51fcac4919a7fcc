"""What is believed of a response curve: by the rules, and where measured runs are near, by what they taught."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.calibration import Calibration, blend, ci90_of
from tempadvisor.errors import UsageError
from tempadvisor.features import features, vector
from tempadvisor.location import model_path, previous_path
from tempadvisor.records import LossContract, Nearest, Notice, Reason, TeacherProfile, TrainingSetup
from tempadvisor.resources import knowledge_path
from tempadvisor.response import Belief, Response, believe, curves
from tempadvisor.rules import Fired, RuleBook

if TYPE_CHECKING:
    from tempadvisor.learned import Learned

TEMPERATURES = np.geomspace(0.125, 40, 201)  # 40 is the highest that the study behind the rules tried


class Knowledge(NamedTuple):
    """What an answer rests on: the rules, and the model fitted to measured runs, where there is one."""

    book: RuleBook
    learned: Learned | None

    @property
    def version(self) -> str:
        """The checksums of both."""
        return f"{self.book.version}-{self.learned.version}" if self.learned else self.book.version


class Weighed(NamedTuple):
    """What the measured runs add to an answer; without `calibration` they add nothing and the rules stand alone."""

    calibration: Calibration | None = None
    nearest: tuple[Nearest, ...] = ()
    reasons: tuple[Reason, ...] = ()
    notices: tuple[Notice, ...] = ()
    close: bool = False

    def interval(self, response: Response) -> tuple[float, float]:
        """Return the near-optimal interval, calibrated where it can be."""
        return response.interval(self.calibration.tolerance) if self.calibration else response.interval()

    def best_ci90(self, response: Response) -> tuple[float, float]:
        """Return the 90 % interval of the best temperature, calibrated where it can be."""
        return ci90_of(response, self.calibration) if self.calibration else response.best_ci90()


def rules_response(
    profile: TeacherProfile | None, setup: TrainingSetup, contract: LossContract, book: RuleBook
) -> Response:
    """Return what the rules alone believe of the response curve, at `TEMPERATURES`."""
    return respond(profile, setup, contract, Knowledge(book, None))[2]


def knowledge_in_use(book: RuleBook, version: str | None = None) -> Knowledge:
    """Return the rules with the model in use: this user's own, else the shipped one, else none.

    Args:
        book: the rules.
        version: of the knowledge wanted, if it is pinned; any model that lies here will do then.

    Raises:
        UsageError: nothing here has that version.
        KnowledgeError: a model is damaged or of another version of tempadvisor.
    """
    shipped = knowledge_path("rules.toml").with_name("model.npz")
    there = [path for path in (model_path(), shipped, previous_path()) if path.exists()]
    if version is None:
        return Knowledge(book, _load(there[0]) if there and there[0] != previous_path() else None)
    known = [Knowledge(book, None), *(Knowledge(book, _load(path)) for path in there)]
    for knowledge in known:
        if knowledge.version == version:
            return knowledge
    here = ", ".join(one.version for one in known)
    raise UsageError(
        f"--knowledge-version must be one that lies here: {here}. Got {version[:100]!r}.",
        code="unknown_version",
    )


def _load(path: Path) -> Learned:
    from tempadvisor.learned import load

    return load(path)


def respond(
    profile: TeacherProfile | None, setup: TrainingSetup, contract: LossContract, knowledge: Knowledge
) -> tuple[tuple[Fired, ...], Belief, Response, Weighed]:
    """Return the rules that fired, what they believe, and the belief of rules and measured runs together."""
    book, learned = knowledge
    fired = book.fired(features(profile, setup, contract, TEMPERATURES))
    belief = believe(book.anchor_standardized if contract.standardized else book.anchor, fired)
    rules = curves(belief, TEMPERATURES)
    if learned is None or not learned.share:
        return fired, belief, rules, Weighed()
    if not _knows(contract):
        notice = Notice("no_runs_of_this_loss", "No measured run has such a loss: the rules answer alone.")
        return fired, belief, rules, Weighed(notices=(notice,))
    row = vector(profile, setup, contract)
    nearest = learned.nearest(row)
    distance = nearest[0].distance
    if distance > learned.reach:
        text = (
            f"The nearest measured setup is {distance:.2g} away, beyond the {learned.reach:.2g} that the runs are "
            "good for: the rules answer alone."
        )
        return fired, belief, rules, Weighed(nearest=nearest, notices=(Notice("far_from_runs", text),))
    response = blend(rules, learned.response(row, TEMPERATURES), learned.share)
    reason = _measured(learned, rules.best, response.best, distance)
    return (
        fired,
        belief,
        response,
        Weighed(learned.calibration, nearest, (reason,), (), distance <= learned.reach / 2),
    )


def _knows(contract: LossContract) -> bool:
    """Return whether the corpus has runs under this kind of loss: plain logits, averaged over the batch."""
    return not contract.standardized and contract.reduction == "batchmean"


def _measured(learned: Learned, before: float, after: float, distance: float) -> Reason:
    octaves = math.log2(after / before)
    return Reason(
        id="measured-runs",
        kind="measured",
        effect="none" if abs(octaves) < 0.05 else "raises" if octaves > 0 else "lowers",
        octaves=round(octaves, 3) + 0.0,
        text=f"{len(learned.lessons)} measured setups, those alike most (the nearest {distance:.2g} away), "
        f"with a weight of {learned.share:.0%} against the rules, which alone say T={before:.2g}.",
        source="knowledge/runs",
        grade="own runs",
    )
