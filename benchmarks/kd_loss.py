"""What `KDLoss` costs against the loss one writes by hand, forward and backward, eager and compiled, on this CPU.

    python benchmarks/kd_loss.py            # a Markdown table; about a minute, most of it compiling

By hand: 0.1 * F.cross_entropy + 0.9 * T^2 * F.kl_div(log_target=True), float32. Both are timed in turns, in rounds;
times are the least of the rounds, and the median ratio within a round stands beside their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tempadvisor.loss import KDLoss

SHAPES = ((128, 10), (128, 100), (128, 1000))
TEMPERATURE, ROUNDS, SECONDS = 4.0, 41, 0.02

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def by_hand(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Return the usual KD loss, the way one would write it."""
    soft = kl_div(
        log_softmax(student / TEMPERATURE, 1),
        log_softmax(teacher.detach() / TEMPERATURE, 1),
        reduction="batchmean",
        log_target=True,
    )
    return 0.1 * cross_entropy(student, labels) + 0.9 * TEMPERATURE**2 * soft


def rounds(one: Loss, other: Loss, batch: tuple[Tensor, Tensor, Tensor]) -> list[tuple[float, float]]:
    """Return the seconds that each of two losses takes for a batch and its gradient, in turns."""

    def step(loss: Loss) -> None:
        batch[0].grad = None
        loss(*batch).backward()  # type: ignore[no-untyped-call]

    def timed(loss: Loss, repeats: int) -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            step(loss)
        return (time.perf_counter() - began) / repeats

    for loss in (one, other):
        timed(loss, 20)
    repeats = max(1, int(SECONDS / timed(other, 20)))
    return [(timed(one, repeats), timed(other, repeats)) for _ in range(ROUNDS)]


def main() -> int:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print("| batch | mode | by hand | KDLoss | ratio | median ratio |\n|---|---|---|---|---|---|")
    for n, k in SHAPES:
        generator = torch.Generator().manual_seed(0)
        student, teacher = (torch.randn(n, k, generator=generator) for _ in range(2))
        batch = (student.requires_grad_(), 4 * teacher, torch.arange(n) % k)
        torch.testing.assert_close(KDLoss(TEMPERATURE)(*batch), by_hand(*batch))
        for mode in ("eager", "compiled"):
            losses: tuple[Loss, Loss] = (KDLoss(TEMPERATURE), by_hand)
            if mode == "compiled":
                torch.compiler.reset()
                losses = (torch.compile(losses[0], fullgraph=True), torch.compile(losses[1], fullgraph=True))
            pairs = rounds(*losses, batch)
            ours, theirs = (1e6 * min(times) for times in zip(*pairs, strict=True))
            median = statistics.median(one / other for one, other in pairs)
            print(
                f"| {n} x {k} | {mode} | {theirs:.0f} us | {ours:.0f} us | {ours / theirs:.2f} | {median:.2f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
