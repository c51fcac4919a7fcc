"""Make the embedded demo: a real teacher's logits on the digits it was trained on.

The teacher is a multilayer perceptron (64-256-128-10) trained with cross-entropy on 1,000 of scikit-learn's digits,
stopped where a normal teacher is: nearly all training images right, confident but not one-hot. The file holds its
float32 `logits` on those training inputs (which is what a student sees) and their `labels`.

    python benchmarks/make_demo.py

It deliberately ships no weights: the demo is about logits.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import sklearn
import torch
from safetensors.torch import save
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

TARGET = Path(__file__).parents[1] / "tempadvisor" / "data" / "digits-teacher.safetensors"
SPLIT_SEED, TEACHER_SEED = 0, 0
N_TRAIN, N_VAL = 1000, 300
EPOCHS, BATCH, LR, WEIGHT_DECAY = 30, 50, 2e-3, 1e-2


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(TEACHER_SEED)
    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    train, val, test = np.split(order, [N_TRAIN, N_TRAIN + N_VAL])
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target, dtype=torch.int64)

    teacher = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * N_TRAIN // BATCH
    for step in range(steps):
        if step * BATCH % N_TRAIN == 0:
            batches = iter(torch.split(torch.from_numpy(train)[torch.randperm(N_TRAIN)], BATCH))
        batch = next(batches)
        optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * step / steps)) / 2
        loss = cross_entropy(teacher(images[batch]), labels[batch])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    with torch.no_grad():
        logits = teacher(images)
    right = (logits.argmax(1) == labels).double()
    train_logits = logits[torch.from_numpy(train)]
    metadata = {
        "dataset": "sklearn/digits",
        "logits_from": "train",
        "teacher": "mlp 64-256-128-10",
        "split_seed": str(SPLIT_SEED),
        "n_train": str(len(train)),
        "train_accuracy": f"{right[train].mean():.4f}",
        "validation_accuracy": f"{right[val].mean():.4f}",
        "test_accuracy": f"{right[test].mean():.4f}",
        "script": "benchmarks/make_demo.py",
        "versions": f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}",
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(sorted_header(save({"logits": train_logits, "labels": labels[train]}, metadata)))
    for key, value in metadata.items():
        print(f"{key}: {value}")
    for temperature in (1, 4):
        log_p = torch.log_softmax(train_logits / temperature, dim=1)
        print(f"mean entropy at T={temperature}: {-(log_p.exp() * log_p).sum(1).mean():.3f} nats")


def sorted_header(file: bytes) -> bytes:
    """Return a safetensors `file` with its header's keys sorted: the library leaves their order to chance."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[end:]


if __name__ == "__main__":
    main()
