"""How well anomaly maps find the pixels of a mask: AUROC, average precision and Dice over pixels.

A few hundred maps hold millions of pixels, too many to sort for each of 2,000 resamples of
patients. Pixels are therefore counted once, in each image, by value and by mask (`MapTally`); a
resample only adds up counts. Bins are quantiles of the values themselves, inside and outside of
the masks, so that they are fine where pixels are many.

What counting costs: pixels of one bin count as tied. A value that many pixels share, and zero in
any case, has a bin of its own; each other bin holds at most ``2 / bins`` of the pixels inside, and
of those outside. So AUROC is at most ``1 / bins`` from that of the single pixels (0.0005 for the
default), average precision at most about ``2 / bins`` where precision falls with recall, and the
best Dice, which is sought among the bins' edges, is never above its exact value. With no more
distinct values than bins all three are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.measure.checks import check_finite, ratio
from medglean.measure.curves import PrecisionRecallCurve, RocCurve
from medglean.measure.weighted import Statistic

BINS = 2048
_BLOCK_NUMBERS = 1 << 20
"""Counts of bins and resamples held at once: 8 MiB."""


@dataclass(frozen=True)
class MapTally:
    """How many pixels of each image have which value, inside its mask and outside.

    Attributes
    ----------
    edges
        Lowest value of each bin, rising; each is a value that occurs.
    inside, outside
        Pixels of each image and bin.
    """

    edges: Float[np.ndarray, " k"]
    inside: Int[np.ndarray, "n k"]
    outside: Int[np.ndarray, "n k"]

    def rows(self, chosen: np.ndarray) -> MapTally:
        """Return the tally of some images, by position or truth value, with the same bins."""
        return MapTally(self.edges, self.inside[chosen], self.outside[chosen])


def tally(
    maps: Float[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, ...],
    *,
    within: Bool[np.ndarray, ...] | None = None,
    bins: int = BINS,
) -> MapTally:
    """Count pixels by value.

    Parameters
    ----------
    maps
        Finite; larger means more of what the masks show.
    masks
        The truth.
    within
        Pixels that count, such as the foreground; by default all.
    bins
        Quantiles of the values inside the masks, and as many of those outside.

    Raises
    ------
    ValueError
        If shapes differ or a map holds NaN: `finite_maps` finds those.

    Examples
    --------
    >>> maps = np.array([[[0.0, 0.2, 0.2, 0.9]]])
    >>> masks = np.array([[[False, False, True, True]]])
    >>> counted = tally(maps, masks)
    >>> counted.edges.tolist(), counted.inside.tolist(), counted.outside.tolist()
    ([0.0, 0.2, 0.9], [[0, 1, 1]], [[1, 1, 0]])
    >>> pixel_auroc(counted)(np.ones((1, 1))).tolist()
    [0.875]
    """
    check_same_shape(maps=maps, masks=masks, within=within)
    check_finite(maps=maps)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    hit, miss = (masks, ~masks) if within is None else (masks & within, ~masks & within)
    edges = _edges(maps[hit], maps[miss], bins)
    inside = np.zeros((len(maps), len(edges)), dtype=np.int64)
    outside = np.zeros_like(inside)
    for row, values in enumerate(maps):
        for counts, wanted in ((inside, hit[row]), (outside, miss[row])):
            place = np.searchsorted(edges, values[wanted].astype(np.float64), side="right") - 1
            counts[row] = np.bincount(place, minlength=len(edges))
    return MapTally(edges, inside, outside)


def check_same_shape(**stacks: np.ndarray | None) -> None:
    """Refuse stacks of images that do not lie on one another; ``None`` is passed over.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    shapes = {name: stack.shape for name, stack in stacks.items() if stack is not None}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"expected one shape everywhere, found {told}. Bring all to the grid of the maps."
        )


def _edges(inside: np.ndarray, outside: np.ndarray, bins: int) -> np.ndarray:
    """Choose the values at which bins begin; one bin at 0 where there is no pixel."""
    chosen = []
    for values in (np.sort(inside), np.sort(outside)):
        if len(values) == 0:
            continue
        first = np.concatenate([[True], values[1:] != values[:-1]])
        if first.sum() <= bins:
            chosen.append(values[first])
            continue
        quantiles, times = np.unique(
            values[np.arange(bins) * len(values) // bins], return_counts=True
        )
        alone = quantiles[times > 1]  # a value that takes up whole bins has one to itself
        if np.any(values == 0):
            alone = np.append(alone, values.dtype.type(0))
        after = np.searchsorted(values, alone, side="right")
        chosen += [quantiles, alone, values[after[after < len(values)]]]
    if not chosen:
        return np.zeros(1)
    return np.unique(np.concatenate(chosen)).astype(np.float64)


def pixel_auroc(counted: MapTally) -> Statistic:
    """AUROC over the pixels of all images; undefined without a pixel inside or outside."""

    def summary(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        lower = outside.sum(axis=0) - np.cumsum(outside, axis=0)
        won = np.einsum("kb,kb->b", inside, lower + outside / 2)  # ties count half
        return ratio(won, inside.sum(axis=0) * outside.sum(axis=0))

    return _statistic(counted, summary)


def pixel_average_precision(counted: MapTally) -> Statistic:
    """Average precision over the pixels of all images; undefined without a pixel inside."""

    def summary(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        found = np.cumsum(inside, axis=0)
        called = found + np.cumsum(outside, axis=0)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return ratio(np.einsum("kb,kb->b", inside, precision), found[-1])

    return _statistic(counted, summary)


def best_dice(counted: MapTally) -> Statistic:
    """Dice over the pixels of all images at the one threshold that makes it largest.

    The threshold is sought in each resample anew, as it was on the images: it is an upper limit
    of what a common threshold can reach, not what one chosen beforehand does.
    """

    def summary(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        return np.asarray(_dice_curve(inside, outside).max(axis=0))

    return _statistic(counted, summary)


def best_threshold(counted: MapTally) -> float:
    """Return the threshold of `best_dice`: a pixel is called when its value is at least this.

    Of equally good ones the highest, which calls the fewest pixels; NaN without a pixel inside.
    """
    inside, outside = (part.sum(axis=0)[::-1, None] for part in (counted.inside, counted.outside))
    if not inside.any():
        return float("nan")
    return float(counted.edges[::-1][_dice_curve(inside, outside)[:, 0].argmax()])


def _dice_curve(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return Dice at each edge from the highest down; NaN without a pixel inside."""
    found = np.cumsum(inside, axis=0)
    called = found + np.cumsum(outside, axis=0)
    total = np.where(found[-1] > 0, found[-1], np.nan)
    return np.asarray(2 * found / (total + called))


def _statistic(
    counted: MapTally, summary: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Statistic:
    """Add up counts as weights say, from the highest bin down, and summarise them."""
    inside = np.ascontiguousarray(counted.inside.T[::-1], dtype=np.float64)
    outside = np.ascontiguousarray(counted.outside.T[::-1], dtype=np.float64)
    step = max(1, _BLOCK_NUMBERS // len(inside))

    def statistic(weights: np.ndarray) -> np.ndarray:
        blocks = [weights[:, start : start + step] for start in range(0, weights.shape[1], step)]
        return np.concatenate([summary(inside @ block, outside @ block) for block in blocks])

    return statistic


def pixel_roc(counted: MapTally) -> RocCurve:
    """Return sensitivity against false-positive rate over pixels, one point per bin."""
    inside, outside = (part.sum(axis=0)[::-1] for part in (counted.inside, counted.outside))
    positives, negatives = int(inside.sum()), int(outside.sum())
    return RocCurve(
        false_positive_rate=ratio(np.r_[0, np.cumsum(outside)], np.asarray(negatives)),
        sensitivity=ratio(np.r_[0, np.cumsum(inside)], np.asarray(positives)),
        threshold=np.r_[np.inf, counted.edges[::-1]],
        positives=positives,
        negatives=negatives,
    )


def pixel_precision_recall(counted: MapTally) -> PrecisionRecallCurve:
    """Return precision against recall over pixels, one point per bin."""
    inside, outside = (part.sum(axis=0)[::-1] for part in (counted.inside, counted.outside))
    positives, negatives = int(inside.sum()), int(outside.sum())
    found = np.cumsum(inside)
    return PrecisionRecallCurve(
        precision=ratio(found, found + np.cumsum(outside)),
        recall=ratio(found, np.asarray(positives)),
        threshold=counted.edges[::-1],
        prevalence=float(ratio(np.asarray(positives), np.asarray(positives + negatives))),
        positives=positives,
        negatives=negatives,
    )
