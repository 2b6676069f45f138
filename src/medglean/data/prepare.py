"""From a decoded picture to the array that a network takes, as a recipe says.

The order is fixed: channels, intensity, size, foreground, equalisation. Intensity comes before
resizing so that percentiles are those of the image and not of its average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from medglean.arrays import UnitImage
from medglean.data.intensity import Limits, limits_of, to_unit
from medglean.data.picture import Picture
from medglean.data.recipe import Foreground, Recipe
from medglean.data.resize import resize
from medglean.errors import DataError

BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601-7, section 2.5.1)."""

CLAHE_CLIP_LIMIT = 2.0
CLAHE_TILES = (8, 8)


class Prepared(NamedTuple):
    """An image as a network takes it, and what is known about it."""

    image: np.ndarray
    """Shape (c, h, w), float32 in [0, 1]."""
    spacing_mm: tuple[float, float] | None
    """Millimetres between neighbouring pixels after resizing, along y and x; None where unknown."""
    warnings: tuple[str, ...]


def prepare(picture: Picture, recipe: Recipe, *, limits: Limits | None = None) -> UnitImage:
    """Turn a picture into an array of shape ``recipe.shape`` with values in [0, 1].

    Parameters
    ----------
    picture
        Two-dimensional, or with further axes of length 1.
    recipe
        What to do.
    limits
        Ends of the intensity range found over a whole volume; see :func:`volume_limits`.

    Raises
    ------
    DataError
        If the picture is a volume, has channels that the recipe does not expect, or has no range.
    """
    return prepare_one(picture, recipe, limits=limits).image


def prepare_one(picture: Picture, recipe: Recipe, *, limits: Limits | None = None) -> Prepared:
    """As :func:`prepare`, with the spacing of the result and with warnings."""
    values, spacing = _plane(picture)
    values = _select_channels(values, picture.channels, recipe)
    unit, warnings = to_unit(values, recipe.intensity, full_scale=picture.full_scale, limits=limits)
    image, step = resize(unit, recipe.size_px, how=recipe.resize, centre_crop=recipe.centre_crop)
    image = _finished(image, recipe)
    if recipe.channels == "rgb" and image.shape[0] == 1:
        image = np.repeat(image, 3, axis=0)
    if spacing is not None:
        spacing = (spacing[0] * step[0], spacing[1] * step[1])
    return Prepared(image, spacing, (*picture.warnings, *warnings))


def prepare_channels(
    pictures: Sequence[Picture], recipe: Recipe, *, limits: Sequence[Limits | None] = ()
) -> Prepared:
    """Prepare one grey picture per named channel and stack them in the recipe's order.

    Parameters
    ----------
    pictures
        One per name in ``recipe.channels``, all of one height and width.
    recipe
        A recipe whose ``channels`` is a tuple of names.
    limits
        Ends of the intensity range per picture, where found over a volume.

    Raises
    ------
    DataError
        If the pictures differ in size, so that their pixels do not lie on one another.
    """
    sizes = {picture.values.shape[-2:] for picture in pictures}
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise DataError(
            f"the channels of one image differ in size ({found} pixels): expected one size. "
            "Register and resample them to one grid first."
        )
    # the foreground is that of all channels together
    grey = recipe.model_copy(update={"channels": "grey", "foreground": None, "equalise": "none"})
    ends = list(limits) or [None] * len(pictures)
    prepared = [
        prepare_one(picture, grey, limits=end) for picture, end in zip(pictures, ends, strict=True)
    ]
    warnings = [
        f"channel {name!r}: {warning}"
        for name, one in zip(recipe.channels, prepared, strict=True)
        for warning in one.warnings
    ]
    image = _finished(np.concatenate([one.image for one in prepared]), recipe)
    return Prepared(image, prepared[0].spacing_mm, tuple(warnings))


def _finished(image: UnitImage, recipe: Recipe) -> UnitImage:
    """Keep the foreground and equalise, as the recipe says."""
    if recipe.foreground is not None:
        image = only_foreground(image, recipe.foreground)
    if recipe.equalise == "clahe":
        return _clahe(image)
    if recipe.equalise == "histogram":
        return _equalise_histogram(image)
    return image


def only_foreground(image: UnitImage, foreground: Foreground) -> UnitImage:
    """Set to 0 what is background or rim, and bring the median of the rest to its level.

    Parameters
    ----------
    image
        Shape (c, h, w), in [0, 1]; the foreground is that of all channels together.
    foreground
        How deep the rim is, and which level.

    Examples
    --------
    >>> image = np.full((1, 4, 4), 0.2, dtype=np.float32)
    >>> only_foreground(image, Foreground(erode=0.0, median=0.4))[0, 0].tolist()
    [0.4000000059604645, 0.4000000059604645, 0.4000000059604645, 0.4000000059604645]
    """
    from medglean.data.foreground import eroded, foreground_mask  # SciPy is slow to import

    inside = eroded(foreground_mask(image[None]), share=foreground.erode)[0]
    kept = np.where(inside, image, np.float32(0))
    if foreground.median is None or not inside.any():
        return kept
    for plane in kept:
        level = float(np.median(plane[inside]))
        if level > 0:
            np.clip(plane * np.float32(foreground.median / level), 0, 1, out=plane)
    return kept


def volume_limits(picture: Picture, recipe: Recipe) -> Limits:
    """Find the ends of the intensity range over a whole volume or clip, for its slices."""
    values = _select_channels(picture.values, picture.channels, recipe)
    return limits_of(values, recipe.intensity, full_scale=picture.full_scale)


def _plane(picture: Picture) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Drop axes of length 1 and return values of shape (c, h, w) with the spacing along y and x."""
    shape = picture.values.shape[1:]
    keep = [axis for axis, length in enumerate(shape) if length > 1]
    if len(keep) > 2:
        named = ", ".join(f"{n} {a}" for n, a in zip(shape, picture.axes, strict=True))
        raise DataError(
            f"a volume or clip ({named}) where one image is expected. Name the slice in the "
            "manifest, such as scan.nii.gz#axis=2,index=81 or clip.dcm#frame=3."
        )
    # a picture one pixel high or wide has fewer long axes: fill up with the last ones
    spare = [axis for axis in reversed(range(len(shape))) if axis not in keep]
    keep = sorted(keep + spare[: 2 - len(keep)])
    values = picture.values.reshape(picture.values.shape[0], *(shape[axis] for axis in keep))
    if picture.spacing_mm is None:
        return values, None
    return values, (float(picture.spacing_mm[keep[0]]), float(picture.spacing_mm[keep[1]]))


def _select_channels(values: np.ndarray, names: tuple[str, ...], recipe: Recipe) -> np.ndarray:
    """Return the channels that a recipe asks for, in its order and still in the file's unit.

    Grey stays one channel for ``rgb``: it is repeated last, so that the work is done once.
    """
    wanted = recipe.channels
    if isinstance(wanted, tuple):
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DataError(
                f"channels {list(names)}, and the recipe expects {missing}. Give one column "
                "image.NAME per channel in the manifest, or set images.channels."
            )
        return values[[names.index(name) for name in wanted]]
    if len(names) == 1:
        return values
    if not {"red", "green", "blue"} <= set(names):
        raise DataError(
            f"channels {list(names)}, and the recipe expects grey or colour. Name the channels "
            "to use in images.channels."
        )
    colour = values[[names.index(name) for name in ("red", "green", "blue")]]
    if wanted == "rgb":
        return colour
    return _luminance(colour)


def _luminance(colour: np.ndarray) -> np.ndarray:
    """Return the luminance of red, green and blue: the coded values, as BT.601 weights them.

    The weights sum to 1, so luminance keeps the unit and the full scale.
    """
    exact = np.float32 if colour.dtype.itemsize <= 2 else np.float64
    red, green, blue = (channel.astype(exact) for channel in colour)
    if colour.dtype.kind in "ub" and np.array_equal(red, green) and np.array_equal(red, blue):
        return colour[:1]  # a grey image saved as colour: exact, no rounding of the weights
    luminance: np.ndarray = BT601[0] * red + BT601[1] * green + BT601[2] * blue
    return luminance[np.newaxis]


def _clahe(image: UnitImage) -> UnitImage:
    """Equalise locally; 16-bit inside, so that no grey level is lost."""
    equaliser = cv2.createCLAHE(clipLimit=CLAHE_CLIP_LIMIT, tileGridSize=CLAHE_TILES)
    planes = [equaliser.apply(np.rint(plane * 65535).astype(np.uint16)) for plane in image]
    equalised: np.ndarray = np.stack(planes).astype(np.float32)
    return equalised / np.float32(65535)


def _equalise_histogram(image: UnitImage) -> UnitImage:
    """Map each value to the share of pixels below it plus half of those that equal it.

    Zeros stay zeros where they are the background: the ranks start at the darkest value and end
    at the brightest.
    """
    out = np.zeros_like(image)
    for plane, into in zip(image, out, strict=True):
        levels = np.rint(plane * 65535).astype(np.int64)
        counts = np.bincount(levels.ravel(), minlength=65536)
        rank = np.cumsum(counts) - counts / 2
        first, last = rank[levels.min()], rank[levels.max()]
        if last > first:
            into[...] = ((rank - first) / (last - first))[levels]
    return out
