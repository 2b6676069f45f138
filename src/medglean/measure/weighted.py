"""Measures as functions of how often each image counts: what makes a bootstrap fast.

A resample of patients is nothing but a whole-number weight per image. Each function here does the
work that no weight changes (sorting, finding ties) once, and returns a `Statistic`: a function
from weights of shape (n, b), one column per resample, to b values, NaN where undefined. Results
equal those of the plain measure on the images repeated as often as their weight says.

Statistics are plain functions, so a paired comparison of two models on the same resamples is
``lambda weights: first(weights) - second(weights)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.arrays import Scores, ScoreTable, Truth
from medglean.measure.calibration import place_in_bins
from medglean.measure.checks import (
    check_finite,
    check_probabilities,
    check_same_length,
    ratio,
)
from medglean.measure.curves import one_vs_rest

Statistic = Callable[[np.ndarray], np.ndarray]
"""From weights (n, b) to values (b,)."""

_SMALLEST = np.finfo(np.float64).tiny


def auroc(truth: Truth, scores: Scores) -> Statistic:
    """AUROC; undefined where a resample holds no positive or no negative image."""
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    positive = np.flatnonzero(truth)
    negative = np.flatnonzero(~truth)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    # How many negatives lie below each positive, and how many below or tied with it.
    below = np.searchsorted(scores[negative], scores[positive], side="left")
    below_or_tied = np.searchsorted(scores[negative], scores[positive], side="right")

    def statistic(weights: np.ndarray) -> np.ndarray:
        weight_below = np.zeros((len(negative) + 1, weights.shape[1]))
        np.cumsum(weights[negative], axis=0, out=weight_below[1:])
        wins = weight_below[below]
        wins += weight_below[below_or_tied]  # a tie is in only one of the two: it counts half
        positive_weights = weights[positive]
        won = np.einsum("pb,pb->b", positive_weights, wins) / 2
        return ratio(won, positive_weights.sum(axis=0) * weight_below[-1])

    return statistic


def average_precision(truth: Truth, scores: Scores) -> Statistic:
    """Average precision; undefined where a resample holds no positive image."""
    check_same_length(truth=truth, scores=scores)
    check_finite(scores=scores)
    positive = np.flatnonzero(truth)
    positive = positive[np.argsort(-scores[positive], kind="stable")]
    negative = np.flatnonzero(~truth)
    negative = negative[np.argsort(-scores[negative], kind="stable")]
    # Tied images enter together: precision is read at the last one of the tie.
    descending = -scores[positive]
    last_of_tie = np.searchsorted(descending, descending, side="right") - 1
    tied = bool((last_of_tie != np.arange(len(positive))).any())
    negatives_until = np.searchsorted(-scores[negative], descending, side="right")

    def statistic(weights: np.ndarray) -> np.ndarray:
        positive_weights = weights[positive]
        found = np.cumsum(positive_weights, axis=0)
        if tied:
            found = found[last_of_tie]
        wrong = np.zeros((len(negative) + 1, weights.shape[1]))
        np.cumsum(weights[negative], axis=0, out=wrong[1:])
        called = wrong[negatives_until]
        called += found
        # A tie that no resampled image is in has weight 0 and precision 0/0: it adds nothing.
        np.maximum(called, _SMALLEST, out=called)
        found /= called
        total = positive_weights.sum(axis=0)
        return ratio(np.einsum("pb,pb->b", positive_weights, found), total)

    return statistic


def mean(values: Scores) -> Statistic:
    """Mean of one number per image: accuracy of hits, Brier score of squared gaps, a loss."""
    check_finite(values=values)
    return share(values, np.ones(len(values)))


def share(part: np.ndarray, whole: np.ndarray) -> Statistic:
    """Ratio of two sums over images; undefined where the lower one is 0.

    Parameters
    ----------
    part, whole
        One number or truth value per image. ``share(truth & called, truth)`` is sensitivity.
    """
    check_same_length(part=part, whole=whole)
    both = np.stack([part, whole]).astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        top, bottom = both @ weights
        return ratio(top, bottom)

    return statistic


def accuracy(target: np.ndarray, predicted: np.ndarray) -> Statistic:
    """Share of images that were called right."""
    check_same_length(target=target, predicted=predicted)
    return mean((target == predicted).astype(np.float64))


def sensitivity(truth: Truth, called: Truth) -> Statistic:
    """Share of positive images that were called positive (recall)."""
    return share(truth & called, truth)


def specificity(truth: Truth, called: Truth) -> Statistic:
    """Share of negative images that were called negative."""
    return share(~truth & ~called, ~truth)


def precision(truth: Truth, called: Truth) -> Statistic:
    """Share of images called positive that are."""
    return share(truth & called, called)


def f1(truth: Truth, called: Truth) -> Statistic:
    """F1 score; undefined where a resample holds no positive image."""
    score = share(2.0 * (truth & called), truth.astype(np.float64) + called)
    has_positive = truth.astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.where(has_positive @ weights > 0, score(weights), np.nan)

    return statistic


def calibration_error(
    truth: Bool[np.ndarray, "n ..."], probability: Float[np.ndarray, "n ..."], *, bins: int = 15
) -> Statistic:
    """Return the expected calibration error, from one sum over images per bin.

    Parameters
    ----------
    truth
        Whether the predicted thing is so; with a second axis all its entries are pooled.
    probability
        Its predicted probability, in [0, 1].
    bins
        How many bins of equal width.
    """
    check_same_length(truth=truth, probability=probability)
    check_probabilities(probability=probability)
    entries = math.prod(probability.shape[1:])
    wide = probability.reshape(len(probability), entries)
    images = np.broadcast_to(np.arange(len(wide))[:, None], wide.shape)
    gaps = np.zeros((bins, len(wide)))
    # Weight times predicted minus observed share of a bin is the sum of its gaps.
    np.add.at(gaps, (place_in_bins(wide, bins=bins), images), wide - truth.reshape(wide.shape))

    def statistic(weights: np.ndarray) -> np.ndarray:
        return ratio(np.abs(gaps @ weights).sum(axis=0), entries * weights.sum(axis=0))

    return statistic


def remembered(statistic: Statistic) -> Statistic:
    """Work a statistic out once for each block of weights, however many others are made of it."""
    last: list[np.ndarray] = []  # weights, values

    def again(weights: np.ndarray) -> np.ndarray:
        if not last or last[0] is not weights:
            last[:] = [weights, statistic(weights)]
        return last[1]

    return again


def macro(statistics: Sequence[Statistic]) -> Statistic:
    """Mean of several statistics; undefined wherever one of them is.

    A resample that lacks a class is thus dropped: averages over changing sets of classes would
    not be replicates of one quantity.
    """

    def statistic(weights: np.ndarray) -> np.ndarray:
        average: np.ndarray = np.mean([one(weights) for one in statistics], axis=0)
        return average

    return statistic


def macro_auroc(target: Int[np.ndarray, " n"], scores: ScoreTable) -> Statistic:
    """Mean one-against-the-rest AUROC over all classes."""
    return macro([auroc(*pair) for pair in one_vs_rest(target, scores)])


def balanced_accuracy(
    target: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], *, classes: int
) -> Statistic:
    """Mean recall over all classes."""
    return macro([sensitivity(target == k, predicted == k) for k in range(classes)])


def by_loop(measure: Callable[[np.ndarray], float], count: int) -> Statistic:
    """Turn any measure of image positions into a statistic, one resample at a time.

    Parameters
    ----------
    measure
        From positions, each repeated as often as its image counts, to a number.
    count
        How many images there are.
    """
    positions = np.arange(count)

    def statistic(weights: np.ndarray) -> np.ndarray:
        columns = np.rint(weights).astype(np.int64).T
        return np.array([measure(np.repeat(positions, column)) for column in columns])

    return statistic
