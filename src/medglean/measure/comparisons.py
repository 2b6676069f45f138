"""Is one row of scores better than another: rank tests, exact where few replicates need it.

With few replicates a test may be unable to reach significance whatever the scores are: 3 against 3
cannot go below p = 0.1. Every `Comparison` therefore knows the smallest p that its counts allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from medglean.measure.checks import check_finite

LEVEL = 0.05
"""Significance level that is asked for where none is named."""
EXACT_LIMIT = 100
"""Most values, of both rows together, that are counted out exactly."""


@dataclass(frozen=True)
class Comparison:
    """What a two-sided test found.

    Attributes
    ----------
    test
        Its name, with how p was computed.
    statistic
        U of the first row, the rank sum of the positive differences, or t.
    p
        Two-sided; NaN where there is nothing to compare.
    smallest_p
        The smallest p that these counts can reach, without ties; 0 where there is no floor.
    """

    test: str
    statistic: float
    p: float
    smallest_p: float

    def can_reach(self, level: float = LEVEL) -> bool:
        """Whether any scores with these counts could have been significant at ``level``."""
        return self.smallest_p < level

    def significant(self, level: float = LEVEL) -> bool:
        """Whether p is below ``level``; an undefined p is not."""
        return self.p < level


def mann_whitney(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " m"]) -> Comparison:
    r"""Compare two independent rows of scores by their ranks (Mann and Whitney 1947).

    Exact up to 100 values: all :math:`\binom{n+m}{n}` ways to deal the mid-ranks out are counted,
    so ties are exact, too. p is the share of them whose U lies at least as far from :math:`nm/2`
    as the one found. Beyond, the normal approximation with corrections for ties and continuity.

    Parameters
    ----------
    first, second
        Finite scores, such as one AUROC per replicate.

    Returns
    -------
    Comparison
        ``statistic`` is U of ``first``: the pairs in which it is higher, ties counting half. p is
        NaN where a row is empty.

    Raises
    ------
    ValueError
        If a score is NaN or infinite.

    Examples
    --------
    >>> found = mann_whitney(np.array([0.81, 0.83, 0.84]), np.array([0.7, 0.72, 0.74]))
    >>> found.statistic, found.p, found.can_reach()
    (9.0, 0.1, False)
    """
    check_finite(first=first, second=second)
    n, m = len(first), len(second)
    if n == 0 or m == 0:
        return Comparison("Mann-Whitney U", math.nan, math.nan, 1.0)
    doubled = _doubled_ranks(np.concatenate([first, second]))
    u = (int(doubled[:n].sum()) - n * (n + 1)) / 2
    floor = smallest_mann_whitney_p(n, m)
    if n + m > EXACT_LIMIT:
        found = stats.mannwhitneyu(first, second, alternative="two-sided", method="asymptotic")
        return Comparison("Mann-Whitney U (normal approximation)", u, float(found.pvalue), floor)
    ways = _ways_to_sum(doubled, n)
    sums = np.arange(len(ways))
    deviation = np.abs(sums - n * (n + m + 1))  # of the doubled rank sum from its mean
    extreme = ways[deviation >= abs(int(doubled[:n].sum()) - n * (n + m + 1))].sum()
    return Comparison("Mann-Whitney U (exact)", u, float(extreme / ways.sum()), floor)


def smallest_mann_whitney_p(n: int, m: int) -> float:
    """Return the smallest two-sided p of ``n`` scores against ``m``: the two extreme orders of all.

    Examples
    --------
    >>> smallest_mann_whitney_p(3, 3), round(smallest_mann_whitney_p(4, 4), 4)
    (0.1, 0.0286)
    """
    return min(1.0, 2 / math.comb(n + m, n))


def wilcoxon_signed_rank(differences: Float[np.ndarray, " n"]) -> Comparison:
    """Test whether paired differences lie around zero by their signed ranks (Wilcoxon 1945).

    For replicates that share their test set. Differences of exactly zero say nothing and are left
    out, as Wilcoxon did. Exact up to 100 of them, ties among their sizes included: all ways to
    give the mid-ranks a sign are counted.

    Parameters
    ----------
    differences
        Finite; one per pair.

    Returns
    -------
    Comparison
        ``statistic`` is the rank sum of the positive differences. p is NaN without a difference,
        and 1 where all are zero.

    Raises
    ------
    ValueError
        If a difference is NaN or infinite.

    Examples
    --------
    >>> wilcoxon_signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5])).p
    0.0625
    """
    check_finite(differences=differences)
    if len(differences) == 0:
        return Comparison("Wilcoxon signed-rank", math.nan, math.nan, 1.0)
    kept = differences[differences != 0]
    n = len(kept)
    floor = min(1.0, 2.0 ** (1 - len(differences)))
    if n == 0:
        return Comparison("Wilcoxon signed-rank (exact)", 0.0, 1.0, floor)
    doubled = _doubled_ranks(np.abs(kept))
    positive = int(doubled[kept > 0].sum())
    if n > EXACT_LIMIT:
        found = stats.wilcoxon(kept, method="approx", correction=True)
        name = "Wilcoxon signed-rank (normal approximation)"
        return Comparison(name, positive / 2, float(found.pvalue), floor)
    ways = _ways_to_sum(doubled, None)
    deviation = np.abs(2 * np.arange(len(ways)) - int(doubled.sum()))
    extreme = ways[deviation >= abs(2 * positive - int(doubled.sum()))].sum()
    return Comparison(
        "Wilcoxon signed-rank (exact)", positive / 2, float(extreme / ways.sum()), floor
    )


def paired_t(differences: Float[np.ndarray, " n"], *, test_share: float = 0.0) -> Comparison:
    r"""Test whether the mean of paired differences is zero (Student 1908).

    Replicates that divide the same images anew are not independent, and the plain test then finds
    differences that are not there. Nadeau and Bengio [1]_ widen the variance of the mean from
    :math:`s^2/n` to :math:`s^2 (1/n + r)`, r being test images over training images.

    Parameters
    ----------
    differences
        Finite; one per replicate.
    test_share
        Share of the images that each replicate tests on, in [0, 1); 0 for independent replicates.

    Returns
    -------
    Comparison
        ``statistic`` is t. p is NaN for fewer than two differences; where all are the same it is 1
        if they are zero, and 0 otherwise.

    Raises
    ------
    ValueError
        If a difference is NaN or infinite, or the share is not in [0, 1).

    References
    ----------
    .. [1] Nadeau, Bengio. Inference for the Generalization Error. Machine Learning 52, 2003.
    """
    check_finite(differences=differences)
    if not 0.0 <= test_share < 1.0:
        raise ValueError(f"test_share must lie in [0, 1), got {test_share}.")
    name = "paired t" + (" (corrected for shared images)" if test_share else "")
    n = len(differences)
    if n < 2:
        return Comparison(name, math.nan, math.nan, 1.0)
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if variance == 0.0:
        t = math.copysign(math.inf, mean) if mean else 0.0
        return Comparison(name, t, float(mean == 0), 0.0)
    t = mean / math.sqrt(variance * (1 / n + test_share / (1 - test_share)))
    return Comparison(name, t, float(2 * stats.t.sf(abs(t), n - 1)), 0.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p for several tests at once (Holm 1979): the k-th smallest counts m - k + 1 times.

    Parameters
    ----------
    p_values
        NaN where there was no test; it stays NaN and is not counted.

    Returns
    -------
    list
        In the order given, each at most 1 and never below the one of a smaller p.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [place for place in np.argsort(values, kind="stable") if not np.isnan(values[place])]
    highest = 0.0
    for number, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - number) * float(values[place])))
        adjusted[place] = highest
    return [float(value) for value in adjusted]


def _doubled_ranks(values: np.ndarray) -> np.ndarray:
    """Return twice the mid-rank of each value: whole numbers, so that sums are exact."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: np.ndarray = (2 * last - counts + 1)[place].astype(np.int64)
    return doubled


def _ways_to_sum(doubled: np.ndarray, size: int | None) -> np.ndarray:
    """Count the subsets (of ``size`` values; None: of any size) that have each sum.

    Float64, because counts outgrow 64-bit integers; their relative error stays below 1e-13.
    """
    total = int(doubled.sum())
    rows = len(doubled) if size is None else size
    if size is None:
        ways = np.zeros(total + 1)
        ways[0] = 1.0
        for value in doubled:
            ways[value:] += ways[: total + 1 - value].copy()
        return ways
    table = np.zeros((rows + 1, total + 1))
    table[0, 0] = 1.0
    for value in doubled:
        table[1:, value:] += table[:-1, : total + 1 - value].copy()
    return np.asarray(table[size])
