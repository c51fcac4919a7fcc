"""What is kept to be shown: a fair, small choice of samples, and which classes are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tempadvisor.exhibits import MOST_SAMPLES, MOST_VALUES, NEIGHBORS, WHOLE_MAP, Exhibits, Reservoir
from tempadvisor.measures import softmax_entropy
from tempadvisor.profiling import profile

Array = np.ndarray[Any, Any]


def teacher(n: int, k: int, scale: float = 1.0) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += rng.uniform(-1, 8, n)
    return (scale * logits).astype(np.float32), labels


def shown(logits: Array, labels: Array | None = None) -> Exhibits:
    reservoir = Reservoir()
    profile(logits, labels, reservoir=reservoir)
    found = reservoir.exhibits()
    assert found is not None
    return found


def test_nothing_that_passed_is_nothing_to_show() -> None:
    assert Reservoir().exhibits() is None


def test_at_most_a_dozen_samples_go_from_sure_to_unsure_and_the_wrong_ones_come_last() -> None:
    samples = shown(*teacher(2000, 10)).samples
    assert len(samples) == MOST_SAMPLES
    wrong = [one.is_wrong for one in samples]
    assert 1 <= sum(wrong) <= MOST_SAMPLES // 3
    assert wrong == sorted(wrong)
    right = [one.confidence for one in samples if not one.is_wrong]
    assert right == sorted(right, reverse=True)
    assert right[0] > 0.99
    assert right[-1] < 0.5


def test_without_labels_no_sample_is_called_wrong() -> None:
    samples = shown(teacher(500, 10)[0]).samples
    assert {one.label for one in samples} == {None}
    assert not any(one.is_wrong for one in samples)


def test_no_sample_is_shown_twice_and_few_are_all_shown() -> None:
    logits, labels = teacher(5, 4)
    samples = shown(logits, np.array([0, 1, 2, 3, 0]) if labels is None else labels).samples
    assert len({one.logits for one in samples}) == len(samples) == 5


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_rounded_logits_give_the_same_softened_answers(scale: float) -> None:
    logits, labels = teacher(400, 10, scale)
    for one in shown(logits, labels).samples:
        z = np.array(one.logits)
        assert z.max() == 0
        row = logits[np.abs(logits - logits.max(1, keepdims=True) - z).max(1).argmin()]
        for temperature in (0.5 * scale, 4 * scale):
            entropies = softmax_entropy(np.stack([z, row]), temperature)
            assert abs(entropies[0] - entropies[1]) < 0.003


def test_every_row_is_as_likely_to_be_kept_whatever_block_it_came_in() -> None:
    kept = np.zeros(4)
    for seed in range(40):
        reservoir = Reservoir(seed)
        for block in range(4):
            reservoir.add(np.full((1000, 3), float(block)), None)
        assert reservoir._logits is not None
        assert len(reservoir._logits) == 512
        kept += np.bincount(reservoir._logits[:, 0].astype(int), minlength=4)
    assert np.abs(kept / kept.sum() - 0.25).max() < 0.02  # four standard errors


def test_a_profile_is_the_same_whether_samples_are_kept_or_not() -> None:
    logits, labels = teacher(600, 10)
    assert profile(logits, labels, reservoir=Reservoir()) == profile(logits, labels)


def test_many_classes_are_shown_in_fewer_samples_and_by_neighbors_only() -> None:
    found = shown(*teacher(600, 12_000))
    assert len(found.samples) * 12_000 <= MOST_VALUES
    assert found.alike is None  # more classes than relations are measured of
    hundred = shown(*teacher(3000, WHOLE_MAP + 1)).alike
    assert hundred is not None
    assert hundred.distances is None
    assert {len(row) for row in hundred.near} == {NEIGHBORS}


def test_classes_alike_are_neighbors_and_stand_beside_each_other() -> None:
    rng = np.random.default_rng(1)
    pairs = np.kron(np.eye(3), np.full((2, 2), 6.0)) + 4 * np.eye(6)  # 0 and 1 are alike, 2 and 3, 4 and 5
    shuffled = rng.permutation(6)
    labels = rng.integers(0, 6, 3000)
    logits = pairs[shuffled][:, shuffled][labels] + rng.normal(size=(3000, 6))
    alike = shown(logits.astype(np.float32), labels).alike
    assert alike is not None
    assert alike.distances is not None
    twin = {int(np.flatnonzero(shuffled == c)[0]): int(np.flatnonzero(shuffled == (c ^ 1))[0]) for c in range(6)}
    assert {i: row[0][0] for i, row in enumerate(alike.near)} == twin
    assert all(abs(row[0][1] - 4) < 0.2 for row in alike.near)
    assert all(twin[alike.order[i]] == alike.order[i + 1] for i in (0, 2, 4))
