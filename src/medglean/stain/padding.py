"""Sides that a network can take: images are mirrored at their borders, and cut back after."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def padded(
    images: Float[Tensor, "b 3 h w"], stride: int
) -> tuple[Float[Tensor, "b 3 H W"], tuple[slice, slice]]:
    """Mirror images at their borders until the stride fits; return also where they lie within.

    Any side can be mirrored to any length: where the mirror image ends, it is mirrored again.
    """
    places, inside = [], []
    for side in images.shape[2:]:
        extra = -side % stride
        before = extra // 2
        inside.append(slice(before, before + side))
        places.append(_mirrored(np.arange(-before, side + extra - before), side))
    rows, columns = (torch.from_numpy(place).to(images.device) for place in places)
    if images.shape[2] < len(rows):
        images = images.index_select(2, rows)
    if images.shape[3] < len(columns):
        images = images.index_select(3, columns)
    return images, (inside[0], inside[1])


def _mirrored(place: Int[np.ndarray, " m"], side: int) -> Int[np.ndarray, " m"]:
    """Return which of ``side`` pixels stands at a place beyond them; the border is not doubled."""
    period = max(1, 2 * (side - 1))
    turned: np.ndarray = (side - 1) - np.abs(np.mod(place, period) - (side - 1))
    return turned
