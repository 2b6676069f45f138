"""A pyramid of tiles, written in one pass from its largest level.

Pixels come in blocks that consist of whole tiles. Each tile is halved into a quarter of the tile
below it, as soon as it is there; that one is complete with its fourth quarter, and so on. Of every
level at most one row of tiles is incomplete, so memory grows with the width of a level and not
with its area. Encoded tiles are appended to one file in the order in which they became complete,
whatever the level (see `medglean.stain.slide.bigtiff`).

Encoding runs in threads; what they return is appended in the order in which it was given to them,
so the same pixels make the same bytes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

from medglean.runs.disk import told
from medglean.stain.slide.bigtiff import Compression, TiffLevel, empty_header
from medglean.stain.slide.encode import encode_jpeg, encode_tile, halved, padded
from medglean.stain.slide.folder import PartFolder

TILES, DEEP, INDEX = "tiles.dat", "deep-zoom.dat", "tiles.idx"
"""Tiles of the TIFF; those of Deep Zoom that are not the same; where each lies."""
ENTRY = np.dtype(
    [("deep", "<u1"), ("level", "<u1"), ("y", "<u4"), ("x", "<u4"), ("at", "<u8"), ("bytes", "<u4")]
)
WAITING = 64
"""Encoded tiles that may wait to be appended."""
WHITE = 255

Pixels = UInt8[np.ndarray, "h w 3"]
Key = tuple[int, int, int]
"""Level, and the tile's row and column in it."""


def level_sizes(size_px: tuple[int, int], last_px: int) -> list[tuple[int, int]]:
    """Return the sizes of levels, each half the one before, until one fits into ``last_px``.

    Examples
    --------
    >>> level_sizes((600, 500), 256)
    [(600, 500), (300, 250), (150, 125)]
    """
    sizes = [size_px]
    while max(sizes[-1]) > last_px:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


class PyramidWriter:
    """Takes blocks of pixels and appends tiles to a `PartFolder`.

    Parameters
    ----------
    folder
        Of the rendering.
    size_px
        Height and width of the largest level.
    tile_px
        Side of tiles, even.
    compression, quality
        Of the tiles of the TIFF; ``quality`` is that of JPEG, for Deep Zoom, too.
    deep_zoom
        Whether there will be a Deep Zoom image: it needs tiles that are cut at the border, and
        levels down to one pixel.
    threads
        That encode.
    """

    def __init__(
        self,
        folder: PartFolder,
        *,
        size_px: tuple[int, int],
        tile_px: int,
        compression: Compression = "jpeg",
        quality: int = 90,
        deep_zoom: bool = False,
        threads: int = 2,
    ) -> None:
        self.folder, self.tile_px = folder, tile_px
        self.compression, self.quality, self.deep_zoom = compression, quality, deep_zoom
        self.sizes = level_sizes(size_px, 1 if deep_zoom else tile_px)
        self.tiff_levels = len(level_sizes(size_px, tile_px))
        self._tiles, self._deep = folder.append_to(TILES), folder.append_to(DEEP)
        self._index = folder.append_to(INDEX)
        self._parents: dict[Key, tuple[Pixels, int]] = {}
        self._waiting: deque[tuple[bool, Key, Future[bytes]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._white: dict[tuple[bool, tuple[int, ...]], Future[bytes]] = {}
        if self._tiles.tell() == 0:
            self._tiles.write(empty_header())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, y: int, x: int, block: Pixels) -> None:
        """Take pixels of the largest level.

        Parameters
        ----------
        y, x
            Of the first pixel; multiples of the side of tiles.
        block
            As many whole tiles, or up to the border.

        Raises
        ------
        RunFolderError
            If the disk is full; what was committed stays.
        """
        side = self.tile_px
        for top in range(0, block.shape[0], side):
            for left in range(0, block.shape[1], side):
                tile = block[top : top + side, left : left + side]
                self._take((0, (y + top) // side, (x + left) // side), tile)

    def _take(self, key: Key, tile: Pixels) -> None:
        """Encode a complete tile, and put it into the one below."""
        level, row, column = key
        if level < self.tiff_levels:
            self._encode(key, padded(tile, self.tile_px), deep=False)
        if self.deep_zoom and not self._shared(level, tile):
            self._encode(key, tile, deep=True)
        self._append(WAITING)
        if level + 1 == len(self.sizes):
            return
        parent = level + 1, row // 2, column // 2
        height, width = self._tile_size(parent)
        if parent not in self._parents:
            self._parents[parent] = np.empty((height, width, 3), np.uint8), 0
        pixels, filled = self._parents[parent]
        quarter = halved(tile)
        top, left = (row % 2) * self.tile_px // 2, (column % 2) * self.tile_px // 2
        pixels[top : top + quarter.shape[0], left : left + quarter.shape[1]] = quarter
        filled += quarter.shape[0] * quarter.shape[1]
        self._parents[parent] = pixels, filled
        if filled == height * width:
            del self._parents[parent]
            self._take(parent, pixels)

    def _shared(self, level: int, tile: Pixels) -> bool:
        """Say whether Deep Zoom takes a tile of the TIFF as it is."""
        whole = tile.shape[:2] == (self.tile_px, self.tile_px)
        return whole and self.compression == "jpeg" and level < self.tiff_levels

    def _tile_size(self, key: Key) -> tuple[int, int]:
        height, width = self.sizes[key[0]]
        side = self.tile_px
        return min(side, height - key[1] * side), min(side, width - key[2] * side)

    def _encode(self, key: Key, tile: Pixels, *, deep: bool) -> None:
        future = self._white.get((deep, tile.shape))
        if future is None or tile.min() != WHITE:
            # a copy: the caller goes on with its block
            future = self._pool.submit(self._encoded, tile.copy(), deep)
            if tile.min() == WHITE:
                self._white[deep, tile.shape] = future
        self._waiting.append((deep, key, future))

    def _encoded(self, tile: Pixels, deep: bool) -> bytes:
        if deep:
            return encode_jpeg(tile, self.quality)
        return encode_tile(tile, self.compression, self.quality)

    def _append(self, waiting: int) -> None:
        """Write what is encoded, in order, until no more than so many wait."""
        while self._waiting and (len(self._waiting) > waiting or self._waiting[0][2].done()):
            deep, (level, row, column), future = self._waiting.popleft()
            data, file = future.result(), self._deep if deep else self._tiles
            entry = np.array([(deep, level, row, column, file.tell(), len(data))], ENTRY)
            with told(self.folder.path):
                file.write(data)
                self._index.write(entry.tobytes())

    def drain(self) -> None:
        """Wait until all that was taken is written, so that the folder can be committed."""
        self._append(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the incomplete tiles, for going on later."""
        kept = {}
        for (level, row, column), (pixels, filled) in self._parents.items():
            # the rest is empty memory, which would not be the same twice
            kept[f"tile.{level}.{row}.{column}.{filled}"] = pixels
        return kept

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with incomplete tiles from `arrays`."""
        for name, pixels in arrays.items():
            kind, *numbers = name.split(".")
            if kind == "tile":
                level, row, column, filled = map(int, numbers)
                self._parents[level, row, column] = pixels, filled


def read_index(folder: Path) -> np.ndarray:
    """Return where each tile lies: an array of `ENTRY`."""
    return np.fromfile(folder / INDEX, ENTRY)


def levels_of(
    index: np.ndarray, sizes: list[tuple[int, int]], tile_px: int, *, deep: bool = False
) -> list[TiffLevel]:
    """Return levels with the places of their tiles; length 0 for what is not in that file.

    Raises
    ------
    ValueError
        If a tile of the TIFF is missing: a fault of the program.
    """
    levels = []
    for number, (height, width) in enumerate(sizes):
        rows, columns = -(-height // tile_px), -(-width // tile_px)
        mine = index[(index["level"] == number) & (index["deep"] == deep)]
        place = mine["y"].astype(np.int64) * columns + mine["x"]
        offsets, lengths = np.zeros((2, rows * columns), np.uint64)
        offsets[place], lengths[place] = mine["at"], mine["bytes"]
        if not deep and not lengths.all():
            missing = int((lengths == 0).sum())
            raise ValueError(f"level {number} lacks {missing} of {len(lengths)} tiles.")
        levels.append(TiffLevel((height, width), offsets, lengths))
    return levels
