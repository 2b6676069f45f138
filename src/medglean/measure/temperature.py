r"""Temperature scaling: one number that makes probabilities mean what they say.

Logits are divided by a temperature T that minimises the mean negative log-likelihood (NLL) of
validation images [1]_. The NLL is convex in :math:`\beta = 1/T`, so the best one is where its
derivative changes sign; a bracketing search finds it to the last digits, the same every time. The
order of scores within a class of a sigmoid, and the class that a softmax calls, do not change.

References
----------
.. [1] Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks. ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, special

from medglean.arrays import ScoreTable
from medglean.measure.calibration import (
    brier_score,
    brier_score_multiclass,
    expected_calibration_error,
)
from medglean.measure.checks import check_classes, check_finite, check_same_length

Targets = Int[np.ndarray, " n"]
TruthTable = Bool[np.ndarray, "n k"]

BOUNDS = (0.05, 20.0)
"""Lowest and highest temperature allowed. Trained networks mostly lie between 0.5 and 5."""


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and what it did to the images that it was fitted on.

    Attributes
    ----------
    value
        Divide logits by it; above 1 the network was too sure.
    nll_before, nll_after
        Mean negative log-likelihood in nats, at temperature 1 and at ``value``.
    n
        Images.
    note
        Why the temperature stands at a bound or is not the class's own; otherwise empty.
    """

    value: float
    nll_before: float
    nll_after: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class Calibrated:
    """How well probabilities fit at one temperature.

    Attributes
    ----------
    nll
        Mean negative log-likelihood in nats: per image, or per image and class of many findings.
    ece
        Expected calibration error in [0, 1]: of the called class, or over all images and classes
        of many findings.
    brier
        Of Brier: in [0, 2] summed over the classes, or in [0, 1] per image and class of many
        findings.
    """

    nll: float
    ece: float
    brier: float


def fit_temperature(
    logits: ScoreTable, target: Targets, *, bounds: tuple[float, float] = BOUNDS
) -> Temperature:
    """Fit one temperature for images that have one class each (softmax) [1]_.

    Parameters
    ----------
    logits
        Of validation images, one column per class; never of those that are judged.
    target
        Class index of each image, 0..k-1.
    bounds
        Lowest and highest temperature allowed, both positive.

    Raises
    ------
    ValueError
        If lengths differ, a logit is not finite, fewer than two classes occur, or bounds are not
        in order.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[3.0, 0.0]] * 4)
    >>> found = fit_temperature(logits, np.array([0, 0, 0, 1]))  # three of four: ln 3 is right
    >>> bool(np.isclose(found.value, 3 / np.log(3)))
    True
    """
    check_same_length(logits=logits, target=target)
    check_finite(logits=logits)
    check_classes(logits.shape[1], target=target)
    _check_bounds(bounds)
    if len(np.unique(target)) < 2:
        raise ValueError(
            f"target: {len(np.unique(target))} class among {len(target)} validation images, at "
            "least 2 are needed to fit a temperature. Validate on a part that holds more classes."
        )
    scores = logits.astype(np.float64)
    true = np.take_along_axis(scores, target[:, None], axis=1)[:, 0]

    def slope(beta: float) -> float:
        expected = (special.softmax(beta * scores, axis=1) * scores).sum(axis=1)
        return float(np.mean(expected - true))

    highest = scores.max(axis=1)
    separable = bool((highest == true).all() and (highest > scores.min(axis=1)).any())
    value, note = _root(slope, bounds, separable=separable)
    before = calibrated(logits, target).nll
    return Temperature(value, before, _nll(scores, target, value), len(target), note)


def fit_temperature_of_findings(
    logits: ScoreTable, truth: TruthTable, *, bounds: tuple[float, float] = BOUNDS
) -> Temperature:
    """Fit one temperature for all findings of images that may have several (sigmoid).

    Parameters
    ----------
    logits
        Of validation images, one column per finding; one column is a binary classifier.
    truth
        Which findings each image has.
    bounds
        Lowest and highest temperature allowed, both positive.

    Raises
    ------
    ValueError
        If shapes differ, a logit is not finite, no finding occurs or all occur everywhere, or
        bounds are not in order.
    """
    _check_tables(logits, truth)
    _check_bounds(bounds)
    if truth.all() or not truth.any():
        told = "every finding is present in all" if truth.any() else "no finding is present in any"
        raise ValueError(
            f"truth: {told} of {len(truth)} validation images, both kinds are needed to fit "
            "a temperature. Validate on a part that holds both."
        )
    scores = logits.astype(np.float64)

    def slope(beta: float) -> float:
        return float(np.mean((special.expit(beta * scores) - truth) * scores))

    separable = bool((np.where(truth, scores, -scores) >= 0.0).all() and scores.any())
    value, note = _root(slope, bounds, separable=separable)
    before = calibrated_findings(logits, truth).nll
    after = _nll_of_findings(scores, truth, value)
    return Temperature(value, before, after, len(truth), note)


def fit_temperature_per_finding(
    logits: ScoreTable, truth: TruthTable, *, bounds: tuple[float, float] = BOUNDS
) -> list[Temperature]:
    """Fit each finding a temperature of its own.

    A finding that no validation image has, or all have, cannot be fitted: it gets the temperature
    of all findings together, and a note.

    Parameters
    ----------
    logits, truth, bounds
        As in `fit_temperature_of_findings`.

    Returns
    -------
    list
        One per column, for ``[one.value for one in found]``.

    Raises
    ------
    ValueError
        As in `fit_temperature_of_findings`.
    """
    together = fit_temperature_of_findings(logits, truth, bounds=bounds)
    found = []
    for k in range(truth.shape[1]):
        column, present = logits[:, k : k + 1], truth[:, k : k + 1]
        if present.any() and not present.all():
            found.append(fit_temperature_of_findings(column, present, bounds=bounds))
            continue
        told = "all" if present.any() else "none"
        before = calibrated_findings(column, present).nll
        after = _nll_of_findings(column.astype(np.float64), present, together.value)
        note = f"{told} of {len(truth)} images have it: the temperature of all findings is taken"
        found.append(Temperature(together.value, before, after, len(truth), note))
    return found


def calibrated(
    logits: ScoreTable, target: Targets, *, temperature: float = 1.0, bins: int = 15
) -> Calibrated:
    """Return NLL, ECE of the called class and Brier score of softmax at a temperature.

    Parameters
    ----------
    logits
        One column per class.
    target
        Class index of each image, 0..k-1.
    temperature
        Above 0; 1 leaves logits as they are.
    bins
        Of the calibration error.

    Raises
    ------
    ValueError
        If lengths differ, a logit is not finite or the temperature is not positive.
    """
    check_same_length(logits=logits, target=target)
    check_finite(logits=logits)
    check_classes(logits.shape[1], target=target)
    _check_positive(np.asarray(temperature))
    if len(target) == 0:
        return Calibrated(math.nan, math.nan, math.nan)
    scores = logits.astype(np.float64)
    probability = _probabilities(scores, temperature)
    called = probability.argmax(axis=1)
    return Calibrated(
        nll=_nll(scores, target, temperature),
        ece=expected_calibration_error(called == target, probability.max(axis=1), bins=bins),
        brier=brier_score_multiclass(target, probability),
    )


def calibrated_findings(
    logits: ScoreTable,
    truth: TruthTable,
    *,
    temperature: float | Float[np.ndarray, " k"] = 1.0,
    bins: int = 15,
) -> Calibrated:
    """Return NLL, ECE and Brier score of sigmoids, over all images and findings together.

    Parameters
    ----------
    logits
        One column per finding.
    truth
        Which findings each image has.
    temperature
        Above 0: one, or one per finding.
    bins
        Of the calibration error.

    Raises
    ------
    ValueError
        If shapes differ, a logit is not finite or a temperature is not positive.
    """
    _check_tables(logits, truth)
    _check_positive(np.asarray(temperature))
    if truth.size == 0:
        return Calibrated(math.nan, math.nan, math.nan)
    scores = logits.astype(np.float64)
    probability = special.expit(scores / temperature).reshape(-1)
    return Calibrated(
        nll=_nll_of_findings(scores, truth, temperature),
        ece=expected_calibration_error(truth.reshape(-1), probability, bins=bins),
        brier=brier_score(truth.reshape(-1), probability),
    )


def _root(
    slope: Callable[[float], float], bounds: tuple[float, float], *, separable: bool
) -> tuple[float, str]:
    """Return the temperature at which the slope of the NLL over 1/T is 0, within the bounds."""
    lowest, highest = bounds
    if separable:
        # The NLL falls for ever: the data say "surer", but not how much surer.
        return lowest, (
            f"the validation images are separated perfectly: no temperature is best, the lowest "
            f"allowed, {lowest:g}, is taken; do not trust how sure it is"
        )
    if slope(1.0 / highest) >= 0.0:
        return highest, (
            f"the best temperature lies above the highest allowed, {highest:g}: the logits say "
            "next to nothing about these images"
        )
    if slope(1.0 / lowest) <= 0.0:
        return lowest, f"the best temperature lies below the lowest allowed, {lowest:g}"
    beta = optimize.brentq(slope, 1.0 / highest, 1.0 / lowest, xtol=1e-14, rtol=1e-14)
    return 1.0 / float(beta), ""


def _nll(scores: np.ndarray, target: np.ndarray, temperature: float) -> float:
    tables = special.log_softmax(scores / temperature, axis=1)
    return float(-np.take_along_axis(tables, target[:, None], axis=1).mean())


def _nll_of_findings(
    scores: np.ndarray, truth: np.ndarray, temperature: float | np.ndarray
) -> float:
    return float(-special.log_expit(np.where(truth, scores, -scores) / temperature).mean())


def _probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    probability: np.ndarray = special.softmax(scores / temperature, axis=1)
    probability.clip(max=1.0, out=probability)  # a rounded quotient may exceed 1 by one bit
    return probability


def _check_tables(logits: np.ndarray, truth: np.ndarray) -> None:
    if logits.shape != truth.shape:
        raise ValueError(
            f"expected one logit per image and finding, found: logits {logits.shape}, truth "
            f"{truth.shape}. Give both the same images and findings."
        )
    check_finite(logits=logits)


def _check_bounds(bounds: tuple[float, float]) -> None:
    lowest, highest = bounds
    if not 0.0 < lowest < highest < math.inf:
        raise ValueError(f"bounds must rise from above 0, got {lowest:g} to {highest:g}.")


def _check_positive(temperature: np.ndarray) -> None:
    if not (temperature > 0.0).all():
        raise ValueError(f"temperature must be above 0, got {temperature.min():g}.")
