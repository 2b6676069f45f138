"""From the scores of all cells to what can be said: means, spreads, comparisons, savings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from medglean.curate.study.settings import FULL
from medglean.measure.comparisons import (
    Comparison,
    mann_whitney,
    paired_t,
    wilcoxon_signed_rank,
)


@dataclass(frozen=True)
class Against:
    """One method at one size beside another row of scores.

    Attributes
    ----------
    other
        Name of the other method, or ``full``.
    gain, low, high
        Mean of this one less that of the other, with a 95 % interval (of the pairs, where there
        are pairs); NaN for one replicate.
    rank
        Mann-Whitney U, as in the paper.
    signed
        Wilcoxon's signed ranks of the pairs: replicates share test images. None where they do not.
    corrected
        Paired t, corrected where replicates divide the same images anew. None as above.
    """

    other: str
    gain: float
    low: float
    high: float
    rank: Comparison
    signed: Comparison | None
    corrected: Comparison | None

    @property
    def decisive(self) -> Comparison:
        """The test that decides: of pairs, where there are pairs."""
        return self.rank if self.corrected is None else self.corrected


@dataclass(frozen=True)
class Point:
    """A method at a size.

    Attributes
    ----------
    method, size
        As in the settings.
    images, patients, groups
        Mean numbers of the subsets.
    scores
        One per replicate, in their order.
    mean, sd, low, high
        Of the scores; the limits are a 95 % interval of the mean.
    against
        Comparisons by the other's name.
    """

    method: str
    size: str
    images: float
    patients: float
    groups: float
    scores: np.ndarray
    mean: float
    sd: float
    low: float
    high: float
    against: dict[str, Against]


@dataclass(frozen=True)
class Findings:
    """Everything that the report tells.

    Attributes
    ----------
    points
        One per method and size, sizes rising.
    full
        The whole pool.
    enough
        For each method the smallest size from which on its score is not below the full set's, or
        None where there is none.
    replicates
        How many.
    can_reach
        Whether any scores could have been significant with so many replicates.
    smallest_p
        What Mann-Whitney could reach at best.
    """

    points: tuple[Point, ...]
    full: Point
    enough: dict[str, Point | None]
    replicates: int
    can_reach: bool
    smallest_p: float

    @property
    def methods(self) -> list[str]:
        """Names in the order of the table."""
        return list(dict.fromkeys(point.method for point in self.points))

    @property
    def sizes(self) -> list[str]:
        """Sizes, rising."""
        return list(dict.fromkeys(point.size for point in self.points))

    def at(self, size: str) -> list[Point]:
        """Return the points of one size, in the order of `methods`."""
        return [point for point in self.points if point.size == size]

    def of(self, method: str) -> list[Point]:
        """Return the points of one method, sizes rising."""
        return [point for point in self.points if point.method == method]


def analyse(
    cells: pd.DataFrame,
    *,
    methods: Sequence[str],
    baselines: Sequence[str],
    level: float,
    paired: bool,
    test_share: float,
) -> Findings:
    """Compare every method at every size with the baselines and with the full set.

    Parameters
    ----------
    cells
        From `cells.table`: ``replicate``, ``method``, ``size``, ``images``, ``patients``,
        ``groups``, ``score``.
    methods, baselines
        Names, in the order of the tables.
    level
        Significance level.
    paired
        Whether the scores of a replicate belong together: each replicate has a test set of its own.
    test_share
        Share of the images that is tested on, for the correction of the paired test.
    """
    shared = test_share if paired else 0.0
    whole = _scores(cells, FULL, FULL)
    points = []
    for size in _by_images(cells):
        for method in methods:
            own = _scores(cells, method, size)
            others = {FULL: whole} | {
                name: _scores(cells, name, size) for name in baselines if name != method
            }
            against = {
                name: _against(name, own, other, paired=paired, test_share=shared)
                for name, other in others.items()
            }
            points.append(_point(cells, method, size, own, against, test_share=shared))
    full = _point(cells, FULL, FULL, whole, {}, test_share=shared)
    rank = mann_whitney(whole, whole)
    return Findings(
        points=tuple(points),
        full=full,
        enough={name: _enough([p for p in points if p.method == name], level) for name in methods},
        replicates=len(whole),
        can_reach=rank.can_reach(level),
        smallest_p=rank.smallest_p,
    )


def _by_images(cells: pd.DataFrame) -> list[str]:
    of_subsets = cells[cells["method"] != FULL]
    mean = of_subsets.groupby("size")["images"].mean().sort_values(kind="stable")
    return [str(size) for size in mean.index]


def _rows(cells: pd.DataFrame, method: str, size: str) -> pd.DataFrame:
    found = cells[(cells["method"] == method) & (cells["size"] == size)]
    return found.sort_values("replicate")


def _scores(cells: pd.DataFrame, method: str, size: str) -> np.ndarray:
    return _rows(cells, method, size)["score"].to_numpy(dtype=np.float64)


def _against(
    name: str, own: np.ndarray, other: np.ndarray, *, paired: bool, test_share: float
) -> Against:
    gain = float(own.mean() - other.mean())
    half = half_width(own - other, test_share=test_share) if paired else _unpaired_half(own, other)
    return Against(
        name,
        gain,
        gain - half,
        gain + half,
        mann_whitney(own, other),
        wilcoxon_signed_rank(own - other) if paired else None,
        paired_t(own - other, test_share=test_share) if paired else None,
    )


def _point(
    cells: pd.DataFrame,
    method: str,
    size: str,
    scores: np.ndarray,
    against: dict[str, Against],
    *,
    test_share: float,
) -> Point:
    rows = _rows(cells, method, size)
    mean, half = float(scores.mean()), half_width(scores, test_share=test_share)
    return Point(
        method=method,
        size=size,
        images=float(rows["images"].mean()),
        patients=float(rows["patients"].mean()),
        groups=float(rows["groups"].mean()),
        scores=scores,
        mean=mean,
        sd=float(scores.std(ddof=1)) if len(scores) > 1 else math.nan,
        low=mean - half,
        high=mean + half,
        against=against,
    )


def half_width(scores: np.ndarray, *, test_share: float, level: float = 0.95) -> float:
    """Return half of a t interval of the mean, corrected as `paired_t`; NaN for one score.

    Examples
    --------
    >>> round(half_width(np.array([1.0, 2.0, 3.0]), test_share=0.0), 4)
    2.4841
    """
    n = len(scores)
    if n < 2:
        return math.nan
    variance = float(scores.var(ddof=1)) * (1 / n + test_share / (1 - test_share))
    return float(stats.t.ppf((1 + level) / 2, n - 1)) * math.sqrt(variance)


def _unpaired_half(own: np.ndarray, other: np.ndarray, *, level: float = 0.95) -> float:
    """Return half of Welch's interval of a difference of means; NaN for fewer than two scores."""
    if min(len(own), len(other)) < 2:
        return math.nan
    parts = np.array([own.var(ddof=1) / len(own), other.var(ddof=1) / len(other)])
    if parts.sum() == 0.0:
        return 0.0
    freedom = parts.sum() ** 2 / (parts**2 / [len(own) - 1, len(other) - 1]).sum()
    return float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(parts.sum())


def _enough(points: Sequence[Point], level: float) -> Point | None:
    """Return the smallest size from which on none is significantly below the full set."""
    smallest = None
    for point in reversed(points):
        found = point.against[FULL]
        if found.gain < 0 and found.decisive.significant(level):
            break
        smallest = point
    return smallest
