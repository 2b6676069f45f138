"""The words that say in the pixels themselves what a picture is, never on top of tissue."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

NOTICE = "Synthetic, not for diagnosis"
"""What every generated picture says of itself."""
LEAST_WIDTH_PX = 220
"""Narrower words cannot be read; a narrower picture gets them as large as fits."""
MOST_WIDTH_PX = 4096
WIDTHS = (1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8)
"""Shares of a slide's width that the legend may have on its glass, the first that fits."""
BELOW = 1 / 3
"""Its share of the width where it lies below the slide."""
_ASPECT = 10
_MARGIN = 0.2
"""Around the words, as a share of the legend's height."""
_WHITE, _INK = 255, 20

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Legend:
    """Words at a place.

    Attributes
    ----------
    y, x
        Of its upper left corner.
    grey
        Its pixels, of every channel.
    """

    y: int
    x: int
    grey: UInt8[np.ndarray, "h w"]

    def draw_on(self, block: Pixels, *, y: int, x: int) -> None:
        """Draw what falls into a block whose upper left pixel is at ``y``, ``x``."""
        height, width = self.grey.shape
        top, left = max(self.y, y), max(self.x, x)
        bottom = min(self.y + height, y + block.shape[0])
        right = min(self.x + width, x + block.shape[1])
        if top < bottom and left < right:
            part = self.grey[top - self.y : bottom - self.y, left - self.x : right - self.x]
            block[top - y : bottom - y, left - x : right - x] = part[..., None]


def words(width_px: int, height_px: int) -> UInt8[np.ndarray, "h w"]:
    """Return the notice in black on white, as large as fits, in the middle."""
    room = max(1, round(width_px * 0.94)), max(1, round(height_px * (1 - 2 * _MARGIN)))
    size = max(1, min(room[1], round(100 * room[0] / _length_at_100())))
    page = Image.new("L", (width_px, height_px), _WHITE)
    pen = ImageDraw.Draw(page)
    pen.text((width_px / 2, height_px / 2), NOTICE, _INK, _font(size), anchor="mm")
    return np.asarray(page)


def patch_with_legend(image: Pixels) -> Pixels:
    """Return a patch with the notice on a white strip below it.

    Parameters
    ----------
    image
        Red, green, blue.

    Returns
    -------
    ndarray
        As wide, and higher by a tenth of the width or so; its upper part is ``image``, unchanged.
    """
    width = image.shape[1]
    strip = words(width, strip_px(width))
    return np.concatenate([image, np.repeat(strip[..., None], 3, axis=2)])


def strip_px(width_px: int) -> int:
    """Return how high the strip below a patch is.

    Examples
    --------
    >>> strip_px(1024), strip_px(256), strip_px(100)
    (40, 22, 12)
    """
    return max(12, min(22, width_px // 10), width_px // 25)


def place_legend(tissue: Bool[np.ndarray, "h w"], size_px: tuple[int, int]) -> Legend | None:
    """Find room for the legend on the glass of a slide.

    Parameters
    ----------
    tissue
        Where nothing may be drawn, over the whole slide at any resolution.
    size_px
        Height and width of the slide.

    Returns
    -------
    Legend
        The widest of a few sizes that fits, as low and then as far left as possible; None where
        there is no glass for a legible one.
    """
    rows, columns = tissue.shape
    scale_y, scale_x = size_px[0] / rows, size_px[1] / columns
    sums = cv2.integral(tissue.astype(np.uint8))
    for share in WIDTHS:
        width = min(round(size_px[1] * share), MOST_WIDTH_PX)
        height = width // _ASPECT
        # a cell more on each side, so that rounding never reaches tissue
        high, wide = int(np.ceil(height / scale_y)) + 2, int(np.ceil(width / scale_x)) + 2
        if width < LEAST_WIDTH_PX or high > rows or wide > columns:
            continue
        inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide]
        free = np.argwhere(inside + sums[:-high, :-wide] == 0)
        if len(free):
            lowest = free[free[:, 0] == free[:, 0].max()]
            y, x = lowest[0] + 1
            return Legend(int(y * scale_y), int(x * scale_x), words(width, height))
    return None


def legend_below(size_px: tuple[int, int]) -> Legend:
    """Return the legend for a slide without free glass: it lies below the slide's last row."""
    height, width = size_px
    wide = min(max(round(width * BELOW), LEAST_WIDTH_PX), MOST_WIDTH_PX, width)
    return Legend(height, 0, words(wide, max(12, wide // _ASPECT)))


@functools.cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(file, size_px)


@functools.cache
def _length_at_100() -> float:
    return _font(100).getlength(NOTICE)
