"""Take parts of the advice away, and see what it loses on setups never seen; say which setups to measure next.

    python benchmarks/ablation.py [--next 10]

Each source is held out in turn, as in `advice.py`. *Without the profile* nothing is known of the teacher; *without
the setup* nothing else is; *without the rules* the model is blended with the anchor alone; parts of the corpus are
drawn at random, anew in each fold. Every variant chooses and calibrates its own model. `--next` asks the model fitted
to everything about settings that no suite has: where it expects its own advice to lose most, a measured curve would
say most.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence

import numpy as np

from tempadvisor.belief import TEMPERATURES, rules_response
from tempadvisor.calibration import blend
from tempadvisor.curves import Curve
from tempadvisor.evaluation import Evaluation, bootstrap, evaluate
from tempadvisor.features import vector
from tempadvisor.fitting import fit, shipped_curves
from tempadvisor.learned import Learned, distances
from tempadvisor.records import TrainingSetup
from tempadvisor.rivals import macro
from tempadvisor.rules import load_rules

POOL = 3000
VARIED = ("optimizer", "epochs", "batch_size", "n_train", "kd_weight", "t_squared", "augmentation", "student_init")


def blind(curve: Curve) -> Curve:
    """Return the curve as if nothing were known of its teacher."""
    setup = dataclasses.replace(
        curve.run.setup,
        teacher_params=None,
        teacher_origin=None,
        teacher_finetune_epochs=None,
        teacher_augmentation=None,
        teacher_label_smoothing=None,
        logits_from=None,
    )
    return dataclasses.replace(curve, profile=None, run=dataclasses.replace(curve.run, setup=setup))


def bare(curve: Curve) -> Curve:
    """Return the curve as if nothing but its teacher and its loss were known."""
    known = {name: getattr(curve.run.setup, name) for name in ("kd_weight", "hard_weight", "t_squared", "reduction")}
    return dataclasses.replace(curve, run=dataclasses.replace(curve.run, setup=TrainingSetup(**known)))


def ablate(curves: Sequence[Curve]) -> list[str]:
    """Return the table of variants: mean regret with a 90 % interval, and the paired difference to the whole."""
    no_rules = dataclasses.replace(load_rules(), rules=())
    variants: dict[str, Callable[[], Evaluation]] = {
        "everything": lambda: evaluate(curves),
        "without the profile": lambda: evaluate([blind(curve) for curve in curves]),
        "without the setup": lambda: evaluate([bare(curve) for curve in curves]),
        "without the rules": lambda: evaluate(curves, book=no_rules),
        "half of the corpus": lambda: evaluate(curves, part=0.5),
        "a quarter of the corpus": lambda: evaluate(curves, part=0.25),
    }
    lines = ["| advice | mean regret | 90 % interval | more than with everything | median |", "|---|---|---|---|---|"]
    whole = None
    for name, run in variants.items():
        found = run()
        lost = found.score("advice").regret
        whole = lost if whole is None else whole
        low, high = bootstrap(found, lost)
        less, more = bootstrap(found, lost - whole)
        sources = [case.source for case in found.cases]
        lines.append(
            f"| {name} | {100 * macro(lost, sources):.2f} | {100 * low:.2f} to {100 * high:.2f} "
            f"| {100 * macro(lost - whole, sources):+.2f} ({100 * less:+.2f} to {100 * more:+.2f}) "
            f"| {100 * np.median(lost):.2f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def expected_loss(model: Learned, curve: Curve, setup: TrainingSetup) -> tuple[float, float]:
    """Return what the advice expects to lose in `setup` under the teacher of `curve`, and how far the nearest is."""
    contract = setup.loss_contract()
    row = vector(curve.profile, setup, contract)
    rules = rules_response(curve.profile, setup, contract, load_rules())
    answer = blend(rules, model.response(row, TEMPERATURES), model.share)
    lost = answer.gain.max(1) - answer.at(answer.best)
    return float(lost.mean()), float(distances(row, model.lessons.features).min())


def informative(curves: Sequence[Curve], n: int) -> list[str]:
    """Return the n settings of a random pool whose advice is expected to lose most, no two under one teacher."""
    model = fit(curves)
    rng = np.random.default_rng(0)
    pool = []
    for _ in range(POOL):
        one, other = (curves[i] for i in rng.integers(len(curves), size=2))
        taken = {name: getattr(other.run.setup, name) for name in VARIED if rng.random() < 0.5}
        if "optimizer" in taken:  # a rate belongs to its optimizer
            taken |= {name: getattr(other.run.setup, name) for name in ("lr", "momentum", "weight_decay")}
        setup = dataclasses.replace(one.run.setup, hard_weight=None, **taken)
        pool.append((*expected_loss(model, one, setup), one, setup))
    lines = ["| expected loss | distance | source and teacher | setting |", "|---|---|---|---|"]
    seen: set[str | None] = set()
    for loss, distance, curve, setup in sorted(pool, key=lambda entry: -entry[0]):
        if curve.run.teacher_hash in seen or len(seen) == n:
            continue
        seen.add(curve.run.teacher_hash)
        said = ", ".join(f"{name} {getattr(setup, name)}" for name in (*VARIED, "lr", "student"))
        lines.append(f"| {100 * loss:.2f} | {distance:.2f} | {curve.run.source}, {curve.run.teacher} | {said} |")
    return lines


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--next", type=int, default=10, help="how many settings to name; the ablation goes first")
    parser.add_argument("--only-next", action="store_true", help="leave the ablation out")
    asked = parser.parse_args()
    curves = shipped_curves()
    if not asked.only_next:
        print("\n".join(ablate(curves)), end="\n\n")
    print("\n".join(informative(curves, asked.next)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
