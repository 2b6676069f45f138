"""A measure within each subgroup of images, and the largest gap between two of them.

All subgroups rest on the same resamples of patients, so a gap between two is a paired difference
even where patients have images in both. A subgroup is *few* by the rule of `FEW_IMAGES`,
`FEW_GROUPS` and `FEW_OF_A_KIND`: it is shown with a note, and left out of the gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medglean.arrays import Indices, Truth
from medglean.measure.checks import check_same_length
from medglean.measure.intervals import Interval, cluster_bootstrap_many, group_positions
from medglean.measure.weighted import Statistic

FEW_IMAGES = 50
"""Fewer images than these are few."""
FEW_GROUPS = 20
"""Fewer patients than these are few: percentile intervals run short."""
FEW_OF_A_KIND = 10
"""Fewer positive images, or fewer negative ones, are few."""
FEW_RESAMPLES = 5
"""A limit of an interval with fewer resamples beyond it is uncertain itself."""

UNKNOWN = "not known"
"""Name of the subgroup of images whose value is missing."""

AGE_EDGES = (18.0, 40.0, 60.0, 80.0)
"""Limits of age bands in years; each band holds its lower limit."""

_MISSING = frozenset({"", "None", "nan", "NaN", "NaT", "<NA>"})


@dataclass(frozen=True)
class Subgroup:
    """A measure on the images of one subgroup.

    Attributes
    ----------
    name
        The value that they share, or `UNKNOWN`.
    interval
        The measure with its interval; ``n`` and ``groups`` count this subgroup's images and
        patients.
    positives
        Positive images; None where no truth was given.
    few
        Whether the rule calls it few.
    note
        Why it is few; otherwise empty.
    """

    name: str
    interval: Interval
    positives: int | None
    few: bool
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """The largest difference between two subgroups.

    Attributes
    ----------
    higher, lower
        The subgroups with the highest and the lowest measure of those that are not few.
    interval
        Of the difference. The two were chosen for being farthest apart, so its level is that of
        all pairs together (Bonferroni): ``1 - (1 - level) / pairs``. Where it holds 0 the data do
        not show that subgroups differ.
    pairs
        How many pairs of subgroups there were to choose from.
    note
        What to know about the interval; otherwise empty.
    """

    higher: str
    lower: str
    interval: Interval
    pairs: int
    note: str = ""


@dataclass(frozen=True)
class SubgroupTable:
    """Subgroups in the order of their names, `UNKNOWN` last, and their largest gap.

    ``gap`` is None with fewer than two subgroups to compare; ``note`` then says so.
    """

    rows: tuple[Subgroup, ...]
    gap: Gap | None
    note: str = ""


def subgroup_positions(
    values: Sequence[object] | np.ndarray, *, order: Sequence[str] = ()
) -> dict[str, Indices]:
    """Return the positions of images by what they hold in a column.

    Parameters
    ----------
    values
        One per image, such as its source; None, NaN and the empty text are missing.
    order
        Names in the order wanted, such as those of `age_band_names`; others follow by name.

    Returns
    -------
    dict
        From name to positions, rising; images with a missing value come last, as `UNKNOWN`.

    Examples
    --------
    >>> {name: rows.tolist() for name, rows in subgroup_positions(["PA", None, "AP", "PA"]).items()}
    {'AP': [2], 'PA': [0, 3], 'not known': [1]}
    """
    texts = [str(value) for value in values]
    names = np.array([UNKNOWN if text in _MISSING else text for text in texts], dtype=object)
    rank = {name: place for place, name in enumerate(order)}
    unique = sorted(set(names), key=lambda name: (name == UNKNOWN, rank.get(name, len(rank)), name))
    return {name: np.flatnonzero(names == name) for name in unique}


def age_band_names(edges: Sequence[float] = AGE_EDGES) -> list[str]:
    """Return the names of age bands from the youngest, such as "under 18" and "18 to 39".

    Parameters
    ----------
    edges
        Limits in whole years, rising.

    Raises
    ------
    ValueError
        If there is no edge, or edges are not whole or do not rise.
    """
    limits = np.asarray(edges, dtype=np.float64)
    if not len(limits) or not (np.diff(limits) > 0).all() or (limits != np.rint(limits)).any():
        raise ValueError(f"edges must be whole years that rise, got {list(edges)}.")
    inner = [f"{low:.0f} to {high - 1:.0f}" for low, high in itertools.pairwise(limits)]
    return [f"under {limits[0]:.0f}", *inner, f"{limits[-1]:.0f} or over"]


def age_bands(
    ages_years: Sequence[float] | np.ndarray, *, edges: Sequence[float] = AGE_EDGES
) -> np.ndarray:
    """Return the name of each image's age band.

    Parameters
    ----------
    ages_years
        One per image, not negative; NaN where it is not known.
    edges
        Limits in whole years, rising; each band holds its lower limit.

    Returns
    -------
    ndarray
        Text of shape (n,), `UNKNOWN` for NaN.

    Raises
    ------
    ValueError
        If an age is negative or infinite, or edges do not rise.

    Examples
    --------
    >>> age_bands([17.9, 18.0, 39.5, 93.0, float("nan")]).tolist()
    ['under 18', '18 to 39', '18 to 39', '80 or over', 'not known']
    """
    names = np.array([*age_band_names(edges), UNKNOWN], dtype=object)
    years = np.asarray(ages_years, dtype=np.float64)
    known = ~np.isnan(years)
    bad = known & ~((years >= 0.0) & np.isfinite(years))
    if bad.any():
        raise ValueError(
            f"ages: {int(bad.sum())} of {len(years)} are negative or infinite, the first is "
            f"{years[bad][0]:g}. Give years, NaN where the age is not known."
        )
    band = np.searchsorted(np.asarray(edges, dtype=np.float64), years, side="right")
    return names[np.where(known, band, len(names) - 1)]


def subgroup_table(
    measure: Callable[[Indices], Statistic],
    values: Sequence[object] | np.ndarray,
    groups: Sequence[object] | np.ndarray,
    *,
    truth: Truth | None = None,
    order: Sequence[str] = (),
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> SubgroupTable:
    """Measure each subgroup with a clustered bootstrap interval, and find the largest gap.

    Parameters
    ----------
    measure
        From positions of images to a statistic of them, such as
        ``lambda rows: weighted.auroc(truth[rows], scores[rows])``.
    values
        The column that makes the subgroups, one entry per image.
    groups
        The patient of each image.
    truth
        Whether each image is positive; without it positive images are not counted.
    order
        Names of subgroups in the order wanted.
    replicates, level, seed
        As in `medglean.measure.intervals.cluster_bootstrap`. The same seed and patients give the
        resamples of every other interval.

    Returns
    -------
    SubgroupTable
        A subgroup of one patient has no interval; one without images of a class has no measure.

    Raises
    ------
    ValueError
        If lengths differ, a group is missing, or ``level`` or ``replicates`` is out of range.
    """
    place, _ = group_positions(groups)
    check_same_length(values=np.asarray(values, dtype=object), groups=place)
    if truth is not None:
        check_same_length(truth=truth, groups=place)
    positions = subgroup_positions(values, order=order)
    statistics = {name: _within(measure(rows), rows) for name, rows in positions.items()}
    intervals = cluster_bootstrap_many(
        statistics, groups, replicates=replicates, level=level, seed=seed
    )
    rows = tuple(
        _row(name, intervals[name], place[positions[name]], truth, positions[name])
        for name in positions
    )
    compared = [
        row
        for row in rows
        if not row.few and row.name != UNKNOWN and not np.isnan(row.interval.value)
    ]
    if len(compared) < 2:
        told = f"no gap: {len(compared)} known and not few, 2 subgroups are needed"
        return SubgroupTable(rows, None, told)
    higher = max(compared, key=lambda row: row.interval.value).name
    others = [row for row in compared if row.name != higher]
    lower = min(others, key=lambda row: row.interval.value).name
    pairs = len(compared) * (len(compared) - 1) // 2

    def difference(weights: np.ndarray) -> np.ndarray:
        gap: np.ndarray = statistics[higher](weights) - statistics[lower](weights)
        return gap

    outside = (1.0 - level) / pairs
    together = 1.0 - outside
    interval = cluster_bootstrap_many(
        {"gap": difference}, groups, replicates=replicates, level=together, seed=seed
    )["gap"]
    used = np.concatenate([positions[higher], positions[lower]])
    interval = replace(interval, n=len(used), groups=len(np.unique(place[used])))
    beyond = interval.replicates * outside / 2.0
    note = ""
    if beyond < FEW_RESAMPLES:
        needed = int(np.ceil(2.0 * FEW_RESAMPLES / outside))
        note = f"its limits rest on few resamples: ask for {needed} replicates"
    return SubgroupTable(rows, Gap(higher, lower, interval, pairs, note))


def few(*, images: int, groups: int, positives: int | None = None) -> str:
    """Say by the rule why a subgroup is few, with an empty text where it is not.

    Parameters
    ----------
    images, groups
        Its images and patients.
    positives
        Its positive images; None where there are none to count.

    Examples
    --------
    >>> few(images=60, groups=12, positives=55)
    '12 patients (few: below 20); 5 negative images (few: below 10)'
    """
    counted = [(images, "images", FEW_IMAGES), (groups, "patients", FEW_GROUPS)]
    if positives is not None:
        counted.append((positives, "positive images", FEW_OF_A_KIND))
        counted.append((images - positives, "negative images", FEW_OF_A_KIND))
    return "; ".join(
        f"{count} {what} (few: below {least})" for count, what, least in counted if count < least
    )


def _within(statistic: Statistic, rows: np.ndarray) -> Statistic:
    return lambda weights: statistic(weights[rows])


def _row(
    name: str, found: Interval, place: np.ndarray, truth: np.ndarray | None, rows: np.ndarray
) -> Subgroup:
    patients = len(np.unique(place))
    positives = None if truth is None else int(truth[rows].sum())
    interval = replace(found, n=len(rows), groups=patients)
    if patients < 2:
        # One patient's own resamples are all alike: an interval of no width would be a lie.
        told = "no interval: 1 group, 2 are needed"
        interval = replace(interval, low=np.nan, high=np.nan, replicates=0, dropped=0, note=told)
    why = few(images=len(rows), groups=patients, positives=positives)
    return Subgroup(name, interval, positives, bool(why), why)
