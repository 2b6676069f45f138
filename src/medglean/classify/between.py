"""Whether two classifiers differ on the images that both were tested on.

Per class by DeLong's test in its form for clusters; see `medglean.measure.delong`. For the mean of
all classes the same placements give the covariance of the classes' differences, and the variance
of the mean is the mean of that k by k table: a resample is not needed, and with one class the two
tests are the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from medglean.arrays import ScoreTable
from medglean.classify.stored_scores import StoredScores
from medglean.errors import DataError, Problem
from medglean.measure.comparisons import holm
from medglean.measure.delong import AurocComparison, compare_aurocs_per_class, placements
from medglean.measure.intervals import group_positions

MEAN = "mean of the classes"


@dataclass(frozen=True)
class Paired:
    """Two runs on the images that both were tested on.

    Attributes
    ----------
    first, second
        Reduced to the same images and classes, in the same order.
    differences
        ``first - second`` by class, `MEAN` first where there are several classes.
    adjusted
        For each of them p adjusted for the family that it was tested in (Holm); NaN where p is.
    problems
        What was left out.
    """

    first: StoredScores
    second: StoredScores
    differences: dict[str, AurocComparison]
    adjusted: dict[str, float]
    problems: tuple[Problem, ...]


def pair(first: StoredScores, second: StoredScores) -> Paired:
    """Compare the AUROCs of two runs on the images, by id, that both were tested on.

    Parameters
    ----------
    first, second
        Of the same classes, in whatever order.

    Returns
    -------
    Paired
        Images whose truth differs between the two are left out and counted.

    Raises
    ------
    DataError
        If the runs are of different classes or share no image of known truth.
    """
    if first.kind != second.kind or set(first.classes) != set(second.classes):
        raise DataError(
            f"{second.path}: its classes are {', '.join(second.classes)} ({second.kind}), those of "
            f"{first.path} {', '.join(first.classes)} ({first.kind}). AUROCs can be compared for "
            "the same classes only."
        )
    place = {one: row for row, one in enumerate(second.ids)}
    rows = np.array([row for row, one in enumerate(first.ids) if one in place], dtype=np.int64)
    one = first.select(rows)
    other = second.with_classes(first.classes).select(
        np.array([place[name] for name in one.ids], dtype=np.int64)
    )
    agree = (one.truth == other.truth).all(axis=1)
    problems = []
    if not agree.all():
        problems.append(_disagreement(one, other, ~agree))
    if not agree.any():
        raise DataError(
            f"{second.path}: no test image in common with {first.path}"
            + (f" ({len(rows):,} of the same id, but with another truth)" if len(rows) else "")
            + ". Evaluate both on the same manifest."
        )
    one, other = one.select(np.flatnonzero(agree)), other.select(np.flatnonzero(agree))
    if one.counted == "images" != other.counted:
        one = replace(one, groups=other.groups, grouped_by=other.grouped_by)
    differences = _differences(one, other)
    return Paired(one, other, differences, _adjusted(differences), tuple(problems))


def against_first(first: StoredScores, others: Sequence[StoredScores]) -> list[Paired | DataError]:
    """Compare runs with one of them, and adjust p for how many comparisons there are.

    Returns
    -------
    list
        For each of ``others`` the comparison, or why there is none. The means (or the one class of
        two) form one family, whose p values are adjusted together; those of all single classes
        form another.
    """
    found: list[Paired | DataError] = []
    for other in others:
        try:
            found.append(pair(first, other))
        except DataError as error:
            found.append(error)
    adjusted: list[dict[str, float]] = [{} for _ in found]
    for quoted in (True, False):
        family = [
            (place, name, difference.p)
            for place, one in enumerate(found)
            if isinstance(one, Paired)
            for number, (name, difference) in enumerate(one.differences.items())
            if (number == 0) is quoted
        ]
        for (place, name, _), p in zip(family, holm([p for *_, p in family]), strict=True):
            adjusted[place][name] = p
    return [
        replace(one, adjusted=of_it) if isinstance(one, Paired) else one
        for one, of_it in zip(found, adjusted, strict=True)
    ]


def mean_difference(
    truth: np.ndarray,
    first: ScoreTable,
    second: ScoreTable,
    groups: np.ndarray,
    *,
    level: float = 0.95,
) -> AurocComparison:
    """Compare the mean AUROC of all classes of two classifiers on the same images.

    Parameters
    ----------
    truth
        Whether each image has each class, shape (n, k).
    first, second
        Scores of the same shape.
    groups
        The patient of each image.
    level
        Confidence of the interval, in (0, 1).

    Returns
    -------
    AurocComparison
        ``positives`` and ``negatives`` count pairs of image and class. NaN throughout where a
        class has no variance.
    """
    each = compare_aurocs_per_class(truth, first, second, groups=groups, level=level)
    table = _covariance(truth, first, second, groups)
    variance = max(0.0, float(table.mean())) if not np.isnan(table).any() else math.nan
    value = float(np.mean([one.difference for one in each]))
    error = math.sqrt(variance)
    reach = float(special.ndtri((1.0 + level) / 2.0)) * error
    p = 1.0 if value == 0.0 and error == 0.0 else math.nan
    note = next((f"a class has {one.note}" for one in each if one.note), "")
    if error > 0.0:
        p = float(special.erfc(abs(value) / error / math.sqrt(2.0)))
    elif value != 0.0:
        reach = math.nan
        note = note or "the variance of the difference is 0: no test and no interval"
    return AurocComparison(
        first=float(np.mean([one.first for one in each])),
        second=float(np.mean([one.second for one in each])),
        difference=value,
        standard_error=error,
        low=value - reach,
        high=value + reach,
        level=level,
        p=p,
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
        groups=each[0].groups,
        note=note,
    )


def _covariance(
    truth: np.ndarray, first: ScoreTable, second: ScoreTable, groups: np.ndarray
) -> np.ndarray:
    """Return the covariance of the classes' differences, shape (k, k); its diagonal is DeLong's."""
    place, count = group_positions(groups)
    positive, negative, scale = [], [], []
    for j in range(truth.shape[1]):
        mine = truth[:, j]
        gap = placements(mine, first[:, j]) - placements(mine, second[:, j])
        sides = []
        for side in (mine, ~mine):
            held = len(np.unique(place[side]))
            if held < 2 or side.all():
                return np.full((truth.shape[1],) * 2, np.nan)
            centred = gap[side] - gap[side].mean()
            sums = np.bincount(place[side], weights=centred, minlength=count) / int(side.sum())
            sides.append((sums, math.sqrt(held / (held - 1))))
        positive.append(sides[0][0])
        negative.append(sides[1][0])
        scale.append((sides[0][1], sides[1][1]))
    of_positive, of_negative = np.stack(positive), np.stack(negative)
    # Each class has groups of its own on either side: their small-sample factors meet half-way.
    by_positive, by_negative = np.array(scale).T
    cross = count / (count - 1) * (of_positive @ of_negative.T)
    table: np.ndarray = (
        np.outer(by_positive, by_positive) * (of_positive @ of_positive.T)
        + np.outer(by_negative, by_negative) * (of_negative @ of_negative.T)
        + cross
        + cross.T
    )
    return table


def _differences(one: StoredScores, other: StoredScores) -> dict[str, AurocComparison]:
    each = compare_aurocs_per_class(
        one.truth, one.probability, other.probability, groups=one.groups
    )
    named = dict(zip(one.classes, each, strict=True))
    if one.kind == "single" and len(one.classes) == 2:
        # Of two classes that exclude one another, one says it all.
        return dict(itertools.islice(reversed(named.items()), 1))
    whole = {j for j, difference in enumerate(each) if not math.isnan(difference.difference)}
    if len(whole) < 2:
        return named
    chosen = sorted(whole)
    mean = mean_difference(
        one.truth[:, chosen],
        one.probability[:, chosen],
        other.probability[:, chosen],
        one.groups,
    )
    return {MEAN: mean, **named}


def _adjusted(differences: dict[str, AurocComparison]) -> dict[str, float]:
    names = list(differences)
    classes = names[1:] if names[0] == MEAN else names
    found = dict(zip(classes, holm([differences[name].p for name in classes]), strict=True))
    return {name: found.get(name, differences[name].p) for name in names}


def _disagreement(one: StoredScores, other: StoredScores, wrong: np.ndarray) -> Problem:
    rows = np.flatnonzero(wrong)
    return Problem(
        str(other.path),
        f"{len(rows):,} of {len(wrong):,} images have another truth than in {one.path}, the first "
        f"is {one.ids[rows[0]]!r}; they are left out of the comparison.",
        "Evaluate both runs on the same manifest.",
        kind="truth-differs",
        fatal=False,
    )
