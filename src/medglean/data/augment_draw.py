"""The numbers that random changes of an image are made with.

Each change draws its numbers from places of its own (see ``_WIDTHS``), so that switching one on,
or changing its range, leaves what the others draw as it was. The numbers of an image are a
function of (seed, epoch, index) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from medglean.data.augment_settings import MOST_ERASED, Augment, Range
from medglean.randomness import uniforms

CURVE_SEGMENTS = 8
ILLUMINATION_KNOTS = 3

# Never reorder: appending keeps what earlier settings drew in earlier releases.
_WIDTHS = {
    "flip_horizontal": 1,
    "flip_vertical": 1,
    "quarter_turns": 1,
    "geometry": 1,
    "rotation": 1,
    "translate": 2,
    "scale": 1,
    "aspect": 1,
    "shear": 2,
    "crop": 4,
    "tone": 1,
    "invert": 1,
    "gamma": 1,
    "contrast": 1,
    "brightness": 1,
    "curve": CURVE_SEGMENTS,
    "blur": 2,
    "sharpen": 2,
    "downscale": 2,
    "noise": 3,
    "jpeg": 2,
    "border": 5,
    "erase": 2 + 4 * MOST_ERASED,
    "illumination": 1 + ILLUMINATION_KNOTS**2,
}
_ENDS = np.cumsum(list(_WIDTHS.values()))
_PLACES = {
    name: slice(int(end) - width, int(end))
    for (name, width), end in zip(_WIDTHS.items(), _ENDS, strict=True)
}
_DRAWS = int(_ENDS[-1])


@dataclass(frozen=True)
class Drawn:
    """What was drawn for each image of a batch; row ``i`` belongs to image ``i``.

    Attributes
    ----------
    mirrored, upended
        Whether left and right, top and bottom are exchanged, shape (b,).
    turns
        Quarter turns, 0 to 3, shape (b,).
    matrix
        From the indices (x, y) of an output pixel to those of the input, shape (b, 2, 3); None
        where nothing is interpolated.
    warped
        Which images the matrix is for, shape (b,).
    curve
        Grey level for each of 256 evenly spaced ones, shape (b, 256), before contrast and
        brightness; None where no tone changes.
    toned
        Which images the curve is for, shape (b,).
    contrast, brightness
        Factor about the mean and amount added, shape (b,).
    blur_sigma_px, sharpen, noise_sd
        0 where the change is not met, shape (b,).
    noise_start
        Where in the table of noise an image begins, in [0, 1), shape (b,).
    downscale
        1 where the change is not met, shape (b,).
    jpeg_quality
        0 where the change is not met, shape (b,).
    border_px
        Widths at the top, bottom, left and right, shape (b, 4).
    erased_px
        Top, bottom, left and right end of each rectangle, shape (b, rectangles, 4); an unused
        one has no height.
    illumination
        Logarithm of the factor at 3 x 3 places of the image, 0 where the change is not met, shape
        (b, 3, 3).
    """

    mirrored: np.ndarray
    upended: np.ndarray
    turns: np.ndarray
    matrix: np.ndarray | None
    warped: np.ndarray
    curve: np.ndarray | None
    toned: np.ndarray
    contrast: np.ndarray
    brightness: np.ndarray
    blur_sigma_px: np.ndarray
    sharpen: np.ndarray
    downscale: np.ndarray
    noise_sd: np.ndarray
    noise_start: np.ndarray
    jpeg_quality: np.ndarray
    border_px: np.ndarray
    erased_px: np.ndarray
    illumination: np.ndarray


def draw(
    settings: Augment,
    *,
    size_px: tuple[int, int],
    seed: int,
    epoch: int,
    index: Int[np.ndarray, " b"],
) -> Drawn:
    """Draw the changes of each image of a batch.

    Parameters
    ----------
    settings
        Which changes, and how strong.
    size_px
        Height and width of the images.
    seed, epoch
        Of the run.
    index
        Position of each image in its manifest: what is drawn for one does not depend on the
        others in the batch.
    """
    u = uniforms(seed, "augment", epoch, index=index, draws=_DRAWS)

    def of(name: str) -> np.ndarray:
        return u[:, _PLACES[name]]

    def met(name: str, probability: float) -> np.ndarray:
        happens: np.ndarray = of(name)[:, 0] < probability
        return happens

    warped = met("geometry", settings.geometry_probability if settings.warps else 0.0)
    toned = met("tone", settings.tone_probability if settings.bends_tone else 0.0)
    low, high = settings.jpeg_quality or (0, 0)
    quality = low + np.floor(of("jpeg")[:, 1] * (high - low + 1))
    return Drawn(
        mirrored=met("flip_horizontal", settings.flip_horizontal),
        upended=met("flip_vertical", settings.flip_vertical),
        turns=np.floor(of("quarter_turns")[:, 0] * 4).astype(int) * settings.quarter_turns,
        matrix=_matrices(settings, of, size_px) if warped.any() else None,
        warped=warped,
        curve=_curves(settings, of) if toned.any() else None,
        toned=toned,
        contrast=_between_logs(of("contrast")[:, 0], settings.contrast),
        brightness=_either_way(of("brightness")[:, 0], settings.brightness),
        blur_sigma_px=met("blur", settings.blur_probability)
        * of("blur")[:, 1]
        * settings.blur_sigma_px,
        sharpen=met("sharpen", settings.sharpen_probability)
        * of("sharpen")[:, 1]
        * settings.sharpen,
        downscale=np.where(
            met("downscale", settings.downscale_probability),
            _between(of("downscale")[:, 1], (settings.downscale, 1.0)),
            1.0,
        ),
        noise_sd=met("noise", settings.noise_probability) * of("noise")[:, 1] * settings.noise_sd,
        noise_start=of("noise")[:, 2],
        jpeg_quality=(met("jpeg", settings.jpeg_probability) * quality).astype(int),
        border_px=_borders(settings, of("border"), size_px),
        erased_px=_rectangles(settings, of("erase"), size_px),
        illumination=_illumination(settings, of("illumination")),
    )


def _between(u: np.ndarray, ends: Range) -> np.ndarray:
    return ends[0] + u * (ends[1] - ends[0])


def _between_logs(u: np.ndarray, ends: Range) -> np.ndarray:
    between: np.ndarray = np.exp(_between(u, (float(np.log(ends[0])), float(np.log(ends[1])))))
    return between


def _either_way(u: np.ndarray, most: float) -> np.ndarray:
    return (2.0 * u - 1.0) * most


def _matrices(
    settings: Augment, of: Callable[[str], np.ndarray], size_px: tuple[int, int]
) -> np.ndarray:
    """Return the map from output to input indices (x, y) of each image, shape (b, 2, 3).

    The image is magnified, leant and turned about its centre, then shifted; of the result, a crop
    is magnified to full size. The map goes the other way: from crop to result to image.
    """
    height, width = size_px
    angle = np.deg2rad(_either_way(of("rotation")[:, 0], settings.rotation_deg))
    lean = np.tan(np.deg2rad(_either_way(of("shear"), settings.shear_deg)))
    scale = _between_logs(of("scale")[:, 0], settings.scale)
    aspect = np.sqrt(_between_logs(of("aspect")[:, 0], (1 / settings.aspect, settings.aspect)))
    shift = _either_way(of("translate"), settings.translate) * (width, height)

    cos, sin = np.cos(angle), np.sin(angle)
    turn = _stack(cos, -sin, sin, cos)
    shear = _stack(np.ones_like(angle), lean[:, 0], lean[:, 1], 1 + lean[:, 0] * lean[:, 1])
    zero = np.zeros_like(scale)
    stretch = _stack(scale * aspect, zero, zero, scale / aspect)
    back = np.linalg.inv(turn @ shear @ stretch)

    crop = of("crop")
    area = _between(crop[:, 0], settings.crop_area)
    ratio = _between_logs(crop[:, 1], (1 / settings.crop_aspect, settings.crop_aspect))
    share = np.minimum(1.0, np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1))
    offset = (crop[:, 2:] - 0.5) * (1.0 - share) * (width, height)

    # indices count pixel centres, so the image's centre has index (n - 1) / 2
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    linear = back * share[:, np.newaxis, :]
    moved = (back @ (offset - shift - share * centre)[:, :, np.newaxis])[:, :, 0] + centre
    return np.concatenate([linear, moved[:, :, np.newaxis]], axis=2)


def _stack(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return matrices [[a, b], [c, d]], shape (b, 2, 2)."""
    return np.stack([a, b, c, d], axis=1).reshape(-1, 2, 2)


def _curves(settings: Augment, of: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return the grey level that each of 256 becomes: inverted, bent, then raised to gamma."""
    slopes = np.exp(_either_way(of("curve"), settings.tone_curve))
    knots = np.cumsum(slopes, axis=1) / slopes.sum(axis=1, keepdims=True)
    knots = np.concatenate([np.zeros((len(knots), 1)), knots], axis=1)
    level = np.linspace(0.0, 1.0, 256)
    below = np.minimum((level * CURVE_SEGMENTS).astype(int), CURVE_SEGMENTS - 1)
    part = level * CURVE_SEGMENTS - below
    bent = knots[:, below] * (1 - part) + knots[:, below + 1] * part
    bent = bent ** _between_logs(of("gamma"), settings.gamma)
    inverted = of("invert") < settings.invert
    curves: np.ndarray = np.where(inverted, bent[:, ::-1], bent)
    return curves


def _illumination(settings: Augment, u: np.ndarray) -> np.ndarray:
    met = u[:, :1] < settings.illumination_probability
    strength: np.ndarray = met * _either_way(u[:, 1:], settings.illumination)
    return strength.reshape(-1, ILLUMINATION_KNOTS, ILLUMINATION_KNOTS)


def _borders(settings: Augment, u: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    met = u[:, :1] < settings.border_probability
    sides = np.array([size_px[0], size_px[0], size_px[1], size_px[1]])
    widths: np.ndarray = np.rint(met * u[:, 1:] * settings.border * sides).astype(int)
    return widths


def _rectangles(settings: Augment, u: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    met = u[:, 0] < settings.erase_probability
    count = met * np.minimum(1 + np.floor(u[:, 1] * settings.erase_count), settings.erase_count)
    used = np.arange(settings.erase_count) < count[:, np.newaxis]
    boxes = u[:, 2:].reshape(len(u), MOST_ERASED, 4)[:, : settings.erase_count]
    sides = np.array(size_px)
    extent = np.maximum(1, np.rint(_between(boxes[:, :, :2], settings.erase_size) * sides))
    start = np.floor(boxes[:, :, 2:] * (sides - extent + 1))
    stop = start + extent * used[:, :, np.newaxis]
    return np.stack([start[..., 0], stop[..., 0], start[..., 1], stop[..., 1]], axis=2).astype(int)
