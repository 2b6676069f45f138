"""Which pixels of a map count."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from medglean.data.foreground import Inside, check_finite_images

Maps = Float[np.ndarray, "n h w"]
"""One value per pixel; larger is more anomalous."""


def pixels_inside(maps: Maps, inside: Inside | None) -> Inside:
    """Return which pixels count: those of the mask, or all.

    Raises
    ------
    ValueError
        If the shapes differ, or a value that counts is NaN or infinite.
    """
    where = np.ones(maps.shape, dtype=bool) if inside is None else inside
    if where.shape != maps.shape:
        raise ValueError(f"maps have shape {maps.shape}, the mask {where.shape}: expected one.")
    check_finite_images(maps=np.where(where, maps, 0))
    return where
