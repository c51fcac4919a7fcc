"""The loop that trains one student: one screen.

Data are tensors on the device, augmentation works on whole batches, schedules are arithmetic on the step. The loop
takes the teacher's logits as a table, one row a training sample of each augmented view; it never runs a teacher.
What is trained, on what and how often is decided in `suites.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, pad

from tempadvisor.datasets import Moves
from tempadvisor.errors import UsageError
from tempadvisor.loss import kd_loss
from tempadvisor.records import TrainingSetup

WARMUP = 0.05  # share of the steps over which cosine and linear schedules rise
ONECYCLE_RISE = 0.3


def learning_rate(step: int, steps: int, setup: TrainingSetup) -> float:
    """Return the learning rate at `step` of `steps` under `setup.schedule`, from the peak `setup.lr`.

    constant lr; cosine lr (1 + cos(pi s)) / 2 and linear lr (1 - s) after a rise over 5 % of the steps;
    step lr times 0.1 from s = 0.6 and 0.01 from s = 0.85; onecycle up over 30 %, then down by a cosine.
    Here s is the share of the steps done, after the rise.

    >>> [learning_rate(s, 100, TrainingSetup(lr=0.1, schedule="step")) for s in (0, 60)]
    [0.1, 0.01]
    """
    assert setup.lr is not None
    done = step / steps
    if setup.schedule in (None, "constant"):
        return setup.lr
    if setup.schedule == "step":
        return round(setup.lr * (1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01), 12)
    rise = max(1, round(steps * (ONECYCLE_RISE if setup.schedule == "onecycle" else WARMUP)))
    if step < rise:
        return setup.lr * (step + 1) / (rise + 1)
    done = (step - rise) / (steps - rise)
    return setup.lr * ((1 - done) if setup.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2)


def make_optimizer(parameters: list[Tensor], setup: TrainingSetup) -> torch.optim.Optimizer:
    """Return the optimizer of `setup`: SGD with Nesterov momentum (0.9 unless given), Adam or AdamW.

    Raises:
        UsageError: the trainer does not have this optimizer, or lr is unknown.
    """
    if setup.lr is None:
        raise UsageError("lr must be given to train. Got none. Add lr.", code="missing_lr")
    decay = setup.weight_decay or 0.0
    if setup.optimizer == "sgd":
        momentum = 0.9 if setup.momentum is None else setup.momentum
        return torch.optim.SGD(parameters, setup.lr, momentum, weight_decay=decay, nesterov=momentum > 0, fused=True)
    if setup.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if setup.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, setup.lr, weight_decay=decay, fused=True)
    raise UsageError(
        f"optimizer must be sgd, adam or adamw to train here. Got {setup.optimizer}.", code="unknown_optimizer"
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Hold V augmented views of n training images, made once, so that a teacher's logits on them can be cached.

    images: (V, n, channels, height, width), float; targets: (V, n, K), hard labels as probabilities (a mix of two
    under mixup and cutmix); teacher_logits: (V, n, K), or None without a teacher.
    """

    images: Tensor
    targets: Tensor
    teacher_logits: Tensor | None = None


def augment(
    images: Tensor, targets: Tensor, kind: str, *, moves: Moves, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images and targets of one augmented view.

    standard: shift by up to an eighth of the height, zeros coming in, and a horizontal flip where a mirrored image
    keeps its label. mixup: w x_i + (1 - w) x_j with w uniform on [0, 1], after standard. cutmix: a box of x_j with
    the share 1 - w of the area pasted into x_i, after standard; targets mix by the true area. Vectors, which nothing
    moves, can be mixed only.

    Args:
        images: (n, channels, height, width).
        targets: (n, K), probabilities.
        kind: none, standard, mixup or cutmix.
        moves: what leaves a label as it is.
        generator: on the CPU; the only source of chance.

    Returns:
        Images and targets of the same shapes.

    Raises:
        UsageError: `kind` is not one of the four.
    """
    if kind == "none":
        return images, targets
    if kind not in ("standard", "mixup", "cutmix"):
        raise UsageError(
            f"augmentation must be none, standard, mixup or cutmix to train here. Got {kind}.",
            code="unknown_augmentation",
        )
    n, _, height, width = images.shape
    device = images.device
    if moves != "none":
        images = _moved(images, mirror=moves == "mirror", generator=generator)
    if kind == "standard":
        return images, targets
    other = torch.randperm(n, generator=generator).to(device)
    weight = torch.rand(n, generator=generator).to(device)
    if kind == "mixup":
        keep = weight[:, None, None, None].expand_as(images)
    else:
        side = (1 - weight).sqrt()
        centers = torch.rand(2, n, generator=generator).to(device)
        inside = [
            (torch.arange(size, device=device) + 0.5 - (center * size)[:, None]).abs() < (side * size / 2)[:, None]
            for size, center in zip((height, width), centers, strict=True)
        ]
        keep = 1.0 - (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.dtype)
        weight = keep.mean((1, 2, 3))
    share = weight[:, None]
    return keep * images + (1 - keep) * images[other], share * targets + (1 - share) * targets[other]


def _moved(images: Tensor, *, mirror: bool, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    device = images.device
    reach = max(1, height // 8)
    offsets = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator).to(device)
    mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(device) & mirror
    rows = offsets[0] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(n, width)
    columns = offsets[1] + torch.where(mirrored, columns.flip(1), columns)
    sample = torch.arange(n, device=device)[:, None, None]
    padded = pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def batches(n: int, batch_size: int, epochs: int, seed: int) -> list[Tensor]:
    """Return the indices of each step: a fresh order every epoch, whole batches only, decided by `seed` alone.

    >>> [sorted(torch.cat(batches(4, 2, 1, seed=0)).tolist()), len(batches(5, 2, 3, seed=0))]
    [[0, 1, 2, 3], 6]
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, n)
    steps: list[Tensor] = []
    for _ in range(epochs):
        steps += torch.split(torch.randperm(n, generator=generator), size)[: n // size]
    return steps


def loss_gradient(
    views: Views, setup: TrainingSetup, temperature: float | None, size: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the gradient of the loss of a batch in its logits, as a function of these and of their rows.

    It is autograd's of `kd_loss`, to the bit on a CPU: for plain logits its very operations, those on the teacher's
    side done once for all batches.

    Args:
        views: without teacher logits, T counts as None; rows count through all views.
        setup: of the loss contract and the label smoothing.
        temperature: T, above 0, or None for the cross-entropy with the labels alone.
        size: of the batches.
    """
    contract, smoothing = setup.loss_contract(), setup.label_smoothing or 0.0
    labels, n_classes = views.targets.flatten(0, 1), views.targets.shape[2]
    tau = None if views.teacher_logits is None else temperature
    asked = labels if views.teacher_logits is None else views.teacher_logits.flatten(0, 1)

    def by_autograd(logits: Tensor, rows: Tensor) -> Tensor:
        assert tau is not None
        loss = kd_loss(logits.requires_grad_(), asked[rows], labels[rows], tau, contract, smoothing)
        return torch.autograd.grad(loss, logits)[0]

    if tau is not None and setup.standardized:
        return by_autograd
    smooth = labels * (1 - smoothing) + smoothing / n_classes if smoothing else labels
    hard = smooth * (torch.tensor(1.0 if tau is None else contract.hard) / -size)
    soft = hard
    if tau is not None:
        factor = (tau**2 if contract.t_squared else 1.0) / (n_classes if contract.reduction == "mean" else 1)
        soft = log_softmax(asked / tau, 1).exp() * (torch.tensor(contract.kd_weight * factor) / -size)

    def plain(logits: Tensor, rows: Tensor) -> Tensor:
        delta = _through_log_softmax(logits, hard.index_select(0, rows))
        if tau is None:
            return delta
        return delta.add_(_through_log_softmax(logits / tau, soft.index_select(0, rows)).div_(tau))

    return plain


def _through_log_softmax(logits: Tensor, gradient: Tensor) -> Tensor:
    through: Tensor = torch.ops.aten._log_softmax_backward_data(gradient, log_softmax(logits, 1), 1, logits.dtype)
    return through


def train(student: nn.Module, views: Views, setup: TrainingSetup, temperature: float | None, *, seed: int) -> None:
    """Train `student` in place.

    In its epoch e the student sees view (e + seed) mod V. Everything random hangs on `seed`, nothing on T, so
    students of different temperatures are paired.

    Args:
        student: on the device of `views`.
        views: with teacher logits unless T is None.
        setup: optimizer, schedule, batch size, epochs and loss contract; what is unknown takes its usual value.
        temperature: T, above 0, or None to train without KD (hard_weight 1).
        seed: of the data order.
    """
    optimizer = make_optimizer(list(student.parameters()), setup)
    n_views, n = views.images.shape[:2]
    order = batches(n, setup.batch_size or 128, setup.epochs or 1, seed)
    per_epoch = len(order) // (setup.epochs or 1)
    gradient = loss_gradient(views, setup, temperature, len(order[0]))
    inputs = views.images.flatten(0, 1)
    student.train()
    for step, batch in enumerate(order):
        rows = ((step // per_epoch + seed) % n_views * n + batch).to(inputs.device)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(order), setup)
        with torch.autocast("cuda", torch.bfloat16, enabled=inputs.is_cuda):
            logits = student(inputs.index_select(0, rows))
        logits = logits.float()
        optimizer.zero_grad()
        torch.autograd.backward(logits, gradient(logits.detach(), rows))
        optimizer.step()
    student.eval()
