"""Replay `verify` on stored paired runs, against what else the same trainings could buy.

    python benchmarks/verify.py [--setups tuning|report|all] [--truth validation|test] [--prior learned|rules]
                                [FILE ...]

A search sees validation accuracy on half of a curve's 20 seeds; the truth is the other half's accuracy, both ways
round. A replay is exact: the student of a temperature and a seed is the same whoever asks for it. The prior is the
shipped kind of model, fitted without the curve's source, or the rules. Constants were tuned on the half of the setups
that the hash of the curve's name picks; the other half was scored once they stood. `--setups all` is for files that
nothing was tuned on, such as `fresh.csv`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import optuna

from tempadvisor.belief import TEMPERATURES as FINE
from tempadvisor.belief import rules_response
from tempadvisor.calibration import at, blend
from tempadvisor.curves import LOG_T, TEMPERATURES, Curve, read_curves, regrets
from tempadvisor.fitting import shipped_curves
from tempadvisor.learned import ANSWERS, fill, load
from tempadvisor.regressor import FITS, lessons, row_of
from tempadvisor.resources import shipped_model_path
from tempadvisor.response import TOLERANCE, Response
from tempadvisor.rules import load_rules
from tempadvisor.search import MATTERS, Claim, Search, Verdict, propose, verdict

Array = npt.NDArray[np.float64]
RUNS = Path(__file__).resolve().parent.parent / "knowledge" / "runs"
BUDGETS = (3, 10, 30)  # a tenth, a third and the whole of a grid of 10 temperatures and 3 seeds
SHORT_GRID = (1.0, 4.0, 16.0)
SEEDS = 20
CLAIMS: tuple[Claim, ...] = ("confirmed", "no_detectable_difference", "better_found")
DRAWS = 1000


class Setup(NamedTuple):
    """A measured curve, one half of its seeds to search on and the other to judge by."""

    curve: Curve
    seeds: npt.NDArray[np.int64]
    truth: Array  # (10, 10) seeds by temperatures
    regret: Array  # (10,) cross-fitted within the truth
    prior: Response
    recommended: float

    @property
    def source(self) -> str:
        """The data source."""
        return str(self.curve.run.source)

    def seen(self, seed: int, column: int) -> float:
        """Return the validation accuracy of one training."""
        return float(self.curve.val_accuracy[self.seeds[seed], column])

    def error(self, column: int) -> float:
        """Return the standard error of what a temperature loses against the best, paired by seed."""
        lost = self.truth[:, int(np.argmin(self.regret))] - self.truth[:, column]
        return float(lost.std(ddof=1) / len(lost) ** 0.5)


def snapped(temperature: float) -> float:
    """Return the nearest measured temperature."""
    return TEMPERATURES[int(np.argmin(np.abs(LOG_T - np.log2(temperature))))]


def number(curve: Curve) -> int:
    """Return a number that hangs on the curve's name alone."""
    return int(hashlib.sha256(str(curve.run.curve).encode()).hexdigest()[:12], 16)


def setups(curves: Sequence[Curve], corpus: Sequence[Curve], test: bool, learned: bool) -> Iterator[Setup]:
    """Give both halves of the seeds of every curve; what is learned, comes from the other sources of `corpus`."""
    book = load_rules()
    sources = {str(curve.run.source) for curve in curves} if learned else set()
    share = load(shipped_model_path()).share
    taught = {source: lesson([curve for curve in corpus if curve.run.source != source]) for source in sources}
    for curve in curves:
        contract = curve.run.setup.loss_contract()
        prior = rules_response(curve.profile, curve.run.setup, contract, book)
        if learned:
            prior = blend(prior, taught[str(curve.run.source)](curve), share)
        rng = np.random.default_rng(number(curve))
        order = rng.permutation(SEEDS)
        for seeds, others in ((order[:10], order[10:]), (order[10:], order[:10])):
            truth = (curve.accuracy if test else curve.val_accuracy)[others]
            yield Setup(curve, seeds, truth, regrets(truth, rng), prior, snapped(prior.best))


def lesson(rest: Sequence[Curve]) -> Callable[[Curve], Response]:
    """Return what a model of the shipped kind, fitted to other sources, believes of a curve."""
    shipped, learned = load(shipped_model_path()), lessons(rest)
    model = FITS[shipped.kind](learned, shipped.setting)
    return lambda curve: at(FINE, ANSWERS[shipped.kind](model, fill(row_of(curve), learned.features)))


# What a number of trainings buys.


def verified(setup: Setup, budget: int, recommended: float | None = None) -> tuple[Verdict, int]:
    """Search as `verify` does; return what it claims and the trainings that it took."""
    search = searched(setup, recommended or setup.recommended, budget)
    while (cell := propose(search)) is not None:
        search = search.with_cell(cell, setup.seen(cell[1], TEMPERATURES.index(cell[0])))
    return verdict(search), len(search.cells)


def knowing_all(setup: Setup, recommended: float) -> tuple[Verdict, int]:
    """Return what could be claimed of every training there is, to see what the data can tell at all."""
    cells = {(t, s): setup.seen(s, i) for i, t in enumerate(TEMPERATURES) for s in range(len(setup.seeds))}
    search = dataclasses.replace(searched(setup, recommended, len(cells)), cells=cells)
    return verdict(search), len(cells)


def searched(setup: Setup, recommended: float, budget: int) -> Search:
    """Return the search of a setup before its first training."""
    return Search(
        prior=setup.prior,
        recommended=recommended,
        temperatures=TEMPERATURES,
        n_val=setup.curve.run.n_val or 1,
        budget=budget,
        most_seeds=len(setup.seeds),
    )


def grid(setup: Setup, budget: int) -> float:
    """Return what is lost by a grid of that many trainings: 3 or 10 temperatures, or 10 with 3 seeds each."""
    columns = [TEMPERATURES.index(t) for t in (SHORT_GRID if budget == 3 else TEMPERATURES)]
    n = budget // len(columns)
    accuracy = setup.curve.val_accuracy[setup.seeds][:, columns]
    means = accuracy[: len(accuracy) // n * n].reshape(-1, n, len(columns)).mean(1)
    return float(np.mean(setup.regret[columns][np.argmax(means, axis=1)]))


def random_search(setup: Setup, budget: int) -> float:
    """Return what is lost by log-uniform draws, one seed, the best by validation accuracy."""
    rng = np.random.default_rng(number(setup.curve))
    lost = []
    for seed in range(len(setup.seeds)):
        drawn = [TEMPERATURES.index(snapped(2**x)) for x in rng.uniform(LOG_T[0], LOG_T[-1], budget)]
        lost.append(setup.regret[max(drawn, key=lambda column, seed=seed: setup.seen(seed, column))])  # type: ignore[misc]
    return float(np.mean(lost))


def tpe(setup: Setup, budgets: Sequence[int]) -> dict[int, float]:
    """Return what is lost by Optuna's TPE over log T, one seed, after each number of trials."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=number(setup.curve) % 2**31)
    )
    lost = {}
    for done in range(1, max(budgets) + 1):
        trial = study.ask()
        column = TEMPERATURES.index(snapped(trial.suggest_float("temperature", 1, TEMPERATURES[-1], log=True)))
        trial.set_user_attr("column", column)
        study.tell(trial, setup.seen(0, column))
        if done in budgets:
            lost[done] = float(setup.regret[study.best_trial.user_attrs["column"]])
    return lost


# What is told of them.


def interval(values: Array, setups: Sequence[Setup]) -> tuple[float, float, float]:
    """Return the mean over sources of the means within them, with the ends of its 95 % interval.

    The bootstrap draws sources, and setups within them; both halves of a setup's seeds go together.
    """
    clusters: dict[str, dict[str, list[int]]] = {}
    for i, setup in enumerate(setups):
        clusters.setdefault(setup.source, {}).setdefault(str(setup.curve.run.curve), []).append(i)
    means = [np.array([values[rows].mean() for rows in one.values()]) for one in clusters.values()]
    rng = np.random.default_rng(0)
    draws = [
        np.mean([means[k][rng.integers(len(means[k]), size=len(means[k]))].mean() for k in picked])
        for picked in rng.integers(len(means), size=(DRAWS, len(means)))
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.mean([one.mean() for one in means])), float(low), float(high)


def right(setup: Setup, found: Verdict, recommended: float) -> tuple[bool, bool]:
    """Return whether a claim holds in the truth as measured, and whether the truth does not refute it at 95 %."""
    column = TEMPERATURES.index(recommended)
    if found.claim == "better_found":
        gain = setup.truth[:, TEMPERATURES.index(found.temperature)] - setup.truth[:, column]
        error = gain.std(ddof=1) / len(gain) ** 0.5
        return bool(gain.mean() > 0), bool(gain.mean() > -1.645 * error)
    lost, bound = setup.regret[column], TOLERANCE if found.claim == "confirmed" else MATTERS
    return bool(lost <= bound), bool(lost <= bound + 1.645 * setup.error(column))


def planted(setup: Setup, wrong: bool) -> float | None:
    """Return a temperature that loses a point and three errors, or below the tolerance; None if none does."""
    fits = [
        t
        for column, (t, lost) in enumerate(zip(TEMPERATURES, setup.regret, strict=True))
        if (lost >= max(0.01, 3 * setup.error(column)) if wrong else lost < TOLERANCE)
    ]
    rng = np.random.default_rng([number(setup.curve), setup.seeds[0]])
    return fits[rng.integers(len(fits))] if fits else None


def regret_rows(found: Sequence[Setup]) -> Iterator[str]:
    """Give what each way of spending trainings loses, and how much more that is than `verify` loses, in points."""
    yield "| trainings | method | mean regret | 95 % interval | more than verify | 95 % interval |"
    yield "|---|---|---|---|---|---|"
    sampled = [tpe(one, BUDGETS) for one in found]
    for budget in BUDGETS:
        used = [verified(one, budget)[0].temperature for one in found]
        own = np.array([one.regret[TEMPERATURES.index(t)] for one, t in zip(found, used, strict=True)])
        rows: Mapping[str, Array] = {
            "verify": own,
            "recommendation, unverified (no training)": np.array(
                [one.regret[TEMPERATURES.index(one.recommended)] for one in found]
            ),
            "grid": np.array([grid(one, budget) for one in found]),
            "Optuna TPE, one seed": np.array([one[budget] for one in sampled]),
            "random search, one seed": np.array([random_search(one, budget) for one in found]),
            "grid of 10 with 3 seeds (30 trainings)": np.array([grid(one, BUDGETS[-1]) for one in found]),
            "Optuna TPE, one seed (10 trainings)": np.array([one[10] for one in sampled]),
        }
        for name, lost in rows.items():
            mean, low, high = interval(100 * lost, found)
            more, least, most = interval(100 * (lost - own), found)
            yield (
                f"| {budget} | {name} | {mean:.2f} | {low:.2f} to {high:.2f} "
                f"| {more:+.2f} | {least:+.2f} to {most:+.2f} |"
            )


def claim_rows(found: Sequence[Setup]) -> Iterator[str]:
    """Give how often each claim is made, by budget, and how often it holds."""
    yield "| trainings allowed | used | claim | searches | share | holds | not refuted | 95 % interval of holds |"
    yield "|---|---|---|---|---|---|---|---|"
    for budget in BUDGETS:
        done = [(one, *verified(one, budget)) for one in found]
        used = np.mean([n for _, _, n in done])
        for names in ((CLAIMS[0],), (CLAIMS[1],), (CLAIMS[2],), CLAIMS):
            these = [(one, right(one, v, one.recommended)) for one, v, _ in done if v.claim in names]
            start = f"| {budget} | {used:.1f} | {'all three' if len(names) > 1 else names[0]} | {len(these)} "
            start += f"| {len(these) / len(found):.0%} |"
            if not these:
                yield f"{start} | | |"
                continue
            holds, unrefuted = np.array([held for _, held in these], float).T
            _, low, high = interval(holds, [one for one, _ in these])
            yield f"{start} {holds.mean():.1%} | {unrefuted.mean():.1%} | {low:.0%} to {high:.0%} |"
        undecided = np.mean([v.claim == "undecided" for _, v, _ in done])
        yield f"| {budget} | {used:.1f} | undecided | | {undecided:.0%} | | | |"


def planted_rows(found: Sequence[Setup]) -> Iterator[str]:
    """Give how often planted recommendations are contradicted, upheld, and left for another temperature."""
    yield "| planted | allowed | used | searches | contradicted | mean over sources | 95 % interval | upheld | left |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for wrong in (True, False):
        these = [(one, t) for one in found if (t := planted(one, wrong)) is not None]
        for budget in (*BUDGETS, None):
            done = [verified(one, budget, t) if budget else knowing_all(one, t) for one, t in these]
            called = np.array([v.claim == "better_found" for v, _ in done], float)
            upheld = np.mean([v.claim in ("confirmed", "no_detectable_difference") for v, _ in done])
            left = np.mean([v.temperature != t for (v, _), (_, t) in zip(done, these, strict=True)])
            mean, low, high = interval(called, [one for one, _ in these])
            yield (
                f"| {'loses 1 pp and 3 errors' if wrong else 'loses below 0.2 pp'} | {budget or 'all there are'} "
                f"| {np.mean([n for _, n in done]):.1f} | {len(these)} | {called.mean():.1%} | {mean:.1%} "
                f"| {low:.0%} to {high:.0%} | {upheld:.1%} | {left:.1%} |"
            )


def main() -> int:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--setups", choices=("tuning", "report", "all"), default="report")
    parser.add_argument("--truth", choices=("validation", "test"), default="test")
    parser.add_argument("--prior", choices=("rules", "learned"), default="learned")
    chosen = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    files = chosen.files or sorted(p for p in RUNS.glob("*.csv") if not p.name.startswith("frozen"))
    wanted = {"tuning": (0,), "report": (1,), "all": (0, 1)}[chosen.setups]
    curves = [
        curve
        for curve in read_curves(files)[0]
        if curve.profile and len(curve.accuracy) == SEEDS and number(curve) % 2 in wanted
    ]
    found = list(setups(curves, shipped_curves(), chosen.truth == "test", chosen.prior == "learned"))
    print(f"{len(found) // 2} setups of {len({one.source for one in found})} sources, both halves of their seeds")
    for rows in (regret_rows, claim_rows, planted_rows):
        print("\n".join(["", *rows(found)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
