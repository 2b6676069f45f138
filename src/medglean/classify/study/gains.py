"""By how much one classifier of the study exceeds another on the same test images.

All differences are paired: both are measured on the same resampled patients, or on the same
placements (DeLong), so that what makes an image hard for both cancels out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medglean.arrays import Kind
from medglean.classify.assess import Assessment
from medglean.classify.study.rows import Trained
from medglean.measure import weighted
from medglean.measure.delong import AurocComparison, compare_aurocs
from medglean.measure.intervals import Interval, bootstrap_values, group_positions
from medglean.measure.labels import counts_of_labels

LEVEL = 0.95


@dataclass(frozen=True)
class Resampled:
    """Measures of one classifier, on the images as they are and on resamples of patients.

    Attributes
    ----------
    values
        By the measure's name.
    drawn
        By the measure's name, shape (replicates,); NaN where undefined.
    n, groups
        Images and patients.
    """

    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    n: int
    groups: int


@dataclass(frozen=True)
class Bound:
    """Whether macro F1 is as low as it must be.

    Attributes
    ----------
    precision, recall, f1
        Macro averages over the classes that test images have; the precision of a class that was
        never called counts as 0, as in scikit-learn.
    """

    precision: float
    recall: float
    f1: float

    @property
    def most(self) -> float:
        """The largest macro F1 that this precision and recall allow."""
        return (self.precision + self.recall) / 2

    @property
    def holds(self) -> bool:
        """Whether it does, but for rounding."""
        return not self.f1 > self.most + 1e-9


def main_measure(kind: Kind) -> str:
    """Return what the report calls accuracy: of several findings, all must be right at once."""
    return "accuracy" if kind == "single" else "exact match"


def auroc_name(found: Assessment) -> str:
    """Return the name of the AUROC among the headline measures."""
    return "AUROC" if "AUROC" in found.headline else "macro AUROC"


def groups_of(one: Trained) -> np.ndarray:
    """Return the patient of each test image, shape (n,).

    Raises
    ------
    ValueError
        If there are some, but not one for each image.
    """
    if not one.groups:
        return np.arange(one.found.n).astype(str)
    if len(one.groups) != one.found.n:
        raise ValueError(
            f"{one.cell.name}: {len(one.groups)} groups for {one.found.n} test images; expected "
            "one for each."
        )
    return np.asarray(one.groups)


def comparable(first: Assessment, second: Assessment) -> bool:
    """Say whether two assessments are of the same images with the same truth."""
    return first.classes == second.classes and np.array_equal(first.truth, second.truth)


def resampled(
    found: Assessment,
    groups: np.ndarray,
    *,
    areas: bool = True,
    replicates: int = 2000,
    seed: int = 0,
) -> Resampled:
    """Measure accuracy (or exact match) and mean AUROC on resamples of patients.

    The same groups, replicates and seed give the same resamples for every classifier. Without
    scores nothing is measured.

    Parameters
    ----------
    found
        The classifier's assessment.
    groups
        Patient of each image, shape (n,).
    areas
        Whether the AUROC is asked for, which takes longer.
    replicates, seed
        Of the bootstrap.
    """
    once = np.ones((found.n, 1))
    if not has_scores(found):
        return Resampled({}, {}, found.n, group_positions(groups)[1])
    kept = defined_classes(found)
    right = (found.truth == found.called).all(axis=1).astype(np.float64)
    statistics = {main_measure(found.kind): weighted.mean(right)}
    if areas and kept:
        each = [weighted.auroc(found.truth[:, j], found.probability[:, j]) for j in kept]
        name = auroc_name(found)
        statistics[name] = each[-1] if name == "AUROC" else weighted.macro(each)
    return Resampled(
        {name: float(statistic(once)[0]) for name, statistic in statistics.items()},
        bootstrap_values(statistics, groups, replicates=replicates, seed=seed),
        found.n,
        group_positions(groups)[1],
    )


def difference(first: Resampled, second: Resampled, name: str) -> Interval:
    """Return ``first`` less ``second`` with the percentile interval of the paired resamples.

    NaN with a note where one of them lacks the measure, or no resample defines it.
    """
    if name not in first.values or name not in second.values:
        return _nothing(first, math.nan, f"{name} is undefined for one of the two")
    value = first.values[name] - second.values[name]
    drawn = first.drawn[name] - second.drawn[name]
    kept = drawn[~np.isnan(drawn)]
    if math.isnan(value) or len(kept) == 0 or first.groups < 2:
        return _nothing(first, value, "no interval: too few patients, or a class without images")
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    dropped = len(drawn) - len(kept)
    return Interval(
        value, float(low), float(high), LEVEL, first.n, first.groups, len(kept), dropped
    )


def delong(first: Assessment, second: Assessment, groups: np.ndarray) -> dict[str, AurocComparison]:
    """Compare the AUROCs of two classifiers class by class; patients' images are kept together.

    Returns
    -------
    dict
        By class; of two exclusive classes only the second, for the first says the same. Classes
        that all or none of the images have are left out; empty where a score is not a number.
    """
    if not (has_scores(first) and has_scores(second)):
        return {}
    kept = defined_classes(first)
    if first.kind == "single" and len(first.classes) == 2:
        kept = kept[-1:]
    return {
        first.classes[j]: compare_aurocs(
            first.truth[:, j], first.probability[:, j], second.probability[:, j], groups=groups
        )
        for j in kept
    }


def bound_of(found: Assessment) -> Bound:
    r"""Return macro precision, recall and F1, to be checked by arithmetic.

    F1 of a class is the harmonic mean of its precision and recall, which is never above their
    arithmetic mean. Averaged over classes: macro F1 is at most (macro P + macro R) / 2.
    """
    kept = [j for j, count in enumerate(found.support) if count]
    counts = counts_of_labels(found.truth, found.called)
    if not kept or not has_scores(found):
        return Bound(math.nan, math.nan, math.nan)
    return Bound(
        float(np.nan_to_num(counts.precision, nan=0.0)[kept].mean()),
        float(counts.recall[kept].mean()),
        float(counts.f1[kept].mean()),
    )


def has_scores(found: Assessment) -> bool:
    """Say whether there are scores to measure: a training that diverged has none."""
    return bool(np.isfinite(found.probability).all())


def defined_classes(found: Assessment) -> list[int]:
    """Return the classes that some but not all of the images have."""
    return [j for j, count in enumerate(found.support) if 0 < count < found.n]


def _nothing(first: Resampled, value: float, note: str) -> Interval:
    return Interval(value, math.nan, math.nan, LEVEL, first.n, first.groups, 0, 0, note)
