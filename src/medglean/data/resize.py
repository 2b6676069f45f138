"""To the size that a network takes, without aliasing.

Pixel centres lie at half-integers: pixel ``i`` of a side of ``n`` covers ``[i, i + 1]`` of
``[0, n]``, and resizing maps ``[0, n]`` onto ``[0, m]``. So output pixel ``j`` looks at position
``(j + 0.5) * n / m`` and an image never shifts. A side that shrinks is averaged over the area of
each output pixel; a side that grows is interpolated linearly.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np

from medglean.arrays import UnitImage


class Resized(NamedTuple):
    """A resized image, and how many source pixels one of its pixels covers along y and x."""

    image: np.ndarray
    step: tuple[float, float]


def resize(
    image: UnitImage,
    size_px: tuple[int, int],
    *,
    how: Literal["stretch", "pad", "crop"],
    centre_crop: float = 1.0,
) -> Resized:
    """Bring an image to ``size_px`` (height, width).

    Parameters
    ----------
    image
        Values in [0, 1], of any size.
    size_px
        Height and width to reach.
    how
        As in :class:`~medglean.data.recipe.Recipe`: stretch, pad with zeros, or crop.
    centre_crop
        Share of each side to keep around the centre first.
    """
    height, width = image.shape[1:]
    kept = (_share(height, centre_crop), _share(width, centre_crop))
    if how == "crop":  # cut the side that is too long for the aspect ratio asked for
        scale = min(kept[0] / size_px[0], kept[1] / size_px[1])
        kept = _at_most(kept, size_px[0] * scale, size_px[1] * scale)
    image = _centre(image, kept)
    inner = size_px
    if how == "pad":
        scale = min(size_px[0] / kept[0], size_px[1] / kept[1])
        inner = _at_most(size_px, kept[0] * scale, kept[1] * scale)
    step = (kept[0] / inner[0], kept[1] / inner[1])
    planes = [_resize_plane(plane, inner) for plane in image]
    out = np.zeros((len(planes), *size_px), dtype=np.float32)
    top, left = (size_px[0] - inner[0]) // 2, (size_px[1] - inner[1]) // 2
    for into, plane in zip(out, planes, strict=True):
        into[top : top + inner[0], left : left + inner[1]] = plane
    # averaging and interpolating stay within the values' range up to rounding
    return Resized(np.clip(out, 0.0, 1.0, out=out), step)


def _share(side: int, share: float) -> int:
    """How many pixels of a side a centre crop keeps."""
    return max(1, round(side * share))


def _at_most(limit: tuple[int, int], height: float, width: float) -> tuple[int, int]:
    """Round a height and width to whole pixels, at least 1 and at most ``limit``."""
    return max(1, min(limit[0], round(height))), max(1, min(limit[1], round(width)))


def _centre(image: np.ndarray, kept: tuple[int, int]) -> np.ndarray:
    """Cut the middle of ``kept`` (height, width) pixels out of an image."""
    top, left = (image.shape[1] - kept[0]) // 2, (image.shape[2] - kept[1]) // 2
    return image[:, top : top + kept[0], left : left + kept[1]]


def _resize_plane(plane: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Shrink the sides that shrink, then grow those that grow."""
    height, width = plane.shape
    smaller = (min(height, size_px[0]), min(width, size_px[1]))
    out = np.ascontiguousarray(plane)
    if smaller != (height, width):
        out = cv2.resize(out, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != size_px:
        out = cv2.resize(out, size_px[::-1], interpolation=cv2.INTER_LINEAR)
    return out
