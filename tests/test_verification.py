"""What is read from a search and from test accuracies, by hand."""

import dataclasses

import numpy as np
import pytest

from tempadvisor.response import Response
from tempadvisor.search import Search, verdict
from tempadvisor.verification import Trial, cells_of, read_search, read_test
from tempadvisor.verify import _next

GRID = (1.0, 4.0, 16.0)


def search(cells: dict[tuple[float, int], float], *, slope: float = 0.0) -> Search:
    """Verify T=4 under a prior that expects so much more of T=16 than of T=1."""
    prior = Response(np.array([1.0, 16.0]), np.array([[0.0, slope]] * 4))
    return Search(prior=prior, recommended=4.0, temperatures=GRID, n_val=500, budget=10, cells=cells)


def test_what_was_measured_is_told_on_the_seeds_that_both_have() -> None:
    cells = {(4.0, 0): 0.70, (4.0, 1): 0.72, (1.0, 0): 0.71, (16.0, 5): 0.9}
    rungs = {rung.temperature: rung for rung in read_search(search(cells))[1]}
    assert rungs[1.0].measured == pytest.approx(0.01)
    assert rungs[4.0].measured == 0
    assert rungs[16.0].measured is None
    assert [rungs[t].n_seeds for t in GRID] == [1, 2, 1]


def test_no_temperature_is_used_that_did_worse_where_it_was_trained_whatever_was_expected_of_it() -> None:
    cells = {(4.0, 0): 0.70, (16.0, 0): 0.695}
    assert verdict(search({**cells, (16.0, 0): 0.705}, slope=0.3)).temperature == 16
    assert verdict(search(cells, slope=0.3)).temperature == 4


def test_no_accuracy_above_one_is_believed() -> None:
    cells = {(4.0, seed): 0.98 for seed in range(2)}
    for rung in read_search(search(cells, slope=0.3))[1]:
        assert rung.ci95[1] <= 0.02 + 1e-12


def test_verdict_difference_and_curve_agree_where_accuracy_can_rise_no_further() -> None:
    cells = {(t, seed): 1.0 for t in (1.0, 4.0) for seed in range(2)}
    fields, curve = read_search(search(cells, slope=0.3))
    rival = next(rung for rung in curve if rung.temperature == fields["rival"])
    assert fields["difference"].mean == pytest.approx(rival.mean, abs=1e-12)
    assert fields["difference"].ci95 == rival.ci95
    assert rival.ci95[1] <= 0
    # nothing is better than all right
    assert fields["probability"] == 1
    assert fields["verdict"] == "confirmed"


def test_a_claim_that_hangs_on_one_seed_says_so() -> None:
    told = read_search(search({(4.0, 0): 0.70, (16.0, 0): 0.72}, slope=0.1))[0]["headline"]
    assert told.startswith("Undecided: T=16 looks better than T=4")
    assert "from one seed" in told


def test_test_accuracies_are_compared_on_shared_seeds_with_students_interval() -> None:
    accuracy = {(4.0, 0): 0.80, (4.0, 1): 0.84, (4.0, 2): 0.99, (None, 0): 0.78, (None, 1): 0.80}
    test = read_test(accuracy, 4.0, 4.0, n_test=10**9)
    assert test.over_recommended is None
    assert test.over_no_kd is not None
    assert test.over_no_kd.mean == pytest.approx(0.03)
    # differences 0.02 and 0.04: standard error 0.01, and 12.706 of it with one degree of freedom
    assert test.over_no_kd.ci95 == pytest.approx((0.03 - 0.12706, 0.03 + 0.12706))
    assert not test.kd_may_hurt
    assert [(one.temperature, one.n) for one in test.accuracy] == [(None, 2), (4.0, 3)]


def test_seeds_that_agree_by_chance_make_no_interval_without_width() -> None:
    accuracy = {(4.0, 0): 0.5, (4.0, 1): 0.5, (None, 0): 0.51, (None, 1): 0.51}
    test = read_test(accuracy, 4.0, 4.0, n_test=400)
    assert test.kd_may_hurt
    assert test.over_no_kd is not None
    assert test.over_no_kd.ci95 is not None
    half = (test.over_no_kd.ci95[1] - test.over_no_kd.ci95[0]) / 2
    # a difference of two trainings varies by 2 * 0.08 * p (1 - p) / 400 at least, with p = 0.505
    assert half == pytest.approx(12.706 * (2 * 0.08 * 0.505 * 0.495 / 400 / 2) ** 0.5)


def test_one_seed_tells_of_no_spread_and_none_of_nothing() -> None:
    one = read_test({(4.0, 0): 0.8, (None, 0): 0.7}, 4.0, 4.0, 100).over_no_kd
    assert one is not None
    assert one.ci95 is None
    assert read_test({(4.0, 0): 0.8, (None, 1): 0.7}, 4.0, 4.0, 100).over_no_kd is None


def test_a_failed_student_guesses_and_one_without_kd_is_no_cell() -> None:
    trials = [
        Trial(temperature=4.0, seed=0, val_accuracy=None, seconds=1.0),
        Trial(temperature=None, seed=0, val_accuracy=0.9, seconds=1.0),
    ]
    assert cells_of(trials, 0.1) == {(4.0, 0): 0.1}


def test_what_would_decide_an_undecided_search_is_named() -> None:
    cells = {(4.0, 0): 0.70, (4.0, 1): 0.71}
    for n_val, told in (
        (48, "More validation samples would tell: one of 48 is 2.1 pp"),
        (5000, "More budget would tell"),
    ):
        found = read_search(dataclasses.replace(search(cells), n_val=n_val, budget=10))[0]
        assert found["verdict"] == "undecided"
        assert told in found["headline"]


def test_no_interval_holds_what_accuracies_cannot_reach() -> None:
    test = read_test({(4.0, 0): 0.99, (4.0, 1): 0.91, (None, 0): 0.94, (None, 1): 0.98}, 4.0, 4.0, 100)
    assert test.over_no_kd is not None
    assert test.over_no_kd.ci95 is not None
    assert test.over_no_kd.ci95[1] == pytest.approx(0.04), "1 less the 0.96 that it is over"


def test_what_a_dead_worker_had_begun_goes_next_as_long_as_the_search_goes_on() -> None:
    going_on = search({(4.0, 0): 0.70})
    proposed = _next(going_on, [], frozenset(), 12, [])
    assert proposed is not None
    assert proposed != (16.0, 5)
    assert _next(going_on, [], frozenset(), 12, [(None, 0), (16.0, 5)]) == (16.0, 5)
    over = dataclasses.replace(going_on, budget=1)
    assert _next(over, [], frozenset(), 1, [(16.0, 5)]) != (16.0, 5)
