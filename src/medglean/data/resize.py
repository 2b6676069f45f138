"""To the size that a network takes, without aliasing.

Pixel centres lie at half-integers: pixel ``i`` of a side of ``n`` covers ``[i, i + 1]`` of
``[0, n]``, and resizing maps ``[0, n]`` onto ``[0, m]``. So output pixel ``j`` looks at position
``(j + 0.5) * n / m`` and an image never shifts. A side that shrinks is averaged over the area of
each output pixel; a side that grows is interpolated linearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from medglean.arrays import UnitImage

How = Literal["stretch", "pad", "crop", "centre"]
"""Ways to reach a size; see :class:`~medglean.data.recipe.Recipe`."""


@dataclass(frozen=True)
class Geometry:
    """Which part of an image goes where; all pairs are of height and width, in whole pixels.

    Attributes
    ----------
    kept, start
        Size and upper left corner of the part of the image that is used.
    inner, offset
        Size and upper left corner of where it lies in the result; around it are zeros.
    """

    kept: tuple[int, int]
    start: tuple[int, int]
    inner: tuple[int, int]
    offset: tuple[int, int]

    @property
    def step(self) -> tuple[float, float]:
        """How many source pixels one pixel of the result covers along y and x."""
        return (self.kept[0] / self.inner[0], self.kept[1] / self.inner[1])


class Resized(NamedTuple):
    """A resized image, and how many source pixels one of its pixels covers along y and x."""

    image: np.ndarray
    step: tuple[float, float]


def geometry(
    shape_px: tuple[int, int], size_px: tuple[int, int], *, how: How, centre_crop: float = 1.0
) -> Geometry:
    """Work out how an image of ``shape_px`` (height, width) is brought to ``size_px``.

    Parameters
    ----------
    shape_px, size_px
        Height and width before and after.
    how, centre_crop
        As for :func:`resize`.

    Examples
    --------
    >>> geometry((240, 240), (256, 256), how="centre").offset
    (8, 8)
    """
    height, width = shape_px
    kept = (_share(height, centre_crop), _share(width, centre_crop))
    inner = size_px
    if how == "crop":  # cut the side that is too long for the aspect ratio asked for
        scale = min(kept[0] / size_px[0], kept[1] / size_px[1])
        kept = _at_most(kept, size_px[0] * scale, size_px[1] * scale)
    elif how == "pad":
        scale = min(size_px[0] / kept[0], size_px[1] / kept[1])
        inner = _at_most(size_px, kept[0] * scale, kept[1] * scale)
    elif how == "centre":
        inner = kept = (min(kept[0], size_px[0]), min(kept[1], size_px[1]))
    return Geometry(
        kept=kept,
        start=((height - kept[0]) // 2, (width - kept[1]) // 2),
        inner=inner,
        offset=((size_px[0] - inner[0]) // 2, (size_px[1] - inner[1]) // 2),
    )


def resize(
    image: UnitImage,
    size_px: tuple[int, int],
    *,
    how: How,
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
        As in :class:`~medglean.data.recipe.Recipe`: stretch, pad with zeros, crop, or pad and cut
        without resampling.
    centre_crop
        Share of each side to keep around the centre first.
    """
    place = geometry((image.shape[1], image.shape[2]), size_px, how=how, centre_crop=centre_crop)
    (top, left), (height, width) = place.start, place.kept
    image = image[:, top : top + height, left : left + width]
    planes = [_resize_plane(plane, place.inner) for plane in image]
    out = np.zeros((len(planes), *size_px), dtype=np.float32)
    (top, left), (height, width) = place.offset, place.inner
    for into, plane in zip(out, planes, strict=True):
        into[top : top + height, left : left + width] = plane
    # averaging and interpolating stay within the values' range up to rounding
    return Resized(np.clip(out, 0.0, 1.0, out=out), place.step)


def _share(side: int, share: float) -> int:
    """How many pixels of a side a centre crop keeps."""
    return max(1, round(side * share))


def _at_most(limit: tuple[int, int], height: float, width: float) -> tuple[int, int]:
    """Round a height and width to whole pixels, at least 1 and at most ``limit``."""
    return max(1, min(limit[0], round(height))), max(1, min(limit[1], round(width)))


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
