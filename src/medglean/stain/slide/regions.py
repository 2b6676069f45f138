"""DAB-positive regions of a virtual slide as GeoJSON, found while the slide is generated.

Pixels are gathered into square cells of about four micrometres; a cell is positive where half of
its pixels are. Rows of cells come from the top down. Regions that cannot grow any more are outlined
and written; of the others only the cells are kept, and not too many rows of these. What is written
can be dragged onto the slide in QuPath: annotations in pixels of the largest level.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from medglean.stain.optics import optical_density, stain_vectors
from medglean.stain.slide.outlines import Outline, outlines

CELL_UM = 4.0
MOST_CELLS = 4096
"""Along a side of a slide; cells are larger where there would be more."""
MOST_ROWS = 256
"""Rows of cells that are kept: a region that is higher is cut there, into regions that touch."""
CLASS = "DAB positive (synthetic)"
COLOUR = (166, 84, 38)
_NAMES = uuid.UUID("5f0ad2c6-5b0e-4d5c-9d35-6f8a3a0f1f58")
"""Names of regions are made from this and from their outlines, so that they are the same twice."""


class DabTables:
    """Optical density of DAB from 8-bit pixels: a sum of one table a channel.

    Parameters
    ----------
    white
        Share of full scale that glass has in each channel.
    """

    def __init__(self, white: Float32[np.ndarray, " 3"]) -> None:
        grey = np.arange(256, dtype=np.uint8)
        od = optical_density(np.broadcast_to(grey, (3, 1, 256)), white)[:, 0]
        self._tables = (np.linalg.inv(stain_vectors("h-dab"))[:, 1:2] * od).astype(np.float32)

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
        """Return the density, as `medglean.stain.optics.dab_density` has it."""
        red, green, blue = (
            table[pixels[..., channel]] for channel, table in enumerate(self._tables)
        )
        density: np.ndarray = red + green
        density += blue
        return density


def cell_px(mpp: float, tile_px: int, size_px: tuple[int, int]) -> int:
    """Return the side of a cell: a power of two that divides that of a tile.

    Examples
    --------
    >>> cell_px(0.25, 1024, (20000, 20000)), cell_px(0.25, 1024, (100000, 80000))
    (16, 32)
    """
    side, longest = 1, max(size_px)
    while tile_px % (side * 2) == 0 and (
        side * 2 <= 1.5 * CELL_UM / mpp or longest / side > MOST_CELLS
    ):
        side *= 2
    return side


def cells_of(positive: Bool[np.ndarray, "h w"], side_px: int) -> Bool[np.ndarray, "y x"]:
    """Return the cells of which at least half is positive; those at the border may be cut.

    Examples
    --------
    >>> cells_of(np.array([[True, False, False], [True, False, True]]), 2).tolist()
    [[True, True]]
    """
    if side_px == 1:
        return positive
    height, width = positive.shape
    starts = np.arange(0, height, side_px), np.arange(0, width, side_px)
    counts = np.add.reduceat(positive, starts[1], axis=1, dtype=np.int32)
    counts = np.add.reduceat(counts, starts[0], axis=0)
    rows, columns = np.diff(starts[0], append=height), np.diff(starts[1], append=width)
    enough: np.ndarray = 2 * counts >= rows[:, None] * columns
    return enough


class RegionFinder:
    """Finds regions while rows of cells come in, and appends them as lines of JSON.

    Parameters
    ----------
    into
        Takes a feature of GeoJSON a line.
    size_px
        Height and width of the slide.
    side_px
        Of a cell.
    mpp
        Micrometres per pixel along y and x.
    smallest_um2
        Smaller regions are left out.

    Attributes
    ----------
    count
        Regions written.
    """

    def __init__(
        self,
        into: IO[bytes],
        *,
        size_px: tuple[int, int],
        side_px: int,
        mpp: tuple[float, float],
        smallest_um2: float,
    ) -> None:
        self.into, self.size_px, self.side_px = into, size_px, side_px
        self.cell_um2 = side_px**2 * mpp[0] * mpp[1]
        self.smallest_cells = smallest_um2 / self.cell_um2
        self.count = 0
        self._top = 0
        self._open = np.zeros((0, -(-size_px[1] // side_px)), np.uint8)

    def add(self, cells: Bool[np.ndarray, "y x"]) -> None:
        """Take the next rows of cells, over the whole width."""
        rows = np.concatenate([self._open, cells.astype(np.uint8)])
        kinds, labels, stats, _ = cv2.connectedComponentsWithStats(rows, connectivity=4)
        growing = np.zeros(kinds, bool)
        if len(self._open) < MOST_ROWS:
            growing[labels[-1]] = True
            growing[0] = False
        self._write(labels, stats, ~growing)
        still = growing[labels]
        first = int(still.any(axis=1).argmax()) if growing.any() else len(still)
        self._open, self._top = still[first:].view(np.uint8), self._top + first

    def end(self) -> None:
        """Write what is left, at the lower border of the slide."""
        if len(self._open):
            kinds, labels, stats, _ = cv2.connectedComponentsWithStats(self._open, connectivity=4)
            self._write(labels, stats, np.ones(kinds, bool))
        self._top, self._open = self._top + len(self._open), self._open[:0]

    def _write(self, labels: np.ndarray, stats: np.ndarray, chosen: np.ndarray) -> None:
        """Write the chosen regions that are large enough."""
        areas = stats[:, cv2.CC_STAT_AREA]
        chosen = chosen & (areas >= self.smallest_cells)
        chosen[0] = False
        if not chosen.any():
            return
        for label, outline in outlines(labels, chosen).items():
            self.into.write(self._feature(outline, float(areas[label]) * self.cell_um2) + b"\n")
            self.count += 1

    def _feature(self, outline: Outline, area_um2: float) -> bytes:
        height, width = self.size_px
        side, top = self.side_px, self._top
        rings = [
            [[min(x * side, width), min((y + top) * side, height)] for x, y in ring]
            for ring in (outline.outer, *outline.holes)
        ]
        name = json.dumps(rings, separators=(",", ":"))
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMES, name)),
            "geometry": {"type": "Polygon", "coordinates": rings},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": CLASS, "color": list(COLOUR)},
                "measurements": {"Area um^2": round(area_um2, 2)},
            },
        }
        return json.dumps(feature, separators=(",", ":")).encode()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is needed to go on later."""
        return {"regions.open": self._open, "regions.state": np.array([self._top, self.count])}

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on with what `arrays` returned."""
        if "regions.open" in arrays:
            self._open = arrays["regions.open"]
            self._top, self.count = map(int, arrays["regions.state"])


def write_collection(lines: Path, out: Path, *, notice: str) -> None:
    """Write lines of features as one GeoJSON file.

    Parameters
    ----------
    lines
        A feature a line.
    out
        The file to write; it is not durable before its folder is synced.
    notice
        Stands beside the features.
    """
    with lines.open("rb") as features, out.open("wb") as file:
        head = json.dumps({"type": "FeatureCollection", "notice": notice})
        file.write(head[:-1].encode() + b', "features": [')
        for number, line in enumerate(features):
            file.write((b"\n" if number == 0 else b",\n") + line.rstrip(b"\n"))
        file.write(b"\n]}\n")
