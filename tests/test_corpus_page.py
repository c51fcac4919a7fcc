"""The page on the runs: regrets of known curves, complete curves only, nothing frozen."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import corpus  # noqa: E402
import curve_plots  # noqa: E402
import groups  # noqa: E402

from tempadvisor import curves  # noqa: E402
from tempadvisor.curves import TEMPERATURES  # noqa: E402
from tempadvisor.errors import UsageError  # noqa: E402
from tempadvisor.records import TrainingSetup  # noqa: E402
from tempadvisor.runs import Run, write_runs  # noqa: E402


def made(seed: int, temperature: float | None, accuracy: float) -> Run:
    setup = TrainingSetup(optimizer="sgd", lr=0.1, epochs=10, batch_size=50, n_train=100, kd_weight=0.9, student="m")
    return Run(
        suite="mlp-digits",
        curve="c",
        seed=seed,
        temperature=temperature,
        source="digits",
        dataset="digits",
        teacher="t",
        setup=setup,
        n_classes=10,
        status="FINISHED",
        val_accuracy=accuracy,
        test_accuracy=accuracy,
        train_accuracy=accuracy,
    )


def runs() -> list[Run]:
    """Without KD 0.5 plus a hundredth a seed; a temperature adds a thousandth of itself."""
    return [made(seed, t, 0.5 + seed / 100 + (t or 0.0) / 1000) for seed in range(20) for t in (None, *TEMPERATURES)]


def test_a_frozen_source_is_refused_before_it_is_read(tmp_path: Path):
    with pytest.raises(UsageError, match="frozen"):
        curves.read_curves([tmp_path / "frozen-kana.csv"])


def test_differences_are_paired_by_seed_and_a_seed_or_curve_without_all_its_runs_does_not_count(tmp_path: Path):
    write_runs(tmp_path / "a.csv", runs())
    (curve,), incomplete = curves.read_curves([tmp_path / "a.csv"])
    assert incomplete == 0
    np.testing.assert_allclose(curve.gain, np.tile(np.array(TEMPERATURES) / 1000, (20, 1)))
    mean, error = curve.contrast((12.0, 16.0), (2.0, 4.0))
    assert mean == pytest.approx(0.011)
    assert error == pytest.approx(0, abs=1e-9)
    assert (curve.steps, curve.best) == (20, 40.0)
    write_runs(tmp_path / "b.csv", runs()[:-1])
    assert len(curves.read_curves([tmp_path / "b.csv"])[0][0].accuracy) == 19
    write_runs(tmp_path / "c.csv", runs()[: 4 * 11 - 1])
    assert curves.read_curves([tmp_path / "c.csv"]) == ([], 43)


def test_regret_is_what_is_lost_against_the_best_and_a_perfect_advisor_loses_nothing_without_noise():
    accuracy = np.tile(0.5 + 0.01 * np.arange(10), (6, 1))
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(curves.regrets(accuracy, rng), 0.09 - 0.01 * np.arange(10), atol=1e-9)
    assert curves.floor(accuracy, rng) == pytest.approx(0, abs=1e-9)


def test_on_pure_noise_cross_fitted_regret_is_not_biased_upward_as_that_against_the_maximum_is():
    rng = np.random.default_rng(1)
    noise = [0.01 * rng.standard_normal((20, 10)) for _ in range(200)]
    assert abs(np.mean([curves.regrets(one, rng) for one in noise])) < 0.0003
    assert np.mean([one.mean(0).max() - one.mean() for one in noise]) > 0.003


def test_the_section_replaces_itself_and_keeps_the_rest(tmp_path: Path):
    write_runs(tmp_path / "a.csv", runs())
    found, _ = curves.read_curves([tmp_path / "a.csv"])
    once = corpus.put("# Card\n\ntext\n", corpus.section(found, 0, ["mlp-digits"]))
    assert once.startswith("# Card\n\ntext\n\n")
    assert corpus.put(once + "after\n", corpus.section(found, 0, ["mlp-digits"])) == once + "after\n"
    assert "T=40 1" in once


def test_a_difference_within_two_standard_errors_is_left_open():
    claim = corpus.CLAIMS[0]
    assert claim.sign == -1
    assert corpus.verdict(claim, -1.0, 0.3) == "confirmed"
    assert corpus.verdict(claim, 1.0, 0.3) == "contradicted"
    assert corpus.verdict(claim, 1.0, 0.6).startswith("open")
    assert corpus.verdict(claim, float("nan"), 0.0) == "not yet measured"


def test_groups_are_compared_within_sources_only(tmp_path: Path):
    write_runs(tmp_path / "a.csv", runs())
    (curve,), _ = curves.read_curves([tmp_path / "a.csv"])
    other = dataclasses.replace(curve, run=dataclasses.replace(curve.run, source="other"))
    mean, error, n = groups.difference([curve, curve, other], [other, other], lambda _: 1.0)
    assert np.isnan(mean)
    assert np.isnan(error)
    assert n == 0


def test_the_plot_has_a_panel_for_each_curve_and_a_dot_for_each_temperature(tmp_path: Path):
    write_runs(tmp_path / "a.csv", runs())
    (curve,), _ = curves.read_curves([tmp_path / "a.csv"])
    assert curve_plots.draw("x", [curve, curve]).count("<circle") == 2 * len(TEMPERATURES)
