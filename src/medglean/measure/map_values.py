"""What is read from each map by itself: whether it is whole, its thresholds, one score, its Dice.

Throughout, a pixel is called when its value is at least the threshold.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from skimage.filters import threshold_otsu

from medglean.measure.checks import check_finite, ratio
from medglean.measure.maps import check_same_shape
from medglean.measure.pixels import Overlap, overlap
from medglean.measure.weighted import Statistic, share

Maps = Float[np.ndarray, "n h w"]
Within = Bool[np.ndarray, "..."] | None
"""Pixels that count, such as the foreground; None: all."""


def finite_maps(maps: Maps) -> Bool[np.ndarray, " n"]:
    """Return which maps hold no NaN and no infinity, and so can be measured."""
    return np.asarray(np.isfinite(maps).all(axis=(1, 2)))


def otsu_thresholds(maps: Maps, *, within: Within = None) -> Float[np.ndarray, " n"]:
    """Return Otsu's threshold of each map (Otsu 1979), as scikit-image computes it.

    Returns
    -------
    ndarray
        The number next above scikit-image's, which calls what is greater. NaN for a map without a
        pixel that counts; for an even map just above its value, so that nothing is called.

    Raises
    ------
    ValueError
        If shapes differ or a map holds NaN.
    """
    check_same_shape(maps=maps, within=within)
    check_finite(maps=maps)
    found = np.full(len(maps), np.nan)
    for row, values in enumerate(maps):
        counted = values if within is None else values[within[row]]
        if counted.size:
            otsu = threshold_otsu(counted.astype(np.float64))  # type: ignore[no-untyped-call]
            found[row] = np.nextafter(otsu, np.inf)
    return found


def healthy_threshold(maps: Maps, *, within: Within = None, share_below: float = 0.99) -> float:
    """Return a threshold that needs no masks: a percentile of the pixels of healthy images.

    Parameters
    ----------
    maps
        Of healthy images that are not those measured later, such as validation images.
    within
        Pixels that count.
    share_below
        Share of the pixels that stay below.

    Returns
    -------
    float
        NaN without a pixel.

    Raises
    ------
    ValueError
        If shapes differ, a map holds NaN or the share is not in (0, 1).
    """
    check_same_shape(maps=maps, within=within)
    check_finite(maps=maps)
    if not 0.0 < share_below < 1.0:
        raise ValueError(f"share_below must lie in (0, 1), got {share_below}.")
    values = (maps if within is None else maps[within]).astype(np.float64)
    return float(np.quantile(values, share_below)) if values.size else math.nan


def mean_values(maps: Maps, *, within: Within = None) -> Float[np.ndarray, " n"]:
    """Return the mean of each map; NaN for one without a pixel that counts."""
    check_same_shape(maps=maps, within=within)
    counted = np.ones(maps.shape, dtype=bool) if within is None else within
    total = np.where(counted, maps, 0.0).sum(axis=(1, 2), dtype=np.float64)
    return ratio(total, counted.sum(axis=(1, 2)))


def top_means(
    maps: Maps, *, within: Within = None, share_of_pixels: float = 0.01
) -> Float[np.ndarray, " n"]:
    """Return the mean of each map's highest pixels: one score for the whole image.

    Parameters
    ----------
    share_of_pixels
        Of those that count; at least one pixel is taken.

    Returns
    -------
    ndarray
        NaN for a map without a pixel that counts.

    Examples
    --------
    >>> top_means(np.array([[[0.1, 0.2], [0.6, 0.4]]]), share_of_pixels=0.5).tolist()
    [0.5]
    """
    check_same_shape(maps=maps, within=within)
    check_finite(maps=maps)
    found = np.full(len(maps), np.nan)
    for row, values in enumerate(maps):
        counted = values.reshape(-1) if within is None else values[within[row]]
        if counted.size:
            most = max(1, round(share_of_pixels * counted.size))
            highest = np.partition(counted, counted.size - most)[-most:]
            found[row] = highest.mean(dtype=np.float64)
    return found


def overlap_at(
    maps: Maps,
    masks: Bool[np.ndarray, ...],
    threshold: float | Float[np.ndarray, " n"],
    *,
    within: Within = None,
) -> Overlap:
    """Count the pixels that are called, those of the mask, and those of both.

    Parameters
    ----------
    threshold
        One for all maps, or one for each; where it is NaN nothing is called.

    Returns
    -------
    Overlap
        Of one structure.
    """
    check_same_shape(maps=maps, masks=masks, within=within)
    limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(maps))
    rounded = limits.astype(maps.dtype)
    # never down: a threshold just above a float32 value would fall on it
    rounded = np.where(rounded < limits, np.nextafter(rounded, np.inf), rounded)
    called = maps >= rounded[:, None, None]
    truth = masks
    if within is not None:
        called, truth = called & within, truth & within
    return overlap(truth[:, None], called[:, None])


def pooled_dice(found: Overlap) -> Statistic:
    """Dice of all images' pixels together, from `overlap_at`; undefined where all are empty."""
    return share(2.0 * found.both[:, 0], (found.truth + found.predicted)[:, 0])


def mean_of_defined(values: Float[np.ndarray, " n"]) -> Statistic:
    """Mean over the images that have a number; NaN marks those that have none."""
    return share(np.nan_to_num(values), np.isfinite(values))
