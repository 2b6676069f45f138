"""Neighbouring tiles faded into one another, with no more kept than what is still to be blended."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from medglean.stain.slide.plan import TilePlan, ramp


class Blender:
    """Takes the extents of tiles, row by row and left to right, and gives finished cores.

    Two strips are kept: the columns to the right of the newest tile, and the rows below the newest
    row of tiles. The latter is what a rendering that was stopped after a row needs to go on.

    Parameters
    ----------
    plan
        Where tiles lie.

    Attributes
    ----------
    below
        float32, shape (feather, width, 3): weighted sums of the tiles above, for the next row.
    """

    def __init__(self, plan: TilePlan) -> None:
        self.plan = plan
        feather, width = plan.feather_px, plan.canvas_px[1]
        self.below: Float[np.ndarray, "f w 3"] = np.zeros((feather, width, 3), np.float32)
        self._next = np.zeros_like(self.below)
        self._right = np.zeros((plan.tile_px + feather, feather, 3), np.float32)
        self._ramp = ramp(feather)

    def add(
        self, row: int, column: int, image: Float[np.ndarray, "h w 3"] | None
    ) -> Float[np.ndarray, "y x 3"]:
        """Blend a tile in and return its core, to which nothing will be added.

        Parameters
        ----------
        row, column
            Of the tile, in order; none may be left out.
        image
            What the network made of its extent, float32; changed in place. None where the tile
            has nothing to show: 0.

        Returns
        -------
        ndarray
            Values of ``image`` blended with those of its neighbours; a view.
        """
        plan, extent, core = self.plan, self.plan.extent(row, column), self.plan.core(row, column)
        height, width = extent.size_px
        done_y, done_x = core.size_px
        if image is None:
            image = np.zeros((height, width, 3), np.float32)
        else:
            self._weigh(row, column, image)
        if column > 0:
            strip = self._right[:height, : min(plan.feather_px, width)]
            image[:, : strip.shape[1]] += strip
        rows = min(plan.feather_px, done_y)
        image[:rows, :done_x] += self.below[:rows, core.x0 : core.x1]
        if plan.feather_px:
            self._right[:height, : width - done_x] = image[:, done_x:]
            self._next[: height - done_y, core.x0 : core.x1] = image[done_y:, :done_x]
        return image[:done_y, :done_x]

    def end_row(self) -> None:
        """Go on to the next row of tiles."""
        self.below, self._next = self._next, self.below
        self._next[:] = 0

    def _weigh(self, row: int, column: int, image: Float[np.ndarray, "h w 3"]) -> None:
        """Let a tile fade in where one was before it, and out where one comes after."""
        plan = self.plan
        tile, feather = plan.tile_px, plan.feather_px
        height, width = image.shape[:2]
        rise_y = self._ramp[: min(feather, height), None, None]
        rise_x = self._ramp[: min(feather, width), None]
        if row > 0:
            image[:feather] *= rise_y
        if column > 0:
            image[:, :feather] *= rise_x
        if height > tile:
            image[tile:] *= 1 - self._ramp[: height - tile, None, None]
        if width > tile:
            image[:, tile:] *= 1 - self._ramp[: width - tile, None]
