"""Score the advice and its rivals on setups never seen, and log that it was done.

    python benchmarks/advice.py [--by source|teacher|setup]
    python benchmarks/advice.py --frozen

Every run adds a line to `benchmarks/evaluations.jsonl`, so that it can be seen how often the table was looked at.
Frozen sources are left out; `--frozen` scores them alone, learned from the others, once, when the work is closed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tempadvisor.curves import Curve, read_curves
from tempadvisor.evaluation import evaluate
from tempadvisor.fitting import shipped_curves, version_of
from tempadvisor.summary import Summary, summarize

ROOT = Path(__file__).resolve().parent.parent
LOG = Path(__file__).parent / "evaluations.jsonl"
FROZEN = sorted((ROOT / "knowledge" / "runs").glob("frozen*.csv"))


def table(found: Summary) -> str:
    """Return the scores as a Markdown table, in points."""
    lines = [
        "| method | mean regret | 90 % interval | each at most 3 | median | mean from 100 steps on "
        "| above the floor by at most 0.2 | at most 0.5 | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {line.method} | {100 * line.regret:.2f} | {100 * line.low:.2f} to {100 * line.high:.2f} "
        f"| {100 * line.cut_regret:.2f} | {100 * line.median:.2f} | {100 * (line.long_regret or 0):.2f} "
        f"| {line.within_02:.0%} | {line.within_05:.0%} | {line.cost} |"
        for line in found.lines
    ]
    return "\n".join([*lines, *rows])


def _told(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {v:.4g}" if isinstance(v, float) else f"{name} {v}" for name, v in values.items())


def main() -> int:
    """Evaluate, print and log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", choices=("source", "teacher", "setup"), default="source")
    parser.add_argument("--frozen", action="store_true")
    asked = parser.parse_args()
    by = "frozen" if asked.frozen else asked.by
    curves = shipped_curves()
    beside: list[Curve] = []
    if asked.frozen:
        if not FROZEN:
            parser.error("no source is frozen")
        beside, curves = curves, read_curves(FROZEN, frozen=True)[0]
    began = time.perf_counter()
    said = evaluate(
        curves, by=by, beside=beside, progress=lambda done, n: print(f"fold {done} of {n}", file=sys.stderr)
    )
    found = summarize(said)
    print(f"{table(found)}\n")
    for name, share in dataclasses.asdict(found.promises).items():
        print(f"- {name}: {'none' if share is None else format(share, '.0%')}")
    for one in found.by_source:
        print("- " + _told(dataclasses.asdict(one)))
    for other in found.costliest:
        print("- " + _told(dataclasses.asdict(other)))
    for name, choice in found.choices.items():
        print(f"- without {name}: {choice}")
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    entry = {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit.stdout.strip(),
        "by": by,
        "curves": len(curves),
        "corpus": version_of([*curves, *beside]),
        "seconds": round(time.perf_counter() - began),
        "regret": {line.method: round(line.regret, 5) for line in found.lines},
        "cut_regret": {line.method: round(line.cut_regret, 5) for line in found.lines},
    }
    with LOG.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
