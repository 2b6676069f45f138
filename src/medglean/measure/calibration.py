"""Whether probabilities mean what they say.

References
----------
.. [1] Brier. Verification of forecasts expressed in terms of probability. Monthly Weather
   Review 78, 1950.
.. [2] Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from medglean.arrays import Scores, ScoreTable, Truth
from medglean.measure.checks import (
    check_classes,
    check_finite,
    check_probabilities,
    check_same_length,
    ratio,
)


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, in equally wide bins of predicted probability.

    Attributes
    ----------
    edges
        Limits of the bins, shape (bins + 1,), from 0 to 1. A bin holds its upper limit; the first
        one also holds 0.
    count
        Images in each bin.
    predicted
        Mean probability in each bin; NaN in an empty one.
    observed
        Share of positives in each bin; NaN in an empty one.
    """

    edges: np.ndarray
    count: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


def reliability(truth: Truth, probability: Scores, *, bins: int = 15) -> Reliability:
    """Sort images into bins of predicted probability and look at what came true [2]_.

    Parameters
    ----------
    truth
        Whether the predicted thing is so: the positive class, or "the predicted class is right".
    probability
        Its predicted probability, in [0, 1].
    bins
        How many bins of equal width.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1] or ``bins`` is not positive.
    """
    check_same_length(truth=truth, probability=probability)
    check_probabilities(probability=probability)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    place = place_in_bins(probability, bins=bins)
    count = np.bincount(place, minlength=bins)
    return Reliability(
        edges=np.arange(bins + 1) / bins,
        count=count,
        predicted=ratio(np.bincount(place, weights=probability, minlength=bins), count),
        observed=ratio(np.bincount(place, weights=truth, minlength=bins), count),
    )


def place_in_bins(
    probability: Float[np.ndarray, "*shape"], *, bins: int = 15
) -> Int[np.ndarray, "*shape"]:
    """Return the number of the bin that each probability falls into, from 0.

    A bin holds its upper limit; the first one also holds 0.
    """
    limits = np.arange(1, bins) / bins
    return np.searchsorted(limits, probability, side="left").astype(np.int64)


def expected_calibration_error(truth: Truth, probability: Scores, *, bins: int = 15) -> float:
    """Mean gap between predicted and observed over the bins, weighted by their images [2]_.

    Returns
    -------
    float
        In [0, 1]; NaN without images. It falls as images grow many, so compare at equal n.
    """
    table = reliability(truth, probability, bins=bins)
    filled = table.count > 0
    gaps = np.abs(table.predicted - table.observed)[filled]
    if not filled.any():
        return float("nan")
    return float(np.average(gaps, weights=table.count[filled]))


def brier_score(truth: Truth, probability: Scores) -> float:
    """Mean squared gap between the probability of the positive class and the truth [1]_.

    Returns
    -------
    float
        In [0, 1], 0 best; NaN without images.
    """
    check_same_length(truth=truth, probability=probability)
    check_probabilities(probability=probability)
    return float(np.mean((probability - truth) ** 2)) if truth.size else float("nan")


def brier_score_multiclass(target: Int[np.ndarray, " n"], probability: ScoreTable) -> float:
    """Mean over images of the summed squared gap over all classes, as Brier defined it [1]_.

    Returns
    -------
    float
        In [0, 2], 0 best: with two classes twice ``brier_score``. NaN without images.
    """
    check_same_length(target=target, probability=probability)
    check_probabilities(probability=probability)
    check_classes(probability.shape[1], target=target)
    truth = np.arange(probability.shape[1])[None, :] == target[:, None]
    gaps = ((probability - truth) ** 2).sum(axis=1)
    return float(gaps.mean()) if gaps.size else float("nan")


def nll_of_classes(logits: ScoreTable, target: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the negative log-likelihood of each image's class, in nats (softmax) [2]_.

    Parameters
    ----------
    logits
        One column per class, already divided by a temperature where there is one.
    target
        Class index of each image, 0..k-1.

    Raises
    ------
    ValueError
        If lengths differ, a logit is not finite or an index names no class.
    """
    check_same_length(logits=logits, target=target)
    check_finite(logits=logits)
    check_classes(logits.shape[1], target=target)
    chances = special.log_softmax(logits.astype(np.float64), axis=1)
    return -np.take_along_axis(chances, target[:, None], axis=1)[:, 0]


def nll_of_findings(logits: ScoreTable, truth: Bool[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return each image's mean negative log-likelihood over its findings, in nats (sigmoid).

    Parameters
    ----------
    logits
        One column per finding, already divided by a temperature where there is one.
    truth
        Which findings each image has.

    Raises
    ------
    ValueError
        If lengths differ or a logit is not finite.
    """
    check_same_length(logits=logits, truth=truth)
    check_finite(logits=logits)
    signed = np.where(truth, logits, -logits).astype(np.float64)
    losses: np.ndarray = -special.log_expit(signed).mean(axis=1)
    return losses
