"""Score the advice and its rivals on setups never seen, and log that it was done.

    python benchmarks/advice.py [--by source|teacher|setup]

Every run adds a line to `benchmarks/evaluations.jsonl`, so that it can be seen how often the table was looked at. The
frozen source is left out; it judges once, when the work is closed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tempadvisor.curves import read_curves
from tempadvisor.evaluation import Evaluation, bootstrap, evaluate
from tempadvisor.rivals import macro

ROOT = Path(__file__).resolve().parent.parent
LOG = Path(__file__).parent / "evaluations.jsonl"


def table(found: Evaluation) -> str:
    """Return the scores as a Markdown table, in points, the best first."""
    sources = [case.source for case in found.cases]
    floor = np.array([case.floor for case in found.cases])
    lines = [
        "| method | mean regret | 90 % interval | median | above the floor by at most 0.2 | at most 0.5 | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in sorted(found.scores, key=lambda one: macro(one.regret, sources)):
        low, high = bootstrap(found, score.regret)
        above = score.regret - floor
        lines.append(
            f"| {score.name} | {100 * macro(score.regret, sources):.2f} | {100 * low:.2f} to {100 * high:.2f} "
            f"| {100 * np.median(score.regret):.2f} | {np.mean(above <= 0.002):.0%} | {np.mean(above <= 0.005):.0%} "
            f"| {score.cost} |"
        )
    return "\n".join(lines)


def promises(found: Evaluation) -> str:
    """Return how intervals and verdicts held."""
    v = found.verdicts
    parts = {
        "the interval's ends lose at most 0.2 points": v.ends_hold.mean(),
        "the 90 % interval covers the best temperature": v.covers_best.mean(),
        "harmed": v.harmed.mean(),
        "harmed and not flagged": (v.harmed & ~v.harm_flagged).mean(),
        "flagged as harmful": v.harm_flagged.mean(),
        "indifferent": v.indifferent.mean(),
        "flagged as indifferent": v.indifferent_flagged.mean(),
        "of those rightly": v.indifferent[v.indifferent_flagged].mean() if v.indifferent_flagged.any() else np.nan,
    }
    return "\n".join(f"- {name}: {value:.0%}" for name, value in parts.items())


def main() -> int:
    """Evaluate, print and log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", choices=("source", "teacher", "setup"), default="source")
    by = parser.parse_args().by
    files = [path for path in sorted((ROOT / "knowledge/runs").glob("*.csv")) if not path.name.startswith("frozen")]
    curves = [curve for curve in read_curves(files)[0] if curve.profile is not None]
    began = time.perf_counter()
    found = evaluate(curves, by=by, progress=lambda done, n: print(f"fold {done} of {n}", file=sys.stderr))
    print(f"{table(found)}\n\n{promises(found)}\n")
    for name, choice in found.choices.items():
        print(f"- without {name}: {choice.kind} {choice.setting:g}, share {choice.share:g}")
    sources = [case.source for case in found.cases]
    names = "".join(sorted(str(curve.run.curve) for curve in curves))
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    entry = {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit.stdout.strip(),
        "by": by,
        "curves": len(curves),
        "corpus": hashlib.sha256(names.encode()).hexdigest()[:12],
        "seconds": round(time.perf_counter() - began),
        "regret": {score.name: round(macro(score.regret, sources), 5) for score in found.scores},
    }
    with LOG.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
