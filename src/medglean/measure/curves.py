"""How well scores order positive images before negative ones: ROC, precision-recall, their areas.

A larger score always means more of the positive class. Where the data hold no positive or no
negative image a measure is undefined and is NaN, never 0.

References
----------
.. [1] Hanley, McNeil. The meaning and use of the area under a receiver operating characteristic
   (ROC) curve. Radiology 143, 1982.
.. [2] Youden. Index for rating diagnostic tests. Cancer 3, 1950.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medglean.arrays import Scores, ScoreTable, Truth
from medglean.measure.checks import check_classes, check_finite, check_same_length, ratio


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct score, from "nothing is positive" to "everything is".

    Attributes
    ----------
    false_positive_rate, sensitivity
        Both in [0, 1] and not falling.
    threshold
        An image is called positive when its score is at least this; starts at infinity.
    positives, negatives
        How many images of each kind the curve rests on.
    """

    false_positive_rate: np.ndarray
    sensitivity: np.ndarray
    threshold: np.ndarray
    positives: int
    negatives: int


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """One point per distinct score, from the highest threshold to the lowest.

    Attributes
    ----------
    precision, recall
        Both in [0, 1]; recall does not fall. There is no added point at recall 0.
    threshold
        An image is called positive when its score is at least this.
    prevalence
        Share of positive images: the precision of a random order.
    """

    precision: np.ndarray
    recall: np.ndarray
    threshold: np.ndarray
    prevalence: float
    positives: int
    negatives: int


def _cumulative(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count true and false positives at each distinct score, from the highest down."""
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    thresholds, place = np.unique(-scores, return_inverse=True)
    true_positives = np.cumsum(np.bincount(place[truth], minlength=len(thresholds)))
    false_positives = np.cumsum(np.bincount(place[~truth], minlength=len(thresholds)))
    return -thresholds, true_positives, false_positives


def auroc(truth: Truth, scores: Scores) -> float:
    """Chance that a random positive scores above a random negative, ties counting half.

    The Mann-Whitney statistic from mid-ranks [1]_.

    Parameters
    ----------
    truth
        Whether each image is positive.
    scores
        Any finite numbers; only their order matters.

    Returns
    -------
    float
        In [0, 1]; NaN without a positive or without a negative image.

    Examples
    --------
    >>> import numpy as np
    >>> auroc(np.array([False, True, False, True]), np.array([0.1, 0.4, 0.4, 0.9]))
    0.875
    """
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2  # ranks from 1; ties share their mean
    rank_sum = mid_rank[place[truth]].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: Truth, scores: Scores) -> float:
    r"""Area under the precision-recall curve as a sum of steps, without interpolation.

    :math:`\sum_t (R_t - R_{t-1}) P_t` over the distinct scores from the highest down, as in
    scikit-learn. Tied images enter together, so their order in the table does not matter.

    Returns
    -------
    float
        In (0, 1]; NaN without a positive image.
    """
    if not truth.any():
        check_same_length(truth=truth, scores=scores)
        return float("nan")
    curve = precision_recall_curve(truth, scores)
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def roc_curve(truth: Truth, scores: Scores) -> RocCurve:
    """Sensitivity against false-positive rate at every threshold that changes a decision.

    Rates that are undefined, for want of positives or negatives, are NaN.
    """
    thresholds, true_positives, false_positives = _cumulative(truth, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    return RocCurve(
        false_positive_rate=ratio(np.r_[0, false_positives], np.asarray(negatives)),
        sensitivity=ratio(np.r_[0, true_positives], np.asarray(positives)),
        threshold=np.r_[np.inf, thresholds],
        positives=positives,
        negatives=negatives,
    )


def precision_recall_curve(truth: Truth, scores: Scores) -> PrecisionRecallCurve:
    """Precision against recall at every threshold that changes a decision.

    Recall is NaN without a positive image.
    """
    thresholds, true_positives, false_positives = _cumulative(truth, scores)
    positives = int(truth.sum())
    return PrecisionRecallCurve(
        precision=ratio(true_positives, true_positives + false_positives),
        recall=ratio(true_positives, np.asarray(positives)),
        threshold=thresholds,
        prevalence=float(ratio(np.asarray(positives), np.asarray(len(truth)))),
        positives=positives,
        negatives=len(truth) - positives,
    )


def youden_threshold(truth: Truth, scores: Scores) -> float:
    """Threshold with the largest sensitivity + specificity - 1 [2]_.

    Choose it on validation images, never on those that it is then judged on.

    Returns
    -------
    float
        One of the scores: an image is positive when its score is at least this. Of equally good
        ones the highest, which calls the fewest images positive. NaN without a positive or
        without a negative image.
    """
    curve = roc_curve(truth, scores)
    if curve.positives == 0 or curve.negatives == 0:
        return float("nan")
    # In whole pairs: differences of rounded rates would break ties at random.
    true_positives = np.rint(curve.sensitivity * curve.positives).astype(np.int64)
    false_positives = np.rint(curve.false_positive_rate * curve.negatives).astype(np.int64)
    gain = true_positives * curve.negatives - false_positives * curve.positives
    return float(curve.threshold[1:][np.argmax(gain[1:])])


def one_vs_rest(
    target: Int[np.ndarray, " n"], scores: ScoreTable
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split a multi-class problem into one (truth, scores) pair per class.

    Parameters
    ----------
    target
        Class index of each image, 0..k-1.
    scores
        One column per class.
    """
    check_same_length(target=target, scores=scores)
    check_classes(scores.shape[1], target=target)
    return [(target == index, scores[:, index]) for index in range(scores.shape[1])]


def auroc_one_vs_rest(target: Int[np.ndarray, " n"], scores: ScoreTable) -> Float[np.ndarray, " k"]:
    """AUROC of each class against all others; NaN for a class that does not occur."""
    return np.array([auroc(*pair) for pair in one_vs_rest(target, scores)])
