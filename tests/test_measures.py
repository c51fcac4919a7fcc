"""Measures: known answers by hand, agreement with a slow float64 reference, and what must not change them."""

import math

import numpy as np
import pytest

from tempadvisor import measures as m


def reference(row, temperature, dropped=None):
    """Return the softmax of one row in float64, with one class left out."""
    kept = [z / temperature for j, z in enumerate(map(float, row)) if j != dropped]
    weights = [math.exp(z - max(kept)) for z in kept]
    return [w / sum(weights) for w in weights]


def entropy(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def spiky(n=40, k=30, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(0, 1.5, (n, k))
    logits[np.arange(n), labels] += 6 * rng.random(n)
    return logits * scale, labels


def test_entropy_of_uniform_logits_is_log_k():
    assert m.softmax_entropy(np.full((2, 7), 3.0), 5.0) == pytest.approx([math.log(7)] * 2)


def test_entropy_of_a_certain_prediction_is_zero():
    soft = m.softness(m.split(np.array([[0.0, 1e4, -5.0]]), np.array([1])))
    assert soft.entropy == pytest.approx(np.zeros((1, len(m.TEMPERATURES))))
    assert soft.top1_probability == pytest.approx(np.ones((1, len(m.TEMPERATURES))))


def test_two_classes_follow_the_logistic_function():
    soft = m.softness(m.split(np.array([[0.0, 3.0]]), np.array([1])), (2.0,))
    p = 1 / (1 + math.exp(-1.5))
    assert soft.top1_probability[0, 0] == pytest.approx(p, abs=1e-6)
    assert soft.entropy[0, 0] == pytest.approx(entropy([p, 1 - p]), abs=1e-6)
    assert soft.target_loss[0, 0] == pytest.approx(-math.log(p), abs=1e-6)
    assert soft.nontarget_entropy[0, 0] == 0


def test_the_grid_goes_from_a_half_to_64_in_quarter_octaves():
    assert (m.TEMPERATURES[0], m.TEMPERATURES[4], m.TEMPERATURES[-1], len(m.TEMPERATURES)) == (0.5, 1.0, 64.0, 29)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0, 300.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softness_agrees_with_a_slow_reference_within_1e_4_nats(scale, dtype):
    logits, labels = spiky(scale=scale)
    logits = logits.astype(dtype)
    soft = m.softness(m.split(logits, labels))
    for k, temperature in enumerate(m.TEMPERATURES):
        for i, row in enumerate(logits):
            p = reference(row, temperature)
            assert soft.entropy[i, k] == pytest.approx(entropy(p), abs=1e-4)
            assert soft.top1_probability[i, k] == pytest.approx(max(p), abs=1e-4)
            assert soft.nontarget_entropy[i, k] == pytest.approx(
                entropy(reference(row, temperature, labels[i])), abs=1e-4
            )
            if p[labels[i]] > 0:
                assert soft.target_loss[i, k] == pytest.approx(-math.log(p[labels[i]]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_softness_agrees_with_softmax_entropy_on_a_grid_longer_than_a_chain(scale):
    logits, labels = spiky(scale=scale)
    grid = tuple(2.0**k for k in range(-7, 11))
    found = m.softness(m.split(logits, labels), grid).entropy
    wanted = np.stack([m.softmax_entropy(logits, t) for t in grid], axis=1)
    assert np.abs(found - wanted).max() < 1e-4


def measured(logits, target, temperatures=m.TEMPERATURES):
    parts = m.split(logits, target)
    soft, shape = m.softness(parts, temperatures), m.geometry(parts)
    curves = (soft.entropy, soft.top1_probability, soft.nontarget_entropy)
    return curves, (shape.margin, shape.logit_std, shape.top_gap, shape.rest_std)


def test_adding_a_constant_to_each_row_changes_nothing():
    logits, labels = spiky()
    offset = np.linspace(-1e6, 1e6, len(logits))[:, None]
    for one, other in zip(measured(logits, labels), measured(logits + offset, labels), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_permuting_the_classes_changes_nothing():
    logits, labels = spiky()
    order = np.random.default_rng(1).permutation(logits.shape[1])
    permuted = measured(logits[:, order], np.argsort(order)[labels])
    for one, other in zip(measured(logits, labels), permuted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_scaling_logits_and_temperatures_together_changes_no_curve_and_scales_the_geometry():
    logits, labels = spiky()
    (curves, shape), (scaled_curves, scaled_shape) = (
        measured(logits, labels, (1.0, 2.0)),
        measured(3 * logits, labels, (3.0, 6.0)),
    )
    np.testing.assert_allclose(curves, scaled_curves, atol=1e-5)
    np.testing.assert_allclose(3 * np.array(shape), scaled_shape, rtol=1e-5)


def test_a_large_temperature_tends_to_uniform():
    logits, labels = spiky()
    soft = m.softness(m.split(logits, labels), (1e5,))
    assert soft.entropy == pytest.approx(np.full((40, 1), math.log(30)), abs=1e-6)
    assert soft.nontarget_entropy == pytest.approx(np.full((40, 1), math.log(29)), abs=1e-6)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_geometry_by_hand_does_not_depend_on_the_target(target):
    shape = m.geometry(m.split(np.array([[5.0, 1.0, 3.0]]), np.array([target])))
    assert shape.margin[0] == pytest.approx(2)
    assert shape.top_gap[0] == pytest.approx(3)
    assert shape.rest_std[0] == pytest.approx(1)
    assert shape.logit_std[0] == pytest.approx(math.sqrt(8 / 3))


def test_the_entropy_temperature_of_two_classes_by_hand():
    p = 0.889972  # its entropy is half of log 2
    assert m.entropy_temperature(np.array([[0.0, 3.0]]), 0.5) == pytest.approx(3 / math.log(p / (1 - p)), rel=1e-3)


def test_an_entropy_that_is_not_reached_has_no_temperature():
    assert m.entropy_temperature(np.array([[0.0, 1e6]]), 0.5) is None
    assert m.entropy_temperature(np.zeros((1, 3)), 0.5) is None


@pytest.mark.parametrize("level", m.SOFTNESS_LEVELS)
def test_the_curve_gives_the_entropy_temperature_within_half_a_percent(level):
    logits, labels = spiky()
    grid = tuple(2.0 ** (k / 4) for k in range(-16, 25))
    curve = m.softness(m.split(logits, labels), grid).entropy.mean(axis=0)
    found = m.curve_temperature(np.array(grid), curve, level * math.log(30))
    assert found == pytest.approx(m.entropy_temperature(logits, level), rel=0.005)


def test_the_spike_temperature_gives_the_wanted_top_probability():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (2000, 100))
    logits[:, 0] += 9
    shape = m.geometry(m.split(logits, np.zeros(2000, int)))
    found = m.spike_temperature(float(shape.top_gap.mean()), float(shape.rest_std.mean()), 100, 0.5)
    mean_top = np.mean([max(reference(row, found)) for row in logits])
    assert mean_top == pytest.approx(0.5, abs=0.03)  # the accuracy that evidence.md states


def test_the_spike_temperature_of_equal_others_is_the_gap_over_the_log_odds():
    assert m.spike_temperature(10.0, 0.0, 3, 0.5) == pytest.approx(10 / math.log(2))


@pytest.mark.parametrize(("gap", "std", "k"), [(1.0, 5.0, 100), (5.0, 1.0, 2), (0.0, 0.0, 10)])
def test_there_is_no_spike_temperature_without_a_spike_or_with_two_classes(gap, std, k):
    assert m.spike_temperature(gap, std, k) is None


def test_calibration_error_by_hand():
    bins = m.calibration_bins(np.array([0.9, 0.9, 0.5, 1.0]), np.array([True, False, True, True]))
    # two of 0.9: |1 - 1.8|; one of 0.5: |1 - 0.5|; one of 1.0: 0
    assert m.calibration_error(bins) == pytest.approx((0.8 + 0.5) / 4)


def test_the_calibration_temperature_undoes_a_scaling():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (20000, 5))
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    nll = m.softness(m.split(true * 2.5, labels)).target_loss.mean(axis=0)
    assert m.calibration_temperature(np.array(m.TEMPERATURES), nll) == pytest.approx(2.5, rel=0.03)


def test_a_teacher_that_is_always_right_has_no_calibration_temperature():
    nll = m.softness(m.split(np.eye(4) * 5, np.arange(4))).target_loss.mean(axis=0)
    assert m.calibration_temperature(np.array(m.TEMPERATURES), nll) is None
