r"""Variance of AUROC, and whether two AUROCs on the same images differ.

An AUROC is a mean over pairs of a positive and a negative image. Each image's *placement* is the
share of images of the other kind that it is ordered rightly against, ties counting half; DeLong's
variance is that of the mean placements [1]_, found from mid-ranks in :math:`O(n \log n)` [2]_.
Images of one patient resemble one another: with ``groups`` the placements are summed over each
patient first, and the covariance between a patient's own positive and negative images is added
[3]_. With one image a patient the two are equal. Whether images were shared or not, comparisons
are paired: everything rests on the differences between placements image by image.

References
----------
.. [1] DeLong, DeLong, Clarke-Pearson. Comparing the Areas under Two or More Correlated Receiver
   Operating Characteristic Curves: A Nonparametric Approach. Biometrics 44, 1988.
.. [2] Sun, Xu. Fast Implementation of DeLong's Algorithm for Comparing the Areas Under Correlated
   Receiver Operating Characteristic Curves. IEEE Signal Processing Letters 21, 2014.
.. [3] Obuchowski. Nonparametric Analysis of Clustered ROC Curve Data. Biometrics 53, 1997.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import special, stats

from medglean.arrays import Scores, ScoreTable, Truth
from medglean.measure.checks import check_finite, check_same_length
from medglean.measure.intervals import group_positions

Groups = Sequence[object] | np.ndarray | None
"""The patient of each image; None where every image stands for itself."""


@dataclass(frozen=True)
class AurocEstimate:
    """AUROC with its variance.

    Attributes
    ----------
    value
        In [0, 1]; NaN without a positive or without a negative image.
    variance
        Of ``value``; NaN with fewer than two groups that hold a positive image, or a negative one.
    low, high
        ``value`` and the normal quantile of ``level`` times the standard error, cut at 0 and 1.
    level
        Confidence, such as 0.95.
    positives, negatives
        Images of each kind.
    groups
        Patients, or images where each stands for itself.
    note
        Why something is NaN, or why the interval means little; otherwise empty.
    """

    value: float
    variance: float
    low: float
    high: float
    level: float
    positives: int
    negatives: int
    groups: int
    note: str = ""


@dataclass(frozen=True)
class AurocComparison:
    """Difference between two AUROCs on the same images.

    Attributes
    ----------
    first, second
        The AUROCs, in [0, 1].
    difference
        ``first - second``.
    standard_error
        Of the difference.
    low, high
        ``difference`` and the normal quantile of ``level`` times the standard error.
    level
        Confidence, such as 0.95.
    p
        Two-sided, against no difference. 1 where both order all images alike; NaN where the AUROCs
        differ and the variance is 0 or unknown.
    positives, negatives
        Images of each kind.
    groups
        Patients, or images where each stands for itself.
    note
        Why something is NaN; otherwise empty.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    low: float
    high: float
    level: float
    p: float
    positives: int
    negatives: int
    groups: int
    note: str = ""


def placements(truth: Truth, scores: Scores) -> np.ndarray:
    """Return the share of images of the other kind that each image is ordered rightly against.

    Parameters
    ----------
    truth
        Whether each image is positive.
    scores
        Any finite numbers; only their order matters.

    Returns
    -------
    ndarray
        Shape (n,), in [0, 1]; ties count half. The mean over the positive images is the AUROC, and
        so is that over the negative ones. NaN where there is no image of the other kind.

    Raises
    ------
    ValueError
        If lengths differ or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> placements(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.9])).tolist()
    [1.0, 0.75, 0.75, 1.0]
    """
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    found = np.full(len(truth), np.nan)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return found
    among_all = stats.rankdata(scores)
    # A mid-rank among all, less that among one's own kind, counts the other kind below.
    below = among_all[truth] - stats.rankdata(scores[truth])
    found[truth] = below / negatives
    below = among_all[~truth] - stats.rankdata(scores[~truth])
    found[~truth] = 1.0 - below / positives
    return found


def auroc_estimate(
    truth: Truth, scores: Scores, *, groups: Groups = None, level: float = 0.95
) -> AurocEstimate:
    """Return AUROC with DeLong's variance [1]_, or Obuchowski's where groups are given [3]_.

    Near 1 the interval is too short (it has no width at 1): prefer the bootstrap of
    `medglean.measure.intervals` or more images there.

    Parameters
    ----------
    truth
        Whether each image is positive.
    scores
        Any finite numbers; only their order matters.
    groups
        One per image, such as the patient; None where every image stands for itself.
    level
        Confidence of the interval, in (0, 1).

    Raises
    ------
    ValueError
        If lengths differ, a score is not finite, a group is missing or ``level`` is out of range.
    """
    _check_level(level)
    place, count = _groups(truth, groups)
    placed = placements(truth, scores)
    value, variance, note = _mean_and_variance(truth, placed, place, count)
    if variance == 0.0:
        note = "every image of a kind has the same placement: the interval has no width"
    reach = _quantile(level) * math.sqrt(variance)
    low, high = (float(end) for end in np.clip([value - reach, value + reach], 0.0, 1.0))
    positives = int(truth.sum())
    negatives = len(truth) - positives
    return AurocEstimate(value, variance, low, high, level, positives, negatives, count, note)


def compare_aurocs(
    truth: Truth, first: Scores, second: Scores, *, groups: Groups = None, level: float = 0.95
) -> AurocComparison:
    """Test whether two classifiers, scored on the same images, have the same AUROC.

    DeLong's test [1]_, or its form for clusters where groups are given [3]_.

    Parameters
    ----------
    truth
        Whether each image is positive.
    first, second
        Scores of the two classifiers in the same order of images; their scales may differ.
    groups
        One per image, such as the patient; None where every image stands for itself. Without them
        p is too small wherever patients have several images.
    level
        Confidence of the interval, in (0, 1).

    Raises
    ------
    ValueError
        If lengths differ, a score is not finite, a group is missing or ``level`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([False, False, False, True, True, True])
    >>> good = np.array([0.1, 0.2, 0.6, 0.5, 0.8, 0.9])
    >>> found = compare_aurocs(truth, good, np.array([0.1, 0.6, 0.7, 0.5, 0.8, 0.2]))
    >>> round(found.difference, 3), round(found.p, 3)
    (0.333, 0.221)
    """
    _check_level(level)
    place, count = _groups(truth, groups)
    placed = placements(truth, first), placements(truth, second)
    # Of differences image by image, so that equal orders differ by exactly nothing.
    difference, variance, note = _mean_and_variance(truth, placed[0] - placed[1], place, count)
    error = math.sqrt(variance)
    reach = _quantile(level) * error
    low, high = difference - reach, difference + reach
    if error > 0.0:
        p = float(special.erfc(abs(difference) / error / math.sqrt(2.0)))
    elif difference == 0.0:
        p = 1.0
    else:
        p = low = high = math.nan
        note = note or "the variance of the difference is 0: no test and no interval"
    positives = int(truth.sum())
    return AurocComparison(
        first=_mean(placed[0][truth]),
        second=_mean(placed[1][truth]),
        difference=difference,
        standard_error=error,
        low=low,
        high=high,
        level=level,
        p=p,
        positives=positives,
        negatives=len(truth) - positives,
        groups=count,
        note=note,
    )


def compare_aurocs_per_class(
    truth: Bool[np.ndarray, "n k"],
    first: ScoreTable,
    second: ScoreTable,
    *,
    groups: Groups = None,
    level: float = 0.95,
) -> list[AurocComparison]:
    """Compare two classifiers class by class, each class against the rest.

    Parameters
    ----------
    truth
        Which classes each image has. For one class per image:
        ``target[:, None] == np.arange(k)``.
    first, second
        Scores, one column per class.
    groups, level
        As in `compare_aurocs`.

    Returns
    -------
    list
        One comparison per class. Several p values want `medglean.measure.comparisons.holm`.

    Raises
    ------
    ValueError
        As in `compare_aurocs`, or if the tables differ in shape.
    """
    if not truth.shape == first.shape == second.shape:
        raise ValueError(
            f"expected one column per class everywhere, found: truth {truth.shape}, first "
            f"{first.shape}, second {second.shape}. Give both classifiers the same classes."
        )
    return [
        compare_aurocs(truth[:, k], first[:, k], second[:, k], groups=groups, level=level)
        for k in range(truth.shape[1])
    ]


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}.")


def _groups(truth: np.ndarray, groups: Groups) -> tuple[np.ndarray, int]:
    if groups is None:
        return np.arange(len(truth)), len(truth)
    check_same_length(truth=truth, groups=np.asarray(groups))
    return group_positions(groups)


def _quantile(level: float) -> float:
    return float(special.ndtri((1.0 + level) / 2.0))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan


def _mean_and_variance(
    truth: np.ndarray, placed: np.ndarray, place: np.ndarray, count: int
) -> tuple[float, float, str]:
    """Return the mean over positive images of ``placed``, its variance, and why that is NaN."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        kind = "positive" if positives == 0 else "negative"
        return math.nan, math.nan, f"no {kind} image"
    value = _mean(placed[truth])
    with_positive = len(np.unique(place[truth]))
    with_negative = len(np.unique(place[~truth]))
    if min(with_positive, with_negative) < 2:
        kind = "positive" if with_positive < 2 else "negative"
        return value, math.nan, f"no variance: {kind} images of 1 group, 2 are needed"
    centred = placed - np.where(truth, value, _mean(placed[~truth]))
    of_positives = np.bincount(place[truth], weights=centred[truth], minlength=count)
    of_negatives = np.bincount(place[~truth], weights=centred[~truth], minlength=count)
    # Equations of section 2 of [3]_; a group without images of a kind adds 0 to that sum.
    spread_10 = with_positive / (with_positive - 1) * float(of_positives @ of_positives)
    spread_01 = with_negative / (with_negative - 1) * float(of_negatives @ of_negatives)
    shared = count / (count - 1) * float(of_positives @ of_negatives)
    variance = (
        spread_10 / positives**2 + spread_01 / negatives**2 + 2.0 * shared / (positives * negatives)
    )
    # A sum of squares in exact arithmetic; rounding alone can bring it below 0.
    return value, max(0.0, variance), ""
