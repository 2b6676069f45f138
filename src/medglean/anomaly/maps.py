"""From an image and its healthy counterpart to an anomaly map: differences, masks, filters.

Everything here is arithmetic on arrays of shape (n, h, w) in the units of the images, [0, 1]. What
lies outside of a mask is 0 in a map, and is never read: a bright skull next to the brain changes
nothing inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from medglean.anomaly.inside import Maps, pixels_inside
from medglean.arrays import UnitBatch
from medglean.data.foreground import (
    Inside,
    check_finite_images,
    check_share,
    eroded,
    foreground_mask,
)

__all__ = [
    "Difference",
    "averaged",
    "difference",
    "median_filtered",
    "refine",
    "scale_of",
    "smoothed",
]

Difference = Literal["absolute", "positive", "negative", "signed"]


def difference(
    images: UnitBatch,
    rebuilt: UnitBatch,
    *,
    kind: Difference = "absolute",
    channels: Sequence[int] | None = None,
) -> Maps:
    """Return the difference of images x and their counterparts x0, summed over channels.

    Parameters
    ----------
    images, rebuilt
        x and x0, of one shape (n, c, h, w).
    kind
        ``absolute``: |x - x0|. ``positive``: max(x - x0, 0), what is brighter in the image than in
        its counterpart. ``negative``: max(x0 - x, 0), what is darker. ``signed``: x - x0.
    channels
        Positions of the channels that are summed, each counted once; by default all.

    Returns
    -------
    ndarray
        float32 of shape (n, h, w); at least 0, unless signed.

    Raises
    ------
    ValueError
        If shapes differ, a channel does not exist or is named twice, none is named, or a value is
        NaN or infinite.

    Examples
    --------
    >>> image, rebuilt = np.full((1, 1, 1, 1), 0.25), np.full((1, 1, 1, 1), 0.75)
    >>> [difference(image, rebuilt, kind=k).item() for k in ("absolute", "positive", "negative")]
    [0.5, 0.0, 0.5]
    """
    if images.shape != rebuilt.shape:
        raise ValueError(
            f"images have shape {images.shape}, rebuilt ones {rebuilt.shape}: expected one shape."
        )
    check_finite_images(images=images, rebuilt=rebuilt)
    chosen = _channels(channels, images.shape[1])
    gap = images[:, chosen].astype(np.float32) - rebuilt[:, chosen].astype(np.float32)
    if kind == "absolute":
        gap = np.abs(gap)
    elif kind == "positive":
        gap = np.maximum(gap, 0)
    elif kind == "negative":
        gap = np.maximum(-gap, 0)
    elif kind != "signed":
        raise ValueError(f"kind is {kind!r}: expected absolute, positive, negative or signed.")
    summed: np.ndarray = gap.sum(axis=1)
    return summed


def _channels(channels: Sequence[int] | None, count: int) -> list[int]:
    """Return the positions of channels after checking them."""
    chosen = list(range(count)) if channels is None else list(channels)
    wrong = [channel for channel in chosen if not 0 <= channel < count]
    if wrong or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"channels {chosen}: expected different positions from 0 to {count - 1}, at least one."
        )
    return chosen


def median_filtered(maps: Maps, *, side_px: int, inside: Inside | None = None) -> Maps:
    """Return the median of each square window, of its pixels inside the mask and the image alone.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    side_px
        Side of the window, odd; 0 and 1 leave the map as it is.
    inside
        Pixels that count; by default all. The rest becomes 0.

    Returns
    -------
    ndarray
        float32. Of an even number of pixels, the mean of the two middle ones.

    Raises
    ------
    ValueError
        If the side is even or negative, the shapes differ, or a value inside is NaN or infinite.
    """
    if side_px < 0 or (side_px > 0 and side_px % 2 == 0):
        raise ValueError(f"side_px is {side_px}: expected an odd number, or 0 for no filter.")
    where = pixels_inside(maps, inside)
    out = np.where(where, maps, 0).astype(np.float32)
    if side_px <= 1:
        return out
    reach = side_px // 2
    for place in range(len(maps)):
        hidden = np.where(where[place], out[place], np.inf)
        padded = np.pad(hidden, reach, constant_values=np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side_px, side_px))
        # sorted, what is outside comes last, and the median of the rest is found by its number
        ordered = np.sort(windows[where[place]].reshape(-1, side_px**2), axis=1)
        number = np.isfinite(ordered).sum(axis=1)
        rows = np.arange(len(ordered))
        low, high = ordered[rows, (number - 1) // 2], ordered[rows, number // 2]
        out[place][where[place]] = (low + high) / 2
    return out


def smoothed(maps: Maps, *, share: float, inside: Inside | None = None) -> Maps:
    """Return the maps after a Gaussian filter that is normalised by the mask.

    The filtered map is divided by the filtered mask, so that a constant map stays constant up to
    the mask's rim and the image's edge, and nothing from outside comes in.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    share
        Standard deviation as a share of the image's longer side; 0: no filter.
    inside
        Pixels that count; by default all. The rest becomes 0.

    Raises
    ------
    ValueError
        If the share is negative, the shapes differ, or a value inside is NaN or infinite.
    """
    check_share("share", share)
    where = pixels_inside(maps, inside)
    out = np.where(where, maps, 0).astype(np.float32)
    sigma_px = share * max(maps.shape[1:])
    if sigma_px == 0:
        return out
    sigma = (0.0, sigma_px, sigma_px)
    top = ndimage.gaussian_filter(out, sigma, mode="constant")
    bottom = ndimage.gaussian_filter(where.astype(np.float32), sigma, mode="constant")
    filtered: np.ndarray = np.divide(top, bottom, out=np.zeros_like(out), where=where)
    return filtered


def refine(
    maps: Maps,
    images: UnitBatch,
    *,
    foreground: Literal["none", "mask"] = "none",
    erode: float = 0.0,
    median_px: int = 0,
    smooth: float = 0.0,
) -> Maps:
    """Return maps after the steps that the settings ask for: mask, median, Gaussian, in this order.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    images
        What the maps were made from; the mask is theirs.
    foreground
        ``mask``: 0 outside of :func:`foreground_mask`, eroded by ``erode``, or in a signed map as
        little as the least inside, for background is the least anomalous. ``none``: all pixels
        count, and ``erode`` has nothing to act on.
    erode, median_px, smooth
        As for :func:`eroded`, :func:`median_filtered`, :func:`smoothed`.
    """
    inside = None
    if foreground == "mask":
        inside = eroded(foreground_mask(images), share=erode)
    filtered = median_filtered(maps, side_px=median_px, inside=inside)
    finished = smoothed(filtered, share=smooth, inside=inside)
    if inside is not None:
        for one, kept in zip(finished, inside, strict=True):
            one[~kept] = min(0.0, float(one[kept].min(initial=0.0)))
    return finished


def scale_of(maps: Maps, inside: Inside | None = None) -> float:
    """Return the 99th percentile of the values inside, by which a map is divided before averaging.

    Measured on the maps of healthy validation images, without masks of lesions: it is about the
    value that healthy tissue rarely exceeds, so maps of unlike units and spreads agree on what is
    unusual. The root mean square would instead align their bulk, which says nothing of a lesion.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    inside
        Pixels that count; by default all.

    Returns
    -------
    float
        Above 0; 1.0 where the 99th percentile and the largest value are not, since there is
        nothing to scale. Where only the percentile is 0, the largest value.

    Raises
    ------
    ValueError
        If no pixel is inside, the shapes differ, or a value inside is NaN or infinite.
    """
    values = maps[pixels_inside(maps, inside)]
    if values.size == 0:
        raise ValueError(
            f"no pixel of {len(maps)} maps is inside the mask: expected healthy images with a "
            "foreground. Erode less, or look at the images."
        )
    for scale in (float(np.percentile(values, 99)), float(values.max())):
        if scale > 0:
            return scale
    return 1.0


def averaged(maps: Sequence[Maps], scales: Sequence[float]) -> Maps:
    """Return the mean of several maps of the same images, each divided by its scale.

    Parameters
    ----------
    maps
        Each of shape (n, h, w), in any unit.
    scales
        One per map, above 0; see :func:`scale_of`. Ones give the plain mean.

    Raises
    ------
    ValueError
        If there is no map, shapes or numbers differ, or a scale is not finite and above 0.

    Examples
    --------
    >>> averaged([np.full((1, 1, 1), 3.0), np.full((1, 1, 1), 10.0)], [1.0, 5.0]).item()
    2.5
    """
    shapes = {one.shape for one in maps}
    if not maps or len(shapes) > 1 or len(maps) != len(scales):
        raise ValueError(
            f"{len(maps)} maps of shapes {sorted(shapes)} and {len(scales)} scales: expected at "
            "least one map, all of one shape, and a scale for each."
        )
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"scales {list(scales)}: expected finite numbers above 0.")
    total = np.zeros(maps[0].shape, dtype=np.float32)
    for one, scale in zip(maps, scales, strict=True):
        total += (one / (scale * len(maps))).astype(np.float32)
    return total
