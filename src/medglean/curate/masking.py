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
LONG = 0.1
"""Share of the image's side from which a mark is long."""
STROKES = 1.3
"""Strokes above one another in a mark that is long, on average: a line has 1, letters about 2."""
STILL_SD = 4.0
"""Standard deviation over frames up to which a pixel does not change, with the noise of JPEG."""
STILL_STEP = 40
"""Grey levels that a mark that never moves stands out from its surroundings."""
STILL_BRIGHT = 80
"""A mark that never moves is at least this bright."""
STILL_PIXELS = 0.8
"""Share of a mark's pixels that must not change."""
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
    whole = box = Box(0, grey.shape[0], 0, grey.shape[1])
    while True:  # a bright bar above a dark margin shows as one only without the margin
        part = grey[box.top : box.bottom, box.left : box.right]
        rows, columns = (np.flatnonzero(~_is_empty(lines)) for lines in (part, part.T))
        if rows.size == 0 or columns.size == 0:
            return whole
        cut = Box(
            box.top + int(rows[0]),
            box.top + int(rows[-1]) + 1,
            box.left + int(columns[0]),
            box.left + int(columns[-1]) + 1,
        )
        if cut == box:
            return box
        box = cut


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
    """Return the convex hull of all regions that are not dark: the fan of a probe.

    Thin things do not count, so letters beside the fan are not in it; nor do regions of less than
    a two-hundredth of the image. All of the image, if there is no other region.
    """
    side = max(grey.shape)
    lit = (grey > DARK).astype(np.uint8)
    closed = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, _disc(side / 50))
    # continued beyond the edge of the image, or else what touches it would be rounded off there
    opened = cv2.morphologyEx(
        closed, cv2.MORPH_OPEN, _disc(side / 20), borderType=cv2.BORDER_REPLICATE
    )
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    large = stats[:, cv2.CC_STAT_AREA] >= 0.005 * grey.size
    large[0] = False
    if not large[:count].any():
        return np.ones(grey.shape, dtype=bool)
    contours, _ = cv2.findContours(
        large[labels].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    hull = cv2.convexHull(np.concatenate(contours))
    filled = np.zeros(grey.shape, dtype=np.uint8)
    cv2.fillConvexPoly(filled, hull, 1)
    inside: np.ndarray = filled.astype(bool)
    return inside


def text_marks(grey: Grey) -> Mask:
    """Return bright thin marks of one brightness with sharp edges: letters, calipers, rulers.

    A mark is a small connected region that stands out from its surroundings by at least 80 grey
    levels, is at least 160 bright, and is about equally bright all over. Speckle and most echoes
    fade at their ends and fail the last. What is long must look like a word: strokes above one
    another. A skin line, a pleura, or a drawn line that is not dotted, does not.
    """
    return _marks(grey, step=STEP, bright=BRIGHT)


def _marks(grey: Grey, *, step: int, bright: int) -> Mask:
    """Return the marks that stand out by ``step`` levels and are at least ``bright``."""
    side = max(grey.shape)
    lifted = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, _disc(side / 28))
    strong = (lifted >= step).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
    found = np.zeros(count, dtype=bool)
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        if area < 4 or max(width, height) > 0.4 * side or min(width, height) > 0.1 * side:
            continue
        window = (slice(y, y + height), slice(x, x + width))
        own = labels[window] == number
        if max(width, height) > LONG * side and not _is_word(own):
            continue
        # without the soft edge of the strokes
        core = np.sort(grey[window][own].astype(np.float64))[area // 4 :]
        if core.max() < bright or core.std() > UNEVEN:
            continue
        found[number] = _has_sharp_edge(grey, window, own, step=step)
    marks: np.ndarray = found[labels]
    return marks


def _is_word(own: Mask) -> bool:
    """Say whether strokes lie above one another in enough columns (or rows, if it is upright)."""
    along = own if own.shape[1] >= own.shape[0] else own.T
    starts = np.count_nonzero(np.diff(along.astype(np.int8), axis=0, prepend=0) == 1, axis=0)
    return float(starts.mean()) >= STROKES


def _has_sharp_edge(grey: Grey, window: tuple[slice, slice], own: Mask, *, step: int) -> bool:
    """Say whether grey levels fall by ``step`` within two pixels outside of most of a region."""
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
    return float(np.mean(around[ring] <= level - step)) >= 0.5


def coloured_marks(image: UInt8[np.ndarray, "c h w"]) -> Mask:
    """Return the pixels whose channels differ by more than 40; none in a grey image."""
    if len(image) < 3:
        return np.zeros(image.shape[1:], dtype=bool)
    spread = image.max(axis=0).astype(np.int16) - image.min(axis=0)
    coloured: np.ndarray = spread > COLOURED
    return coloured


def static_marks(frames: UInt8[np.ndarray, "n h w"]) -> Mask:
    """Return marks that do not change over the frames of a clip; they may be fainter than text.

    They must have the form of letters all the same: skin and fascia under a probe that is held
    still do not change either. Nothing, if there are fewer than five frames or more than half of
    what is bright does not change: then it is the clip that stands still.
    """
    nothing = np.zeros(frames.shape[1:], dtype=bool)
    if len(frames) < LEAST_FRAMES:
        return nothing
    mean = frames.mean(axis=0, dtype=np.float32)
    lit = mean > DARK
    still = (frames.std(axis=0, dtype=np.float32) <= STILL_SD) & lit
    if np.count_nonzero(still) > STILL_SHARE * np.count_nonzero(lit):
        return nothing
    marks = _marks(np.rint(mean).astype(np.uint8), step=STILL_STEP, bright=STILL_BRIGHT)
    count, labels = cv2.connectedComponents(marks.astype(np.uint8), connectivity=8)
    size = np.bincount(labels.ravel(), minlength=count)
    quiet = np.bincount(labels.ravel(), weights=still.ravel(), minlength=count)
    kept = quiet >= STILL_PIXELS * size
    kept[0] = False
    found: np.ndarray = kept[labels]
    return found


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
