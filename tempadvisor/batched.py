"""Train many small multilayer perceptrons as one tensor program: all temperatures of all seeds in one pass.

It does what `distill.train` does, student by student, to rounding. Students of one seed see the same batches, so
their first layers are one wide matrix product; the layers behind are batched products; the gradient is written out
(see `loss.kd_loss`); all weights lie in one tensor, so that one fused optimizer step moves them all. Activations
have the sample last, which keeps every product contiguous and the softmax over a few classes vectorized.

It does not do standardized logits, nor anything but linear layers with ReLU between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tempadvisor.contracts import kl_coefficient
from tempadvisor.distill import Views, batches, learning_rate, make_optimizer
from tempadvisor.errors import UsageError
from tempadvisor.records import TrainingSetup


def linear_layers(student: nn.Module) -> list[nn.Linear] | None:
    """Return the layers of `student` if it is linear layers with ReLU between and nothing else, or None."""
    parts = [part for part in student.modules() if part is not student and not isinstance(part, nn.Flatten)]
    layers = [part for part in parts if isinstance(part, nn.Linear)]
    alternates = all(isinstance(part, (nn.Linear, nn.ReLU)[i % 2]) for i, part in enumerate(parts))
    plain = isinstance(student, nn.Sequential) and bool(layers) and alternates and len(parts) == 2 * len(layers) - 1
    return layers if plain else None


def tensors(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return the layer's weight and bias."""
    return layer.weight, layer.bias


class Students:
    """S seeds times G temperatures of one perceptron; `weights[l]` is (S, G, out, in), `biases[l]` (S, G, out, 1)."""

    def __init__(self, starts: Sequence[nn.Module], n_temperatures: int) -> None:
        layers = [linear_layers(start) for start in starts]
        if any(one is None for one in layers):
            raise UsageError("student must be linear layers with ReLU between to train batched.", code="not_an_mlp")
        stacked = [
            (
                torch.stack([layer.weight.detach() for layer in same]),
                torch.stack([layer.bias.detach() for layer in same]),
            )
            for same in zip(*(one for one in layers if one is not None), strict=True)
        ]
        copies, seeds = n_temperatures, len(starts)
        parts = [part for weight, bias in stacked for part in (weight, bias[..., None])]
        shapes = [(seeds, copies, *part.shape[1:]) for part in parts]
        self.parameters = torch.cat([p[:, None].expand(s).flatten() for p, s in zip(parts, shapes, strict=True)])
        self.gradient = torch.zeros_like(self.parameters)
        self.parameters.grad = self.gradient
        self.seeds, self.copies = seeds, copies
        self.weights, self.biases = self._views(self.parameters, shapes)
        self._weight_grads, self._bias_grads = self._views(self.gradient, shapes)

    @staticmethod
    def _views(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[list[Tensor], list[Tensor]]:
        sizes = [torch.Size(shape).numel() for shape in shapes]
        parts = [part.view(shape) for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        return parts[::2], parts[1::2]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the activations of every layer, (S, G, out, B), the logits last. `inputs` is (S, B, in)."""
        seeds, copies, batch = self.seeds, self.copies, inputs.shape[1]
        layers: list[Tensor] = []
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if depth == 0:
                out = torch.baddbmm(bias.flatten(1, 2), weight.flatten(1, 2), inputs.transpose(1, 2))
            else:
                below = layers[-1].view(seeds * copies, -1, batch)
                out = torch.baddbmm(bias.flatten(0, 1), weight.flatten(0, 1), below)
            out = out.view(seeds, copies, -1, batch)
            layers.append(out.relu_() if depth + 1 < len(self.weights) else out)
        return layers

    def backward(self, inputs: Tensor, layers: list[Tensor], delta: Tensor) -> None:
        """Write the gradient of all weights, given `delta`, the gradient of the logits, (S, G, K, B)."""
        for depth in reversed(range(len(layers))):
            torch.sum(delta, dim=3, keepdim=True, out=self._bias_grads[depth])
            if depth == 0:
                torch.bmm(delta.flatten(1, 2), inputs, out=self._weight_grads[0].flatten(1, 2))
                return
            below, flat = layers[depth - 1].flatten(0, 1), delta.flatten(0, 1)
            torch.bmm(flat, below.transpose(1, 2), out=self._weight_grads[depth].flatten(0, 1))
            delta = torch.bmm(self.weights[depth].flatten(0, 1).transpose(1, 2), flat).view(layers[depth - 1].shape)
            delta = torch.ops.aten.threshold_backward(delta, layers[depth - 1], 0)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of `images`, (n, ...), as (S, G, n, K)."""
        inputs = images.flatten(1).expand(self.seeds, -1, -1)
        return self.forward(inputs)[-1].transpose(2, 3)


def train_batched(
    starts: Sequence[nn.Module],
    views: Views,
    setup: TrainingSetup,
    temperatures: Sequence[float | None],
    seeds: Sequence[int],
) -> Students:
    """Train one perceptron for each seed and temperature, and return them all.

    Args:
        starts: the student at its start, one for each seed; its temperatures share it.
        views: with teacher logits unless every T is None.
        setup: as in `distill.train`; not standardized.
        temperatures: T, above 0, or None for no KD.
        seeds: of the data order.

    Raises:
        UsageError: a start is not a plain perceptron, or the setup is standardized.
    """
    if setup.standardized:
        raise UsageError("standardized must be false to train batched. Got true.", code="standardized")
    device = views.images.device
    students = Students(starts, len(temperatures))
    optimizer = make_optimizer([students.parameters], setup)
    n_views, n = views.images.shape[:2]
    inputs = views.images.flatten(0, 1).flatten(1)
    hard, soft, pull, tau = targets(views, setup, temperatures)
    epochs = setup.epochs or 1
    order = torch.stack([torch.stack(batches(n, setup.batch_size or 128, epochs, seed)) for seed in seeds], 1)
    steps, _, size = order.shape
    view = torch.arange(steps)[:, None] // (steps // epochs) + torch.tensor(seeds)
    order = (order + (view % n_views * n)[:, :, None]).flatten(1).to(device)
    for step, rows in enumerate(order):
        batch = inputs.index_select(0, rows).view(len(seeds), size, -1)
        layers = students.forward(batch)
        logits = layers[-1]
        delta = torch.softmax(logits, 2).mul_(hard).add_(torch.softmax(logits / tau, 2).mul_(soft))
        delta.flatten(1, 2).sub_(pull.index_select(0, rows).view(len(seeds), size, -1).transpose(1, 2))
        students.backward(batch, layers, delta.div_(size))
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, setup)
        optimizer.step()
    return students


def targets(
    views: Views, setup: TrainingSetup, temperatures: Sequence[float | None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the constants of the gradient hard * p(1) + soft * p(T) - pull.

    hard_weight y + (c / T) p_t(T) = pull, with c the coefficient of the KL term (see `contracts`).

    Returns:
        hard and soft (G, 1, 1), pull (V n, G K), T (G, 1, 1).
    """
    contract, device = setup.loss_contract(), views.images.device
    n_classes = views.targets.shape[2]
    smoothing = setup.label_smoothing or 0.0
    y = views.targets.flatten(0, 1) * (1 - smoothing) + smoothing / n_classes
    hard, soft, pull = [], [], []
    for temperature in temperatures:
        hard.append(1.0 if temperature is None else contract.hard)
        soft.append(0.0)
        pulled = hard[-1] * y
        if temperature is not None and views.teacher_logits is not None:
            soft[-1] = kl_coefficient(temperature, contract, n_classes=n_classes) / temperature
            pulled = pulled + soft[-1] * torch.softmax(views.teacher_logits.flatten(0, 1) / temperature, 1)
        pull.append(pulled)
    column = [
        torch.tensor(values, device=device)[:, None, None]
        for values in (hard, soft, [1.0 if t is None else t for t in temperatures])
    ]
    return column[0], column[1], torch.cat(pull, 1), column[2]
