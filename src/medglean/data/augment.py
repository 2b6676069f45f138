"""Random changes of batches of training images, the same for an image whatever batch it is in.

What is drawn stands in :mod:`~medglean.data.augment_draw`; here it is carried out. Geometry is one
interpolation whatever it is made of, and for 8-bit images the change of grey levels is one look-up
table, which is what makes this cheap beside a training step.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from jaxtyping import Int, Num

from medglean.arrays import UnitBatch
from medglean.data.augment_draw import Drawn, draw
from medglean.data.augment_settings import Augment, Fill
from medglean.randomness import numpy_generator

_NOISE_VALUES = 1 << 20
_EXTENSION = {
    "black": cv2.BORDER_CONSTANT,
    "mean": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
}
_LEVELS = np.linspace(0.0, 1.0, 256)


def augment(
    batch: Num[np.ndarray, "b c h w"],
    settings: Augment,
    *,
    seed: int,
    epoch: int,
    index: Int[np.ndarray, " b"],
) -> UnitBatch:
    """Change each image of a batch at random.

    Parameters
    ----------
    batch
        uint8 (0..255), uint16 (0..65535) or floating point in [0, 1]. It is not written to.
    settings
        Which changes, and how strong.
    seed, epoch
        Of the run.
    index
        Position of each image in its manifest. What happens to an image is a function of (seed,
        epoch, its index) and not of the batch around it.

    Returns
    -------
    ndarray
        float32 in [0, 1], shape (b, c, h, w).

    Raises
    ------
    ValueError
        If quarter turns are asked for images that are not square.
    """
    drawn = draw(settings, size_px=batch.shape[2:], seed=seed, epoch=epoch, index=index)
    out = np.empty(batch.shape, dtype=np.float32)
    for place, image in enumerate(batch):
        apply(image, settings, drawn, place, out[place])
    return out


def to_float(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return stored values as float32 in [0, 1]: 8 and 16 bit are divided by their full scale.

    Parameters
    ----------
    values
        uint8, uint16 or floating point, of any shape.
    out
        Where to write, of the same shape; by default a new array.

    Raises
    ------
    ValueError
        If they are of another type.
    """
    if values.dtype.kind != "f" and values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"values of type {values.dtype}, expected uint8, uint16 or float.")
    if out is None:
        out = np.empty(values.shape, dtype=np.float32)
    if values.dtype.kind == "f":
        out[...] = values
    else:
        np.divide(values, np.float32(np.iinfo(values.dtype).max), out=out, dtype=np.float32)
    return out


def apply(
    image: Num[np.ndarray, "c h w"],
    settings: Augment,
    drawn: Drawn,
    place: int,
    out: np.ndarray,
) -> None:
    """Carry out what was drawn for image ``place`` of a batch, writing float32 to ``out``."""
    if image.dtype != np.uint8:
        image = to_float(image)
    image = _geometry(image, settings, drawn, place)
    _tone(image, drawn, place, out)
    _illuminate(out, drawn.illumination[place])
    for plane in out:
        _sharpness(plane, drawn, place)
    if sd := float(drawn.noise_sd[place]):
        out += np.float32(sd) * _noise(out.shape, drawn.noise_start[place])
    if sd or drawn.sharpen[place]:
        np.clip(out, 0.0, 1.0, out=out)
    if drawn.jpeg_quality[place]:
        _jpeg(out, int(drawn.jpeg_quality[place]))
    _masks(out, settings, drawn, place)


def _geometry(image: np.ndarray, settings: Augment, drawn: Drawn, place: int) -> np.ndarray:
    if drawn.mirrored[place]:
        image = np.stack([cv2.flip(plane, 1) for plane in image])
    if drawn.upended[place]:
        image = np.stack([cv2.flip(plane, 0) for plane in image])
    if drawn.turns[place]:
        if image.shape[1] != image.shape[2]:
            raise ValueError(
                f"quarter_turns needs square images, found {image.shape[1]} x {image.shape[2]}."
            )
        image = np.rot90(image, int(drawn.turns[place]), axes=(1, 2))
    if drawn.matrix is None or not drawn.warped[place]:
        return image
    warped = np.empty(image.shape, dtype=image.dtype)
    for plane, into in zip(image, warped, strict=True):
        cv2.warpAffine(
            np.ascontiguousarray(plane),
            drawn.matrix[place],
            into.shape[::-1],
            dst=into,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=_EXTENSION[settings.fill],
            borderValue=_fill_value(plane, "mean") if settings.fill == "mean" else 0.0,
        )
    return warped


def _tone(image: np.ndarray, drawn: Drawn, place: int, out: np.ndarray) -> None:
    """Write the image's grey levels, changed, to ``out``."""
    if drawn.curve is None or not drawn.toned[place]:
        to_float(image, out=out)
        return
    curve = drawn.curve[place]
    contrast, brightness = drawn.contrast[place], drawn.brightness[place]
    if contrast != 1.0:
        top = 255.0 if image.dtype == np.uint8 else 1.0
        mean = np.interp(
            sum(cv2.mean(plane)[0] for plane in image) / len(image) / top, _LEVELS, curve
        )
        curve = mean + contrast * (curve - mean)
    curve = np.clip(curve + brightness, 0.0, 1.0)
    if image.dtype == np.uint8:
        table = curve.astype(np.float32)
        for plane, into in zip(image, out, strict=True):
            cv2.LUT(np.ascontiguousarray(plane), table, dst=into)
    else:
        out[...] = np.interp(image, _LEVELS, curve)


def _illuminate(image: np.ndarray, knots: np.ndarray) -> None:
    """Multiply by a smooth field, in place: cubic between the logarithms at 3 x 3 places."""
    if not knots.any():
        return
    height, width = image.shape[1:]
    field = cv2.resize(knots.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image *= cv2.exp(field)
    np.clip(image, 0.0, 1.0, out=image)


def _sharpness(plane: np.ndarray, drawn: Drawn, place: int) -> None:
    """Blur, sharpen, lose resolution: in place, on one channel."""
    height, width = plane.shape
    if sigma := float(drawn.blur_sigma_px[place]):
        plane[...] = _gaussian(plane, sigma)
    if amount := float(drawn.sharpen[place]):
        plane += np.float32(amount) * (plane - _gaussian(plane, 1.0))
    if (share := float(drawn.downscale[place])) < 1.0:
        small = (max(1, round(width * share)), max(1, round(height * share)))
        less = cv2.resize(plane, small, interpolation=cv2.INTER_AREA)
        plane[...] = cv2.resize(less, (width, height), interpolation=cv2.INTER_LINEAR)


def _gaussian(plane: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur with a kernel that reaches three standard deviations; the border is mirrored."""
    width = 2 * math.ceil(3 * sigma_px) + 1
    blurred: np.ndarray = cv2.GaussianBlur(plane, (width, width), sigma_px)
    return blurred


@functools.cache
def _noise_table() -> np.ndarray:
    """Draw standard normal numbers once: a fresh draw per image would cost most of a change."""
    return numpy_generator("noise table").standard_normal(_NOISE_VALUES, dtype=np.float32)


def _noise(shape: tuple[int, ...], start: float) -> np.ndarray:
    """Return standard normal numbers from the place ``start``, in [0, 1), of the table on."""
    count, first = math.prod(shape), int(start * _NOISE_VALUES)
    table = _noise_table()
    if first + count <= _NOISE_VALUES:
        return table[first : first + count].reshape(shape)
    return table.take(np.arange(first, first + count), mode="wrap").reshape(shape)


def _jpeg(image: np.ndarray, quality: int) -> None:
    """Pass an image through a JPEG, in place: as colour if it has three channels."""
    levels = np.rint(image * 255).astype(np.uint8)
    if len(image) == 3:
        image[...] = to_float(_through_jpeg(levels.transpose(1, 2, 0), quality).transpose(2, 0, 1))
    else:
        for plane, into in zip(levels, image, strict=True):
            into[...] = to_float(_through_jpeg(plane, quality))


def _through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(levels), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    decoded: np.ndarray = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    return decoded


def _masks(image: np.ndarray, settings: Augment, drawn: Drawn, place: int) -> None:
    """Cover the border and rectangles, in place."""
    top, bottom, left, right = drawn.border_px[place].tolist()
    boxes = drawn.erased_px[place].tolist()
    _, height, width = image.shape
    for plane in image:
        if top or bottom or left or right:
            value = _fill_value(plane, settings.border_fill)
            plane[:top] = plane[height - bottom :] = value
            plane[:, :left] = plane[:, width - right :] = value
        if boxes:
            value = _fill_value(plane, settings.erase_fill)
            for above, below, before, after in boxes:
                plane[above:below, before:after] = value


def _fill_value(plane: np.ndarray, fill: Fill) -> float:
    return float(cv2.mean(plane)[0]) if fill == "mean" else 0.0
