import numpy as np
import pytest

from medglean.anomaly.matching import MOST_REPEATS, drawn, match_weights


def test_weights_by_hand():
    values = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0])
    targets = np.array([0, 0, 0, 1, 0, 1, 1, 1])

    weights = match_weights(values, targets, bins=8)

    # at 0: three healthy, one diseased; at 1: one and two; at 2: one class alone
    expected = [1 / 4, 1 / 4, 1 / 4, 3 / 4, 2 / 3, 1 / 3, 1 / 3, 0.0]
    np.testing.assert_allclose(weights, expected)


def test_both_classes_get_the_same_distribution_and_the_same_total():
    rng = np.random.default_rng(0)
    targets = (rng.random(2000) < 0.3).astype(np.int64)
    values = rng.normal(np.where(targets == 1, 0.5, -0.5))

    weights = match_weights(values, targets)

    cuts = np.quantile(values, np.arange(1, 10) / 10)
    place = np.searchsorted(cuts, values)
    healthy, diseased = (
        np.bincount(place, weights * (targets == target), minlength=10) for target in (0, 1)
    )
    np.testing.assert_allclose(healthy, diseased)
    means = [np.average(values[targets == t], weights=weights[targets == t]) for t in (0, 1)]
    assert abs(means[1] - means[0]) < 0.1  # 1.0 before
    assert weights.max() < 1


def test_few_images_make_few_bins():
    values, targets = np.arange(8.0), np.array([0, 1] * 4)

    np.testing.assert_allclose(match_weights(values, targets), 0.5)


def test_each_row_stands_in_the_list_as_often_as_its_weight_says():
    rows = np.array([10, 20, 30, 40])

    found = drawn(rows, np.array([0.5, 0.25, 0.0, 0.25]), seed=0)

    np.testing.assert_array_equal(found, [10, 10, 20, 40])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_not_whole_is_rounded_by_the_seed(seed):
    rows, weights = np.arange(7), np.array([1.0, 3.3, 0.9, 1.7, 0.0, 2.2, 0.31])

    found = drawn(rows, weights, seed=seed)

    count = np.bincount(found, minlength=7)
    expected = weights / weights.sum() * len(found)
    assert len(found) == np.ceil(weights.sum() / 0.31)
    assert (np.abs(count - expected) < 1).all()
    assert count[4] == 0
    assert count[6] >= 1
    np.testing.assert_array_equal(found, drawn(rows, weights, seed=seed))


def test_the_list_has_a_longest_length():
    found = drawn(np.arange(3), np.array([1.0, 1.0, 1e-6]), seed=0)

    assert len(found) == 3 * MOST_REPEATS
