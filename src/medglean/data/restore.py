"""The way back: from a map on a network's grid to the grid of the picture that it was made from.

The inverse of :mod:`medglean.data.resize`, with the same convention: pixel centres lie at
half-integers. What the recipe put around the picture is cut off. What it cut off from the picture
was never looked at, and comes back as NaN, which says so; a map of zeros would say "healthy there".
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from medglean.data.recipe import Recipe
from medglean.data.resize import geometry
from medglean.errors import DataError


def restore(
    prepared: Float[np.ndarray, "h w"],
    shape_px: tuple[int, int],
    recipe: Recipe,
    *,
    outside: float = math.nan,
) -> Float[np.ndarray, "y x"]:
    """Bring a map from the grid of prepared images back to the grid of its picture.

    Interpolated linearly; at the rim of what the network saw the nearest value is taken, so that
    nothing of the padding comes in. Where the recipe reduced the picture, the fine structure is
    gone for good and a map is smooth there.

    Parameters
    ----------
    prepared
        Values of any range, of shape ``recipe.size_px``.
    shape_px
        Height and width of the picture as it was read.
    recipe
        What prepared the picture.
    outside
        Value of the pixels that the recipe cut off.

    Returns
    -------
    ndarray
        float32 of shape ``shape_px``.

    Raises
    ------
    DataError
        If the map is not on the recipe's grid, or ``shape_px`` has a side below 1.

    Examples
    --------
    >>> recipe = Recipe(size_px=(1, 2), resize="centre")
    >>> restore(np.array([[3.0, 5.0]], np.float32), (1, 4), recipe)
    array([[nan,  3.,  5., nan]], dtype=float32)
    """
    if prepared.shape != recipe.size_px:
        raise DataError(
            f"a map of shape {prepared.shape}, and the recipe prepares images of shape "
            f"{recipe.size_px}: expected the same. Give the recipe that the run was made with."
        )
    if min(shape_px) < 1:
        raise DataError(f"a picture of shape {shape_px}: expected at least 1 x 1 pixel.")
    place = geometry(shape_px, recipe.size_px, how=recipe.resize, centre_crop=recipe.centre_crop)
    rows = _positions(place.kept[0], place.inner[0])
    columns = _positions(place.kept[1], place.inner[1])
    (top, left), (height, width) = place.offset, place.inner
    inner = np.ascontiguousarray(prepared[top : top + height, left : left + width], np.float32)
    out = np.full(shape_px, outside, dtype=np.float32)
    (top, left), (height, width) = place.start, place.kept
    out[top : top + height, left : left + width] = _linear(inner, rows, columns)
    return out


def _positions(kept: int, inner: int) -> Float[np.ndarray, " n"]:
    """Return where the centre of each kept source pixel lies among ``inner`` prepared ones."""
    at = (np.arange(kept) + 0.5) * inner / kept - 0.5
    return np.clip(at, 0, inner - 1)


def _linear(
    values: Float[np.ndarray, "h w"],
    rows: Float[np.ndarray, " n"],
    columns: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "n m"]:
    """Interpolate at every crossing of rows and columns, one axis after the other."""
    for axis, at in ((0, rows), (1, columns)):
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        below, above = values.take(low, axis), values.take(high, axis)
        # where nothing is to be blended the neighbour is not looked at: it may be NaN
        values = np.where(share == 0, below, below * (1 - share) + above * share)
    return values.astype(np.float32)
