"""Where a slide has tissue, and how white its glass is."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from medglean.data.slides.slide import Pixels, Slide

Plane = UInt8[np.ndarray, "h w"]

FAINT = 0.03
"""Least share of full scale by which tissue differs from glass: below it there is only noise."""
CERTAIN = 0.12
"""What differs by more than this is tissue whatever Otsu's threshold is: a slide with very dark
tissue must not lose its pale tissue."""
BLUR = 0.0015
"""Standard deviation of the Gaussian filter, as a share of the longer side."""
GAP = 0.008
"""Share of the longer side up to which gaps are closed."""
SMALL = 2e-5
"""Share of the picture below which a piece is dust and a hole is no hole."""
BRIGHT = 0.85
"""Share of the white point above which every channel of glass lies."""
GREY = 0.06
"""How far apart the channels of glass are at most, as share of the white point."""
LEAST_GLASS = 0.01
"""Share of the picture that must look like glass for the glass's own colour to be taken."""

SAMPLE_PX = 256
"""Side of the squares of level 0 from which the white is taken."""
SAMPLES = 256
"""How many of them at most."""


def tissue_mask(
    thumbnail: UInt8[np.ndarray, "h w 3"], *, white: Float[np.ndarray, " 3"] | None = None
) -> Bool[np.ndarray, "h w"]:
    """Tell where a small picture of a slide shows tissue.

    Glass is the commonest colour among what is bright and grey. Tissue differs from it in some
    channel: how much is the largest drop below the glass, or the spread between channels,
    whichever is more. The threshold is Otsu's on that measure, within [0.03, 0.12]; so pale eosin
    counts, and noise does not. Gaps are closed, dust and pinholes removed. Pen marks of pure blue,
    green, red or black are left out.

    Parameters
    ----------
    thumbnail
        Red, green, blue in 0..255, such as ``slide.thumbnail(2048)``.
    white
        The slide's white point as share of full scale; by default the 99th percentile of each
        channel of the picture, which is right where at least a hundredth of it is glass.

    Returns
    -------
    ndarray
        True where there is tissue. Nowhere on an empty glass; everywhere on a picture that is
        all tissue only if ``white`` says what glass would look like.

    Notes
    -----
    The numbers are constants at the top of this module; lengths are shares of the longer side.
    Otsu, IEEE Trans Syst Man Cybern 1979.
    """
    if white is None:
        white = _percentile(_histograms(thumbnail), 99)
    side = max(thumbnail.shape[:2])
    blurred = cv2.GaussianBlur(_divided(thumbnail, white), (0, 0), max(0.5, BLUR * side))
    light = _by_glass(np.asarray(blurred, np.uint8))
    planes = red, green, blue = tuple(np.ascontiguousarray(light[:, :, k]) for k in range(3))
    lightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    differs = cv2.max(cv2.bitwise_not(darkest), cv2.subtract(lightest, darkest))
    otsu, _ = cv2.threshold(differs, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    threshold = np.clip(otsu, _of_255(FAINT), _of_255(CERTAIN))
    mask = (differs > threshold) & ~_pen(*planes, lightest=lightest)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(GAP * side))
    least = max(4.0, SMALL * mask.size)
    return ~_without_small(~_without_small(closed.astype(bool), least), least)


def _of_255(share: float) -> int:
    return round(255 * share)


def _divided(pixels: Pixels, white: Float[np.ndarray, " 3"]) -> Pixels:
    """Return light as share of the white, 255 for all of it; 8 bits keep large pictures small."""
    table = np.arange(256)[:, None] / np.maximum(white, 1 / 255)[None]
    table = np.rint(np.minimum(table, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table.reshape(1, 256, 3)), np.uint8)


def _by_glass(light: Pixels) -> Pixels:
    """Return light as share of that through glass, where there is some.

    The white point is a high percentile and lies above the glass by noise and bright rims.
    """
    lowest, highest = light.min(axis=2), light.max(axis=2)
    glass = (lowest > _of_255(BRIGHT)) & (highest - lowest < _of_255(GREY))
    if glass.mean() < LEAST_GLASS:
        return light
    return _divided(light, _histograms(light[glass][None]).argmax(axis=1) / 255)


def _pen(red: Plane, green: Plane, blue: Plane, *, lightest: Plane) -> Bool[np.ndarray, "h w"]:
    """Return where light is coloured as ink and no stain of tissue is.

    Haematoxylin takes as much green as red, eosin and DAB more green than red or more blue than
    either; so what lets through far more green than red is blue, cyan or green ink. Red ink takes
    all of green and blue and next to no red, black ink takes everything.
    """
    over_red = cv2.subtract(green, red)  # 0 where there is more red
    bluish = (over_red > _of_255(0.14)) & (cv2.subtract(blue, green) > _of_255(0.25))
    cyan = (over_red > _of_255(0.35)) & (blue > red)
    leaf = (over_red > _of_255(0.12)) & (cv2.subtract(green, blue) > _of_255(0.12))
    scarlet = (red > _of_255(0.75)) & (cv2.max(green, blue) < _of_255(0.25))
    black = lightest < _of_255(0.12)
    return np.asarray(bluish | cyan | leaf | scarlet | black)


def _histograms(pixels: Pixels) -> Int[np.ndarray, "3 256"]:
    """Return how often each channel has each value."""
    counts = [cv2.calcHist([pixels], [k], None, [256], [0, 256]).ravel() for k in range(3)]
    return np.rint(np.stack(counts)).astype(np.int64)


def _percentile(counts: Int[np.ndarray, "3 256"], percentile: float) -> Float[np.ndarray, " 3"]:
    """Return the value, as share of 255, that so many per cent of a channel do not exceed."""
    reached = counts.cumsum(axis=1) >= percentile / 100 * counts.sum(axis=1, keepdims=True)
    return np.asarray(np.maximum(reached.argmax(axis=1), 1) / 255)


def _disc(diameter: float) -> UInt8[np.ndarray, "k k"]:
    side = max(3, int(diameter) | 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _without_small(mask: Bool[np.ndarray, "h w"], least: float) -> Bool[np.ndarray, "h w"]:
    """Remove the pieces of a mask that have fewer pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return np.asarray(keep[labels])


def slide_white(slide: Slide, *, percentile: float = 99.0) -> Float[np.ndarray, " 3"]:
    """Return the white point of a slide: a percentile of each channel, as share of full scale.

    It is taken from pixels of level 0 as they are, like that of training images: from all of them
    up to 16.8 megapixels, from evenly spaced squares of a larger slide. What the scanner did not
    record does not count.

    Parameters
    ----------
    slide
        An open slide.
    percentile
        Above 50, up to 100.

    Returns
    -------
    ndarray
        Shape (3,), in (0, 1].

    Raises
    ------
    ReadError
        If pixels cannot be decoded.
    """
    counts = np.zeros((3, 256), dtype=np.int64)
    for x, y, w, h in _samples(slide.size_px):
        pixels, covered = slide.read_covered(0, x, y, w, h)
        counts += _histograms(pixels if covered.all() else pixels[covered][None])
    return _percentile(counts, percentile) if counts.any() else np.ones(3)


def _samples(size_px: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return x, y, w, h of squares that cover a small slide, and lie evenly on a large one."""
    height, width = size_px
    rows, columns = -(-height // SAMPLE_PX), -(-width // SAMPLE_PX)
    while rows * columns > SAMPLES:  # the axis with more squares is thinned out first
        if rows >= columns:
            rows -= 1
        else:
            columns -= 1
    found = []
    for top in _starts(height, rows):
        for left in _starts(width, columns):
            found.append((left, top, min(SAMPLE_PX, width - left), min(SAMPLE_PX, height - top)))
    return found


def _starts(length: int, count: int) -> list[int]:
    """Return where squares begin along an axis: end to end, or spread from end to end."""
    if count * SAMPLE_PX >= length:
        return [k * SAMPLE_PX for k in range(count)]
    spread = np.linspace(0, length - SAMPLE_PX, count)
    return [int(start) for start in spread]
