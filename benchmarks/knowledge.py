"""How long the user's own runs take to add, list and export, against reading and writing the file alone.

    python benchmarks/knowledge.py            # 100,000 rows in SQLite, a Markdown table
    python benchmarks/knowledge.py --rows 20000 --knowledge postgresql://USER@SERVER/DATABASE

The rows are made: 2,500 setups of 40 runs with the columns of `bench`. Each command runs as a user runs it, in a
process of its own, into a database that is empty at first (on a server: what this adds is removed again).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tempadvisor.records import TrainingSetup
from tempadvisor.rows import Maker, values_of
from tempadvisor.runs import Run, write_runs

SEEDS, TEMPERATURES = 4, (None, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)


class Row(NamedTuple):
    """One line of the table."""

    what: str
    seconds: float
    ratio: float


def made_runs(n: int) -> Iterator[Run]:
    """Return `n` runs of made setups."""
    rng = random.Random(0)
    for i in range(n // (SEEDS * len(TEMPERATURES)) + 1):
        setup = TrainingSetup(
            kd_weight=0.9, t_squared=True, optimizer="sgd", lr=0.001 * (i + 1), momentum=0.9, weight_decay=5e-4,
            batch_size=128, epochs=100, schedule="cosine", augmentation="standard", n_train=50_000, image_size=32,
            student="resnet8", student_params=78_042, teacher_params=1_727_962, student_init="random",
            teacher_origin="scratch", logits_from="train-augmented",
        )  # fmt: skip
        for seed in range(SEEDS):
            for temperature in TEMPERATURES:
                yield Run(
                    suite="made", curve=f"made-{i}", seed=seed, temperature=temperature, source="made",
                    dataset="made", teacher="resnet110", teacher_hash="0123456789abcdef", setup=setup, n_classes=100,
                    n_val=5_000, n_test=10_000, status="FINISHED", val_accuracy=rng.gauss(0.7, 0.01),
                    test_accuracy=rng.gauss(0.7, 0.01), train_accuracy=rng.random(), val_loss=rng.random(),
                    train_loss=rng.random(), train_seconds=rng.random(), device="cpu", versions="torch numpy",
                    commit="0123456789ab", time="2026-01-01T00:00:00Z",
                )  # fmt: skip


def timed(*words: str, knowledge: str) -> tuple[float, str]:
    """Return the wall time and the output of one command."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tempadvisor", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TEMPADVISOR_KNOWLEDGE": knowledge},
    )
    return time.perf_counter() - start, done.stdout


def measure(n: int, knowledge: str | None) -> list[Row]:
    """Run all commands on `n` rows."""
    with tempfile.TemporaryDirectory() as folder:
        file, again = Path(folder, "made.csv"), Path(folder, "again.csv")
        url = knowledge or f"sqlite:///{folder}/knowledge.db"
        runs = [run for run, _ in zip(made_runs(n), range(n), strict=False)]
        write_runs(file, runs)
        start = time.perf_counter()
        with file.open(newline="") as source, again.open("w", newline="") as target:
            csv.writer(target).writerows(csv.reader(source))
        plain = time.perf_counter() - start
        values = [{name: str(value) for name, value in values_of(run).items()} for run in runs[: n // 10]]
        start = time.perf_counter()
        make = Maker()
        for row in values:
            make(row)
        checked = 10 * (time.perf_counter() - start)
        rows = [
            Row(f"csv reads and writes {n:,} rows", plain, 1.0),
            Row("of them, made and checked as runs", checked, 0.0),
        ]
        one = Path(folder, "one.csv")
        write_runs(one, [dataclasses.replace(runs[0], suite="one", teacher="another")])
        commands = {
            "knowledge add": ("knowledge", "add", str(file)),
            "knowledge add, again": ("knowledge", "add", str(file)),
            "knowledge add, one row more": ("knowledge", "add", str(one)),
            "knowledge list": ("knowledge", "list"),
            "knowledge check": ("knowledge", "check"),
            "knowledge stats": ("knowledge", "stats"),
            "knowledge export, csv": ("knowledge", "export", "-o", f"{folder}/out.csv"),
            "knowledge export, jsonl": ("knowledge", "export", "-o", f"{folder}/out.jsonl"),
            "knowledge export, parquet": ("knowledge", "export", "-o", f"{folder}/out.parquet"),
            "recommend --demo": ("recommend", "--demo"),
        }
        for what, words in commands.items():
            rows.append(Row(what, timed(*words, knowledge=url)[0], 0.0))
        imported = json.loads(timed("knowledge", "list", "--json", knowledge=url)[1])["imports"]
        ids = [one["id"] for one in imported if one["file"].startswith(folder)]
        rows += [Row("knowledge remove", timed("knowledge", "remove", id, knowledge=url)[0], 0.0) for id in ids]
        return [row._replace(ratio=row.seconds / plain) for row in rows]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--knowledge", metavar="URL")
    given = parser.parse_args()
    print("| what | seconds | over the csv module |\n|---|---|---|")
    for row in measure(given.rows, given.knowledge):
        print(f"| {row.what} | {row.seconds:.2f} | {row.ratio:.1f} x |")


if __name__ == "__main__":
    main()
