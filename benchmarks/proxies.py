"""Show what a proxy of `verify` costs: trainings with a share of the epochs, their schedule compressed.

    python benchmarks/proxies.py [SHORT.csv]

The curves of `knowledge/runs/proxy.csv` are 40 setups of the corpus at half, a quarter and an eighth of their epochs;
the full-length curve of each is in the corpus, under the same teacher, split and recipe. Temperatures are chosen on
validation accuracy of the short trainings and judged by test accuracy of the long ones, cross-fitted over seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from verify import Setup, number, snapped, verified

from tempadvisor.belief import rules_response
from tempadvisor.curves import LOG_T, SMOOTHER, TEMPERATURES, Curve, read_curves, regrets
from tempadvisor.rules import load_rules

Array = npt.NDArray[np.float64]
RUNS = Path(__file__).resolve().parent.parent / "knowledge" / "runs"
SHORT = RUNS / "proxy.csv"
FRACTIONS = (2, 4, 8)
COSTS = (3, 5, 10)  # in trainings of full length
SEEDS = 10


class Pair(NamedTuple):
    """A short curve, the full-length one of the same setup, and what each temperature loses at full length."""

    short: Curve
    full: Curve
    fraction: int
    regret: Array

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer normalizes its steps."""
        return self.full.run.setup.optimizer != "sgd"


def pairs(short: Sequence[Curve], corpus: Sequence[Curve]) -> Iterator[Pair]:
    """Match short curves with full-length ones; all but the epochs is the same."""
    full: dict[Any, Curve] = {}
    for curve in corpus:
        known = full.setdefault(_but_epochs(curve), curve)
        if (known.run.setup.epochs or 0) < (curve.run.setup.epochs or 0):
            full[_but_epochs(curve)] = curve
    for curve in short:
        whole = full.get(_but_epochs(curve))
        if whole is not None:
            ratio = (whole.run.setup.epochs or 1) / (curve.run.setup.epochs or 1)
            fraction = min(FRACTIONS, key=lambda f, ratio=ratio: abs(np.log2(ratio / f)))  # type: ignore[misc]
            lost = regrets(whole.accuracy, np.random.default_rng(number(whole)))
            yield Pair(curve, whole, fraction, lost)


def _but_epochs(curve: Curve) -> Any:
    run = curve.run
    return run.dataset, run.teacher_hash, run.split_seed, dataclasses.replace(run.setup, epochs=None)


def _top(accuracy: Array) -> int:
    return int(np.argmax(SMOOTHER @ accuracy.mean(0)))


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.2f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


def shift_rows(found: Sequence[Pair]) -> Iterator[str]:
    """Give by how much the best temperature moves and what the short trainings' winner loses at full length."""
    yield "| optimizer | epochs | setups | shift of best T, octaves | its winner loses, pp | full length's winner |"
    yield "|---|---|---|---|---|---|"
    for adaptive in (False, True):
        for fraction in FRACTIONS:
            these = [one for one in found if (one.adaptive, one.fraction) == (adaptive, fraction)]
            shifts = [
                float(LOG_T[_top(one.full.val_accuracy[:SEEDS])] - LOG_T[_top(one.short.val_accuracy)])
                for one in these
            ]
            lost = [100 * float(one.regret[_top(one.short.val_accuracy)]) for one in these]
            best = [100 * float(one.regret[_top(one.full.val_accuracy[:SEEDS])]) for one in these]
            yield (
                f"| {'adaptive' if adaptive else 'sgd'} | 1/{fraction} | {len(these)} | {_mean(shifts)} "
                f"| {_mean(lost)} | {_mean(best)} |"
            )


def cost_rows(found: Sequence[Pair], profiled: dict[str, Curve]) -> Iterator[str]:
    """Give what a search loses that trains f times as many students of a fraction 1/f, with the rules as prior."""
    yield "| optimizer | cost in full trainings | setups | full length | 1/2 | 1/4 | 1/8 |"
    yield "|---|---|---|---|---|---|---|"
    book = load_rules()
    for adaptive in (False, True):
        names = {f: {str(one.full.run.curve): one for one in found if one.fraction == f} for f in FRACTIONS}
        common = [
            name
            for name, one in names[2].items()
            if one.adaptive == adaptive and all(name in names[f] for f in FRACTIONS)
        ]
        for cost in COSTS:
            lost: dict[int, list[float]] = {f: [] for f in (1, *FRACTIONS)}
            for name in common:
                full = profiled[name]
                setup = full.run.setup
                prior = rules_response(full.profile, setup, setup.loss_contract(), book)
                for f in (1, *FRACTIONS):
                    pair = names[max(f, 2)][name]
                    searched = full if f == 1 else pair.short
                    case = Setup(searched, np.arange(SEEDS), full.accuracy, pair.regret, prior, snapped(prior.best))
                    used = verified(case, cost * f)[0].temperature
                    lost[f].append(100 * float(pair.regret[TEMPERATURES.index(used)]))
            told = " | ".join(f"{np.mean(values):.2f}" for values in lost.values())
            yield f"| {'adaptive' if adaptive else 'sgd'} | {cost} | {len(common)} | {told} |"


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=SHORT)
    asked = parser.parse_args()
    files = sorted(p for p in RUNS.glob("*.csv") if p != SHORT and not p.name.startswith("frozen"))
    corpus = read_curves(files)[0]
    short = [curve for curve in read_curves([asked.file])[0] if len(curve.accuracy) >= SEEDS]
    found = list(pairs(short, corpus))
    print(f"{len(found)} short curves of {len({str(one.full.run.curve) for one in found})} setups\n")
    print("\n".join(shift_rows(found)))
    print()
    print("\n".join(cost_rows(found, {str(curve.run.curve): curve for curve in corpus})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
