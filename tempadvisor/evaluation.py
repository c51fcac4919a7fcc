"""Score advice on setups it has never seen, and choose by such scores which model, blend and calibration to use.

Everything that is chosen, is chosen inside the folds: on validation accuracy, on setups of other groups. What is
scored, is scored once on test accuracy, cross-fitted over halves of the seeds, so that the best temperature is not
the luckiest one. Folds leave out whole sources, or teachers, or setups.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tempadvisor.belief import TEMPERATURES as FINE
from tempadvisor.belief import rules_response
from tempadvisor.calibration import (
    HARM,
    USUAL,
    Calibration,
    at,
    best_temperatures,
    blend,
    chance_of_harm,
    ci90_of,
    most_lost,
)
from tempadvisor.curves import LOG_T, SMOOTHER, TEMPERATURES, Curve, floor, oracle, regrets
from tempadvisor.glimpses import Glimpse
from tempadvisor.learned import ANSWERS, Lessons, distances, fade, fill
from tempadvisor.regressor import CANDIDATES, FITS, lessons, row_of
from tempadvisor.response import TOLERANCE, Response
from tempadvisor.rivals import Case, Score, macro, rivals, score
from tempadvisor.rules import RuleBook, load_rules
from tempadvisor.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the regressor in the blend with the rules
WITHIN = 0.98  # share of the setups whose nearest one of another source lies within the model's reach
DRAWS = 2000


class Choice(NamedTuple):
    """What the inner folds chose: the model, its setting, its share in the blend, and the calibration.

    Beyond `reach` from every setup learned from, its share fades out (`learned.fade`).
    """

    kind: str
    setting: float
    share: float
    calibration: Calibration
    reach: float


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """How the intervals and verdicts of the held-out answers held, each (n,) of truth values."""

    ends_hold: NDArray[np.bool_]
    covers_best: NDArray[np.bool_]
    harmed: NDArray[np.bool_]
    harm_flagged: NDArray[np.bool_]
    indifferent: NDArray[np.bool_]
    indifferent_flagged: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of all methods on the same cases, the choices of the folds, and how intervals and verdicts held."""

    by: str
    cases: tuple[Case, ...]
    scores: tuple[Score, ...]
    choices: Mapping[str, Choice]
    verdicts: Verdicts

    def score(self, name: str) -> Score:
        """Return the row of the method `name`."""
        return next(score for score in self.scores if score.name == name)


def cases_of(curves: Iterable[Curve], book: RuleBook | None = None) -> tuple[Case, ...]:
    """Return measured curves with all that scoring needs; what hangs on chance hangs on the curve's name alone."""
    book = book or load_rules()
    cases = []
    for curve in curves:
        rng = np.random.default_rng(list(str(curve.run.curve).encode()))
        setup = curve.run.setup
        cases.append(
            Case(
                curve=curve,
                row=row_of(curve),
                regret=regrets(curve.accuracy, rng),
                val_regret=regrets(curve.val_accuracy, rng),
                floor=floor(curve.accuracy, rng),
                oracle=oracle(curve.accuracy, rng),
                rules=rules_response(curve.profile, setup, setup.loss_contract(), book),
            )
        )
    return tuple(cases)


def evaluate(
    curves: Sequence[Curve],
    *,
    by: str = "source",
    beside: Sequence[Curve] = (),
    glimpses: Sequence[Glimpse] = (),
    part: float = 1.0,
    book: RuleBook | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score the advice and its rivals on curves, leaving out what `by` says.

    Args:
        curves: complete measured curves with profiles; with those `beside` of at least three sources.
        by: "source", or "teacher" or "setup" in ten folds, or "frozen": all curves at once, learned from those
            `beside` alone.
        beside: more curves to learn from, in the folds that they do not belong to; they are not scored. What rivals
            tune, they tune on these too.
        glimpses: incomplete curves to learn from, in the folds that hold out nothing of their source, teacher or
            setup; nothing is tuned on them.
        part: share of the other folds' curves to learn from, drawn at random.
        book: the rules; the shipped ones unless given.
        progress: called with the folds done and the folds in all.
    """
    everything = cases_of([*curves, *beside], book)
    if by == "frozen":
        by, everywhere = "source", ["frozen"] * len(curves) + ["learned"] * len(beside)
    else:
        everywhere = _folds(everything, by)
    cases, folds = everything[: len(curves)], everywhere[: len(curves)]
    names = sorted(set(folds))
    if progress is not None:
        progress(0, len(names))
    answers: list[Response | None] = [None] * len(cases)
    single: dict[tuple[str, float], Array] = {candidate: np.zeros(len(cases)) for candidate in CANDIDATES}
    choices: dict[str, Choice] = {}
    verdicts = {field.name: np.zeros(len(cases), bool) for field in dataclasses.fields(Verdicts)}
    for done, name in enumerate(names):
        held = [i for i, fold in enumerate(folds) if fold == name]
        rest = [case for case, fold in zip(everything, everywhere, strict=True) if fold != name]
        if part < 1:
            drawn = np.random.default_rng(done).permutation(len(rest))[: round(part * len(rest))]
            rest = [rest[i] for i in sorted(drawn)]
        beyond = _apart(
            glimpses, [case for case, fold in zip(everything, everywhere, strict=True) if fold == name], by
        )
        choice = choose(rest, by, glimpses=beyond)
        choices[name] = choice
        learned = lessons([case.curve for case in rest], beyond)
        for candidate in CANDIDATES:
            responses = _answers(learned, [cases[i] for i in held], candidate)
            single[candidate][held] = [response.best for response in responses]
            if candidate == (choice.kind, choice.setting):
                for i, response in zip(held, responses, strict=True):
                    left = fade(float(distances(cases[i].row, learned.features).min()), choice.reach)
                    answers[i] = blend(cases[i].rules, response, choice.share * left)
        for i in held:
            answer = answers[i]
            assert answer is not None
            for field, value in _judged(cases[i], answer, choice.calibration).items():
                verdicts[field][i] = value
        if progress is not None:
            progress(done + 1, len(names))
    advised = np.array([answer.best for answer in answers if answer is not None])
    scores = [
        score("advice", cases, advised),
        *(score(f"{kind} {setting:g}", cases, single[kind, setting]) for kind, setting in CANDIDATES),
        *rivals(cases, folds, everything, everywhere),
        Score("half-seed oracle", np.full(len(cases), np.nan), np.array([case.oracle for case in cases]), ""),
        Score("perfect advisor", np.full(len(cases), np.nan), np.array([case.floor for case in cases]), ""),
    ]
    return Evaluation(by, cases, tuple(scores), choices, Verdicts(**verdicts))


def choose(cases: Sequence[Case], by: str = "source", *, glimpses: Sequence[Glimpse] = ()) -> Choice:
    """Return model, share and calibration of least held-out regret on validation accuracy, over inner folds.

    From `glimpses` is learned as in `evaluate`.
    """
    folds = _folds(cases, by, None if by == "source" else 5)  # a source at a time, as advice meets a new one
    sources = [case.source for case in cases]
    reach = _reach(cases)
    taught = {}
    for name in sorted(set(folds)):
        rest = [case.curve for case, fold in zip(cases, folds, strict=True) if fold != name]
        out = [case for case, fold in zip(cases, folds, strict=True) if fold == name]
        taught[name] = lessons(rest, _apart(glimpses, out, by))
    best: tuple[float, Choice] | None = None
    for candidate in CANDIDATES:
        learned: list[Response] = [cases[0].rules] * len(cases)
        for name, without in taught.items():
            held = [i for i, fold in enumerate(folds) if fold == name]
            for i, response in zip(held, _answers(without, [cases[i] for i in held], candidate), strict=True):
                learned[i] = response
        for share in SHARES if candidate == CANDIDATES[0] else SHARES[1:]:
            answers = [blend(case.rules, one, share) for case, one in zip(cases, learned, strict=True)]
            lost = np.array([c.loses(a.best, validation=True) for c, a in zip(cases, answers, strict=True)])
            regret = macro(lost, sources)
            if best is None or regret < best[0]:
                best = regret, Choice(*candidate, share, calibrate(cases, answers), reach)
    assert best is not None
    return best[1]


def _reach(cases: Sequence[Case]) -> float:
    """Return the distance within which nearly all setups have their nearest one of another source."""
    rows, sources = np.stack([case.row for case in cases]), np.array([case.source for case in cases])
    others = [rows[sources != source] for source in sources]
    nearest = [float(distances(row, other).min()) for row, other in zip(rows, others, strict=True) if len(other)]
    return float(np.quantile(nearest, WITHIN)) if nearest else math.inf


def _answers(learned: Lessons, held: Sequence[Case], candidate: tuple[str, float]) -> list[Response]:
    kind, setting = candidate
    model = FITS[kind](learned, setting)
    return [at(FINE, ANSWERS[kind](model, fill(case.row, learned.features))) for case in held]


def _folds(cases: Sequence[Case], by: str, n: int | None = None) -> list[str]:
    """Return the fold of each case: one of n groups of whole sources, of teachers or of setups.

    Unless `n` is given, every source is a fold, and there are ten of teachers or setups.
    """
    keys = [_key(case.curve.run, by) for case in cases]
    if by == "source" and n is None:
        return keys
    n = n or 10
    shuffled = np.random.default_rng(0).permutation(sorted(set(keys)))
    place = {str(key): i % n for i, key in enumerate(shuffled)}
    return [f"{place[key]}" for key in keys]


def _key(run: Run, by: str) -> str:
    return str(run.source if by == "source" else run.teacher_hash if by == "teacher" else run.curve)


def _apart(glimpses: Sequence[Glimpse], held: Sequence[Case], by: str) -> list[Glimpse]:
    """Return the glimpses of no source, teacher or setup that is held out."""
    keys = {_key(case.curve.run, by) for case in held}
    return [glimpse for glimpse in glimpses if _key(glimpse.run, by) not in keys]


# What is true of a case, and what an answer says of it.


def _hurts(gain: Array, temperature: float) -> bool:
    """Whether KD at T is worse than no KD by over 0.2 points and two paired standard errors; `gain` is (S, 10)."""
    each = np.array([np.interp(math.log2(temperature), LOG_T, row) for row in gain])
    return bool(each.mean() < -HARM and each.mean() < -2 * each.std(ddof=1) / len(each) ** 0.5)


def _is_flat(accuracy: Array) -> bool:
    """Whether the usual temperatures lie within the tolerance of the best one, on the smoothed curve of (S, 10)."""
    smooth = SMOOTHER @ accuracy.mean(0)
    return bool(smooth.max() - min(smooth[TEMPERATURES.index(t)] for t in USUAL) <= TOLERANCE)


def _top(accuracy: Array) -> float:
    """Return the temperature at the top of the smoothed curve of (S, 10)."""
    return TEMPERATURES[int(np.argmax(SMOOTHER @ accuracy.mean(0)))]


def _position(answer: Response, temperature: float) -> tuple[float, float]:
    """Return the shares of curves whose best temperature lies below T, and at most at it."""
    best = best_temperatures(answer)
    return float(np.mean(best < temperature / 1.05)), float(np.mean(best <= temperature * 1.05))


def calibrate(cases: Sequence[Case], answers: Sequence[Response]) -> Calibration:
    """Return the calibration under which held-out answers would have held on validation accuracy.

    The interval's tolerance is the largest whose ends lose at most 0.2 points in 87 % of the cases, or the smallest
    tried if none does; the quantiles are those that leave the best temperature out on 5 % of the cases on each side;
    the threshold of harm is the highest that leaves at most 2 % of the cases harmed and unflagged, but flags no more
    than twice as many as are harmed; that of indifference the one where the flag is right most often.
    """
    tolerances = TOLERANCE * np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0])
    held = []
    for tolerance in tolerances:
        ends = [answer.interval(tolerance) for answer in answers]
        held.append(
            np.mean(
                [max(c.loses(t, validation=True) for t in e) <= TOLERANCE for c, e in zip(cases, ends, strict=True)]
            )
        )
    good = np.flatnonzero(np.array(held) >= 0.87)
    positions = [_position(a, _top(c.curve.val_accuracy)) for c, a in zip(cases, answers, strict=True)]
    low = float(np.quantile([high for _, high in positions], 0.05))
    high = float(np.quantile([low for low, _ in positions], 0.95))
    chance = np.array([chance_of_harm(answer, answer.best) for answer in answers])
    harmed = np.array([_hurts(c.curve.val_gain, a.best) for c, a in zip(cases, answers, strict=True)])
    thresholds = np.unique(np.concatenate([[-1.0], chance, [1.0]]))  # -1 flags all
    unflagged = np.array([np.mean(harmed & (chance <= t)) for t in thresholds])
    few = np.array([np.mean(chance > t) <= 2 * harmed.mean() for t in thresholds])
    harm = float(max(thresholds[unflagged <= 0.02][-1], thresholds[few][0]))
    lost = np.array([most_lost(answer) for answer in answers])
    flat = np.array([_is_flat(case.curve.val_accuracy) for case in cases])
    limits = np.unique(np.concatenate([[-1.0], lost]))
    right = np.array([np.mean((lost <= limit) == flat) for limit in limits])
    return Calibration(
        tolerance=float(tolerances[good[-1] if len(good) else 0]),
        low=low,
        high=high,
        harm=harm,
        indifferent=float(limits[int(np.argmax(right))]),
    )


def _judged(case: Case, answer: Response, calibration: Calibration) -> dict[str, bool]:
    temperature = answer.best
    low, high = ci90_of(answer, calibration)
    return {
        "ends_hold": max(case.loses(t) for t in answer.interval(calibration.tolerance)) <= TOLERANCE,
        "covers_best": low / 1.05 <= case.curve.best <= high * 1.05,
        "harmed": _hurts(case.curve.gain, temperature),
        "harm_flagged": chance_of_harm(answer, temperature) > calibration.harm,
        "indifferent": _is_flat(case.curve.accuracy),
        "indifferent_flagged": most_lost(answer) <= calibration.indifferent,
    }


def bootstrap(evaluation: Evaluation, values: Array, seed: int = 0) -> tuple[float, float]:
    """Return the 5 % and 95 % quantiles of the macro-average of `values`, clustered by source and by teacher."""
    rng = np.random.default_rng(seed)
    groups: dict[str, dict[str, list[int]]] = {}
    for i, case in enumerate(evaluation.cases):
        groups.setdefault(case.source, {}).setdefault(case.teacher, []).append(i)
    clusters = [[np.array(rows) for rows in teachers.values()] for teachers in groups.values()]
    draws = []
    for _ in range(DRAWS):
        means = []
        for k in rng.integers(len(clusters), size=len(clusters)):
            source = clusters[k]
            rows = np.concatenate([source[j] for j in rng.integers(len(source), size=len(source))])
            means.append(values[rows].mean())
        draws.append(np.mean(means))
    return float(np.quantile(draws, 0.05)), float(np.quantile(draws, 0.95))
