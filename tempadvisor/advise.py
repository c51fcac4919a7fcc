"""From a teacher's profile and a training setup to a recommendation one would act on.

The belief about the response curve comes from the rules, and where measured runs are near from a model fitted to them
too; whatever makes the curves, the point, the interval, the gains and the verdict are read from them here alike.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import tempadvisor
from tempadvisor.belief import TEMPERATURES, Knowledge, knowledge_in_use, respond
from tempadvisor.documents import load_profile
from tempadvisor.errors import OutOfScopeError, UsageError
from tempadvisor.records import (
    Confidence,
    CurvePoint,
    LossContract,
    Notice,
    Reason,
    Recommendation,
    Schedule,
    Standing,
    TeacherProfile,
    TrainingSetup,
    Verdict,
    WeightOption,
)
from tempadvisor.response import TOLERANCE, Belief, Response
from tempadvisor.rules import Fired, RuleBook, load_rules
from tempadvisor.standing import standings_in_use
from tempadvisor.temperatures import Axis, span, written
from tempadvisor.unknowns import unknown_fields

if TYPE_CHECKING:
    from tempadvisor.learned import Learned, Weighed
    from tempadvisor.rules import Strength

LOW_TEMPERATURES = (0.125, 0.18, 0.25, 0.35)  # of the curve too, where the advice reaches there
CURVE_TEMPERATURES = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 40)
KD_WEIGHTS = ((0.1, 0.9), (0.5, 0.5), (0.9, 0.1))  # soft and hard, as in timm, torchdistill and RepDistiller
KD_WEIGHTS_STANDARDIZED = ((0.9, 0.1), (3.0, 0.1), (9.0, 0.1))

# What each rule was read from reaches about this far; beyond it the answer is a usual temperature of the literature.
MANY_CLASSES = 200  # CIFAR-100 and fine-grained sets: most of the literature
MOST_CLASSES = 1000  # ImageNet, the largest in the literature
VOCABULARY = 30_000  # language models count tens of thousands of tokens
LONG_EPOCHS = 600
LOWEST_MEASURED = 1.0
MANY_SAMPLES = 200_000  # CIFAR has 50,000; ImageNet-length recipes see millions of images an epoch


def recommend(
    profile: TeacherProfile | str | Path | None = None,
    setup: TrainingSetup | None = None,
    *,
    book: RuleBook | None = None,
    learned: Learned | None = None,
    knowledge_version: str | None = None,
) -> Recommendation:
    """Recommend a KD temperature for a teacher and a setup.

    Args:
        profile: what was measured of the teacher, or the path of a saved `profile.json`; None answers from the rules
            alone, with low confidence.
        setup: what is known of the training; unknown fields stay unknown.
        book: the rules to apply; the shipped ones unless given.
        learned: the model fitted to measured runs; the one in use unless given, none where there is none.
        knowledge_version: as in an earlier answer, to get that answer again.

    Returns:
        The recommendation; its temperatures hold for the setup's loss contract, in that contract's units.

    Raises:
        OutOfScopeError: the task is one that temperature advice does not cover.
        UsageError: `profile` or `setup` is something else, or no knowledge of that version lies here.
        InputError: the saved profile cannot be read.
        KnowledgeError: the model in use is damaged.

    >>> recommend(setup=TrainingSetup(optimizer="sgd", epochs=300, augmentation="mixup")).confidence
    'low'
    """
    setup = TrainingSetup() if setup is None else setup
    if not isinstance(setup, TrainingSetup):
        raise UsageError(
            f"setup must be a TrainingSetup. Got {type(setup).__name__}. "
            "Write tempadvisor.TrainingSetup(optimizer='sgd', epochs=100).",
            code="not_a_setup",
        )
    if isinstance(profile, (str, Path)):
        profile = _saved(Path(profile))
    book = book or load_rules()
    knowledge = Knowledge(book, learned) if learned else knowledge_in_use(book, knowledge_version)
    if profile is not None and not isinstance(profile, TeacherProfile):
        raise UsageError(
            f"profile must be a TeacherProfile. Got {type(profile).__name__}. tempadvisor.profile makes one.",
            code="not_a_profile",
        )
    if profile and profile.n_classes >= VOCABULARY:
        raise OutOfScopeError(
            f"Language-model vocabularies are outside what is known: n_classes must be below {VOCABULARY}. "
            f"Got {profile.n_classes}. Tune T on your own validation loss, starting at 1.",
            code="language_model",
        )
    contract = setup.loss_contract()
    fired, belief, response, weighed = respond(profile, setup, contract, knowledge)
    outside = tuple(_outside(profile, setup))
    anchor = knowledge.book.anchor_standardized if contract.standardized else knowledge.book.anchor
    known = not any(notice.code == "outside_known" for notice in outside)
    temperature = _rounded(response.best if known else anchor.temperature)
    outside += tuple(_edges(temperature))
    low, high = weighed.interval(response) if weighed else response.interval()
    interval = _rounded_pair((min(low, temperature), max(high, temperature)))
    best = weighed.best_ci90(response) if weighed else response.best_ci90()
    best = _rounded_pair((min(best[0], temperature), max(best[1], temperature)))
    verdict = _verdict(response, temperature, known, weighed)
    warnings = (
        *(profile.warnings if profile else ()),
        *outside,
        *(Notice(one.rule.id.lower(), one.rule.warning) for one in fired if one.rule.warning),
        *_conflicts(fired, temperature),
        *_contract_notices(profile, contract),
        *(weighed.notices if weighed else ()),
    )
    confidence = _confidence(profile, belief, bool(outside))
    standings = standings_in_use(knowledge.book, knowledge.learned.version if knowledge.learned else None)
    return Recommendation(
        temperature=temperature,
        interval=interval,
        best_temperature_ci90=best,
        expected_gain={
            "over_t4": response.gain_over(temperature, 4.0),
            "over_t1": response.gain_over(temperature, 1.0),
            "over_no_kd": response.gain_over(temperature, None),
        },
        confidence=confidence,
        verdict=verdict,
        headline=_headline(verdict, temperature, interval, response, profile) + _beyond(outside),
        curve=_curve(response, Axis.holding((*interval, *best)).low),
        reasons=(*(weighed.reasons if weighed else ()), *_reasons(fired, temperature, standings)),
        nearest=weighed.nearest if weighed else (),
        warnings=warnings,
        loss_contract=contract,
        kd_weights=_kd_weights(profile, setup, knowledge, {contract: response}),
        profile=profile,
        setup=setup,
        unknown=unknown_fields(profile, setup, knowledge.book, temperature),
        schedule=None if weighed and weighed.calibration else _schedule(fired, temperature),  # no run had one
        version={"tempadvisor": tempadvisor.__version__, "knowledge": knowledge.version},
    )


def _saved(path: Path) -> TeacherProfile:
    if path.suffix.lower() != ".json":
        raise UsageError(
            f"profile must be a TeacherProfile or a saved profile.json. Got {path}. "
            "tempadvisor.profile measures stored logits and live teachers.",
            code="not_a_profile",
        )
    return load_profile(path)


def _curve(response: Response, low: float) -> tuple[CurvePoint, ...]:
    low = max(low, response.temperatures[0])
    return tuple(_point(response, t) for t in (*LOW_TEMPERATURES, *CURVE_TEMPERATURES) if t >= low)


def _point(response: Response, temperature: float) -> CurvePoint:
    relative = response.gain_over(temperature, response.best)
    return CurvePoint(temperature=temperature, mean=relative.mean, std=relative.std)


def _rounded(temperature: float) -> float:
    """Round to three significant digits, which is far finer than any run can show."""
    return float(written(temperature))


def _rounded_pair(pair: tuple[float, float]) -> tuple[float, float]:
    return _rounded(pair[0]), _rounded(pair[1])


def _at(value: Strength, temperature: float) -> float:
    """Return a scalar, or an array over the grid at `temperature`."""
    if isinstance(value, np.ndarray):
        return float(np.interp(math.log(temperature), np.log(TEMPERATURES), value))
    return value


def _outside(profile: TeacherProfile | None, setup: TrainingSetup) -> Iterable[Notice]:
    """Say what lies beyond the evidence: `outside_known` beyond all of it, `beyond_most_evidence` beyond most."""
    n_classes, n_train, epochs = profile.n_classes if profile else 0, setup.n_train or 0, setup.epochs or 0
    if n_classes > MOST_CLASSES:
        yield Notice("outside_known", f"{n_classes:,} classes are more than any KD study behind this advice has.")
    elif n_classes > MANY_CLASSES:
        yield Notice("beyond_most_evidence", f"{n_classes:,} classes are more than most KD studies behind this have.")
    if epochs > LONG_EPOCHS:
        yield Notice("outside_known", f"{epochs:,} epochs are longer than any KD recipe behind this advice.")
    if n_train > MANY_SAMPLES:
        yield Notice("beyond_most_evidence", f"{n_train:,} training samples are more than most KD studies here have.")


def _edges(temperature: float) -> Iterable[Notice]:
    """Say where a temperature lies at the edge of what was measured."""
    if temperature < LOWEST_MEASURED:
        yield Notice(
            "below_one",
            f"T below {LOWEST_MEASURED:g} sharpens the teacher, which no KD study behind this advice has measured: "
            f"compare it with T={written(LOWEST_MEASURED)} before you rely on it.",
        )
    if temperature >= TEMPERATURES[-1]:
        yield Notice(
            "at_edge", f"T={written(TEMPERATURES[-1])} is the highest that is ever advised; the best may lie beyond."
        )


def _conflicts(fired: tuple[Fired, ...], temperature: float) -> Iterable[Notice]:
    moves = [(one.rule.id, _at(one.shift, temperature)) for one in fired]
    up = [name for name, octaves in moves if octaves >= 0.25]
    down = [name for name, octaves in moves if octaves <= -0.25]
    if up and down:
        yield Notice(
            "rules_conflict",
            f"Rules disagree: {', '.join(up)} for a higher T, {', '.join(down)} for a lower; this widens the answer.",
        )


def _contract_notices(profile: TeacherProfile | None, contract: LossContract) -> Iterable[Notice]:
    if not contract.t_squared:
        yield Notice(
            "no_t_squared", "Without T^2 a change of T also changes the weight of KD: tune kd_weight along with T."
        )
    if contract.reduction == "mean" and profile is None:
        yield Notice("mean_without_classes", "How weak the mean reduction makes KD depends on K: give the teacher.")


def _verdict(response: Response, temperature: float, known: bool, weighed: Weighed | None) -> Verdict:
    if not known:
        return "unknown"
    if weighed and weighed.calibration:
        from tempadvisor.calibration import chance_of_harm, most_lost

        if chance_of_harm(response, temperature) > weighed.calibration.harm:
            return "kd_may_hurt"
        return "indifferent" if most_lost(response) <= weighed.calibration.indifferent else "use"
    over_no_kd = response.at(temperature)
    if np.mean(over_no_kd < 0) > 1 / 3:
        return "kd_may_hurt"
    usual = [response.gain_over(temperature, t).mean for t in (1.0, 2.0, 4.0, 8.0)]
    return "indifferent" if max(usual) <= TOLERANCE else "use"


def _confidence(profile: TeacherProfile | None, belief: Belief, outside: bool) -> Confidence:
    """Nothing earns high confidence yet: rules alone never, and measured runs are not good enough on unseen data.

    The README's table, "How far to trust it", says how good they are.
    """
    if profile is None or outside or belief.center_std > 1.75:
        return "low"
    codes = {notice.code for notice in profile.warnings}
    doubtful = {"one_hot", "logits_from_unknown", "log_probabilities"}
    return (
        "low"
        if codes & {"few_samples", "near_chance", "class_order", "in_unit_range", "sorted_rows"}
        or len(codes & doubtful) > 1
        else "medium"
    )


def _headline(
    verdict: Verdict,
    temperature: float,
    interval: tuple[float, float],
    response: Response,
    profile: TeacherProfile | None,
) -> str:
    gain = response.gain_over(temperature, None)
    if verdict == "unknown":
        return f"Outside what is known: T={written(temperature)} is a usual choice in the literature; verify it."
    if verdict == "kd_may_hurt":
        chance = float(np.mean(response.at(temperature) < 0))
        most = ", though it gains on average" if gain.mean > 0 else ""
        return (
            f"KD may hurt here (chance about {chance:.0%}{most}): compare with no KD; if you distil, "
            f"T={written(temperature)}."
        )
    if verdict == "indifferent":
        return f"Temperature hardly matters here: anything from {span(interval)} does; take T={written(temperature)}."
    source = "" if profile else ", from the rules alone"
    gained = f"KD should gain {100 * gain.mean:+.1f} ± {100 * gain.std:.1f} pp"
    return f"Use T={written(temperature)}{source}: {span(interval)} should do as well within 0.2 pp, and {gained}."


def _beyond(outside: tuple[Notice, ...]) -> str:
    most = [notice.text for notice in outside if notice.code == "beyond_most_evidence"]
    return f" Trust it less than usual: {' '.join(most)}" if most else ""


def _reasons(fired: tuple[Fired, ...], temperature: float, standings: Mapping[str, Standing]) -> tuple[Reason, ...]:
    """Return the rules that fired, those that move the answer most first."""

    def weight(one: Fired) -> float:
        rule, strength = one.rule, abs(_at(one.strength, temperature))
        factors = (rule.gain_factor, rule.low_cost_factor, rule.high_cost_factor)
        other = sum(abs(math.log2(factor)) for factor in factors) / 4 + abs(rule.gain_shift) * 50 + rule.widen / 2
        return strength * (abs(rule.shift) + other)

    reasons = []
    for one in sorted(fired, key=weight, reverse=True):
        octaves = _at(one.shift, temperature)
        reasons.append(
            Reason(
                id=one.rule.id,
                kind="rule",
                effect="none" if abs(octaves) < 0.005 else "raises" if octaves > 0 else "lowers",
                octaves=round(octaves, 3) + 0.0,
                text=one.rule.why,
                source=one.rule.source,
                grade=one.rule.grade,
                standing=standings.get(one.rule.id),
            )
        )
    return tuple(reasons)


def _kd_weights(
    profile: TeacherProfile | None,
    setup: TrainingSetup,
    knowledge: Knowledge,
    known: Mapping[LossContract, Response],
) -> tuple[WeightOption, ...]:
    """Return what other weights are worth; `known` are the responses that need not be asked for again."""
    answers = []
    for kd_weight, hard_weight in KD_WEIGHTS_STANDARDIZED if setup.standardized else KD_WEIGHTS:
        other = dataclasses.replace(setup, kd_weight=kd_weight, hard_weight=hard_weight)
        contract = other.loss_contract()
        response = known.get(contract) or respond(profile, other, contract, knowledge)[2]
        answers.append((kd_weight, _rounded(response.best), float(response.expected.max())))
    best = max(answer[2] for answer in answers)
    return tuple(
        WeightOption(kd_weight=w, temperature=t, expected_accuracy=gain, best=gain == best) for w, t, gain in answers
    )


def _schedule(fired: tuple[Fired, ...], temperature: float) -> Schedule | None:
    for one in fired:
        if one.rule.schedule:
            low, high = one.rule.schedule
            start = max(_rounded(temperature * 2**low), min(temperature, 1.0))
            end = _rounded(temperature * 2**high)
            text = f"Optional: raise T from {span((start, end))} over the training ({one.rule.id})."
            return Schedule(kind="linear", start=start, end=end, text=text)
    return None
