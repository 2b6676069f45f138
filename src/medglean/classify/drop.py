"""How a classifier's numbers differ between two sets of images that share no patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from medglean.arrays import Kind
from medglean.classify.stored_scores import StoredScores
from medglean.measure import weighted
from medglean.measure.averages import averages
from medglean.measure.delong import AurocEstimate, auroc_estimate
from medglean.measure.intervals import Interval, bootstrap_values, cluster_bootstrap_many
from medglean.measure.weighted import Statistic


@dataclass(frozen=True)
class Change:
    """A measure on two sets of images.

    Attributes
    ----------
    home, here
        On the set where the classifier comes from, and on the other one.
    change
        ``here - home``, from independent resamples of both sets' patients.
    """

    home: Interval
    here: Interval
    change: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the change leaves out 0."""
        low, high = self.change.low, self.change.high
        return math.isfinite(low) and math.isfinite(high) and not low <= 0.0 <= high


@dataclass(frozen=True)
class AurocChange:
    """An AUROC on two sets of images, with DeLong's variances.

    Attributes
    ----------
    home, here
        By `medglean.measure.delong.auroc_estimate`, clustered by patient.
    p
        Two-sided, of no difference: the difference over the root of the sum of both variances,
        against the normal distribution. NaN where a variance is unknown or both are 0.
    """

    home: AurocEstimate
    here: AurocEstimate
    p: float


def shared_classes(home: StoredScores, here: StoredScores) -> tuple[str, ...]:
    """Return the classes that can be measured on both sets, in the order of ``home``.

    For one class per image: those of which both have an image. For findings: those of which both
    have images with and without.
    """

    def has(scores: StoredScores, name: str) -> bool:
        column = scores.truth[:, scores.classes.index(name)]
        return bool(column.any() and (home.kind == "single" or not column.all()))

    return tuple(name for name in home.classes if has(home, name) and has(here, name))


def on_classes(scores: StoredScores, classes: Sequence[str]) -> StoredScores:
    """Return scores reduced to what some classes are about.

    For one class per image the images of other classes are left out, while the classifier may
    still call any class; for findings the other columns are left out.
    """
    if scores.kind == "multi":
        return scores.with_classes(classes)
    places = [scores.classes.index(name) for name in classes]
    return scores.select(np.flatnonzero(scores.truth[:, places].any(axis=1)))


def headline_statistics(
    scores: StoredScores, classes: Sequence[str], *, threshold: float
) -> dict[str, Statistic]:
    """Return the headline measures of a report, as functions of how often each image counts.

    Parameters
    ----------
    scores
        From `on_classes`.
    classes
        Over which averages are taken; at least one. AUROC needs two where each image has one.
    threshold
        Of a finding.
    """
    truth, probability = scores.truth, scores.probability
    called = calls(probability, kind=scores.kind, threshold=threshold)
    chosen = [scores.classes.index(name) for name in classes]
    areas = [weighted.auroc(truth[:, j], probability[:, j]) for j in chosen]
    macro = averages(truth[:, chosen], called[:, chosen])["macro"]
    found: dict[str, Statistic] = {}
    if scores.kind == "single" and len(scores.classes) == 2:
        found["AUROC"] = areas[-1]
    else:
        found["macro AUROC"] = weighted.macro(areas)
    right = (truth == called).all(axis=1)
    if scores.kind == "single":
        found["accuracy"] = weighted.mean(right.astype(np.float64))
        found["balanced accuracy"] = macro["recall"]
    else:
        found["exact match"] = weighted.mean(right.astype(np.float64))
        found["Hamming loss"] = weighted.mean((truth != called).mean(axis=1))
    found["macro F1"] = macro["F1"]
    gap = (probability - truth) ** 2
    if scores.kind == "single":
        found["Brier score"] = weighted.mean(gap.sum(axis=1))
        found["calibration error"] = weighted.calibration_error(right, probability.max(axis=1))
    else:
        found["Brier score"] = weighted.mean(gap.mean(axis=1))
        found["calibration error"] = weighted.calibration_error(truth, probability)
    return found


def calls(probability: np.ndarray, *, kind: Kind, threshold: float) -> np.ndarray:
    """Return whether each image is called each class, shape (n, k)."""
    if kind == "multi":
        found: np.ndarray = probability >= threshold
        return found
    return np.asarray(probability.argmax(axis=1)[:, None] == np.arange(probability.shape[1]))


def changes(
    home: Mapping[str, Statistic],
    home_groups: np.ndarray,
    here: Mapping[str, Statistic],
    here_groups: np.ndarray,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Change]:
    """Measure two sets of images, and the change from the one to the other.

    The two share no patient, so the patients of each are resampled on their own; the interval of
    the change is that of percentiles over pairs of such resamples.

    Parameters
    ----------
    home, here
        The same measures of both sets, from `medglean.measure.weighted`.
    home_groups, here_groups
        The patient of each image.
    replicates, level, seed
        As in `medglean.measure.intervals.cluster_bootstrap`.

    Raises
    ------
    ValueError
        If the names of the measures differ.
    """
    if list(home) != list(here):
        raise ValueError(f"the sets have different measures: {list(home)} and {list(here)}.")
    how = {"replicates": replicates, "seed": seed}
    # Another seed: the same would pair the draws of two sets with equally many patients.
    other = {"replicates": replicates, "seed": seed + 1}
    at_home = cluster_bootstrap_many(home, home_groups, level=level, **how)
    at_here = cluster_bootstrap_many(here, here_groups, level=level, **other)
    first = bootstrap_values(home, home_groups, **how)
    second = bootstrap_values(here, here_groups, **other)
    return {
        name: Change(
            at_home[name],
            at_here[name],
            _difference(at_home[name], at_here[name], second[name] - first[name], level),
        )
        for name in home
    }


def _difference(home: Interval, here: Interval, drawn: np.ndarray, level: float) -> Interval:
    value = here.value - home.value
    defined = drawn[~np.isnan(drawn)]
    dropped = len(drawn) - len(defined)
    n, groups = home.n + here.n, home.groups + here.groups
    nan = math.nan
    if math.isnan(value) or len(defined) == 0 or min(home.groups, here.groups) < 2:
        note = home.note or here.note or "no interval: undefined on one of the two sets"
        return Interval(value, nan, nan, level, n, groups, 0, dropped, note)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    note = f"{dropped} of {len(drawn)} resamples dropped: undefined there" if dropped else ""
    return Interval(value, float(low), float(high), level, n, groups, len(defined), dropped, note)


def auroc_changes(
    home: StoredScores, here: StoredScores, classes: Sequence[str], *, level: float = 0.95
) -> dict[str, AurocChange]:
    """Compare the AUROC of each class between two sets that share no patient.

    Parameters
    ----------
    home, here
        From `on_classes`.
    classes
        Which.
    """
    return {name: _auroc_change(home, here, name, level) for name in classes}


def _auroc_change(home: StoredScores, here: StoredScores, name: str, level: float) -> AurocChange:
    first, second = (
        auroc_estimate(
            scores.truth[:, scores.classes.index(name)],
            scores.probability[:, scores.classes.index(name)],
            groups=scores.groups,
            level=level,
        )
        for scores in (home, here)
    )
    error = math.sqrt(first.variance + second.variance)
    p = math.nan
    if error > 0.0:
        p = float(special.erfc(abs(second.value - first.value) / error / math.sqrt(2.0)))
    return AurocChange(first, second, p)
