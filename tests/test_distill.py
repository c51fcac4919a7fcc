"""The loss keeps its gradient identities; the loop learns, is paired over temperatures and repeats to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from tempadvisor.contracts import convert
from tempadvisor.datasets import Moves
from tempadvisor.distill import (
    Views,
    augment,
    batches,
    learning_rate,
    loss_gradient,
    make_optimizer,
    train,
)
from tempadvisor.errors import UsageError
from tempadvisor.loss import kd_loss
from tempadvisor.records import LossContract, TrainingSetup

N, K = 6, 5
SOFT_ONLY = LossContract(kd_weight=1.0, hard_weight=0.0)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


Z_T, LABELS = normal(N, K, seed=1, scale=4.0), torch.arange(N) % K


def gradient(temperature: float, contract: LossContract, z_s: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    z = z_s.clone().requires_grad_()
    return N * torch.autograd.grad(kd_loss(z, Z_T, LABELS, temperature, contract, smoothing), z)[0]


def test_the_loss_is_what_torch_computes_with_its_own_parts():
    z_s = normal(N, K)
    wanted = 0.25 * cross_entropy(z_s, LABELS, label_smoothing=0.1) + 0.75 * 9 * kl_div(
        torch.log_softmax(z_s / 3, 1), torch.softmax(Z_T / 3, 1), reduction="batchmean"
    )
    torch.testing.assert_close(kd_loss(z_s, Z_T, LABELS, 3.0, LossContract(kd_weight=0.75), 0.1), wanted)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 40.0])
def test_with_t_squared_the_gradient_is_t_times_the_difference_of_the_softened_targets(temperature):
    z_s = normal(N, K)
    difference = torch.softmax(z_s / temperature, 1) - torch.softmax(Z_T / temperature, 1)
    torch.testing.assert_close(gradient(temperature, SOFT_ONLY, z_s), temperature * difference)


def test_at_a_huge_temperature_it_matches_centred_logits():
    z_s = normal(N, K)
    difference = (z_s - Z_T) - (z_s - Z_T).mean(1, keepdim=True)
    torch.testing.assert_close(gradient(1e5, SOFT_ONLY, z_s), difference / K, rtol=1e-3, atol=1e-4)


def test_a_mean_over_classes_divides_the_gradient_by_k():
    z_s = normal(N, K)
    mean = LossContract(kd_weight=1.0, hard_weight=0.0, reduction="mean")
    torch.testing.assert_close(gradient(4.0, mean, z_s), gradient(4.0, SOFT_ONLY, z_s) / K)


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
@pytest.mark.parametrize("kd_weight", [0.1, 0.9])
def test_the_gradient_does_not_collapse_with_t_on_any_path_with_t_squared(standardized, reduction, kd_weight):
    contract = LossContract(kd_weight=kd_weight, hard_weight=0.0, reduction=reduction, standardized=standardized)
    warm, hot = (gradient(t, contract, normal(N, K)).norm() for t in (4.0, 400.0))
    assert hot > 0.5 * warm


@pytest.mark.parametrize("standardized", [False, True])
def test_without_t_squared_it_does_collapse(standardized):
    contract = LossContract(kd_weight=1.0, hard_weight=0.0, t_squared=False, standardized=standardized)
    warm, hot = (gradient(t, contract, normal(N, K)).norm() for t in (4.0, 400.0))
    assert hot < 1e-3 * warm


def test_the_loss_trains_alike_under_every_converted_contract():
    contract, z_s = LossContract(kd_weight=0.9), normal(N, K)
    other = convert(6.0, contract, t_squared=False, reduction="mean", n_classes=K)
    torch.testing.assert_close(gradient(6.0, contract, z_s), gradient(other.temperature, other.contract, z_s))


def test_a_constant_added_to_a_row_and_a_permutation_of_classes_change_nothing():
    contract, z_s, perm = LossContract(), normal(N, K), torch.tensor([2, 0, 1, 4, 3])
    plain = kd_loss(z_s, Z_T, LABELS, 4.0, contract)
    torch.testing.assert_close(kd_loss(z_s + 7, Z_T - normal(N, 1), LABELS, 4.0, contract), plain)
    torch.testing.assert_close(kd_loss(z_s[:, perm], Z_T[:, perm], perm.argsort()[LABELS], 4.0, contract), plain)


def test_labels_may_be_probabilities():
    one_hot = torch.eye(K, dtype=torch.float64)[LABELS]
    z_s = normal(N, K)
    torch.testing.assert_close(
        kd_loss(z_s, Z_T, one_hot, 4.0, LossContract(), 0.1), kd_loss(z_s, Z_T, LABELS, 4.0, LossContract(), 0.1)
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "linear", "onecycle"])
def test_a_schedule_stays_between_zero_and_its_peak_and_ends_low_unless_constant(schedule):
    setup = TrainingSetup(lr=0.5, schedule=schedule)
    rates = [learning_rate(step, 200, setup) for step in range(200)]
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert min(rates) > 0
    assert rates[-1] == 0.5 if schedule == "constant" else rates[-1] < 0.01


def test_cosine_is_at_half_its_peak_half_way_after_the_rise():
    setup = TrainingSetup(lr=1.0, schedule="cosine")
    assert learning_rate(5 + 475 // 5, 200, setup) == pytest.approx(0.558, abs=0.06)
    assert learning_rate(0, 100, setup) == pytest.approx(1 / 6)


def test_an_optimizer_that_is_not_here_is_refused_by_name():
    with pytest.raises(UsageError, match=r"optimizer must be sgd, adam or adamw to train here\. Got lion\."):
        make_optimizer([torch.zeros(1)], TrainingSetup(optimizer="lion", lr=0.1))


IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.eye(4)[torch.arange(40) % 4]


def view(kind: str, seed: int = 0, moves: Moves = "shift") -> tuple[torch.Tensor, torch.Tensor]:
    return augment(IMAGES, TARGETS, kind, moves=moves, generator=torch.Generator().manual_seed(seed))


def test_standard_augmentation_moves_each_image_by_at_most_one_pixel_of_eight():
    images, targets = view("standard")
    assert targets is TARGETS
    inner = IMAGES[:, 0, 2:6, 2:6]
    shifts = [images[:, 0, 2 + dy : 6 + dy, 2 + dx : 6 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    matches = torch.stack([(shift == inner).all((1, 2)) for shift in shifts])
    assert matches.any(0).all()
    assert matches.any(1).all()


def test_a_flip_mirrors_about_half_of_the_images():
    wide = torch.zeros(400, 1, 8, 8)
    wide[..., :3] = 1.0
    images, _ = augment(wide, TARGETS[:1].expand(400, 4), "standard", moves="mirror", generator=torch.Generator())
    assert 0.4 < (images[:, 0, 4, 6:].sum(1) > 0).float().mean() < 0.6


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_images_and_targets_by_the_same_share(kind):
    ones = torch.cat([torch.zeros(20, 1, 32, 32), torch.ones(20, 1, 32, 32)])
    targets = torch.eye(2)[(torch.arange(40) >= 20).long()]
    bright = ones.clone()
    images, mixed = augment(bright, targets, kind, moves="shift", generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixed.sum(1), torch.ones(40))
    shifted_in = 8 / 32  # the border that a shift can darken
    assert ((images.mean((1, 2, 3)) - mixed[:, 1]).abs() <= shifted_in).all()
    assert ((mixed[:, 0] > 0.05) & (mixed[:, 0] < 0.95)).any()


def test_augmentation_hangs_on_its_seed_alone():
    for kind in ("standard", "mixup", "cutmix"):
        assert torch.equal(view(kind, 3)[0], view(kind, 3)[0])
        assert not torch.equal(view(kind, 3)[0], view(kind, 4)[0])


def test_every_epoch_is_a_fresh_order_of_whole_batches():
    steps = batches(10, 4, 3, seed=5)
    assert [len(step) for step in steps] == [4] * 6
    assert not torch.equal(torch.cat(steps[:2]), torch.cat(steps[2:4]))
    assert all(len(torch.cat(steps[i : i + 2]).unique()) == 8 for i in (0, 2, 4))


def student(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


VIEWS = Views(images=IMAGES[None], targets=TARGETS[None], teacher_logits=6 * TARGETS[None])
SETUP = TrainingSetup(optimizer="adamw", lr=0.01, batch_size=10, epochs=60, schedule="cosine")


@pytest.mark.parametrize("temperature", [None, 1.0, 4.0])
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("adam", 0.01), ("adamw", 0.01)])
def test_the_loop_learns_its_training_set(optimizer, lr, temperature):
    model = student()
    train(model, VIEWS, TrainingSetup(optimizer=optimizer, lr=lr, batch_size=10, epochs=60), temperature, seed=0)
    assert (model(IMAGES).argmax(1) == TARGETS.argmax(1)).float().mean() > 0.9


def test_the_same_seed_gives_the_same_student_to_the_bit():
    first, second = student(), student()
    for model in (first, second):
        train(model, VIEWS, SETUP, 4.0, seed=1)
    assert torch.equal(first(IMAGES), second(IMAGES))


def test_all_views_are_seen():
    seen = []

    class Watch(nn.Linear):
        def forward(self, x):
            seen.append(x[0, 0].item())
            return super().forward(x)

    images = torch.arange(3.0)[:, None, None, None, None].expand(3, 8, 1, 1, 1)
    views = Views(images=images, targets=TARGETS[None, :8].expand(3, 8, 4))
    train(
        nn.Sequential(nn.Flatten(), Watch(1, 4)),
        views,
        TrainingSetup(optimizer="sgd", lr=0.1, epochs=3),
        None,
        seed=2,
    )
    assert seen == [2.0, 0.0, 1.0]


@pytest.mark.parametrize("temperature", [None, 1.0, 4.0, 40.0])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kd_weight": 0.3, "hard_weight": 0.4, "t_squared": False},
        {"reduction": "mean"},
        {"label_smoothing": 0.1},
        {"kd_weight": 1.0, "hard_weight": 0.0},
        {"standardized": True},
    ],
    ids=str,
)
def test_the_gradient_that_the_loop_uses_is_that_of_the_loss(given, temperature):
    generator = torch.Generator().manual_seed(5)
    logits, rows = torch.randn(6, 4, generator=generator), torch.tensor([3, 9, 0, 11, 7, 3])
    labels = torch.softmax(torch.randn(2, 6, 4, generator=generator), 2)
    views = Views(
        images=torch.zeros(2, 6, 1), targets=labels, teacher_logits=3 * torch.randn(2, 6, 4, generator=generator)
    )
    setup = TrainingSetup(**given)
    got = loss_gradient(views, setup, temperature, 6)(logits.clone(), rows)
    logits.requires_grad_()
    y, z, smoothing = (
        labels.flatten(0, 1)[rows],
        views.teacher_logits.flatten(0, 1)[rows],
        setup.label_smoothing or 0.0,
    )
    if temperature is None:
        loss = cross_entropy(logits, y, label_smoothing=smoothing)
    else:
        loss = kd_loss(logits, z, y, temperature, setup.loss_contract(), smoothing)
    assert torch.equal(got, torch.autograd.grad(loss, logits)[0])


def test_vectors_are_mixed_as_they_are_since_nothing_may_move_their_values():
    vectors = torch.cat([torch.zeros(20, 1, 1, 6), torch.ones(20, 1, 1, 6)])
    targets = torch.eye(2)[(torch.arange(40) >= 20).long()]
    mixed, shares = augment(vectors, targets, "mixup", moves="none", generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mixed, shares[:, 1, None, None, None].expand(40, 1, 1, 6))
