import numpy as np
import pytest

from medglean.curate import beside
from medglean.curate.beside import budgets_around, curves_beside
from medglean.curate.comparison import coverage_curve, summarise
from medglean.curate.methods.simple import interval_positions
from medglean.errors import UsageError


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 8))
    return np.repeat(centres, 10, axis=0) + 0.1 * rng.normal(size=(120, 8))


def test_a_selection_is_measured_as_it_is_elsewhere(values):
    order = np.random.default_rng(1).permutation(120)

    found = curves_beside(values, order, budget=16, draws=3)

    (curve,) = found["this selection"]
    expected = coverage_curve(values, order, curve.budgets)
    assert curve.budgets[0] == 2
    assert curve.budgets[-1] == 64
    assert 16 in curve.budgets
    for name in ("budgets", "mean", "low", "worst"):
        np.testing.assert_allclose(getattr(curve, name), getattr(expected, name), atol=1e-6)


def test_intervals_are_those_of_each_budget(values):
    (curve,) = curves_beside(values, np.arange(120), budget=16)["fixed interval"]

    for budget, mean, low in zip(curve.budgets, curve.mean, curve.low, strict=True):
        alone = summarise(values, interval_positions(120, count=int(budget)))
        assert mean == pytest.approx(alone.coverage_mean, abs=1e-6)
        assert low == pytest.approx(alone.coverage_low, abs=1e-6)


def test_random_orders_differ_and_depend_on_the_seed(values):
    order = np.arange(120)
    first = curves_beside(values, order, budget=16, draws=3, seed=1)["random"]
    again = curves_beside(values, order, budget=16, draws=3, seed=1)["random"]
    other = curves_beside(values, order, budget=16, draws=3, seed=2)["random"]

    assert len({curve.mean[0] for curve in first}) == 3
    assert [curve.mean.tolist() for curve in first] == [curve.mean.tolist() for curve in again]
    assert first[0].mean.tolist() != other[0].mean.tolist()


def test_images_taken_beforehand_cover_from_the_beginning(values):
    taken = np.arange(0, 120, 10)  # one of each cluster

    found = curves_beside(values, np.arange(1, 120, 10), budget=4, taken=taken, draws=2)

    for curves in found.values():
        for curve in curves:
            assert curve.mean[0] > 0.97


def test_of_many_images_a_sample_is_measured(values, monkeypatch):
    everything = curves_beside(values, np.arange(120), budget=16)
    monkeypatch.setattr(beside, "MOST_MEASURED", 60)

    some = curves_beside(values, np.arange(120), budget=16)

    assert some["random"][0].mean.tolist() != everything["random"][0].mean.tolist()
    np.testing.assert_allclose(some["random"][0].mean, everything["random"][0].mean, atol=0.1)


def test_an_order_that_ends_early_ends_the_curve(values):
    (curve,) = curves_beside(values, np.arange(20), budget=16)["this selection"]

    assert 16 <= curve.budgets[-1] <= 20


@pytest.mark.parametrize("budget", [0, 11])
def test_a_budget_beyond_the_images(budget):
    with pytest.raises(UsageError, match=rf"must be 1 to 10 images, got {budget}"):
        budgets_around(budget, 10)
