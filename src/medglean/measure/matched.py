"""AUROC among images that are alike in another quantity, so that it cannot be what is recognised.

Slices with a tumour lie in the middle of the head more often than those without. A score that only
knows where a slice lies then separates them. Compared within bins of position, it cannot.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from medglean.arrays import Scores, Truth
from medglean.measure.checks import check_finite, check_same_length, ratio
from medglean.measure.weighted import Statistic, auroc


def quantile_bins(values: Float[np.ndarray, " n"], *, bins: int) -> Int[np.ndarray, " n"]:
    """Return the number of the bin, between quantiles, that each value falls into.

    Equal values share a bin, so there may be fewer bins than asked for.

    Raises
    ------
    ValueError
        If a value is NaN or ``bins`` is below 1.

    Examples
    --------
    >>> quantile_bins(np.array([5.0, 1.0, 2.0, 9.0]), bins=2).tolist()
    [1, 0, 0, 1]
    """
    check_finite(values=values)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    inner = np.quantile(values, np.arange(1, bins) / bins)
    _, place = np.unique(np.searchsorted(inner, values, side="right"), return_inverse=True)
    return np.asarray(place.reshape(-1), dtype=np.int64)


def rate_of_stratum(truth: Truth, strata: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Give each image the share of positive images in its stratum.

    As a score it is what the stratum alone tells. It is read from the very images that it is judged
    on, which is generous to it: slightly, where strata are large.
    """
    check_same_length(truth=truth, strata=strata)
    if len(truth) == 0:
        return np.zeros(0)
    share = ratio(np.bincount(strata, weights=truth), np.bincount(strata))
    return np.asarray(share[strata])


def matched_pairs(truth: Truth, strata: Int[np.ndarray, " n"]) -> int:
    """Count the pairs of a positive and a negative image of one stratum."""
    check_same_length(truth=truth, strata=strata)
    return sum(
        int(truth[strata == one].sum()) * int((~truth[strata == one]).sum())
        for one in np.unique(strata)
    )


def matched_auroc(truth: Truth, scores: Scores, strata: Int[np.ndarray, " n"]) -> Statistic:
    """Chance that a positive scores above a negative image of the same stratum, ties half.

    The mean of the strata's AUROC, each weighted by its pairs; undefined where no stratum has
    both a positive and a negative image.
    """
    check_same_length(truth=truth, scores=scores, strata=strata)
    parts = []
    for one in np.unique(strata):
        rows = np.flatnonzero(strata == one)
        parts.append((rows, truth[rows], auroc(truth[rows], scores[rows])))

    def statistic(weights: np.ndarray) -> np.ndarray:
        won = np.zeros(weights.shape[1])
        pairs = np.zeros(weights.shape[1])
        for rows, positive, within in parts:
            some = weights[rows]
            here = some[positive].sum(axis=0) * some[~positive].sum(axis=0)
            won += np.where(here > 0, np.nan_to_num(within(some)) * here, 0.0)
            pairs += here
        return ratio(won, pairs)

    return statistic
