"""Which rules of `knowledge/rules.toml` speak about a setup, in which direction, how much, and from which source.

A rule moves the belief about the response curve: it shifts the centre (in octaves of temperature), widens it, or
scales and shifts what KD and temperature are worth. A rule whose features are unknown keeps silent. Rules do not
choose the temperature: `advise.py` does.
"""

from __future__ import annotations

import dataclasses
import tomllib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tempadvisor.errors import KnowledgeError, did_you_mean
from tempadvisor.features import FEATURES
from tempadvisor.resources import knowledge_path

GRADES = ("A", "B", "C")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tempadvisor.features import Value

    Strength = float | NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gauge:
    """Turn a feature x into a strength: (x - zero) / (full - zero), limited to [low, high].

    >>> Gauge(feature="log2_epochs", zero=6.0, full=4.0).strength(5.0)
    0.5
    """

    feature: str
    zero: float
    full: float
    low: float = 0.0
    high: float = 1.0

    def strength(self, value: Strength) -> Strength:
        """Return the strength at `value`, a scalar or an array over temperatures."""
        place = (value - self.zero) / (self.full - self.zero)
        if isinstance(place, np.ndarray):
            return np.clip(place, self.low, self.high)
        return min(self.high, max(self.low, place))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One statement about temperature, with its condition, its effect at full strength, and its source.

    `shift` and `shift_std` count in octaves of the best temperature per unit of strength, `widen` in octaves of
    its standard deviation. The factors multiply, per unit of strength, what KD is worth as a whole (`gain_factor`)
    or what a temperature too low or too high costs; `gain_shift` adds to the gain over no KD (a fraction, before the
    factors). `schedule` gives octaves below and above the recommended temperature.
    """

    id: str
    why: str
    source: str
    grade: str
    finding: str = ""
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    strength: tuple[Gauge, ...] = ()
    shift: float = 0.0
    shift_std: float = 0.0
    widen: float = 0.0
    gain_factor: float = 1.0
    gain_shift: float = 0.0
    low_cost_factor: float = 1.0
    high_cost_factor: float = 1.0
    schedule: tuple[float, float] | None = None
    warning: str = ""

    def fires(self, features: Mapping[str, Value]) -> Strength | None:
        """Return the strength under `features`, or None where the rule keeps silent."""
        for name, allowed in self.when.items():
            if features[name] not in allowed:
                return None
        strength: Strength = 1.0
        for gauge in self.strength:
            value = features[gauge.feature]
            if value is None:
                return None
            assert not isinstance(value, (str, bool))
            strength = strength * gauge.strength(value)
        return strength if isinstance(strength, np.ndarray) or strength else None


@dataclasses.dataclass(frozen=True)
class Fired:
    """A rule that speaks here, with its strength (a scalar, or one a temperature of the grid)."""

    rule: Rule
    strength: Strength

    @property
    def shift(self) -> Strength:
        """The shift in octaves."""
        return self.strength * self.rule.shift


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
    """Where advice starts before any rule speaks: the response curve of a setup of which nothing is known.

    `temperature` is the centre of the plateau and `octaves_std` its standard deviation over setups;
    `half_width` is half of the plateau in octaves. `gain` is what KD is worth on the plateau against no KD,
    `low_cost` and `high_cost` what a temperature far too low or far too high loses against the plateau,
    each with its standard deviation, as accuracy fractions.
    """

    temperature: float
    octaves_std: float
    half_width: float
    gain: float
    gain_std: float
    low_cost: float
    low_cost_std: float
    high_cost: float
    high_cost_std: float
    source: str


@dataclasses.dataclass(frozen=True)
class RuleBook:
    """All that `rules.toml` says: anchors for plain and z-scored logits, the rules, and a checksum as its version."""

    anchor: Anchor
    anchor_standardized: Anchor
    rules: tuple[Rule, ...]
    version: str

    def without(self, *ids: str) -> RuleBook:
        """Return a book that lacks the rules named."""
        kept = tuple(rule for rule in self.rules if rule.id not in ids)
        return dataclasses.replace(self, rules=kept)

    def fired(self, features: Mapping[str, Value]) -> tuple[Fired, ...]:
        """Return the rules that speak under `features`, in file order."""
        strengths = ((rule, rule.fires(features)) for rule in self.rules)
        return tuple(Fired(rule, strength) for rule, strength in strengths if strength is not None)


def load_rules(path: Path | None = None) -> RuleBook:
    """Read and validate a rule file; the shipped one unless `path` is given.

    Raises:
        KnowledgeError: the file breaks its schema; all problems in one message.
    """
    path = path or knowledge_path("rules.toml")
    raw = path.read_bytes()
    try:
        table = tomllib.loads(raw.decode())
        anchor = Anchor(**table["anchor"])
        standardized = Anchor(**{**table["anchor"], **table["anchor_standardized"]})
        entries = table["rule"]
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise KnowledgeError(
            f"{path} must be TOML with [anchor], [anchor_standardized] and [[rule]]. Got: {error}", code="bad_rules"
        ) from None
    problems: list[str] = []
    rules = tuple(rule for entry in entries if (rule := _rule(entry, problems)) is not None)
    ids = [rule.id for rule in rules]
    problems += [f"rule {name} stands twice." for name in sorted({i for i in ids if ids.count(i) > 1})]
    if problems:
        raise KnowledgeError(f"{path}: {' '.join(problems)}", code="bad_rules")
    return RuleBook(anchor, standardized, rules, f"{zlib.crc32(raw):08x}")


def _rule(entry: Mapping[str, Any], problems: list[str]) -> Rule | None:
    """Make a rule of a TOML table, or add what is wrong with it to `problems`."""
    name = entry.get("id", "without id")
    fields = {field.name for field in dataclasses.fields(Rule)}
    found = [f"rule {name}: unknown key {key!r}. {did_you_mean(key, fields)}" for key in entry.keys() - fields]
    found += [f"rule {name} lacks {key!r}." for key in ("id", "why", "source", "grade") if not entry.get(key)]
    if entry.get("grade") not in GRADES:
        found.append(f"rule {name}: grade must be one of {', '.join(GRADES)}. Got {entry.get('grade')!r}.")
    gauges = entry.get("strength", ())
    named = [*entry.get("when", {}), *(gauge.get("feature", "") for gauge in gauges)]
    found += [
        f"rule {name}: unknown feature {feature!r}. {did_you_mean(feature, FEATURES)}"
        for feature in named
        if feature not in FEATURES
    ]
    problems += found
    if found:
        return None
    return Rule(
        **{
            **entry,
            "when": {feature: tuple(allowed) for feature, allowed in entry.get("when", {}).items()},
            "strength": tuple(Gauge(**gauge) for gauge in gauges),
            "schedule": tuple(entry["schedule"]) if "schedule" in entry else None,
        }
    )
