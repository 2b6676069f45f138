"""A picture of one map over its image, drawn in milliseconds: no figure, arrays alone."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from medglean.anomaly.panel_parts import COLOURS, Scale
from medglean.data.picture import Picture
from medglean.data.prepare import prepare_one
from medglean.data.recipe import Recipe
from medglean.errors import DataError
from medglean.runs.report import RESEARCH_ONLY
from medglean.runs.style import INK, PAPER, plain
from medglean.runs.tables import format_value

SIDE_PX = 512
"""Longer side of the picture; the canvas is as wide."""
_LINE_PX, _FONT_PX, _BAR_PX, _MARGIN_PX = 18, 12, 10, 8
_CHARACTERS = 60


def shown_size(shape_px: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which a picture of this shape is shown: its longer side is `SIDE_PX`.

    Examples
    --------
    >>> shown_size((1024, 2048)), shown_size((64, 64))
    ((256, 512), (512, 512))
    """
    height, width = shape_px
    scale = SIDE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def plane_px(picture: Picture) -> tuple[int, int]:
    """Return height and width of a picture, whose further axes have length 1."""
    shape = picture.values.shape[1:]
    if len(shape) > 2:
        shape = (1, 1, *(length for length in shape if length > 1))[-2:]
    return int(shape[0]), int(shape[1])


def grey_of(picture: Picture, recipe: Recipe, *, channel: str | None) -> Float[np.ndarray, "h w"]:
    """Return a picture as it is shown: grey, in [0, 1], whole, with the recipe's intensities.

    Parameters
    ----------
    picture
        As it was read.
    recipe
        What prepares it for the networks.
    channel
        The one to take of a picture with named channels.
    """
    named = channel is not None and picture.channels != ("grey",)
    shown = recipe.model_copy(
        update={
            "size_px": shown_size(plane_px(picture)),
            "channels": (channel,) if named else "grey",
            "resize": "stretch",
            "centre_crop": 1.0,
            "equalise": "none",
            "intensity": recipe.intensity.model_copy(update={"scope": "image"}),
        }
    )
    grey: np.ndarray = prepare_one(picture, shown).image[0]
    return grey


def overlay_png(
    grey: Float[np.ndarray, "h w"],
    values: Float[np.ndarray, "y x"],
    scale: Scale,
    *,
    heading: str,
) -> bytes:
    """Draw a map over its image, a colour bar and what must be said, as PNG.

    Parameters
    ----------
    grey
        The image at the size at which it is shown, in [0, 1].
    values
        The map, of the same aspect; NaN, where nothing was looked at, is left without colour.
    scale
        What is brightest, and what the values mean.
    heading
        Such as the image's id and score.

    Raises
    ------
    DataError
        If the scale ends at 0 or below.
    """
    if not scale.top > 0:
        raise DataError(f"a colour scale from 0 to {scale.top}: expected an end above 0.")
    height, width = grey.shape
    smaller = values.shape[0] > height or values.shape[1] > width
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    share = cv2.resize(np.nan_to_num(values, nan=0.0), (width, height), interpolation=how)
    levels = np.rint(255 * np.clip(share / scale.top, 0, 1)).astype(np.uint8)
    veil = _colours()[levels]
    image = np.rint(255 * np.clip(grey, 0, 1))[..., None]
    alpha = veil[..., 3:]
    mixed = np.rint(alpha * veil[..., :3] + (1 - alpha) * image).astype(np.uint8)
    return _encoded(_on_paper(mixed, scale, heading))


@functools.cache
def _colours() -> Float[np.ndarray, "256 4"]:
    """Return red, green, blue (0..255) and opacity (0..1) of each level, as panels have them."""
    share = np.linspace(0, 1, 256)
    colours = np.asarray(mpl.colormaps[COLOURS](share)) * 255
    colours[:, 3] = 0.85 * np.clip(1.5 * share, 0, 1)
    return colours.astype(np.float32)


def _on_paper(picture: UInt8[np.ndarray, "h w 3"], scale: Scale, heading: str) -> Image.Image:
    """Put a picture on a page, with its words below."""
    height, width = picture.shape[:2]
    below = 4 * _LINE_PX + _BAR_PX + 2 * _MARGIN_PX
    page = Image.new("RGB", (SIDE_PX, height + below), PAPER)
    page.paste(Image.fromarray(picture), ((SIDE_PX - width) // 2, 0))
    bar = np.repeat(_colours()[:, :3].astype(np.uint8)[None], _BAR_PX, axis=0)
    page.paste(Image.fromarray(bar), (4 * _MARGIN_PX, height + _MARGIN_PX + _LINE_PX))
    pen, font = ImageDraw.Draw(page), _font()
    at = height + _MARGIN_PX
    pen.text((_MARGIN_PX, at - 2), plain(heading, limit=_CHARACTERS), INK, font)
    at += _LINE_PX
    pen.text((_MARGIN_PX, at - 2), "0", INK, font)
    end = 4 * _MARGIN_PX + 256 + _MARGIN_PX
    pen.text((end, at - 2), f"{format_value(scale.top)} and above", INK, font)
    at += _BAR_PX + _MARGIN_PX
    for line in (scale.meaning, RESEARCH_ONLY):
        pen.text((_MARGIN_PX, at), line, INK, font)
        at += _LINE_PX
    return page


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(file, _FONT_PX)


def _encoded(page: Image.Image) -> bytes:
    colours = np.asarray(page)[..., ::-1]
    done, data = cv2.imencode(".png", colours, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise DataError("a picture of a map could not be encoded as PNG. Report this as a fault.")
    return bytes(data)
