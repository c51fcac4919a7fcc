"""How measured setups stand to the rules: of each that moves the temperature, how many speak for it or against it.

A tally changes no advice and judges no rule; it stands beside a rule's reason, so that one sees what runs say of it.
It is counted where runs are read, by `tempadvisor knowledge fit` for this user and by `benchmarks/corpus.py` for all,
and kept as a small JSON file; `recommend` reads that alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tempadvisor.documents import write_text
from tempadvisor.errors import KnowledgeError, UsageError
from tempadvisor.features import features
from tempadvisor.files import refuse_special
from tempadvisor.records import Standing, as_dict
from tempadvisor.resources import knowledge_path, standing_path
from tempadvisor.rules import RuleBook

if TYPE_CHECKING:
    from tempadvisor.curves import Curve

SCHEMA = 1
HIGH, LOW = (6.0, 8.0, 12.0, 16.0), (1.0, 2.0)
LEAST_OCTAVES = 0.05  # a rule that moves T by less does not fire
LEAST_OTHERS = 2  # setups in which a rule keeps silent, for a mean with an error
ERRORS = 2.0


def tally(curves: Sequence[Curve], book: RuleBook) -> tuple[Standing, ...]:
    """Return how measured setups stand to every rule of `book` that shifts T, in its order.

    With the tilt t of a setup, its mean accuracy at T of 6 to 16 less that at 1 and 2, and s the octaves by which a
    rule shifts T there (one that depends on T: at the anchor's temperature), a setup with |s| >= 0.05 speaks for
    the rule where

        sign(s) (t - m) > 2 sqrt(e_t^2 + e_m^2)

    and against it where that is below the negative. m is the mean tilt of the setups of the same source in which
    the rule does not fire, e_m its standard error over them, e_t that of t over seeds. Where there are fewer than
    two such setups, and within the errors, it is silent.

    Args:
        curves: complete measured curves; those without a profile do not count.
        book: the rules.
    """
    seen = [curve for curve in curves if curve.profile is not None]
    rules = [rule.id for rule in book.rules if rule.shift]
    tilts = np.array([curve.contrast(HIGH, LOW) for curve in seen]).reshape(-1, 2)
    moves = [_moves(curve, book) for curve in seen]
    sources = np.array([str(curve.run.source) for curve in seen])
    found = []
    for name in rules:
        octaves = np.array([moved.get(name, 0.0) for moved in moves])
        fires = np.abs(octaves) >= LEAST_OCTAVES
        spoken = [0, 0]
        for source in np.unique(sources[fires]):
            here, others = fires & (sources == source), tilts[~fires & (sources == source), 0]
            if len(others) < LEAST_OTHERS:
                continue
            bound = ERRORS * np.hypot(tilts[here, 1], others.std(ddof=1) / len(others) ** 0.5)
            said = np.sign(octaves[here]) * (tilts[here, 0] - others.mean())
            spoken[0] += int((said > bound).sum())
            spoken[1] += int((said < -bound).sum())
        found.append(Standing(rule=name, n_fired=int(fires.sum()), n_for=spoken[0], n_against=spoken[1]))
    return tuple(found)


def _moves(curve: Curve, book: RuleBook) -> dict[str, float]:
    """Return by how many octaves each rule shifts T in a setup."""
    setup = curve.run.setup
    contract = setup.loss_contract()
    anchor = book.anchor_standardized if contract.standardized else book.anchor
    fired = book.fired(features(curve.profile, setup, contract, np.array([anchor.temperature])))
    return {one.rule.id: np.asarray(one.shift).item() for one in fired}


def save_standings(path: Path, standings: Sequence[Standing], book: RuleBook) -> None:
    """Write a tally, all or nothing, with the version of the rules that it is of."""
    content = {"schema": SCHEMA, "rules": book.version, "standing": as_dict(standings)}
    write_text(path, json.dumps(content, indent=1) + "\n")


def load_standings(path: Path, book: RuleBook) -> dict[str, Standing]:
    """Return a tally by rule; an empty one where the file is missing or of other rules than `book`.

    Raises:
        KnowledgeError: the file is damaged, or no regular file.
    """
    refuse_special(path, "a tally as `tempadvisor knowledge fit` writes it")
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["schema"], content["rules"]) != (SCHEMA, book.version):
            return {}
        return {entry["rule"]: Standing(**entry) for entry in content["standing"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise KnowledgeError(
            f"{path} must be a tally as `tempadvisor knowledge fit` writes it. Got {type(error).__name__}. "
            "Delete it: advice does not hang on it.",
            code="bad_standing",
        ) from None


def standings_in_use(book: RuleBook, version: str | None) -> Mapping[str, Standing]:
    """Return the tally counted with the fitted model of this version, else the shipped one, by rule.

    A damaged one counts as none: advice does not hang on it.
    """
    shipped = knowledge_path("rules.toml").with_name("standing.json")
    for path in (standing_path(version), shipped) if version else (shipped,):
        with contextlib.suppress(KnowledgeError):
            if found := load_standings(path, book):
                return found
    return {}
