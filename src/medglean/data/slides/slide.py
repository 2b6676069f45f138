"""A whole slide: a pyramid of levels of which regions are read, whatever file is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

BLOCK_PX = 1024
"""Side of the squares in which a level is gone through."""

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    size_px
        Height and width.
    downsample
        Pixels of level 0 along one pixel of this level: the mean over both axes.
    """

    size_px: tuple[int, int]
    downsample: float


class Source(Protocol):
    """What decodes the pixels of a slide. Reading must be safe from several threads."""

    def rgba(self, level: int, x: int, y: int, w: int, h: int) -> UInt8[np.ndarray, "h w c"]:
        """Return a region that lies inside its level: 3 channels, or 4 with straight alpha."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@dataclass(frozen=True)
class Slide:
    """An open slide; a context manager. Regions may be read from several threads.

    Attributes
    ----------
    path
        The file as the caller named it.
    backend
        What reads it: ``"openslide"``, ``"tifffile"``, ``"picture"`` (a PNG or JPEG, held whole),
        or ``"array"``.
    levels
        From the largest down; at least one.
    mpp
        Micrometres per pixel of level 0, along y and x; ``None`` where the file does not say.
    vendor
        What kind of slide: ``"aperio"``, ``"hamamatsu"``, ``"mirax"``, ``"dicom"``, ...,
        ``"generic-tiff"``, ``"ome"``, ``"png"``, ``"jpeg"``.
    properties
        What the file says of itself, as text. It may name a patient or a user.
    """

    path: Path
    backend: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    vendor: str
    source: Source = field(repr=False)
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return self.levels[0].size_px

    def read(self, level: int, x: int, y: int, w: int, h: int) -> Pixels:
        """Read a region; see :meth:`read_covered`."""
        return self.read_covered(level, x, y, w, h)[0]

    def read_covered(
        self, level: int, x: int, y: int, w: int, h: int
    ) -> tuple[Pixels, Bool[np.ndarray, "h w"]]:
        """Read a region, and tell which of its pixels the slide has.

        Parameters
        ----------
        level
            Number of the level, 0 the largest.
        x, y
            Left and upper edge in pixels of that level; may lie outside.
        w, h
            Width and height in pixels of that level.

        Returns
        -------
        tuple
            Red, green, blue in 0..255, with what is transparent or beyond the border in white;
            and where the slide has a pixel: False beyond the border and where the scanner
            recorded nothing.

        Raises
        ------
        ReadError
            If the pixels cannot be decoded.
        ValueError
            If there is no such level, or the region has no pixel.
        """
        if not 0 <= level < len(self.levels):
            raise ValueError(f"level {level}: {self.path} has levels 0 to {len(self.levels) - 1}.")
        if w < 1 or h < 1:
            raise ValueError(f"a region of {w} x {h} pixels: expected at least 1 x 1.")
        height, width = self.levels[level].size_px
        left, top = min(max(x, 0), width), min(max(y, 0), height)
        right, bottom = min(max(x + w, left), width), min(max(y + h, top), height)
        if right == left or bottom == top:
            return np.full((h, w, 3), 255, np.uint8), np.zeros((h, w), dtype=bool)
        raw = self.source.rgba(level, left, top, right - left, bottom - top)
        pixels, covered = over_white(raw)
        if (right - left, bottom - top) == (w, h):
            return pixels, covered
        inside = np.s_[top - y : bottom - y, left - x : right - x]
        whole, where = np.full((h, w, 3), 255, np.uint8), np.zeros((h, w), dtype=bool)
        whole[inside], where[inside] = pixels, covered
        return whole, where

    def best_level(self, downsample: float) -> int:
        """Return the smallest level that is shrunk at most so many times."""
        fitting = [k for k, one in enumerate(self.levels) if one.downsample <= downsample * 1.001]
        return max(fitting, key=lambda k: self.levels[k].downsample, default=0)

    def thumbnail(self, longest_px: int) -> Pixels:
        """Return the whole slide, shrunk so that its longer side has at most so many pixels.

        Every pixel of the level it is made from counts (a mean over areas). That level is read in
        blocks, so that the memory does not grow with it; a slide without a small level takes as
        long as reading all of it.
        """
        from medglean.data.slides.shrink import shrunk

        return shrunk(self, longest_px)

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def over_white(
    raw: UInt8[np.ndarray, "h w c"],
) -> tuple[Pixels, Bool[np.ndarray, "h w"]]:
    """Lay red, green, blue and straight alpha over white; tell where alpha is not 0.

    Examples
    --------
    >>> half = np.array([[[0, 100, 255, 128]]], np.uint8)
    >>> over_white(half)[0].tolist()
    [[[127, 177, 255]]]
    """
    if raw.shape[2] == 3:
        return raw, np.ones(raw.shape[:2], dtype=bool)
    alpha = raw[:, :, 3]
    pixels = np.asarray(cv2.cvtColor(raw, cv2.COLOR_RGBA2RGB), np.uint8)
    if alpha.min() == 255:
        return pixels, np.ones(raw.shape[:2], dtype=bool)
    share = alpha[:, :, None].astype(np.float32) / 255
    mixed = pixels * share + 255 * (1 - share)
    return np.rint(mixed).astype(np.uint8), alpha > 0


def levels_of(sizes: list[tuple[int, int]]) -> tuple[Level, ...]:
    """Return levels from their heights and widths, the largest first."""
    height, width = sizes[0]
    return tuple(
        Level((h, w), 1.0 if k == 0 else (height / h + width / w) / 2)
        for k, (h, w) in enumerate(sizes)
    )


class ArraySource:
    """Pixels in memory, a level each."""

    def __init__(self, levels: list[Pixels]) -> None:
        self._levels = levels

    def rgba(self, level: int, x: int, y: int, w: int, h: int) -> UInt8[np.ndarray, "h w c"]:
        """Return a copy of a region."""
        return self._levels[level][y : y + h, x : x + w].copy()

    def close(self) -> None:
        """Forget the pixels."""
        self._levels = []


def slide_of(
    pixels: Pixels, *, name: str | Path = "array", mpp: tuple[float, float] | None = None
) -> Slide:
    """Return an image in memory as a slide of one level.

    Examples
    --------
    >>> slide_of(np.zeros((20, 30, 3), np.uint8)).size_px
    (20, 30)
    """
    size_px = (int(pixels.shape[0]), int(pixels.shape[1]))
    return Slide(Path(name), "array", levels_of([size_px]), mpp, "array", ArraySource([pixels]))
