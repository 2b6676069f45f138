"""Operating points: thresholds chosen on validation images, judged on others.

An image is called positive when its score is at least the threshold. Only scores that occur are
candidates: between two of them no decision changes, and those that share a score are called alike.

References
----------
.. [1] Youden. Index for rating diagnostic tests. Cancer 3, 1950.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medglean.arrays import Scores, Truth
from medglean.measure import weighted
from medglean.measure.checks import check_finite, check_same_length, ratio
from medglean.measure.curves import RocCurve, roc_curve, youden_threshold
from medglean.measure.weighted import Statistic


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, why this one, and what it gave on the images that it was chosen on.

    Attributes
    ----------
    rule
        Such as "Youden" or "sensitivity >= 0.95".
    threshold
        Call positive what scores at least this; NaN where no threshold does what was asked.
    sensitivity, specificity
        On the images that it was chosen on: flattering, and not for reporting as a result.
    note
        Why the threshold is NaN, or what to know about it; otherwise empty.
    """

    rule: str
    threshold: float
    sensitivity: float
    specificity: float
    note: str = ""


@dataclass(frozen=True)
class Decisions:
    """What a threshold does on some images: a confusion matrix and its rates.

    Rates are NaN where their denominator is 0. All four counts are 0 where the threshold is NaN.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def sensitivity(self) -> float:
        """Share of positive images that were called so."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Share of negative images that were called so."""
        return _share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def ppv(self) -> float:
        """Share of images called positive that are: it holds at this prevalence only."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> float:
        """Share of images called negative that are: it holds at this prevalence only."""
        return _share(self.true_negatives, self.true_negatives + self.false_negatives)


def youden(truth: Truth, scores: Scores) -> OperatingPoint:
    """Choose the threshold with the largest sensitivity + specificity - 1 [1]_.

    Of equally good ones the highest, which calls the fewest images positive.

    Parameters
    ----------
    truth
        Whether each validation image is positive.
    scores
        Finite; larger means more of the positive class.
    """
    threshold = youden_threshold(truth, scores)
    decided = decisions(truth, scores, threshold=threshold)
    note = _lacking(truth) if math.isnan(threshold) else ""
    return OperatingPoint("Youden", threshold, decided.sensitivity, decided.specificity, note)


def sensitivity_at_least(truth: Truth, scores: Scores, *, least: float) -> OperatingPoint:
    """Choose, of all thresholds that find enough positive images, the one of best specificity.

    Of several with that specificity the one of best sensitivity. Lowering the threshold finds
    every positive image at last, so it always exists where a positive and a negative image do.

    Parameters
    ----------
    truth
        Whether each validation image is positive.
    scores
        Finite; larger means more of the positive class.
    least
        Sensitivity asked for, in (0, 1].

    Raises
    ------
    ValueError
        If ``least`` lies outside (0, 1], lengths differ or a score is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([False, True, False, True])
    >>> point = sensitivity_at_least(truth, np.array([0.1, 0.3, 0.5, 0.7]), least=0.9)
    >>> point.threshold, point.sensitivity, point.specificity
    (0.3, 1.0, 0.5)
    """
    _check_share(least)
    rule = f"sensitivity >= {least:g}"
    curve = roc_curve(truth, scores)
    if not curve.positives or not curve.negatives:
        return _nothing(rule, _lacking(truth))
    found, kept = _counts(curve)
    # One division each, rounded once: 19 of 20 does reach 0.95.
    enough = np.flatnonzero(found / curve.positives >= least)
    best = enough[np.lexsort((found[enough], kept[enough]))[-1]]
    note = "every image is called positive" if kept[best] == 0 else ""
    return _chosen(rule, curve, int(best), note)


def specificity_at_least(truth: Truth, scores: Scores, *, least: float) -> OperatingPoint:
    """Choose, of all thresholds that spare enough negative images, the one of best sensitivity.

    Of several with that sensitivity the one of best specificity. There is none where so many
    negative images share the highest score that only calling nothing positive would spare enough.

    Parameters
    ----------
    truth
        Whether each validation image is positive.
    scores
        Finite; larger means more of the positive class.
    least
        Specificity asked for, in (0, 1].

    Raises
    ------
    ValueError
        If ``least`` lies outside (0, 1], lengths differ or a score is not finite.
    """
    _check_share(least)
    rule = f"specificity >= {least:g}"
    curve = roc_curve(truth, scores)
    if not curve.positives or not curve.negatives:
        return _nothing(rule, _lacking(truth))
    found, kept = _counts(curve)
    enough = np.flatnonzero(kept / curve.negatives >= least)
    if len(enough) == 0:
        highest = kept[0] / curve.negatives
        return _nothing(
            rule, f"not attainable: at the highest score specificity is {highest:.4g} already"
        )
    best = enough[np.lexsort((kept[enough], found[enough]))[-1]]
    note = "no positive image is found" if found[best] == 0 else ""
    return _chosen(rule, curve, int(best), note)


def decisions(truth: Truth, scores: Scores, *, threshold: float) -> Decisions:
    """Count what a threshold decides, on the images it was chosen on or on others.

    Parameters
    ----------
    truth
        Whether each image is positive.
    scores
        Finite; larger means more of the positive class.
    threshold
        Call positive what scores at least this. With NaN nothing is decided: counts are 0.
    """
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    if math.isnan(threshold):
        return Decisions(0, 0, 0, 0)
    called = scores >= threshold
    return Decisions(
        true_positives=int((truth & called).sum()),
        false_positives=int((~truth & called).sum()),
        false_negatives=int((truth & ~called).sum()),
        true_negatives=int((~truth & ~called).sum()),
    )


def rates(truth: Truth, scores: Scores, *, threshold: float) -> dict[str, Statistic]:
    """Return the rates of `Decisions` as statistics for the clustered bootstrap.

    The threshold stays as it was chosen: intervals do not hold the chance of its choice.

    Parameters
    ----------
    truth, scores, threshold
        As in `decisions`.

    Returns
    -------
    dict
        ``sensitivity``, ``specificity``, ``ppv`` and ``npv``, for
        `medglean.measure.intervals.cluster_bootstrap_many`; NaN throughout for a NaN threshold.
    """
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    judged = np.full(len(truth), not math.isnan(threshold))
    called = scores >= threshold
    return {
        "sensitivity": weighted.share(truth & called, truth & judged),
        "specificity": weighted.share(~truth & ~called & judged, ~truth & judged),
        "ppv": weighted.share(truth & called, called),
        "npv": weighted.share(~truth & ~called & judged, ~called & judged),
    }


def _share(part: int, whole: int) -> float:
    return float(ratio(np.asarray(part), np.asarray(whole)))


def _check_share(least: float) -> None:
    if not 0.0 < least <= 1.0:
        raise ValueError(f"least must lie in (0, 1], got {least}.")


def _lacking(truth: np.ndarray) -> str:
    return "no positive image" if not truth.any() else "no negative image"


def _nothing(rule: str, note: str) -> OperatingPoint:
    return OperatingPoint(rule, math.nan, math.nan, math.nan, note)


def _counts(curve: RocCurve) -> tuple[np.ndarray, np.ndarray]:
    """Return positive images found and negative images spared at each score, highest first."""
    found = np.rint(curve.sensitivity[1:] * curve.positives).astype(np.int64)
    called_wrongly = np.rint(curve.false_positive_rate[1:] * curve.negatives).astype(np.int64)
    return found, curve.negatives - called_wrongly


def _chosen(rule: str, curve: RocCurve, best: int, note: str) -> OperatingPoint:
    found, kept = _counts(curve)
    return OperatingPoint(
        rule,
        float(curve.threshold[best + 1]),
        _share(int(found[best]), curve.positives),
        _share(int(kept[best]), curve.negatives),
        note,
    )
