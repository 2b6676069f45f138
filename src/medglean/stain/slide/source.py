"""What is read of a slide: windows for the network, and where its tissue lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from medglean.data.slides import Slide, tissue_mask
from medglean.errors import DataError
from medglean.stain.slide.plan import Box

OVERVIEW_PX = 2048
"""Longer side of the picture on which tissue is found."""
RIM_CELLS = 1
"""By how much tissue is widened there, so that its rim is stained."""


@dataclass(frozen=True)
class SlideLevel:
    """One level of a slide, which is what is stained.

    Attributes
    ----------
    slide
        Open.
    number
        Of the level.
    mpp
        Micrometres per pixel of this level, along y and x.
    """

    slide: Slide
    number: int
    mpp: tuple[float, float]

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.slide.levels[self.number].size_px

    def read(self, box: Box) -> UInt8[np.ndarray, "h w 3"]:
        """Read pixels; those beyond the border mirror those inside it.

        Raises
        ------
        ReadError
            If the file is damaged there.
        """
        height, width = self.size_px
        rows, columns = mirrored(box.y0, box.y1, height), mirrored(box.x0, box.x1, width)
        y, x = int(rows.min()), int(columns.min())
        h, w = int(rows.max()) + 1 - y, int(columns.max()) + 1 - x
        pixels = self.slide.read(self.number, x, y, w, h)
        if (h, w) == box.size_px:
            return pixels
        turned: np.ndarray = pixels[np.ix_(rows - y, columns - x)]
        return turned


def mirrored(start: int, stop: int, length: int) -> Int[np.ndarray, " n"]:
    """Return which pixel of an axis stands at each place, where it is mirrored at its ends.

    Examples
    --------
    >>> mirrored(-2, 7, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1, 0]
    """
    if length == 1:
        return np.zeros(stop - start, np.int64)
    period = 2 * (length - 1)
    place = np.arange(start, stop) % period
    return np.minimum(place, period - place)


def open_level(slide: Slide, number: int, *, mpp: float | None) -> SlideLevel:
    """Return the level that is to be stained, with its resolution.

    Parameters
    ----------
    slide
        Open.
    number
        Of the level.
    mpp
        Micrometres per pixel of level 0; None: as the slide says.

    Raises
    ------
    DataError
        If there is no such level, or nothing says how large a pixel is.
    """
    if number >= len(slide.levels):
        raise DataError(
            f"{slide.path}: has levels 0 to {len(slide.levels) - 1}, and slide.level is {number}. "
            "Set one of these."
        )
    known = slide.mpp if mpp is None else (mpp, mpp)
    if known is None:
        raise DataError(
            f"{slide.path}: does not say how many micrometres a pixel has. Set slide.mpp, such as "
            "slide.mpp=0.25 for a scan at 40x, or 0.5 at 20x."
        )
    downsample = slide.levels[number].downsample
    return SlideLevel(slide, number, (known[0] * downsample, known[1] * downsample))


@dataclass(frozen=True)
class Tissue:
    """Where a slide's tissue lies; between the cells of a coarse mask it is interpolated.

    Attributes
    ----------
    mask
        float32, 1 where there is tissue, over the whole slide.
    size_px
        Height and width of the slide at the level that is stained.
    """

    mask: np.ndarray
    size_px: tuple[int, int]

    @cached_property
    def share(self) -> float:
        """Share of the slide that is tissue."""
        return float((self.mask >= 0.5).mean())

    def inside(self, box: Box) -> Bool[np.ndarray, "h w"]:
        """Tell of each pixel of a box whether it is tissue; nothing beyond the border is."""
        rows, columns = self.mask.shape
        y, x = np.arange(box.y0, box.y1), np.arange(box.x0, box.x1)
        top, bottom, down = _between(y, rows / self.size_px[0], rows)
        left, right, aside = _between(x, columns / self.size_px[1], columns)
        near = self.mask[top[0] : bottom[-1] + 1, left[0] : right[-1] + 1]
        if near.min() == near.max():  # most boxes are settled without a look at their pixels
            found = np.full(box.size_px, bool(near[0, 0] >= 0.5))
        else:
            along = near[:, left - left[0]] * (1 - aside) + near[:, right - left[0]] * aside
            above, below = along[top - top[0]], along[bottom - top[0]]
            found = above * (1 - down[:, None]) + below * down[:, None] >= 0.5
        found[max(0, self.size_px[0] - box.y0) :] = False
        found[:, max(0, self.size_px[1] - box.x0) :] = False
        return found

    def any_in(self, box: Box) -> bool:
        """Tell whether any pixel of a box is tissue."""
        return bool(self.inside(box).any())


def _between(
    place: np.ndarray, scale: float, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two cells whose centres lie around each pixel's centre, and the second's share."""
    at = (place + 0.5) * scale - 0.5
    first = np.floor(at)
    share = (at - first).astype(np.float32)
    lower = np.clip(first, 0, cells - 1).astype(np.int64)
    upper = np.clip(first + 1, 0, cells - 1).astype(np.int64)
    return lower, upper, share


def find_tissue(level: SlideLevel) -> Tissue:
    """Find the tissue of a slide on a small picture of it.

    Raises
    ------
    DataError
        If there is none.
    """
    mask = tissue_mask(level.slide.thumbnail(OVERVIEW_PX))
    if not mask.any():
        raise DataError(
            f"{level.slide.path}: no tissue was found. Set slide.tissue=false to stain all of it."
        )
    side = 2 * RIM_CELLS + 1
    wider = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8))
    return Tissue(wider.astype(np.float32), level.size_px)


def all_tissue(level: SlideLevel) -> Tissue:
    """Return a whole slide as tissue."""
    return Tissue(np.ones((1, 1), np.float32), level.size_px)
