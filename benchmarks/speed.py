"""How fast and how small the tool is, as ratios against what a user would do instead, measured in one run.

    python benchmarks/speed.py            # a Markdown table
    python benchmarks/speed.py --json

The profile is measured on made logits of a plausible teacher, 50,000 x 1,000 float32, sorted by class, in a `.npy`
file that the system has cached, against the straightforward numpy loop over the same temperatures. A second table
is of `engine.py`: grids of students against the usual way to train them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import engine
import numpy as np
import numpy.typing as npt

from tempadvisor.measures import TEMPERATURES
from tempadvisor.profiling import profile
from tempadvisor.records import TeacherProfile

N_SAMPLES, N_CLASSES = 50_000, 1_000
Logits = npt.NDArray[np.float32]


class Row(NamedTuple):
    """One line of the table: what was measured, against what, and the bound it must hold."""

    what: str
    value: float
    unit: str
    bound: str
    holds: bool
    detail: str


def made_logits(
    n_samples: int,
    n_classes: int,
    *,
    seed: int = 0,
    confidence: float = 9.0,
    scale: float = 1.0,
    n_blocks: int = 50,
    relatedness: float = 2.0,
) -> tuple[Logits, npt.NDArray[np.int64]]:
    """Return logits and labels of a made teacher, sorted by class.

    A spike on the label (most of the time; some samples are hard, with a low spike) over a background of what
    blocks of classes share, what a class has to do with another, and noise.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) * n_classes // n_samples
    block = np.arange(n_classes) * n_blocks // n_classes
    means = rng.normal(0.0, 1.0, (n_classes, n_classes)).astype(np.float32)
    means += relatedness * (block[:, None] == block[None, :])
    logits = np.empty((n_samples, n_classes), np.float32)
    for start in range(0, n_samples, 4096):
        own = labels[start : start + 4096]
        part = rng.standard_normal((len(own), n_classes), np.float32) * np.float32(1.2) + means[own]
        part[np.arange(len(own)), own] += confidence * rng.beta(4.0, 1.5, len(own)).astype(np.float32) * 1.4
        logits[start : start + 4096] = part * scale
    return logits, labels


def plain_curve(logits: Logits, batch: int) -> list[float]:
    """Return the mean entropy at each temperature, the way one would write it."""
    curve = []
    for temperature in TEMPERATURES:
        total = 0.0
        for start in range(0, len(logits), batch):
            scaled = logits[start : start + batch] / temperature
            exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
            p = exp / exp.sum(axis=1, keepdims=True)
            total += float(-(p * np.log(p + 1e-12)).sum())
        curve.append(total / len(logits))
    return curve


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least of some wall times of a call in seconds, and its result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def profile_speed(folder: Path) -> Iterator[Row]:
    """Measure full and adaptive profiles against the plain loop; the best batch size is chosen for the latter."""
    path = folder / "teacher.npy"
    logits, _ = made_logits(N_SAMPLES, N_CLASSES)
    np.save(path, logits)
    del logits
    stored = np.load(path, mmap_mode="r")
    batch = min((256, 4096, N_SAMPLES), key=lambda n: timed(lambda: plain_curve(stored[:8192], n), 1)[0])
    loop, curve = timed(lambda: plain_curve(stored, batch), 3)
    full_time, full = timed(lambda: profile(path, read_all=True), 5)
    quick_time, quick = timed(lambda: profile(path), 5)
    off = max(abs(a - b) for a, b in zip(curve, full.entropy_nats, strict=True))
    yield Row("plain numpy loop", loop, "s", "", True, f"batches of {batch:,}, {len(TEMPERATURES)} temperatures")
    yield _faster("full profile", loop, full_time, 5, f"entropies within {off:.1e} nats of the loop's")
    yield _faster("adaptive profile", loop, quick_time, 20, f"{quick.n_samples:,} of {N_SAMPLES:,} samples")


def _faster(what: str, loop: float, seconds: float, bound: float, detail: str) -> Row:
    ratio = loop / seconds
    return Row(what, ratio, "times faster", f"at least {bound:g}", ratio >= bound, f"{seconds:.3f} s; {detail}")


_PEAK = """
import sys, threading, time
from tempadvisor.profiling import profile
peak, done = 0, False
def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
def watch():
    global peak
    while not done:
        peak = max(peak, rss())
        time.sleep(0.001)
watcher = threading.Thread(target=watch); watcher.start()
profile(sys.argv[1], read_all=sys.argv[2] == "full")
done = True; watcher.join()
print(peak)
"""


def profile_memory(folder: Path) -> Iterator[Row]:
    """Measure the peak of anonymous resident memory (RssAnon, so without mapped files) of a fresh process."""
    from safetensors.numpy import save_file

    npy = folder / "teacher.npy"
    if not npy.exists():
        np.save(npy, made_logits(N_SAMPLES, N_CLASSES)[0])
    safetensors = folder / "teacher.safetensors"
    save_file({"logits": np.load(npy)}, safetensors)
    for path in (npy, safetensors):
        for mode in ("full", "adaptive"):
            command = [sys.executable, "-c", _PEAK, str(path), mode]
            peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024
            yield Row(
                f"peak memory, {mode}, {path.suffix}", peak, "MiB", "under 300 MB", peak * 1.048576 < 300, "RssAnon"
            )


def made_teachers() -> Iterator[tuple[str, Logits, npt.NDArray[np.int64]]]:
    """Yield 20 made teachers that differ in classes, scale, confidence and blocks, each sorted by class."""
    for i in range(20):
        n_classes = (10, 20, 37, 100, 200, 500, 1000)[i % 7]
        n_samples = (20_000, 50_000)[i % 2]
        confidence, scale = (3.0, 6.0, 9.0, 14.0)[i % 4], (0.3, 1.0, 3.0)[i % 3]
        n_blocks = max(2, n_classes // (3, 5, 10, 20)[i // 5])
        logits, labels = made_logits(
            n_samples, n_classes, seed=i, confidence=confidence, scale=scale, n_blocks=n_blocks, relatedness=i % 5
        )
        yield f"K={n_classes} N={n_samples} spike={confidence:g} scale={scale:g} blocks={n_blocks}", logits, labels


def adaptive_agreement() -> Iterator[Row]:
    """Compare adaptive with full profiles on 20 teachers: the temperatures of softness, and the advice itself."""
    from tempadvisor.advise import recommend
    from tempadvisor.records import TrainingSetup

    setup = TrainingSetup(optimizer="sgd", epochs=200, kd_weight=0.9)
    worst = {"softness temperatures at 0.3 and 0.5": 0.0, "advice": 0.0}
    used = []
    for title, logits, labels in made_teachers():
        full, quick = profile(logits, labels, read_all=True), profile(logits, labels)
        soft = max(relative(quick, full))
        advice = abs(math.log(recommend(quick, setup).temperature / recommend(full, setup).temperature))
        worst = {name: max(old, new) for (name, old), new in zip(worst.items(), (soft, advice), strict=True)}
        used.append(quick.n_samples / len(logits))
        print(
            f"{title}: {used[-1]:.0%} read, softness {soft:.2%}, advice {advice:.2%}, "
            f"granularity {full.granularity:.3f} {quick.granularity:.3f}, "
            f"related mass {full.related_mass:.3f} {quick.related_mass:.3f}",
            file=sys.stderr,
        )
    for name, value in worst.items():
        detail = f"largest of 20 teachers; {np.mean(used):.0%} of the samples read on average"
        yield Row(f"adaptive against full: {name}", 100 * value, "%", "at most 3", value <= 0.03, detail)


def relative(one: TeacherProfile, other: TeacherProfile) -> Iterator[float]:
    """Yield the relative differences of the temperatures that give entropy levels 0.3 and 0.5."""
    for a, b in list(zip(one.softness_temperatures, other.softness_temperatures, strict=True))[1:3]:
        if a and b:
            yield abs(math.log(a / b))


# a setup that measured runs are near to, so that the model answers
NEAR = (
    "--optimizer sgd --lr 0.05 --epochs 100 --batch-size 64 --n-train 5000 --kd-weight 0.9 --augmentation standard "
    "--student mlp-64 --student-params 30000"
)


def startup(folder: Path) -> Iterator[Row]:
    """Compare `recommend` on a saved profile with a bare `import numpy`, whole processes taken in turns.

    Python keeps bytecode, as it does unless told otherwise and as an installed package has it.
    """
    from tempadvisor.documents import save_profile
    from tempadvisor.teachers import demo_profile

    saved = folder / "profile.json"
    save_profile(demo_profile(), saved)
    recommend = [
        sys.executable,
        "-m",
        "tempadvisor",
        "recommend",
        str(saved),
        *NEAR.split(),
    ]
    commands = {
        "numpy": [sys.executable, "-c", "import numpy"],
        "recommend on a saved profile, panel": recommend,
        "recommend on a saved profile, --json": [*recommend, "--json"],
    }
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    surroundings["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    best = dict.fromkeys(commands, math.inf)
    for _ in range(20):
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=surroundings)
            best[name] = min(best[name], time.perf_counter() - began)
    bare = best.pop("numpy")
    for name, seconds in best.items():
        ratio = seconds / bare
        detail = f"{1000 * seconds:.0f} ms against {1000 * bare:.0f} ms, best of 20 each"
        yield Row(f"{name}, over `import numpy`", ratio, "x", "at most 2.5", ratio <= 2.5, detail)


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| what | measured | bound | holds | detail |", "|---|---|---|---|---|"]
    for row in rows:
        holds = "" if not row.bound else "yes" if row.holds else "NO"
        lines.append(f"| {row.what} | {row.value:.3g} {row.unit} | {row.bound} | {holds} | {row.detail} |")
    return "\n".join(lines)


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *startup(Path(folder)),
            *profile_speed(Path(folder)),
            *profile_memory(Path(folder)),
            *adaptive_agreement(),
        ]
        grids = [row for grid in engine.GRIDS for row in engine.measure(grid, Path(folder))]
    if arguments.json:
        trained = [row._asdict() | {"holds": row.holds} for row in grids]
        print(json.dumps({"profile": [row._asdict() for row in rows], "engine": trained}, indent=2))
    else:
        print(f"{table(rows)}\n\n{engine.table(grids)}\n\n{engine.shares(grids)}")
    return 0 if all(row.holds for row in rows) and all(row.holds for row in grids) else 1


if __name__ == "__main__":
    sys.exit(main())
