import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medglean.measure.comparisons import (
    holm,
    mann_whitney,
    paired_t,
    smallest_mann_whitney_p,
    wilcoxon_signed_rank,
)


def test_mann_whitney_by_hand():
    # pairs in which the first is higher: 1 (over 2), 4 (over 2 and 3), 5 (over both) -> 0 + 2 + 2
    # 10 ways to deal 3 of 5 ranks out; U is 0 1 2 3 3 4 4 5 6... with U >= 4 or <= 2:
    # rank sums 6 7 8 8 9 9 10 10 11 12, less 6 -> U 0 1 2 2 3 3 4 4 5 6; mean 3, deviation >= 1: 8
    found = mann_whitney(np.array([1.0, 4.0, 5.0]), np.array([2.0, 3.0]))

    assert found.statistic == 4.0
    assert found.p == pytest.approx(0.8)
    assert found.test == "Mann-Whitney U (exact)"


def test_mann_whitney_with_ties_by_hand():
    # values 1 2 | 2 3: mid-ranks 1, 2.5 | 2.5, 4; U = 0 + 0.5 = 0.5, mean 2, deviation 1.5
    # rank sums of two of {1, 2.5, 2.5, 4}: 3.5 3.5 5 5 6.5 6.5; mean 5; |.| >= 1.5: 4 of 6
    found = mann_whitney(np.array([1.0, 2.0]), np.array([2.0, 3.0]))

    assert found.statistic == 0.5
    assert found.p == pytest.approx(4 / 6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_mann_whitney_agrees_with_scipy_where_nothing_ties(n, m, seed):
    values = np.random.default_rng(seed).permutation(n + m).astype(float)
    ours = mann_whitney(values[:n], values[n:])
    theirs = stats.mannwhitneyu(values[:n], values[n:], alternative="two-sided", method="exact")

    assert ours.statistic == theirs.statistic
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.p >= ours.smallest_p - 1e-12


def test_three_against_three_cannot_be_significant_and_four_can():
    best = mann_whitney(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0]))

    assert best.p == pytest.approx(0.1)
    assert best.smallest_p == pytest.approx(0.1)
    assert not best.can_reach()
    assert best.can_reach(0.2)
    assert smallest_mann_whitney_p(4, 4) == pytest.approx(2 / 70)
    assert smallest_mann_whitney_p(1, 1) == 1.0


def test_many_values_are_approximated_and_it_says_so():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.4, 1, 60), generator.normal(0, 1, 60)
    found = mann_whitney(first, second)
    theirs = stats.mannwhitneyu(first, second, alternative="two-sided", method="asymptotic")

    assert "approximation" in found.test
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.statistic == theirs.statistic


def test_an_empty_row_has_no_p():
    assert math.isnan(mann_whitney(np.array([]), np.array([1.0])).p)
    assert not mann_whitney(np.array([]), np.array([1.0])).significant()


@pytest.mark.parametrize("test", [lambda x: mann_whitney(x, x), wilcoxon_signed_rank, paired_t])
def test_scores_that_are_not_finite_are_refused(test):
    with pytest.raises(ValueError, match=r"found 1 of 2 that are NaN or infinite"):
        test(np.array([0.5, np.nan]))


def test_wilcoxon_by_hand():
    # sizes 1 2 3 4 with signs + + - +: rank sum 1 + 2 + 4 = 7, mean 5, deviation 2
    # of 16 sign patterns sums 0..10 occur 1 1 1 2 2 2 2 2 1 1 1; <= 3 or >= 7: 5 + 5 = 10
    found = wilcoxon_signed_rank(np.array([0.1, 0.2, -0.3, 0.4]))

    assert found.statistic == 7.0
    assert found.p == pytest.approx(10 / 16)
    assert found.smallest_p == pytest.approx(2 / 16)


@given(st.integers(1, 12), st.integers(0, 999))
def test_wilcoxon_agrees_with_scipy(n, seed):
    generator = np.random.default_rng(seed)
    values = (generator.permutation(n) + 1) * generator.choice([-1.0, 1.0], n)

    ours, theirs = wilcoxon_signed_rank(values), stats.wilcoxon(values, method="exact")

    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)


def test_wilcoxon_leaves_zeros_out_and_counts_ties():
    # 0 says nothing; |1| |1| |2|: mid-ranks 1.5 1.5 3, all positive: the extreme, 2 of 8 patterns
    found = wilcoxon_signed_rank(np.array([0.0, 1.0, 1.0, 2.0]))

    assert found.statistic == 6.0
    assert found.p == pytest.approx(0.25)
    assert wilcoxon_signed_rank(np.zeros(4)).p == 1.0
    assert math.isnan(wilcoxon_signed_rank(np.array([])).p)


def test_wilcoxon_of_many_is_approximated():
    values = np.random.default_rng(1).normal(0.2, 1, 150)
    theirs = stats.wilcoxon(values, method="approx", correction=True)

    assert wilcoxon_signed_rank(values).p == pytest.approx(theirs.pvalue)


def test_paired_t_by_hand():
    # mean 2, sd 1, n 3: t = 2 / (1 / sqrt 3) = 3.4641, p(2 df) = 0.0742
    found = paired_t(np.array([1.0, 2.0, 3.0]))

    assert found.statistic == pytest.approx(3.464102, abs=1e-6)
    assert found.p == pytest.approx(0.0741799, abs=1e-6)


def test_paired_t_corrected_for_shared_images_by_hand():
    # 30 % tested on: variance of the mean 1 * (1/3 + 3/7) = 0.761905; t = 2 / 0.872872 = 2.291288
    found = paired_t(np.array([1.0, 2.0, 3.0]), test_share=0.3)

    assert found.statistic == pytest.approx(2.291288, abs=1e-6)
    assert "corrected" in found.test


def test_paired_t_without_spread_or_with_one_pair():
    assert paired_t(np.array([0.5, 0.5])).p == 0.0
    assert paired_t(np.array([-0.5, -0.5])).statistic == -math.inf
    assert paired_t(np.zeros(3)).p == 1.0
    assert math.isnan(paired_t(np.array([1.0])).p)
    with pytest.raises(ValueError, match=r"test_share must lie in \[0, 1\), got 1"):
        paired_t(np.array([1.0, 2.0]), test_share=1.0)


def test_holm_by_hand_keeps_order_and_undefined():
    # smallest x 3, next x 2, last x 1 but never below the one before
    assert holm([0.04, math.nan, 0.01, 0.03])[2] == pytest.approx(0.03)
    assert holm([0.04, math.nan, 0.01, 0.03])[0] == pytest.approx(0.06)
    assert holm([0.04, math.nan, 0.01, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([0.04, math.nan])[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
