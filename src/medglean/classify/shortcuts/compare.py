"""The network beside its baselines: differences on the same resamples of patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from medglean.classify.shortcuts.baselines import Answer
from medglean.measure import weighted
from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.measure.weighted import Statistic

Verdict = Literal["beaten", "not shown", "ahead", "not measured"]
By = Literal["area", "right"]


@dataclass(frozen=True)
class Baseline:
    """Something that the network should beat.

    Attributes
    ----------
    key
        Short and unique.
    name
        For tables and figures, such as ``"Border alone"``.
    words
        For sentences, such as ``"the border alone"``.
    sees
        What it is given.
    answer
        What it says of the judged images.
    by
        What decides whether it is beaten: the area under the ROC curve, or how many images are
        right altogether.
    blind
        Whether it cannot see the disease, so that a good result is a finding about the images.
    """

    key: str
    name: str
    words: str
    sees: str
    answer: Answer
    by: By = "area"
    blind: bool = True


@dataclass(frozen=True)
class Beside:
    """A baseline, measured.

    Attributes
    ----------
    baseline
        What was measured.
    area, right
        AUROC (mean over its classes, each against the rest), and share of images that are right
        altogether.
    area_gain, right_gain
        The network's, less the baseline's, on the same images and classes.
    """

    baseline: Baseline
    area: Interval
    right: Interval
    area_gain: Interval
    right_gain: Interval

    @property
    def gain(self) -> Interval:
        """The difference that decides."""
        return self.area_gain if self.baseline.by == "area" else self.right_gain

    @property
    def quoted(self) -> Interval:
        """The measure that decides."""
        return self.area if self.baseline.by == "area" else self.right

    @property
    def verdict(self) -> Verdict:
        """Whether the network beats it: only where the interval of the difference excludes 0."""
        low, high = self.gain.low, self.gain.high
        if not (np.isfinite(low) and np.isfinite(high)):
            return "not measured"
        return "beaten" if low > 0 else "ahead" if high < 0 else "not shown"


def compare(
    truth: np.ndarray,
    network: Answer,
    baselines: Sequence[Baseline],
    groups: np.ndarray,
    *,
    replicates: int,
    seed: int,
) -> tuple[Beside, list[Beside]]:
    """Measure a network and its baselines on the same images and the same resamples.

    Parameters
    ----------
    truth
        Which classes each image has, shape (m, k).
    network
        What it says; its ``columns`` are the classes that can be measured.
    baselines
        At least none.
    groups
        Patient of each image; whole patients are resampled.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    tuple
        The network, whose differences are all 0, and each baseline.
    """
    areas: dict[tuple[int, ...], Statistic] = {}

    def of_network(columns: tuple[int, ...]) -> Statistic:
        # remembered, so that many baselines on the same classes cost one
        if columns not in areas:
            areas[columns] = _remembered(_area(truth, network, columns))
        return areas[columns]

    right = _remembered(_right(truth, network))
    statistics: dict[str, Statistic] = {"/area": of_network(network.columns), "/right": right}
    for one in baselines:
        if not one.answer.columns:
            continue
        area = _remembered(_area(truth, one.answer, one.answer.columns))
        hits = _remembered(_right(truth, one.answer))
        statistics[f"{one.key}/area"] = area
        statistics[f"{one.key}/right"] = hits
        statistics[f"{one.key}/area gain"] = _less(of_network(one.answer.columns), area)
        statistics[f"{one.key}/right gain"] = _less(right, hits)
    found = cluster_bootstrap_many(statistics, groups, replicates=replicates, seed=seed)
    own = found["/area"]
    zero = replace(own, value=0.0, low=0.0, high=0.0)
    itself = Baseline("", "The network", "the network", "the whole image", network, blind=False)
    beside = [
        Beside(
            one,
            *(
                found.get(f"{one.key}/{name}", _unmeasured(own, one.answer.note))
                for name in ("area", "right", "area gain", "right gain")
            ),
        )
        for one in baselines
    ]
    return Beside(itself, own, found["/right"], zero, zero), beside


def area_of(truth: np.ndarray, given: Answer) -> Statistic:
    """Return the mean AUROC over the classes that an answer can be measured on."""
    return _area(truth, given, given.columns)


def _area(truth: np.ndarray, given: Answer, columns: Sequence[int]) -> Statistic:
    if not columns:
        return lambda weights: np.full(weights.shape[1], np.nan)
    return weighted.macro([weighted.auroc(truth[:, j], given.probability[:, j]) for j in columns])


def _right(truth: np.ndarray, given: Answer) -> Statistic:
    return weighted.mean((truth == given.called).all(axis=1).astype(np.float64))


def _less(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights: first(weights) - second(weights)


def _remembered(statistic: Statistic) -> Statistic:
    """Return a statistic that computes anew only for other weights than last time."""
    last: list[tuple[np.ndarray, np.ndarray]] = []

    def remembering(weights: np.ndarray) -> np.ndarray:
        if not last or last[0][0] is not weights:
            last[:] = [(weights, statistic(weights))]
        return last[0][1]

    return remembering


def _unmeasured(like: Interval, note: str) -> Interval:
    nan = float("nan")
    told = note or "not measured."
    return replace(like, value=nan, low=nan, high=nan, replicates=0, dropped=0, note=told)
