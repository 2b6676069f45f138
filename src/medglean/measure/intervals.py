"""Confidence intervals that count patients, not images.

Images of one patient resemble one another, so a resample draws whole patients (or clips, slides)
with replacement and takes all their images along. The interval is that of percentiles [1]_ over
the resamples; those in which the measure is undefined, such as AUROC without a positive image,
are dropped and counted.

References
----------
.. [1] Efron, Tibshirani. An Introduction to the Bootstrap, chapter 13. Chapman & Hall, 1993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medglean.arrays import Scores, Truth
from medglean.measure.checks import check_same_length
from medglean.measure.curves import roc_curve
from medglean.measure.weighted import Statistic
from medglean.randomness import numpy_generator

BLOCK_NUMBERS = 1 << 19
"""Weights held at once: 4 MiB, about what a core keeps close."""

_MISSING = frozenset({"None", "nan", "NaT", "<NA>"})


@dataclass(frozen=True)
class Interval:
    """A measured value, how sure it is, and what it rests on.

    Attributes
    ----------
    value
        The measure on the images as they are.
    low, high
        Limits of the interval; NaN where there is none (``note`` says why).
    level
        Confidence, such as 0.95.
    n
        Images.
    groups
        Patients, or whatever was resampled.
    replicates
        Resamples that the interval rests on: those asked for, less the undefined ones.
    dropped
        Resamples in which the measure was undefined.
    note
        A sentence where something should be known; otherwise empty.
    """

    value: float
    low: float
    high: float
    level: float
    n: int
    groups: int
    replicates: int
    dropped: int = 0
    note: str = ""


def group_positions(groups: Sequence[object] | np.ndarray) -> tuple[np.ndarray, int]:
    """Give each image its group's number, counted in the order of names, not of rows.

    Returns
    -------
    tuple
        Group number of each image, shape (n,), and how many groups there are.

    Raises
    ------
    ValueError
        If a group is missing (``None`` or NaN).
    """
    names = np.asarray(groups)
    if names.dtype == object:
        missing = sum(not isinstance(name, str) and str(name) in _MISSING for name in names)
        if missing:
            raise ValueError(
                f"groups: {missing} of {len(names)} images have none. Give each image its "
                "patient, or its own id where the patient is not known."
            )
        names = names.astype(str)
    unique, place = np.unique(names, return_inverse=True)
    return place.reshape(-1), len(unique)


def resampled_counts(groups: int, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``groups`` groups with replacement, ``replicates`` times, and count each.

    Returns
    -------
    ndarray
        Shape (groups, replicates); each column sums to ``groups``.
    """
    drawn = generator.integers(groups, size=(replicates, groups))
    drawn += np.arange(replicates)[:, None] * groups
    counts = np.bincount(drawn.reshape(-1), minlength=replicates * groups)
    return np.ascontiguousarray(counts.reshape(replicates, groups).T, dtype=np.float64)


def bootstrap_values(
    statistics: Mapping[str, Statistic],
    groups: Sequence[object] | np.ndarray,
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return each statistic on the same resamples of groups.

    Parameters
    ----------
    statistics
        From `medglean.measure.weighted`.
    groups
        One per image, such as the patient.
    replicates
        How many resamples.
    seed
        The same seed and groups give the same resamples, whatever the statistics.

    Returns
    -------
    dict
        For each name an array of shape (replicates,), NaN where undefined.
    """
    place, group_count = group_positions(groups)
    generator = numpy_generator(seed, "bootstrap")
    block = max(1, BLOCK_NUMBERS // max(1, len(place)))
    values: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for start in range(0, replicates, block):
        counts = resampled_counts(group_count, min(block, replicates - start), generator)
        weights = counts[place]
        for name, statistic in statistics.items():
            values[name].append(statistic(weights))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def cluster_bootstrap_many(
    statistics: Mapping[str, Statistic],
    groups: Sequence[object] | np.ndarray,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return a percentile interval for each statistic, all from the same resamples.

    Parameters are those of `cluster_bootstrap`; names are kept.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}.")
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, got {replicates}.")
    place, group_count = group_positions(groups)
    once = np.ones((len(place), 1))
    values = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
    if group_count < 2:
        told = f"no interval: {group_count} group{'' if group_count == 1 else 's'}, 2 are needed"
        nan = float("nan")
        return {
            name: Interval(value, nan, nan, level, len(place), group_count, 0, 0, told)
            for name, value in values.items()
        }
    resampled = bootstrap_values(statistics, groups, replicates=replicates, seed=seed)
    return {
        name: _percentile_interval(values[name], resampled[name], level, len(place), group_count)
        for name in statistics
    }


def cluster_bootstrap(
    statistic: Statistic,
    groups: Sequence[object] | np.ndarray,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a percentile interval from resamples of whole groups.

    Parameters
    ----------
    statistic
        From `medglean.measure.weighted`, such as ``weighted.auroc(truth, scores)``.
    groups
        One per image, in the same order: the patient, or what else images share.
    replicates
        How many resamples.
    level
        Confidence of the interval.
    seed
        Fixes the resamples.

    Returns
    -------
    Interval
        With fewer than 2 groups, or where no resample defines the measure, its limits are NaN
        and its note says why.

    Examples
    --------
    >>> import numpy as np
    >>> from medglean.measure import weighted
    >>> truth = np.array([False, True] * 50)
    >>> scores = np.linspace(0, 1, 100) + truth
    >>> interval = cluster_bootstrap(weighted.auroc(truth, scores), np.arange(100) // 2)
    >>> (interval.value, interval.n, interval.groups, interval.replicates)
    (1.0, 100, 50, 2000)
    """
    only = cluster_bootstrap_many(
        {"": statistic}, groups, replicates=replicates, level=level, seed=seed
    )
    return only[""]


def _percentile_interval(
    value: float, replicates: np.ndarray, level: float, n: int, groups: int
) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    dropped = len(replicates) - len(defined)
    note = ""
    if dropped:
        note = f"{dropped} of {len(replicates)} resamples dropped: undefined there"
    if len(defined) == 0 or np.isnan(value):
        note = "no interval: undefined, for want of images of a class"
        nan = float("nan")
        return Interval(value, nan, nan, level, n, groups, 0, dropped, note)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, n, groups, len(defined), dropped, note)


def roc_band(
    truth: Truth,
    scores: Scores,
    groups: Sequence[object] | np.ndarray,
    *,
    false_positive_rate: np.ndarray,
    replicates: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return limits of sensitivity at each false-positive rate, for drawing around a ROC curve.

    Pointwise, so the whole curve lies inside less often than ``level`` says.

    Parameters
    ----------
    false_positive_rate
        Where to read the resampled curves, in [0, 1].

    Returns
    -------
    tuple
        Low and high, each of the shape of ``false_positive_rate``; NaN with fewer than 2 groups.
    """
    check_same_length(truth=truth, scores=scores, groups=np.asarray(groups))
    place, group_count = group_positions(groups)
    if group_count < 2:
        nothing = np.full(len(false_positive_rate), np.nan)
        return nothing, nothing.copy()
    generator = numpy_generator(seed, "bootstrap")
    curves = []
    for _ in range(replicates):
        counts = resampled_counts(group_count, 1, generator)[place, 0].astype(np.int64)
        curve = roc_curve(np.repeat(truth, counts), np.repeat(scores, counts))
        if curve.positives and curve.negatives:
            curves.append(
                np.interp(false_positive_rate, curve.false_positive_rate, curve.sensitivity)
            )
    if not curves:
        nothing = np.full(len(false_positive_rate), np.nan)
        return nothing, nothing.copy()
    low, high = np.quantile(np.stack(curves), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
