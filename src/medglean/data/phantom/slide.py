"""Synthetic whole slides: pieces of H&E tissue on glass, written tile by tile.

A slide of any size is written in bounded memory: one field of tissue is drawn and repeated with
its mirror images, so that it goes on without seams, and only tiles that cross the edge of a piece
of tissue are drawn for themselves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg
import tifffile
from jaxtyping import Float, UInt8

from medglean.data.phantom import shapes
from medglean.data.phantom.stain import stain_pair
from medglean.data.phantom.writing import NOTE
from medglean.errors import UsageError
from medglean.randomness import numpy_generator

FIELD_PX = 512
"""Side of the field of tissue that is repeated."""
GLASS = 0.95
"""Light through the glass alone, as share of full scale."""
_GRAIN = 0.008  # of the camera, as in the fields
_THUMBNAIL_PX = 768
_OUTLINE_PX = 256  # side of the plane on which the outlines of the tissue are drawn

Vendor = Literal["aperio", "generic"]
Tile = UInt8[np.ndarray, "h w 3"]


def write_slide(
    path: str | Path,
    size_px: tuple[int, int],
    *,
    mpp: float | None = 0.5,
    vendor: Vendor = "aperio",
    level: int = 2,
    seed: int = 0,
    downsamples: tuple[int, ...] = (1, 4, 16),
    tile_px: int = 256,
    quality: int = 85,
) -> Path:
    """Write a whole slide of synthetic H&E tissue as a pyramidal, JPEG-compressed TIFF.

    Parameters
    ----------
    path
        The file, usually ``.svs``; replaced if it exists. BigTIFF where it may exceed 2 GB.
    size_px
        Height and width of level 0. Memory does not depend on it.
    mpp
        Micrometres per pixel of level 0; ``None``: the file does not say.
    vendor
        ``"aperio"``: an SVS, as OpenSlide knows them. ``"generic"``: a plain pyramid.
    level
        HER2 level of the tissue, 0 to 3.
    seed
        Another seed, another slide.
    downsamples
        Of the levels, from 1 up; levels of less than a tile are left out.
    tile_px
        Side of the tiles, a multiple of 16.
    quality
        Of JPEG, 1 to 100.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If a number cannot be.

    Examples
    --------
    >>> write_slide("phantom.svs", (20_000, 20_000))  # doctest: +SKIP
    """
    if min(size_px) < 1 or tile_px < 16 or tile_px % 16 or downsamples[:1] != (1,):
        raise UsageError(
            f"a slide of {size_px} pixels, tiles of {tile_px} px, downsamples {downsamples}: "
            "expected at least 1 x 1 pixels, tiles of a multiple of 16, and downsamples from 1 up."
        )
    path, drawing = Path(path), _Drawing(size_px, level, seed)
    common: dict[str, Any] = {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg"}
    common |= {"dtype": np.uint8, "metadata": None, "software": False}
    kept = [1, *(one for one in downsamples[1:] if max(size_px) // one >= tile_px)]
    with tifffile.TiffWriter(path, bigtiff=math.prod(size_px) > 1 << 31) as file:
        for number, downsample in enumerate(kept):
            height, width = (side // downsample or 1 for side in size_px)
            options: dict[str, Any] = {}
            if vendor == "generic" and mpp is not None:
                per_cm = 10_000 / (mpp * downsample)
                options = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            file.write(
                _encoded(drawing, (height, width), downsample, tile_px, quality),
                shape=(height, width, 3),
                tile=(tile_px, tile_px),
                description=_description(vendor, size_px, (height, width), tile_px, quality, mpp),
                subfiletype=0 if number == 0 or vendor == "aperio" else 1,
                **common,
                **options,
            )
            if number == 0 and vendor == "aperio":  # where readers expect the thumbnail
                small = drawing.small(_THUMBNAIL_PX)
                file.write(
                    iter([_jpeg(small, quality)]),
                    shape=small.shape,
                    rowsperstrip=small.shape[0],
                    description=_description(
                        vendor, size_px, (small.shape[0], small.shape[1]), None, quality, mpp
                    ),
                    **common,
                )
    return path


def _description(
    vendor: Vendor,
    size_px: tuple[int, int],
    level_px: tuple[int, int],
    tile_px: int | None,
    quality: int,
    mpp: float | None,
) -> str:
    """Return the text that tells readers what the file is; for Aperio, in its own notation."""
    if vendor == "generic":
        return NOTE
    (height, width), (h, w) = size_px, level_px
    shrunk = "" if size_px == level_px else f" -> {w}x{h}"
    scale = "" if mpp is None else f"|AppMag = {round(10 / mpp)}|MPP = {mpp:g}"
    tiled = "" if tile_px is None else f" [0,0 {width}x{height}] ({tile_px}x{tile_px})"
    size = f"{width}x{height}{tiled}{shrunk}"
    made = f"JPEG/RGB Q={quality}{scale}|Title = {NOTE}"
    return f"Aperio Image Library v11.2.1 \r\n{size} {made}"


def _encoded(
    drawing: _Drawing, size_px: tuple[int, int], downsample: int, tile_px: int, quality: int
) -> Iterator[bytes]:
    """Yield the tiles of a level as JPEG, row by row; those that repeat are encoded once."""
    kept: dict[tuple[int, ...], bytes] = {}
    for y in range(0, size_px[0], tile_px):
        for x in range(0, size_px[1], tile_px):
            key = drawing.key(y, x, tile_px, downsample)
            data = None if key is None else kept.get(key)
            if data is None:
                tile = drawing.tile(y, x, tile_px, downsample)
                data = _jpeg(tile, quality)
                if key is not None:
                    kept[key] = data
            yield data


def _jpeg(pixels: Tile, quality: int) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420", fastdct=False)
    return data


@dataclass
class _Drawing:
    """Tissue and glass, drawn at any place and shrinking without the rest of the slide."""

    size_px: tuple[int, int]
    level: int
    seed: int
    _fields: dict[int, Tile] = field(default_factory=dict)

    @functools.cached_property
    def outline(self) -> Float[np.ndarray, "h w"]:
        """Return a small plane, over the whole slide, that is above 0 in pieces of tissue."""
        rng = numpy_generator(self.seed, "slide-outline")
        u, v = shapes.grid((_OUTLINE_PX, _OUTLINE_PX))
        pieces = np.full(u.shape, -1.0)
        for centre in ((-0.40, -0.05), (0.45, 0.10)):
            at = shapes.moved(u, v, angle=rng.uniform(-0.6, 0.6), scale=1.0, at=centre)
            half_u, half_v = rng.uniform(0.28, 0.36), rng.uniform(0.55, 0.75)
            pieces = np.maximum(pieces, shapes.ellipse(*at, half_u, half_v))
        rough = 0.25 * shapes.fractal_noise(rng, u.shape, 10, octaves=3)
        return np.asarray(pieces + rough, dtype=np.float32)

    def field(self, downsample: int) -> Tile:
        """Return the field of tissue, shrunk."""
        if downsample not in self._fields:
            whole, _ = stain_pair(self.seed, 0, level=self.level, size_px=(FIELD_PX, FIELD_PX))
            side = max(1, FIELD_PX // downsample)
            self._fields[downsample] = np.asarray(
                whole
                if downsample == 1
                else cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA)
            )
        return self._fields[downsample]

    def tissue(self, y: int, x: int, side: int, downsample: int) -> Float[np.ndarray, "h w"]:
        """Return the share of tissue, 0 to 1, in a square of a level."""
        scale = [_OUTLINE_PX * downsample / length for length in self.size_px]
        rows = ((np.arange(y, y + side) + 0.5) * scale[0] - 0.5).astype(np.float32)
        columns = ((np.arange(x, x + side) + 0.5) * scale[1] - 0.5).astype(np.float32)
        grid = np.broadcast_to(columns, (side, side)), np.broadcast_to(rows[:, None], (side, side))
        height = cv2.remap(
            self.outline,
            np.ascontiguousarray(grid[0]),
            np.ascontiguousarray(grid[1]),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return shapes.ramp(np.asarray(height, np.float64), 0.02)

    def key(self, y: int, x: int, side: int, downsample: int) -> tuple[int, ...] | None:
        """Return what a square looks like, where others look the same; ``None`` at an edge."""
        around = self.tissue(y, x, side, downsample)
        if around.max() == 0:
            return (0, (y // side * 7 + x // side * 3) % 8)
        period = 2 * self.field(downsample).shape[0]
        if around.min() == 1 and side < period:
            return (1, y % period, x % period)
        return None

    def tile(self, y: int, x: int, side: int, downsample: int) -> Tile:
        """Draw a square of a level."""
        share = self.tissue(y, x, side, downsample)
        rng = numpy_generator(self.seed, "slide-glass", (y // side * 7 + x // side * 3) % 8)
        noise = rng.standard_normal((side, side, 3)) * (_GRAIN / downsample)
        glass = GLASS + noise
        if share.max() == 0:
            return shapes.to_uint8(glass)
        drawn = self.field(downsample)
        rows, columns = (_mirrored(np.arange(at, at + side), drawn.shape[0]) for at in (y, x))
        light = drawn[rows[:, None], columns[None, :]] / 255
        return shapes.to_uint8(glass + share[:, :, None] * (light - glass))

    def small(self, longest_px: int) -> Tile:
        """Draw the whole slide with at most so many pixels along its longer side."""
        downsample = -(-max(self.size_px) // longest_px)
        height, width = (max(1, side // downsample) for side in self.size_px)
        return np.ascontiguousarray(
            self.tile(0, 0, max(height, width), downsample)[:height, :width]
        )


def _mirrored(places: np.ndarray, period: int) -> np.ndarray:
    """Return where along a field that is repeated with its mirror image places lie.

    Examples
    --------
    >>> _mirrored(np.arange(7), 3).tolist()
    [0, 1, 2, 2, 1, 0, 0]
    """
    inside = places % (2 * period)
    return np.where(inside < period, inside, 2 * period - 1 - inside)
