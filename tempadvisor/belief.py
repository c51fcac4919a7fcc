"""What is believed of a response curve: by the rules, and where measured runs are near, by what they taught."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.errors import KnowledgeError, UsageError
from tempadvisor.features import features, vector
from tempadvisor.records import LossContract, TeacherProfile, TrainingSetup
from tempadvisor.resources import model_path, previous_path, shipped_model_path
from tempadvisor.response import Belief, Response, believe, curves
from tempadvisor.rules import Fired, RuleBook

if TYPE_CHECKING:
    from tempadvisor.learned import Learned, Weighed

TEMPERATURES = np.geomspace(0.125, 40, 201)  # 40 is the highest that the study behind the rules tried


class Knowledge(NamedTuple):
    """What an answer rests on: the rules, and the model fitted to measured runs, where there is one."""

    book: RuleBook
    learned: Learned | None

    @property
    def version(self) -> str:
        """The checksums of both."""
        return f"{self.book.version}-{self.learned.version}" if self.learned else self.book.version


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
        UsageError: nothing here that can be read has that version.
        KnowledgeError: no version is pinned, and the model in use is damaged or of another version of tempadvisor.
    """
    there = [path for path in (model_path(), shipped_model_path(), previous_path()) if path.exists()]
    if version is None:
        return Knowledge(book, _load(there[0]) if there and there[0] != previous_path() else None)
    known, damaged = [], ""
    for path in (None, *there):
        try:
            known.append(Knowledge(book, _load(path) if path else None))
        except KnowledgeError as error:
            damaged += f" {error}"
            continue
        if known[-1].version == version:
            return known[-1]
    here = ", ".join(one.version for one in known)
    raise UsageError(
        f"--knowledge-version must be one that lies here: {here}. Got {version[:100]!r}.{damaged}",
        code="unknown_version",
    )


def _load(path: Path) -> Learned:
    from tempadvisor.learned import load

    return load(path)


def respond(
    profile: TeacherProfile | None, setup: TrainingSetup, contract: LossContract, knowledge: Knowledge
) -> tuple[tuple[Fired, ...], Belief, Response, Weighed | None]:
    """Return the rules that fired, what they believe, and the belief of rules and measured runs together."""
    book, learned = knowledge
    fired = book.fired(features(profile, setup, contract, TEMPERATURES))
    belief = believe(book.anchor_standardized if contract.standardized else book.anchor, fired)
    rules = curves(belief, TEMPERATURES)
    if learned is None or not learned.share:
        return fired, belief, rules, None
    from tempadvisor.learned import weigh

    if profile is None or not _knows(contract):
        return fired, belief, rules, weigh(learned, None, rules, seen=profile is not None)[1]
    response, weighed = weigh(learned, vector(profile, setup, contract), rules)
    return fired, belief, response, weighed


def _knows(contract: LossContract) -> bool:
    """Return whether the corpus has runs under this kind of loss: plain logits, averaged over the batch."""
    return not contract.standardized and contract.reduction == "batchmean"
