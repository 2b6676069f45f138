"""Where the tiles of a slide lie: cores that partition it, windows that overlap, how they blend.

Everything is on a grid that begins at the slide's first pixel and whose step is a multiple of the
network's stride, so that a tile's pixels are halved in the same pairs as those of the whole slide.
Along one axis, with tiles of side t, an overlap v and a feather of f pixels:

- the *core* of tile n is t n to t (n + 1); cores partition the slide;
- its *extent* is t n to t (n + 1) + f, what it writes; where two extents meet, over the first f
  pixels of a core, the weight of the earlier tile falls as that of the later one rises;
- its *window* is t n - v to t (n + 1) + w, what the network is given; w is the overlap after it.

At the slide's border windows end, and the network pads with zeros as it does for a whole slide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medglean.errors import UsageError

TIFF_STEP_PX = 16
"""Sides of tiles in a TIFF file are multiples of this."""
LARGEST_FILE_TILE_PX = 256


class Box(NamedTuple):
    """A rectangle of pixels: rows y0 to y1, columns x0 to x1, the ends not included."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Return the slices that cut this box out of an array of ``outer``."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


def rounded_up(length: int, step: int) -> int:
    """Return the smallest multiple of ``step`` that is not below ``length``.

    Examples
    --------
    >>> rounded_up(33, 16), rounded_up(32, 16), rounded_up(0, 16)
    (48, 32, 0)
    """
    return -(-length // step) * step


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one slide; build it with `plan_tiles`.

    Attributes
    ----------
    slide_px
        Height and width of what is stained.
    canvas_px
        Height and width of what is written; higher than the slide where the legend lies below it.
    tile_px
        Side of a core.
    overlap_px
        How far a window reaches beyond its core, before and after it.
    feather_px
        Width over which neighbours are blended.
    stride_px
        What sides of windows are multiples of.
    """

    slide_px: tuple[int, int]
    canvas_px: tuple[int, int]
    tile_px: int
    overlap_px: tuple[int, int]
    feather_px: int
    stride_px: int

    @property
    def padded_px(self) -> tuple[int, int]:
        """The slide's size, rounded up to the stride."""
        height, width = (rounded_up(side, self.stride_px) for side in self.slide_px)
        return height, width

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.canvas_px[0] // self.tile_px)

    @property
    def columns(self) -> int:
        """Columns of tiles."""
        return -(-self.canvas_px[1] // self.tile_px)

    @property
    def file_tile_px(self) -> int:
        """Side of a tile in the file: a power of two that divides the side of a core.

        Examples
        --------
        >>> plan_tiles((600, 500), tile_px=96, stride_px=16, reach_px=20).file_tile_px
        32
        """
        return math.gcd(self.tile_px, LARGEST_FILE_TILE_PX)

    def core(self, row: int, column: int) -> Box:
        """Return a core, cut at the end of the canvas."""
        return self._box(row, column, 0, self.canvas_px)

    def extent(self, row: int, column: int) -> Box:
        """Return what a tile writes: its core, and the feather after it."""
        return self._box(row, column, self.feather_px, self.canvas_px)

    def core_of_tokens(self, row: int, column: int) -> Box:
        """Return a core cut at the end of the padded slide: these partition what a network sees."""
        return self._box(row, column, 0, self.padded_px)

    def window(self, row: int, column: int, *, overlap_px: tuple[int, int] | None = None) -> Box:
        """Return what the network is given, within the padded slide.

        Parameters
        ----------
        row, column
            Of the tile.
        overlap_px
            Where another one is wanted: multiples of the stride.
        """
        before, after = self.overlap_px if overlap_px is None else overlap_px
        height, width = self.padded_px
        y, x = row * self.tile_px, column * self.tile_px
        return Box(
            max(0, y - before),
            min(height, y + self.tile_px + after),
            max(0, x - before),
            min(width, x + self.tile_px + after),
        )

    def on_slide(self, row: int, column: int) -> bool:
        """Say whether any pixel of a tile's core is of the slide, not of a legend below it."""
        y, x = row * self.tile_px, column * self.tile_px
        return y < self.slide_px[0] and x < self.slide_px[1]

    def _box(self, row: int, column: int, more: int, end: tuple[int, int]) -> Box:
        y, x = row * self.tile_px, column * self.tile_px
        return Box(y, min(y + self.tile_px + more, end[0]), x, min(x + self.tile_px + more, end[1]))


def plan_tiles(
    slide_px: tuple[int, int],
    *,
    tile_px: int,
    stride_px: int,
    reach_px: int,
    overlap_px: int | None = None,
    feather_px: int = 0,
    below_px: int = 0,
) -> TilePlan:
    """Lay tiles over a slide.

    Parameters
    ----------
    slide_px
        Height and width.
    tile_px
        Side of a core; rounded up to a multiple of the stride and of 16, as TIFF wants it.
    stride_px
        What the network's input must be a multiple of.
    reach_px
        How far a pixel of its output sees.
    overlap_px
        How far windows reach into their neighbours, rounded up to the stride; by default as far as
        the network sees from the end of the feather.
    feather_px
        Width over which neighbours are blended.
    below_px
        Rows that are written below the slide.

    Raises
    ------
    UsageError
        If the feather is wider than the overlap or than a tile: its pixels would not be generated.
    """
    tile_px = rounded_up(tile_px, math.lcm(stride_px, TIFF_STEP_PX))
    if overlap_px is None:  # the feather lies behind the core, so what it sees is farther there
        before, after = reach_px, reach_px + feather_px
    else:
        before = after = overlap_px
    overlap = rounded_up(before, stride_px), rounded_up(after, stride_px)
    if feather_px > min(overlap[1], tile_px):
        raise UsageError(
            f"slide.feather_px is {feather_px}, wider than the overlap of {overlap[1]} or the tile "
            f"of {tile_px}. Set a larger slide.overlap_px, or a smaller slide.feather_px."
        )
    height, width = slide_px
    canvas = (height + below_px, width)
    return TilePlan((height, width), canvas, tile_px, overlap, feather_px, stride_px)


def ramp(feather_px: int) -> Float[np.ndarray, " f"]:
    """Return the weight of the later of two tiles over the pixels where both are, rising.

    The earlier one has the rest up to 1. No pixel has weight 0 or 1: the first has half a step.

    Examples
    --------
    >>> ramp(4).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    return ((np.arange(feather_px) + 0.5) / max(feather_px, 1)).astype(np.float32)
