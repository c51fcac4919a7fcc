"""What verifying a temperature found: the record, and how it is read from a search and from students' test accuracy.

Everything here is arithmetic on trainings that were done; `verify.py` does them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tempadvisor.posterior import OWN, Cell
from tempadvisor.records import LossContract, Recommendation, TrainingSetup
from tempadvisor.response import TOLERANCE
from tempadvisor.search import LEAST_SEEDS, MATTERS, Claim, Search, posterior, verdict
from tempadvisor.temperatures import written

Training = tuple[float | None, int]  # temperature, None without KD, and seed

# Two-sided 95 % points of Student's t distribution with 1, 2, ... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One student trained: `temperature` is None without KD, `val_accuracy` None where the training failed.

    `test_accuracy` is told at the end, of the temperature to use and of the references; a failed student guesses.
    """

    temperature: float | None
    seed: int
    val_accuracy: float | None
    seconds: float | None
    test_accuracy: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of accuracies as fractions with its 95 % interval; None where one seed tells of no spread."""

    mean: float
    ci95: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
    """What is believed of a temperature: accuracy over that at the recommended one, before and after the trainings.

    `prior` and `mean` are expectations, `ci95` is of what the trainings leave. `n_seeds` students were trained at it;
    `measured` is the mean of what they reached over those at the recommended one with the same seeds, if there are.
    """

    temperature: float
    n_seeds: int
    measured: float | None
    prior: float
    mean: float
    ci95: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """Mean accuracy on the test split of the `n` students of a temperature, None without KD."""

    temperature: float | None
    n: int
    accuracy: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Test:
    """What the test split said, read once: `over_recommended` is of the temperature to use, where it is another.

    Differences are on the seeds that both have; `kd_may_hurt` where students without KD are ahead by over 0.2 points.
    """

    n_test: int
    accuracy: tuple[Tested, ...]
    over_recommended: Difference | None
    over_no_kd: Difference | None
    kd_may_hurt: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What the search took: students trained, the epochs of all, and the seconds of their trainings together.

    `epochs_each` is less than the setup's where students were a proxy.
    """

    trainings: int
    budget: int
    epochs_each: int
    student_epochs: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What may be claimed of a recommended temperature, and all that the claim rests on. Keys as in the contract.

    `difference` is the accuracy of `rival` over the recommended temperature on the validation split: of the one to
    use, or where that is the recommended one, of the most promising other one that was tried. `probability` is that
    of the verdict; where undecided, that the recommended temperature is within 0.2 points of the best. `n_val` is the
    size of the validation split.
    """

    temperature: float
    verdict: Claim
    n_val: int
    headline: str
    probability: float
    rival: float
    difference: Difference
    curve: tuple[Rung, ...]
    trials: tuple[Trial, ...]
    cost: Cost
    test: Test
    loss_contract: LossContract
    study: str
    storage: str
    recommendation: Recommendation
    setup: TrainingSetup


def read_search(search: Search) -> tuple[dict[str, Any], tuple[Rung, ...]]:
    """Return the fields of the record that a search decides, and what is believed of each temperature."""
    believed = posterior(search)
    found = verdict(search, believed)
    before = posterior(dataclasses.replace(search, cells={}))
    gain = believed.curves.gain
    low, high = np.quantile(gain, [0.025, 0.975], axis=0)
    curve = tuple(
        Rung(
            temperature=t,
            n_seeds=search.seeds(t),
            measured=float(np.mean(search.paired(t))) if search.paired(t) else None,
            prior=float(before.curves.expected[i]),
            mean=float(gain[:, i].mean()),
            ci95=(float(low[i]), float(high[i])),
        )
        for i, t in enumerate(search.temperatures)
    )
    fields = {
        "temperature": found.temperature,
        "verdict": found.claim,
        "headline": _headline(search, found.claim, found.temperature, found.mean, found.ci95, found.probability),
        "probability": found.probability,
        "n_val": search.n_val,
        "rival": found.rival,
        "difference": Difference(mean=found.mean, ci95=found.ci95),
    }
    return fields, curve


def _headline(
    search: Search, claim: Claim, temperature: float, mean: float, ci95: tuple[float, float], probability: float
) -> str:
    before, now = f"T={written(search.recommended)}", f"T={written(temperature)}"
    gained = f"{100 * mean:+.2f} pp, 95 % interval {100 * ci95[0]:+.2f} to {100 * ci95[1]:+.2f}"
    if len(search.paired(temperature)) < LEAST_SEEDS:
        gained += ", from one seed"
    if claim == "better_found":
        return f"The trainings contradict the advice: use {now} instead of {before} ({gained})."
    if claim == "confirmed":
        return (
            f"Confirmed: {before} is within {100 * search.tolerance:g} pp of the best "
            f"(probability {_percent(probability)})."
        )
    if claim == "no_detectable_difference":
        return (
            f"No detectable difference: keep {before}, which is within {100 * MATTERS:g} pp of the best "
            f"(probability {_percent(probability)})."
        )
    near = f"{before} is within {100 * search.tolerance:g} pp of the best with probability {_percent(probability)}"
    if temperature == search.recommended:
        return f"Undecided: keep {before}; {near}, and nothing tried looks better. {_wanting(search)}"
    return f"Undecided: {now} looks better than {before} ({gained}), not surely enough to claim it; {near}."


def _wanting(search: Search) -> str:
    """Say what would decide a search that is undecided."""
    if 1 / search.n_val > search.tolerance:
        return (
            f"More validation samples would tell: one of {search.n_val:,} is {100 / search.n_val:.2g} pp, so no "
            f"budget tells {100 * search.tolerance:g} pp apart."
        )
    if search.budget - len(search.cells) == 1:
        return "More budget would tell; the one training left over makes no pair."
    return "More budget would tell."


def _percent(probability: float) -> str:
    """Write a probability so that what is not certain never reads as certain.

    >>> _percent(0.9999), _percent(0.957)
    ('over 99 %', '96 %')
    """
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def read_test(accuracy: Mapping[Training, float], temperature: float, recommended: float, n_test: int) -> Test:
    """Return what the test split says of the temperature to use and of the references.

    Args:
        accuracy: of each student, by temperature (None without KD) and seed.
        temperature: the one to use.
        recommended: the one verified.
        n_test: size of the test split.
    """
    temperatures = sorted({t for t, _ in accuracy}, key=lambda t: t or 0.0)
    told = [[value for (t, _), value in accuracy.items() if t == one] for one in temperatures]
    gained = _paired(accuracy, temperature, None, n_test)
    return Test(
        n_test=n_test,
        accuracy=tuple(
            Tested(temperature=t, n=len(values), accuracy=float(np.mean(values)))
            for t, values in zip(temperatures, told, strict=True)
        ),
        over_recommended=None if temperature == recommended else _paired(accuracy, temperature, recommended, n_test),
        over_no_kd=gained,
        kd_may_hurt=gained is not None and gained.mean < -TOLERANCE,
    )


def _paired(
    accuracy: Mapping[Training, float], one: float | None, other: float | None, n_test: int
) -> Difference | None:
    """Return the difference on the seeds that both have, with Student's interval; None where they share none.

    The interval holds nothing that accuracies cannot reach.

    Seeds that agree by chance are not taken to agree more than trainings do: a training's own noise has a variance of
    at least 0.08 p (1 - p) / n_test (`posterior.OWN`).
    """
    shared = [seed for t, seed in accuracy if t == one and (other, seed) in accuracy]
    if not shared:
        return None
    both = np.array([(accuracy[one, seed], accuracy[other, seed]) for seed in shared])
    each, level = both[:, 0] - both[:, 1], float(both.mean())
    if len(each) < 2:
        return Difference(mean=float(each.mean()), ci95=None)
    variance = max(float(each.var(ddof=1)), 2 * OWN * level * (1 - level) / n_test)
    half = _T95[min(len(each) - 2, len(_T95) - 1)] * math.sqrt(variance / len(each))
    mean, beaten = float(each.mean()), float(both[:, 1].mean())
    return Difference(mean=mean, ci95=(max(mean - half, -beaten), min(mean + half, 1 - beaten)))


def cells_of(trials: Sequence[Trial], guess: float) -> dict[Cell, float]:
    """Return validation accuracy by temperature and seed of students with KD; one that failed guesses."""
    return {
        (one.temperature, one.seed): guess if one.val_accuracy is None else one.val_accuracy
        for one in trials
        if one.temperature is not None
    }
