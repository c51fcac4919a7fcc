"""What verifying a temperature trains next, and what it claims, on curves whose answer is known."""

import dataclasses
import itertools

import numpy as np
import pytest

from tempadvisor.errors import UsageError
from tempadvisor.posterior import condition
from tempadvisor.response import Response
from tempadvisor.search import Search, ladder, posterior, propose, remaining, verdict

GRID = (1.0, 2.0, 4.0, 8.0, 16.0)
KNOWS_NOTHING = Response(np.array([1.0, 40.0]), np.zeros((4, 2)))


def search(
    recommended: float = 4.0, *, prior: Response = KNOWS_NOTHING, budget: int = 30, n_val: int = 5000
) -> Search:
    return Search(prior=prior, recommended=recommended, temperatures=GRID, n_val=n_val, budget=budget)


def trained(curve: dict[float, float], start: Search, *, seed: int = 0, noise: float = 0.002) -> Search:
    """Run a search to its end: accuracy is the curve's, a level of the seed and noise."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.01, 50)
    while (cell := propose(start)) is not None:
        start = start.with_cell(cell, curve[cell[0]] + level[cell[1]] + rng.normal(0, noise))
    return start


FLAT = dict.fromkeys(GRID, 0.8)
PEAK_AT_4 = {1.0: 0.74, 2.0: 0.77, 4.0: 0.80, 8.0: 0.77, 16.0: 0.74}


# What is believed.


def test_without_trainings_the_belief_is_the_prior_relative_to_the_recommended_temperature() -> None:
    prior = Response(np.array([1.0, 16.0]), np.array([[0.04, 0.0]] * 8))
    believed = condition(prior, 4.0, GRID, {}, 1000)
    assert believed.curves.gain.shape == (512, 5)
    # factors 0, 0.3 and 1 weigh 0.35, 0.2 and 0.45, so 0.51 of the prior's two points over two octaves
    assert believed.curves.expected[0] == pytest.approx(0.51 * 0.02, abs=0.003)
    assert believed.curves.expected[2] == 0


def test_the_level_of_a_seed_changes_nothing() -> None:
    cells = {(1.0, 0): 0.70, (4.0, 0): 0.72, (1.0, 1): 0.71, (4.0, 1): 0.74}
    shifted = {(t, seed): y + 0.05 * (seed == 1) - 0.05 * (seed == 0) for (t, seed), y in cells.items()}
    one, other = (condition(KNOWS_NOTHING, 4.0, GRID, each, 2000).curves.expected for each in (cells, shifted))
    assert one == pytest.approx(other, abs=3e-4)


def test_trainings_of_a_seed_that_the_others_lack_tell_nothing() -> None:
    paired = {(1.0, 0): 0.70, (4.0, 0): 0.72}
    alone = {**paired, (8.0, 1): 0.9}
    one, other = (condition(KNOWS_NOTHING, 4.0, GRID, each, 2000).curves.expected for each in (paired, alone))
    assert one == pytest.approx(other, abs=0.002)


def test_many_seeds_bring_the_belief_to_the_measured_difference() -> None:
    cells = {(t, seed): PEAK_AT_4[t] for t in GRID for seed in range(10)}
    believed = condition(KNOWS_NOTHING, 4.0, GRID, cells, 100_000).curves
    assert believed.expected == pytest.approx([-0.06, -0.03, 0.0, -0.03, -0.06], abs=0.002)


def test_no_number_of_seeds_averages_away_what_a_small_validation_split_does() -> None:
    def spread(n_val: int, seeds: int) -> float:
        cells = {(t, seed): PEAK_AT_4[t] for t in GRID for seed in range(seeds)}
        return float(condition(KNOWS_NOTHING, 4.0, GRID, cells, n_val).curves.gain[:, 0].std())

    sampled = (0.03 * 2 * 0.764 * 0.236 / 200) ** 0.5  # two octaves, mean accuracy 0.764
    assert spread(200, 40) == pytest.approx(sampled, rel=0.35)
    assert spread(20_000, 40) < sampled / 5


# What is trained next.


def test_the_recommended_temperature_goes_first_and_leads_in_every_seed() -> None:
    ended = trained(FLAT, search())
    order = list(ended.cells)
    assert order[0] == (4.0, 0)
    for done in range(1, len(order)):
        counts = [sum(cell[0] == t for cell in order[:done]) for t in GRID]
        assert counts[GRID.index(4.0)] == max(counts), order[:done]


def test_every_temperature_sees_the_same_seeds_in_the_same_order() -> None:
    ended = trained(FLAT, search())
    for t, cells in itertools.groupby(sorted(ended.cells), key=lambda cell: cell[0]):
        seeds = [seed for _, seed in cells]
        assert seeds == list(range(len(seeds))), t


def test_the_prior_says_where_to_look_first() -> None:
    up = Response(np.array([1.0, 4.0, 16.0]), np.array([[-0.05, 0.0, 0.02], [-0.05, 0.0, 0.04]]))
    down = Response(np.array([1.0, 4.0, 16.0]), np.array([[0.02, 0.0, -0.05], [0.04, 0.0, -0.05]]))
    seconds = [propose(search(prior=prior).with_cell((4.0, 0), 0.8)) for prior in (up, down)]
    assert seconds == [(16.0, 0), (1.0, 0)]


def test_the_budget_is_kept_to_the_training() -> None:
    for budget in (1, 2, 3, 7):
        assert len(trained(FLAT, search(budget=budget, n_val=200)).cells) == budget


def test_no_seed_is_paid_for_that_has_nothing_to_compare() -> None:
    for budget in range(2, 14):
        seeds = [seed for _, seed in trained(FLAT, search(budget=budget, n_val=300)).cells]
        assert min(seeds.count(seed) for seed in seeds) >= 2, budget


def test_where_all_others_clearly_lose_the_recommended_temperature_gets_its_second_seed_and_is_confirmed() -> None:
    start = search(recommended=1.0, budget=10)
    for temperature in GRID:
        start = start.with_cell((temperature, 0), 0.95 if temperature == 1 else 0.6)
    assert remaining(start, posterior(start)) == (1.0,)
    assert verdict(start).claim == "undecided"
    assert propose(start) == (1.0, 1)
    assert propose(start, pending=[(1.0, 1)]) is None
    assert verdict(start.with_cell((1.0, 1), 0.94)).claim == "confirmed"


def test_a_temperature_that_clearly_loses_is_dropped_and_gets_no_seed_more() -> None:
    steep = {**FLAT, 16.0: 0.5}
    start = search(n_val=500)
    for cell in itertools.product(GRID, range(2)):
        start = start.with_cell(cell, steep[cell[0]] + 0.004 * (cell in ((2.0, 0), (8.0, 1))))
    assert 16.0 not in remaining(start, posterior(start))
    assert 8.0 in remaining(start, posterior(start))
    assert trained(steep, start).seeds(16.0) == 2


def test_what_is_under_way_is_not_proposed_again_and_counts_as_spent() -> None:
    start = search(budget=4).with_cell((4.0, 0), 0.8)
    first = propose(start)
    assert first is not None
    second = propose(start, [first])
    assert second is not None
    third = propose(start, [first, second])
    assert third is not None
    assert len({(4.0, 0), first, second, third}) == 4
    assert propose(start, [first, second, third]) is None
    assert propose(search(), [(4.0, 0)]) is None  # nothing to compare with yet


def test_the_same_search_always_proposes_the_same() -> None:
    one, other = (trained(FLAT, search(n_val=300, budget=12)).cells for _ in range(2))
    assert list(one) == list(other)


# What is claimed.


def test_a_peak_at_the_recommended_temperature_is_confirmed_before_the_budget_is_spent() -> None:
    ended = trained(PEAK_AT_4, search())
    found = verdict(ended)
    assert (found.claim, found.temperature) == ("confirmed", 4.0)
    assert found.probability >= 0.95
    assert found.ci95[1] < 0.002
    assert len(ended.cells) < 15


@pytest.mark.parametrize("wrong", [1.0, 16.0])
def test_a_recommendation_that_loses_six_points_is_contradicted_with_the_better_one_named(wrong: float) -> None:
    ended = trained(PEAK_AT_4, search(wrong))
    found = verdict(ended)
    assert len(ended.cells) < 20
    assert (found.claim, found.temperature, found.rival) == ("better_found", 4.0, 4.0)
    assert found.mean == pytest.approx(0.06, abs=0.01)
    assert 0 < found.ci95[0] < found.mean < found.ci95[1]


def test_a_flat_curve_ends_with_the_recommended_temperature() -> None:
    found = verdict(trained(FLAT, search(n_val=20_000), noise=0.001))
    assert found.claim in ("confirmed", "no_detectable_difference")
    assert found.temperature == 4.0


def test_a_tiny_validation_split_decides_nothing_on_a_flat_curve() -> None:
    assert verdict(trained(FLAT, search(n_val=100), noise=0.02)).claim == "undecided"


def test_one_seed_claims_nothing() -> None:
    cells = {(t, 0): y for t, y in PEAK_AT_4.items()}
    for recommended in GRID:
        assert verdict(dataclasses.replace(search(recommended), cells=cells, budget=5)).claim == "undecided"


def test_one_seed_of_a_better_temperature_does_not_contradict() -> None:
    start = search(1.0, budget=3)
    for cell, accuracy in {(1.0, 0): 0.74, (1.0, 1): 0.74, (4.0, 0): 0.80}.items():
        start = start.with_cell(cell, accuracy)
    assert verdict(start).claim == "undecided"
    assert verdict(start.with_cell((4.0, 1), 0.80)).claim == "better_found"


def test_a_difference_below_the_tolerance_does_not_contradict_however_sure() -> None:
    cells = {(t, seed): 0.8 + 0.001 * (t == 8.0) for t in GRID for seed in range(6)}
    found = verdict(dataclasses.replace(search(n_val=1_000_000), cells=cells))
    assert (found.claim, found.temperature, found.rival) == ("confirmed", 4.0, 8.0)
    assert 0 < found.ci95[0] < 0.001 < found.ci95[1] < 0.002


def test_nothing_trained_is_undecided_at_the_recommended_temperature() -> None:
    found = verdict(search())
    assert (found.claim, found.temperature, found.mean) == ("undecided", 4.0, 0.0)


def test_an_undecided_search_uses_a_temperature_that_was_tried() -> None:
    up = Response(np.array([1.0, 16.0]), np.array([[0.0, 0.1]] * 4))
    assert verdict(search(prior=up).with_cell((4.0, 0), 0.8)).temperature == 4.0


def test_the_difference_is_that_of_the_temperature_to_use_and_not_of_one_believed_better_that_did_worse() -> None:
    prior = Response(np.array([4.0, 8.0, 16.0]), np.array([[0.0, 0.04, 0.0]] * 8))
    cells = {(4.0, 0): 0.80, (4.0, 1): 0.80, (8.0, 0): 0.799, (16.0, 0): 0.801}
    unsure = search(prior=prior, n_val=500)
    for cell, accuracy in cells.items():
        unsure = unsure.with_cell(cell, accuracy)
    expected = dict(zip(GRID, posterior(unsure).curves.expected, strict=True))
    assert expected[8.0] > expected[16.0]
    found = verdict(unsure)
    assert (found.temperature, found.rival) == (16.0, 16.0)
    assert found.mean == pytest.approx(expected[16.0])


def test_early_looks_need_more_than_the_last_one() -> None:
    cells = {(t, seed): 0.8 - 0.015 * (t == 1.0) for t in (1.0, 4.0) for seed in range(2)}
    start = search(1.0, n_val=5000)
    last = verdict(dataclasses.replace(start, cells=cells, budget=4))
    early = verdict(dataclasses.replace(start, cells=cells, budget=400))
    assert (last.claim, early.claim) == ("better_found", "undecided")
    assert 0.97 <= last.probability < 0.99


def test_on_equal_temperatures_a_better_one_is_found_in_at_most_one_search_in_twenty() -> None:
    """Noise as in own runs: p (1 - p) / n_val of 1.6e-4, of which 0.08 a training's own."""
    found = [
        verdict(trained(FLAT, search(n_val=1000, budget=12), seed=seed, noise=(0.08 * 1.6e-4) ** 0.5)).claim
        for seed in range(40)
    ]
    assert found.count("better_found") <= 2


def test_the_ladder_is_what_was_measured_with_the_recommended_temperature_in_place_of_its_neighbors() -> None:
    assert ladder(3.0) == (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)
    assert ladder(3.3) == (1.0, 2.0, 3.3, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0)  # 3 is a seventh of an octave away
    assert ladder(0.5)[:2] == (0.5, 1.0)
    assert ladder(64.0)[-2:] == (40.0, 64.0)


@pytest.mark.parametrize(
    "change",
    [
        {"recommended": 5.0},
        {"cells": {(3.0, 0): 0.5}},
        {"budget": 0},
        {"n_val": 0},
        {"confidence": 1.0},
        {"tolerance": 0.0},
    ],
)
def test_a_search_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(search(), **change)  # type: ignore[arg-type]
