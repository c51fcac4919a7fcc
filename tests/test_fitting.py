"""Fitting the model in use: from the made corpus of `test_regressor.py`, whose law is known."""

import pytest
from test_regressor import SOURCES, made

from tempadvisor.advise import recommend
from tempadvisor.curves import TEMPERATURES
from tempadvisor.errors import UsageError
from tempadvisor.fitting import Comparison, compare, fit, version_of


def curves(sources=SOURCES[:3], numbers=(0, 1)):
    return [made(source, octaves, number) for source in sources for octaves in (-1, 0, 1, 2) for number in numbers]


def test_the_fitted_model_knows_the_law_its_reach_and_its_corpus():
    model = fit(curves())
    assert model.share > 0
    assert model.version == version_of(curves()) != version_of(curves(numbers=(0, 2)))
    assert 0 <= model.reach < 1
    low, high = (
        recommend(made("d", octaves, 1).profile, made("d", octaves, 1).run.setup, learned=model).temperature
        for octaves in (-1, 2)
    )
    assert TEMPERATURES[0] <= low <= 3 < 12 <= high


def test_two_sources_are_too_few_to_learn_from():
    with pytest.raises(UsageError, match="must be of at least 3 data sources"):
        fit(curves(SOURCES[:2]))


@pytest.mark.slow
def test_new_runs_that_agree_are_not_held_to_make_advice_worse():
    steps = []
    found = compare(curves(numbers=(0,)), curves(("d",)), lambda done, n: steps.append((done, n)))
    assert steps == [(i, 6) for i in range(1, 7)]
    assert found.after <= found.before + 0.002
    assert not found.worse


def test_worse_means_that_the_whole_interval_lies_above_zero():
    assert Comparison(0.01, 0.02, 0.005, 0.015).worse
    assert not Comparison(0.01, 0.02, -0.005, 0.025).worse
