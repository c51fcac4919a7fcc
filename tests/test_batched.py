"""The batched perceptrons are the same students as the loop's, only faster."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tempadvisor.batched import linear_layers, train_batched
from tempadvisor.distill import Views, train
from tempadvisor.errors import UsageError
from tempadvisor.records import TrainingSetup

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 30, 1, 4, 4, generator=GENERATOR)
VIEWS = Views(
    images=IMAGES,
    targets=torch.softmax(torch.randn(3, 30, 5, generator=GENERATOR), 2),
    teacher_logits=4 * torch.randn(3, 30, 5, generator=GENERATOR),
)
TEMPERATURES = (None, 1.0, 4.0, 40.0)
SEEDS = (3, 4, 8)


def start(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5))


def setup(**given: object) -> TrainingSetup:
    return TrainingSetup(**{"optimizer": "sgd", "lr": 0.05, "batch_size": 8, "epochs": 5, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"schedule": "cosine", "weight_decay": 0.1, "momentum": 0.5},
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1, "label_smoothing": 0.1},
        {"kd_weight": 0.3, "hard_weight": 0.4, "t_squared": False},
        {"reduction": "mean", "kd_weight": 1.0},
        {"batch_size": 64},
    ],
    ids=str,
)
def test_every_student_is_the_one_that_the_loop_trains(given):
    students = train_batched([start(seed) for seed in SEEDS], VIEWS, setup(**given), TEMPERATURES, SEEDS)
    logits = students.logits(IMAGES[0])
    for i, seed in enumerate(SEEDS):
        for j, temperature in enumerate(TEMPERATURES):
            alone = start(seed)
            train(alone, VIEWS, setup(**given), temperature, seed=seed)
            torch.testing.assert_close(logits[i, j], alone(IMAGES[0]), rtol=1e-3, atol=1e-4)


def test_one_student_that_diverges_leaves_the_others_alone():
    views = Views(images=IMAGES, targets=VIEWS.targets, teacher_logits=VIEWS.teacher_logits)
    hot = setup(lr=0.05, kd_weight=1e30, hard_weight=0.1)
    students = train_batched([start(3)], views, hot, (None, 40.0), (3,))
    logits = students.logits(IMAGES[0])
    assert logits[0, 0].isfinite().all()
    assert not logits[0, 1].isfinite().all()
    torch.testing.assert_close(
        logits[0, 0], train_batched([start(3)], views, setup(), (None,), (3,)).logits(IMAGES[0])[0, 0]
    )


def test_standardized_logits_and_other_students_are_left_to_the_loop():
    with pytest.raises(UsageError, match="standardized must be false"):
        train_batched([start(3)], VIEWS, setup(standardized=True), (4.0,), (3,))
    assert linear_layers(nn.Sequential(nn.Conv2d(1, 1, 1))) is None
    assert linear_layers(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) is None
    with pytest.raises(UsageError, match="linear layers"):
        train_batched([nn.Sequential(nn.Conv2d(1, 1, 1))], VIEWS, setup(), (4.0,), (3,))
