"""Take letters, calipers and borders out of images, so that they are not what makes images alike.

Two frames of different patients with the same machine's screen around them look alike to any
encoder; what is burned in is masked before an image is made small. All functions take 8-bit
images and know no file. They are rules of thumb for ultrasound, not a de-identification: letters
may be left, and thin bright anatomy may be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

Grey = UInt8[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]
Fill = Literal["inpaint", "median", "black"]

MASK_VERSION = 1
"""Raised when the same settings would give other pixels, so that old caches are not read."""

DARK = 16
"""Grey levels up to this are background; noise of JPEG around black letters reaches about 12."""
FLAT = 6
"""A row or column whose grey levels span at most this is constant."""
STRAY = 0.01
"""Share of pixels that may differ from the rest in a dark or constant row or column."""
BRIGHT = 160
"""Letters and calipers are burned in at least this bright."""
STEP = 80
"""Grey levels that a mark stands out from its surroundings."""
UNEVEN = 28
"""Standard deviation of grey levels within a mark, at most: burned-in marks have one brightness."""
STILL_SD = 4.0
"""Standard deviation over frames up to which a pixel does not change, with the noise of JPEG."""
STILL_STEP = 30
"""Grey levels that a mark that never moves stands out from its surroundings."""
STILL_SHARE = 0.5
"""From this share of still pixels among the bright ones on, it is the clip that stands still."""
LEAST_FRAMES = 5
"""Frames from which it can be told what does not change."""
COLOURED = 40
"""Difference between the channels from which a pixel is coloured; chroma noise stays below."""


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends left out."""

    top: int
    bottom: int
    left: int
    right: int


def content_box(grey: Grey) -> Box:
    """Return what is left when dark or constant rows and columns are cut off at the edges.

    An image that is dark or constant as a whole is kept whole.

    Examples
    --------
    >>> image = np.zeros((8, 10), np.uint8)
    >>> image[2:6, 3:9] = np.arange(24).reshape(4, 6) * 10
    >>> content_box(image)
    Box(top=2, bottom=6, left=3, right=9)
    """
    rows = np.flatnonzero(~_is_empty(grey))
    if rows.size == 0:
        return Box(0, grey.shape[0], 0, grey.shape[1])
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(~_is_empty(grey[top:bottom].T))
    if columns.size == 0:
        return Box(0, grey.shape[0], 0, grey.shape[1])
    return Box(top, bottom, int(columns[0]), int(columns[-1]) + 1)


def _is_empty(lines: Grey) -> Bool[np.ndarray, " h"]:
    """Say of each row whether nearly all of it is dark, or of one grey level."""
    stray = int(STRAY * lines.shape[1])
    ordered = np.sort(lines, axis=1).astype(np.int16)
    last = lines.shape[1] - 1
    dark = ordered[:, last - stray] <= DARK
    # the stray pixels may all be brighter, or all darker
    flat = np.minimum(
        ordered[:, last - stray] - ordered[:, 0], ordered[:, last] - ordered[:, stray]
    )
    empty: np.ndarray = dark | (flat <= FLAT)
    return empty


def _disc(side: float) -> np.ndarray:
    size = max(3, round(side) | 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def sector_mask(grey: Grey) -> Mask:
    """Return the convex hull of the largest region that is not dark: the fan of a probe.

    Thin things do not count, so letters beside the fan are not in it. All of the image, if there
    is no region of at least a hundredth of it.
    """
    side = max(grey.shape)
    lit = (grey > DARK).astype(np.uint8)
    closed = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, _disc(side / 50))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _disc(side / 16))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count < 2 or areas.max() < 0.01 * grey.size:
        return np.ones(grey.shape, dtype=bool)
    largest = (labels == 1 + int(areas.argmax())).astype(np.uint8)
    contours, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))
    filled = np.zeros(grey.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, hull, 1)
    inside: np.ndarray = filled.astype(bool)
    return inside


def text_marks(grey: Grey) -> Mask:
    """Return bright thin marks of one brightness with sharp edges: letters, calipers, rulers.

    A mark is a small connected region that stands out from its surroundings by at least 80 grey
    levels, is at least 160 bright, and is about equally bright all over. Speckle and the echoes of
    a pleura fade at their ends and fail the last.
    """
    side = max(grey.shape)
    lifted = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, _disc(side / 28))
    strong = (lifted >= STEP).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
    levels = grey.astype(np.float64)
    found = np.zeros(count, dtype=bool)
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        if area < 4 or (max(width, height) > 0.25 * side and min(width, height) > 0.05 * side):
            continue
        window = (slice(y, y + height), slice(x, x + width))
        own = labels[window] == number
        core = levels[window][own]
        bright = np.sort(core)[len(core) // 4 :]  # without the soft edge of the strokes
        if bright.max() >= BRIGHT and bright.std() <= UNEVEN and _has_sharp_edge(grey, window, own):
            found[number] = True
    marks: np.ndarray = found[labels]
    return marks


def _has_sharp_edge(grey: Grey, window: tuple[slice, slice], own: Mask) -> bool:
    """Say whether grey levels fall by ``STEP`` within two pixels outside of most of a region."""
    rows, columns = window
    top, left = max(rows.start - 2, 0), max(columns.start - 2, 0)
    around = grey[top : rows.stop + 2, left : columns.stop + 2]
    region = np.zeros(around.shape, dtype=np.uint8)
    at = (rows.start - top, columns.start - left)
    region[at[0] : at[0] + own.shape[0], at[1] : at[1] + own.shape[1]] = own
    ring = cv2.dilate(region, np.ones((5, 5), np.uint8)).astype(bool) & ~region.astype(bool)
    if not ring.any():
        return False
    level = float(np.median(grey[window][own]))
    return float(np.mean(around[ring] <= level - STEP)) >= 0.5


def coloured_marks(image: UInt8[np.ndarray, "c h w"]) -> Mask:
    """Return the pixels whose channels differ by more than 40; none in a grey image."""
    if len(image) < 3:
        return np.zeros(image.shape[1:], dtype=bool)
    spread = image.max(axis=0).astype(np.int16) - image.min(axis=0)
    coloured: np.ndarray = spread > COLOURED
    return coloured


def static_marks(frames: UInt8[np.ndarray, "n h w"]) -> Mask:
    """Return what stands out and does not change over the frames of a clip.

    Nothing, if there are fewer than five frames or more than half of what is bright does not
    change: then it is the clip that stands still.
    """
    nothing = np.zeros(frames.shape[1:], dtype=bool)
    if len(frames) < LEAST_FRAMES:
        return nothing
    mean = frames.mean(axis=0, dtype=np.float32)
    still = (frames.std(axis=0, dtype=np.float32) <= STILL_SD) & (mean > DARK)
    lit = np.count_nonzero(mean > DARK)
    if lit == 0 or np.count_nonzero(still) > STILL_SHARE * lit:
        return nothing
    lifted = cv2.morphologyEx(mean, cv2.MORPH_TOPHAT, _disc(max(mean.shape) / 28))
    marks: np.ndarray = still & (lifted >= STILL_STEP)
    return marks


def fill_marks(grey: Grey, marks: Mask, *, how: Fill = "inpaint") -> Grey:
    """Replace marks, and one pixel around them, by what surrounds them.

    Parameters
    ----------
    grey
        One channel.
    marks
        What to replace.
    how
        ``inpaint``: Telea's fast marching, 3 px around. ``median``: of the unmarked pixels of a
        window of about a tenth of the image. ``black``: 0.

    References
    ----------
    Telea. An Image Inpainting Technique Based on the Fast Marching Method. 2004.
    """
    if not marks.any():
        return grey.copy()
    wide = cv2.dilate(marks.astype(np.uint8), np.ones((3, 3), np.uint8))
    if how == "inpaint":
        filled: np.ndarray = cv2.inpaint(grey, wide, 3, cv2.INPAINT_TELEA)
        return filled
    out = grey.copy()
    if how == "black":
        out[wide.astype(bool)] = 0
        return out
    reach = max(2, round(max(grey.shape) / 20))
    for y, x in np.argwhere(wide):
        window = (
            slice(max(y - reach, 0), y + reach + 1),
            slice(max(x - reach, 0), x + reach + 1),
        )
        around = grey[window][wide[window] == 0]
        out[y, x] = np.median(around) if around.size else 0
    return out


def mask_clip(
    images: UInt8[np.ndarray, "n c h w"],
    *,
    borders: bool = False,
    sector: bool = False,
    text: bool = False,
    static: bool = False,
    colour: bool = False,
    fill: Fill = "inpaint",
) -> list[UInt8[np.ndarray, "c _ _"]]:
    """Mask the frames of one clip, or a single image.

    Marks go first, so that a letter in a margin does not keep the margin from being one; then
    what lies outside of the sector is set to 0; then dark and constant edges are cut off.

    Parameters
    ----------
    images
        Frames of one clip for ``static``; of any images otherwise.
    borders, sector, text, static, colour
        What to mask; see :func:`content_box`, :func:`sector_mask`, :func:`text_marks`,
        :func:`static_marks`, :func:`coloured_marks`.
    fill
        As in :func:`fill_marks`.

    Returns
    -------
    list of ndarray
        One image per frame, smaller where borders were cut.
    """
    greys = images.mean(axis=1).round().astype(np.uint8)
    fixed = static_marks(greys) if static else np.zeros(greys.shape[1:], dtype=bool)
    return [
        _mask_one(image, grey, fixed, borders, sector, text, colour, fill)
        for image, grey in zip(images, greys, strict=True)
    ]


def _mask_one(
    image: UInt8[np.ndarray, "c h w"],
    grey: Grey,
    fixed: Mask,
    borders: bool,
    sector: bool,
    text: bool,
    colour: bool,
    fill: Fill,
) -> UInt8[np.ndarray, "c _ _"]:
    marks = fixed.copy()
    if text:
        marks |= text_marks(grey)
    if colour:
        marks |= coloured_marks(image)
    cleaned = _each(image, marks, fill)
    if sector:
        cleaned = cleaned * sector_mask(_grey(cleaned))
    if borders:
        box = content_box(_grey(cleaned))
        cleaned = np.ascontiguousarray(cleaned[:, box.top : box.bottom, box.left : box.right])
    return cleaned


def _each(image: UInt8[np.ndarray, "c h w"], marks: Mask, fill: Fill) -> np.ndarray:
    planes: Sequence[np.ndarray] = [fill_marks(plane, marks, how=fill) for plane in image]
    return np.stack(planes)


def _grey(image: UInt8[np.ndarray, "c h w"]) -> Grey:
    grey: np.ndarray = image[0] if len(image) == 1 else image.mean(axis=0).round().astype(np.uint8)
    return grey
