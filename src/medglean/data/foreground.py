"""Where an image shows anatomy and where it shows background, without learning."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from medglean.arrays import UnitBatch

Inside = Bool[np.ndarray, "n h w"]
"""Which pixels of each image count."""

DARK = 0.1
"""Share of an image's bright level (99th percentile) up to which a pixel is background."""
CORNER = 0.1
"""Share of the longer side of the squares in the corners in which air is looked for."""
NOISE = 1.5
"""How many times as bright as the air a pixel must be, where the air is noisy."""
LIT = 0.3
"""Share of the bright level above which corners show anatomy and not air."""
BLUR = 0.008
"""Standard deviation of the Gaussian filter before the threshold, as a share of the longer side:
1 px of 128. It joins what noise tears apart."""
GAP = 0.03
"""Share of the longer side up to which gaps are closed."""
THIN = 0.06
"""Share of the longer side up to which bridges are cut, after the filter has widened them."""


def foreground_mask(images: UnitBatch) -> Inside:
    """Return what is not background: the head, the brain, or all of an image that is filled.

    Each image is judged by itself, on the mean of its channels after a light Gaussian filter. Its
    bright level is the 99th percentile of what is above 0; its air is the 90th percentile of a
    corner, the median of the four. Foreground is above 0.1 of the bright level and above 1.5 times
    the air. Corners above 0.3 of the bright level are no air: such an image, like most chest
    X-rays, is all foreground. Gaps up to 0.03 of the side are closed and holes filled, so that
    ventricles, sinuses and lungs count; bridges up to 0.06 are cut, and the largest component is
    kept.

    The numbers stand as constants at the top of this module. They were set by looking at FLAIR
    heads with skull and air, of 128 px, and at chest X-rays; every length is a share of the side.
    Known to fail: a dim slice at the vertex whose air is amplified beyond 0.3 counts as a whole,
    and a band of ghosts across the head may come with it.

    Parameters
    ----------
    images
        Values in [0, 1].

    Returns
    -------
    ndarray
        bool of shape (n, h, w). Empty for an image that is 0 everywhere; all of an image that is
        constant otherwise.

    Raises
    ------
    ValueError
        If a value is NaN or infinite; says in which image.
    """
    check_finite_images(images=images)
    masks = np.zeros((len(images), *images.shape[2:]), dtype=bool)
    for place, image in enumerate(images):
        masks[place] = _foreground(image.mean(axis=0, dtype=np.float32))
    return masks


def _foreground(grey: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the foreground of one image."""
    if not (grey > 0).any():
        return np.zeros(grey.shape, dtype=bool)
    side = max(grey.shape)
    bright = float(np.percentile(grey[grey > 0], 99))
    blurred = ndimage.gaussian_filter(grey, BLUR * side, mode="nearest")
    air = _air(blurred)
    if air > LIT * bright:
        return np.ones(grey.shape, dtype=bool)
    return _whole(blurred > max(DARK * bright, NOISE * air), gap_px=GAP * side, thin_px=THIN * side)


def _air(grey: Float[np.ndarray, "h w"]) -> float:
    """Return the brightness of the air: of the corners the median, of each its 90th percentile."""
    wide = max(1, round(CORNER * max(grey.shape)))
    ends = (slice(None, wide), slice(-wide, None))
    return float(np.median([np.percentile(grey[y, x], 90) for y in ends for x in ends]))


def _whole(
    mask: Bool[np.ndarray, "h w"], *, gap_px: float, thin_px: float
) -> Bool[np.ndarray, "h w"]:
    """Close gaps, fill holes, cut thin bridges and return the largest component."""
    closed = _morphology(mask, cv2.MORPH_CLOSE, width_px=gap_px)
    filled = ndimage.binary_fill_holes(closed)
    opened = _morphology(filled, cv2.MORPH_OPEN, width_px=thin_px)
    if not opened.any():  # all of it is thin
        opened = filled.astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros(mask.shape, dtype=bool)
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    whole: np.ndarray = ndimage.binary_fill_holes(largest)
    return whole


def _morphology(mask: np.ndarray, operation: int, *, width_px: float) -> UInt8[np.ndarray, "h w"]:
    """Close or open a mask with a disc."""
    size = round(width_px) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    # continued beyond the edge of the image, or else what touches it would be rounded off there
    result: np.ndarray = cv2.morphologyEx(
        mask.astype(np.uint8), operation, disc, borderType=cv2.BORDER_REPLICATE
    )
    return result


def eroded(mask: Inside, *, share: float) -> Inside:
    """Return the pixels that lie deeper in the mask than a share of the image's longer side.

    Depth is the Euclidean distance to the nearest pixel outside of the mask, or of the image: where
    the head touches the image's edge, its scalp lies along it.

    Parameters
    ----------
    mask
        Shape (n, h, w).
    share
        At least 0, which leaves the mask as it is; 0.04 of 128 pixels takes 5 off every rim.

    Examples
    --------
    >>> eroded(np.ones((1, 3, 5), dtype=bool), share=0.2).astype(int).tolist()
    [[[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]]
    """
    check_share("share", share)
    depth_px = share * max(mask.shape[1:])
    if depth_px == 0:
        return mask.copy()
    kept = np.zeros(mask.shape, dtype=bool)
    for place, framed in enumerate(np.pad(mask, ((0, 0), (1, 1), (1, 1)))):
        depth = cv2.distanceTransform(framed.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        kept[place] = depth[1:-1, 1:-1] > depth_px + 1e-3  # exact to about 1e-5 px
    return kept


def check_finite_images(**arrays: np.ndarray) -> None:
    """Refuse NaN and infinity, and say in which image.

    Raises
    ------
    ValueError
        With the position of the first such image, counted from 0, and how many there are.
    """
    for name, array in arrays.items():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
        if bad.size:
            raise ValueError(
                f"{name}: expected finite numbers, found NaN or infinity in image {bad[0]} "
                f"(counted from 0), {bad.size} of {len(array)} images in all. Leave such images "
                "out and report them."
            )


def check_share(name: str, share: float) -> None:
    """Refuse a negative share of the side."""
    if not share >= 0:
        raise ValueError(f"{name} is {share}: expected a share of the side, at least 0.")
