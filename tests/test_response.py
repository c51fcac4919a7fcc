"""Response curves: what is said of a temperature follows from the curves, whoever made them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tempadvisor.response import Response, believe, curves
from tempadvisor.rules import Anchor, Fired, Gauge, Rule, load_rules

GRID = 2.0 ** np.arange(0, 6.01, 1 / 16)
ANCHOR = Anchor(
    temperature=4.0,
    octaves_std=0.5,
    half_width=0.5,
    gain=0.02,
    gain_std=0.01,
    low_cost=0.03,
    low_cost_std=0.0,
    high_cost=0.03,
    high_cost_std=0.0,
    source="test",
)


def rule(**effects: float) -> Rule:
    return Rule(id="r", why="", source="", grade="C", strength=(Gauge(feature="x", zero=0, full=1),), **effects)  # type: ignore[arg-type]


def one_curve(gain: np.ndarray) -> Response:
    return Response(GRID, gain[None, :])


class TestOneKnownCurve:
    quadratic = one_curve(0.02 - 0.002 * (np.log2(GRID) - 2.3) ** 2)

    def test_best_is_found_between_the_points_of_the_grid(self) -> None:
        assert self.quadratic.best == pytest.approx(2**2.3, rel=1e-3)

    def test_interval_ends_where_the_loss_reaches_the_tolerance(self) -> None:
        low, high = self.quadratic.interval(0.002)
        assert low == pytest.approx(2**1.3, rel=0.05)
        assert high == pytest.approx(2**3.3, rel=0.05)

    def test_interval_is_one_piece_around_the_best(self) -> None:
        gain = np.zeros_like(GRID)
        gain[10:14], gain[30:32] = 0.01, 0.0099
        low, high = one_curve(gain).interval(0.002)
        assert (low, high) == (GRID[10], GRID[13])

    def test_interval_may_reach_both_ends_of_the_grid(self) -> None:
        assert one_curve(np.zeros_like(GRID)).interval() == (GRID[0], GRID[-1])

    def test_gain_over_another_temperature_is_the_difference(self) -> None:
        gain = self.quadratic.gain_over(2**2.3, 2**1.3)
        assert gain.mean == pytest.approx(0.002, abs=1e-5)
        assert gain.std == pytest.approx(0, abs=1e-12)

    def test_gain_over_no_kd_is_the_curve_itself(self) -> None:
        assert self.quadratic.gain_over(2**2.3, None).mean == pytest.approx(0.02, abs=1e-5)

    def test_the_curve_is_flat_outside_the_grid(self) -> None:
        assert self.quadratic.at(1000.0)[0] == self.quadratic.gain[0, -1]


def test_on_a_plateau_the_single_best_may_be_anywhere_on_it() -> None:
    plateau = np.where((GRID >= 2) & (GRID <= 16), 0.01, 0.0)
    low, high = Response(GRID, np.tile(plateau, (200, 1))).best_ci90()
    assert low == pytest.approx(2, rel=0.2)
    assert high == pytest.approx(16, rel=0.2)


class TestBelief:
    def test_nothing_fired_leaves_the_anchor(self) -> None:
        belief = believe(ANCHOR, ())
        assert (belief.center, belief.center_std, belief.gain) == (2.0, 0.5, 0.02)

    def test_a_shift_moves_the_center_by_strength_times_octaves_and_adds_its_uncertainty(self) -> None:
        belief = believe(ANCHOR, (Fired(rule(shift=-1.0, shift_std=0.8), 0.5),))
        assert belief.center == 1.5
        assert belief.center_std == pytest.approx(np.hypot(0.5, 0.4))

    def test_rules_that_agree_dispute_nothing(self) -> None:
        both = (Fired(rule(shift=1.0), 1.0), Fired(rule(shift=0.5), 1.0))
        assert believe(ANCHOR, both).center_std == 0.5

    def test_rules_that_disagree_widen_by_the_smaller_pull(self) -> None:
        both = (Fired(rule(shift=1.0), 1.0), Fired(rule(shift=-0.5), 1.0))
        belief = believe(ANCHOR, both)
        assert belief.center == 2.5
        assert belief.center_std == pytest.approx(np.hypot(0.5, 0.5))

    def test_a_rule_whose_pull_turns_with_the_temperature_does_not_dispute_itself(self) -> None:
        turning = Fired(rule(shift=-1.0), np.linspace(-1, 1, len(GRID)))
        assert believe(ANCHOR, (turning,)).center_std == 0.5

    def test_factors_multiply_by_their_power_of_strength(self) -> None:
        belief = believe(ANCHOR, (Fired(rule(gain_factor=0.25, low_cost_factor=4.0), 0.5),))
        assert belief.scale == 0.5
        assert belief.low_cost == pytest.approx(0.06)

    def test_a_shift_may_depend_on_the_temperature(self) -> None:
        strength = np.linspace(0, 1, len(GRID))
        assert np.asarray(believe(ANCHOR, (Fired(rule(shift=-1.0), strength),)).center)[[0, -1]].tolist() == [2, 1]


class TestCurves:
    def test_without_doubt_the_curve_is_a_plateau_around_the_center(self) -> None:
        sure = dataclasses.replace(ANCHOR, octaves_std=0.0, gain_std=0.0)
        gain = curves(believe(sure, ()), GRID).gain
        on = (np.log2(GRID) >= 1.5) & (np.log2(GRID) <= 2.5)
        assert np.allclose(gain[:, on], 0.02)
        assert (gain[:, ~on] < 0.02).all()

    def test_one_step_width_off_the_plateau_half_of_the_cost_is_paid(self) -> None:
        sure = dataclasses.replace(ANCHOR, octaves_std=0.0, gain_std=0.0)
        response = curves(believe(sure, ()), GRID)
        assert response.at(2**4.0)[0] == pytest.approx(0.02 - 0.03 / 2)

    def test_the_spread_of_the_curves_is_the_stated_uncertainty(self) -> None:
        response = curves(believe(ANCHOR, ()), GRID)
        assert response.gain.max(axis=1).mean() == pytest.approx(0.02, abs=1e-3)
        assert response.gain.max(axis=1).std() == pytest.approx(0.01, rel=0.05)

    def test_doubt_about_the_center_widens_the_interval_of_the_best(self) -> None:
        def width(octaves_std: float) -> float:
            anchor = dataclasses.replace(ANCHOR, octaves_std=octaves_std)
            low, high = curves(believe(anchor, ()), GRID).best_ci90()
            return float(np.log2(high / low))

        assert width(1.0) > width(0.5) > width(0.1)

    def test_the_same_belief_gives_the_same_curves(self) -> None:
        belief = believe(load_rules().anchor, ())
        assert np.array_equal(curves(belief, GRID).gain, curves(belief, GRID).gain)
