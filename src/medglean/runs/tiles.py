"""Pictures in rows, each with words above and below it, as one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medglean.runs.style import INK, house_style, new_figure, plain, to_png

_TILE_IN = 1.95
_LINE_IN = 0.135
_CHARACTERS = 30  # of 7.5 points that fit above a tile of the usual width


@dataclass(frozen=True)
class Tile:
    """A picture and what is said of it.

    Attributes
    ----------
    image
        Shape (h, w), (1, h, w) or (3, h, w), values in [0, 1]: shown as they are, 0 black and
        1 white, never stretched.
    id
        Which image it is, for messages.
    above
        Lines of text; those too long are shortened in the middle.
    below
        One line in bold and in the colour of the frame, so that the colour alone says nothing.
    tone
        Colour of the frame.
    """

    image: np.ndarray
    id: str
    above: Sequence[str] = ()
    below: str = ""
    tone: str = INK


def tile_grid(tiles: Sequence[Tile], *, columns: int = 4, width_in: float = _TILE_IN) -> bytes:
    """Draw pictures in rows.

    Parameters
    ----------
    tiles
        At least one, in the order to be shown.
    columns
        Pictures per row.
    width_in
        Of one picture.

    Raises
    ------
    ValueError
        If there is no picture or one has another shape.
    """
    if not tiles:
        raise ValueError("tiles: expected at least one image, found none.")
    pictures = [displayable(tile.image, tile.id) for tile in tiles]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    lines = max(len(tile.above) for tile in tiles) + 1
    height_in = (width_in - 0.1) * min(tallest, 1.5) + _LINE_IN * lines + 0.16
    with house_style():
        figure, axes = new_figure(width_in * columns, height_in * rows, rows=rows, columns=columns)
        for place in axes:
            place.set_axis_off()
        for place, tile, picture in zip(axes, tiles, pictures, strict=False):
            place.set_axis_on()
            place.set_anchor("NW")  # images of other shapes begin at the same height
            place.grid(visible=False)
            place.set_xticks([])
            place.set_yticks([])
            place.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="antialiased")
            for spine in place.spines.values():
                spine.set(visible=True, color=tile.tone, linewidth=3)
            limit = int(_CHARACTERS * width_in / _TILE_IN)
            above = "\n".join(plain(line, limit=limit) for line in tile.above)
            place.set_title(above, fontsize=7.5, fontweight="normal", loc="left")
            place.set_xlabel(
                plain(tile.below, limit=limit),
                fontsize=8,
                color=tile.tone,
                fontweight="bold",
                loc="left",
                labelpad=3,
            )
        return to_png(figure)


def displayable(image: np.ndarray, name: str) -> np.ndarray:
    """Return an image as (h, w) or (h, w, 3).

    Raises
    ------
    ValueError
        If it has another number of channels.
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] == 3:
        return np.clip(np.moveaxis(values, 0, -1), 0.0, 1.0)
    if values.ndim != 2:
        raise ValueError(
            f"image {name!r}: expected shape (h, w), (1, h, w) or (3, h, w), found "
            f"{values.shape}. Choose the channels to show first."
        )
    return values


def side_by_side(left: np.ndarray, right: np.ndarray, *, gap_px: int = 2) -> np.ndarray:
    """Return two images as one, with a white gap between them; the smaller is enlarged.

    Parameters
    ----------
    left, right
        As `Tile.image`; grey and colour may meet.
    gap_px
        Width of the gap.

    Returns
    -------
    ndarray
        Shape (3, h, w), values in [0, 1].
    """
    pair = [_colour(displayable(image, side)) for image, side in ((left, "left"), (right, "right"))]
    height = max(image.shape[1] for image in pair)
    pair = [_enlarged(image, height) for image in pair]
    return np.concatenate([pair[0], np.ones((3, height, gap_px)), pair[1]], axis=2)


def _colour(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image if image.ndim == 3 else np.stack([image] * 3, axis=-1), -1, 0)


def _enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """Return an image at another height, its shape kept; pixels are repeated, none is made up."""
    width = max(1, round(image.shape[2] * height / image.shape[1]))
    rows = np.arange(height) * image.shape[1] // height
    columns = np.arange(width) * image.shape[2] // width
    enlarged: np.ndarray = image[:, rows][:, :, columns]
    return enlarged
