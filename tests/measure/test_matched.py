import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.measure import curves, matched, weighted


def one(statistic, count):
    return float(statistic(np.ones((count, 1)))[0])


def test_values_by_hand():
    # stratum 0: positive .5 against .1 and .9: won 1 of 2; stratum 1: .3 against .2: 1 of 1
    truth = np.array([True, False, False, True, False, True])
    scores = np.array([0.5, 0.1, 0.9, 0.3, 0.2, 0.0])
    strata = np.array([0, 0, 0, 1, 1, 2])

    assert matched.matched_pairs(truth, strata) == 3
    assert one(matched.matched_auroc(truth, scores, strata), 6) == pytest.approx(2 / 3)
    assert one(matched.matched_auroc(truth, -scores, strata), 6) == pytest.approx(1 / 3)
    rates = matched.rate_of_stratum(truth, strata)
    assert rates.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1])


def test_what_only_knows_the_stratum_is_worth_nothing_when_matched():
    rng = np.random.default_rng(0)
    position = rng.random(400)
    truth = rng.random(400) < np.where(np.abs(position - 0.5) < 0.25, 0.8, 0.1)
    strata = matched.quantile_bins(position, bins=10)
    rates = matched.rate_of_stratum(truth, strata)

    assert curves.auroc(truth, rates) > 0.8  # though position itself orders nothing
    assert abs(curves.auroc(truth, position) - 0.5) < 0.1
    assert one(matched.matched_auroc(truth, rates, strata), 400) == 0.5


@given(st.integers(0, 2**20))
def test_weights_do_what_repeating_does(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    truth, strata = rng.random(n) < 0.5, rng.integers(0, 3, size=n)
    scores = rng.integers(0, 4, size=n) / 4
    weights = rng.integers(0, 3, size=(n, 5)).astype(np.float64)

    def plain(rows):
        t, s, k = truth[rows], scores[rows], strata[rows]
        gaps = np.subtract.outer(s[t], s[~t])
        same = np.equal.outer(k[t], k[~t])
        won = (gaps > 0) + 0.5 * (gaps == 0)
        return won[same].mean() if same.any() else np.nan

    np.testing.assert_allclose(
        matched.matched_auroc(truth, scores, strata)(weights),
        weighted.by_loop(plain, n)(weights),
        rtol=1e-12,
    )


def test_bins_hold_equal_parts_and_equal_values_together():
    assert np.bincount(matched.quantile_bins(np.arange(12.0), bins=3)).tolist() == [4, 4, 4]
    tied = matched.quantile_bins(np.array([0.0, 0, 0, 0, 0, 1, 2]), bins=4)
    assert len(set(tied[:5].tolist())) == 1
    assert tied.min() == 0
    assert matched.quantile_bins(np.zeros(0), bins=4).shape == (0,)
    with pytest.raises(ValueError, match="values: expected finite"):
        matched.quantile_bins(np.array([0.0, np.nan]), bins=2)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        matched.quantile_bins(np.zeros(2), bins=0)
