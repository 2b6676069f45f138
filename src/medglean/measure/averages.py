"""Precision, recall and F1 over several classes: macro, weighted and micro, for the bootstrap.

The three differ more than most differences between classifiers, and a number without its averaging
means little. A class that was called for no image has no precision; in macro and weighted averages
it counts 0, as scikit-learn counts it, lest a classifier gain by never calling a rare class. A
class without a positive image is left out of both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool

from medglean.measure.checks import check_same_length, ratio
from medglean.measure.weighted import Statistic, remembered

Averaging = Literal["macro", "weighted", "micro"]
TruthTable = Bool[np.ndarray, "n k"]

MEASURES = ("precision", "recall", "F1")
F1_OF_MEANS = "F1 of mean precision and mean recall"
"""Not the mean of the classes' F1, which it exceeds or equals; some papers call it macro F1."""


def averages(truth: TruthTable, called: TruthTable) -> dict[Averaging, dict[str, Statistic]]:
    """Return precision, recall and F1 by each averaging.

    Parameters
    ----------
    truth, called
        Which classes each image has, and is called.

    Returns
    -------
    dict
        For ``macro`` (mean of the classes), ``weighted`` (mean of the classes, each counting as
        often as it occurs) and ``micro`` (all calls pooled) the statistics named in `MEASURES`;
        for ``macro`` also `F1_OF_MEANS`. A resample that lacks a class has no macro average, so
        that all replicates are of one quantity.

    Raises
    ------
    ValueError
        If the tables differ in length.
    """
    check_same_length(truth=truth, called=called)
    rates = remembered(_Rates(truth, called))
    macro, weighted, micro = (
        {name: _row(rates, start + place) for place, name in enumerate(MEASURES)}
        for start in (0, 3, 6)
    )
    return {
        "macro": {**macro, F1_OF_MEANS: _row(rates, 9)},
        "weighted": weighted,
        "micro": micro,
    }


class _Rates:
    """All averages at once: ten values per resample from one pass over the weights."""

    def __init__(self, truth: np.ndarray, called: np.ndarray) -> None:
        tables = np.concatenate([truth & called, truth, called], axis=1)
        self.columns = tables.T.astype(np.float64)
        self.present = np.asarray(truth.any(axis=0))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        hits, support, calls = (self.columns @ weights).reshape(3, len(self.present), -1)
        pooled = _rates(hits.sum(axis=0), support.sum(axis=0), calls.sum(axis=0))
        hits, support, calls = hits[self.present], support[self.present], calls[self.present]
        each = _rates(hits, support, calls)  # (3, classes, b)
        each[0] = np.where((calls == 0) & (support > 0), 0.0, each[0])
        absent = support == 0
        # The sum of nothing over no class is 0 / 0: undefined, as it should be.
        mean = ratio(np.where(absent, np.nan, each).sum(axis=1), np.asarray(len(support)))
        parts = np.where(absent, 0.0, support * each).sum(axis=1)
        of_means = _harmonic(mean[0], mean[1])
        return np.concatenate([mean, ratio(parts, support.sum(axis=0)), pooled, of_means[None]])


def _rates(hits: np.ndarray, support: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1; never called but present, F1 is 0 and precision NaN."""
    f1 = np.where(support > 0, ratio(2 * hits, support + calls), np.nan)
    return np.stack([ratio(hits, calls), ratio(hits, support), f1])


def _harmonic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    mean: np.ndarray = np.where(first + second == 0, 0.0, ratio(2 * first * second, first + second))
    return mean


def _row(rates: Statistic, place: int) -> Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        values: np.ndarray = rates(weights)[place]
        return values

    return statistic
