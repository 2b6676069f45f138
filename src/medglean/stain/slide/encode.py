"""Tiles as bytes."""

from __future__ import annotations

import imagecodecs
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from medglean.stain.slide.bigtiff import Compression

Pixels = UInt8[np.ndarray, "h w 3"]

_QUALITIES = (1, 50, 75, 90, 95, 100)
_JPEG_BYTES = (0.3, 0.5, 0.8, 1.1, 1.6, 3.0)
"""Bytes a pixel of stained tissue takes at most, with colours at full resolution."""


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """Return a complete JPEG stream, YCbCr, with colours at full resolution.

    Optical density is measured in the colours, so these are not halved.
    """
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return data


def encode_tile(pixels: Pixels, compression: Compression, quality: int) -> bytes:
    """Return a tile as a TIFF file holds it."""
    if compression == "jpeg":
        return encode_jpeg(pixels, quality)
    if compression == "none":
        return pixels.tobytes()
    change = pixels.copy()
    change[:, 1:] -= pixels[:, :-1]  # modulo 256, as TIFF's predictor has it
    return bytes(imagecodecs.deflate_encode(change.tobytes(), level=6, raw=False))


def padded(pixels: Pixels, side_px: int) -> Pixels:
    """Return a tile of the full side; what is missing repeats its last row and column."""
    height, width = pixels.shape[:2]
    if (height, width) == (side_px, side_px):
        return pixels
    return np.pad(pixels, ((0, side_px - height), (0, side_px - width), (0, 0)), mode="edge")


def halved(pixels: Pixels) -> Pixels:
    """Return the mean over squares of 2 x 2 pixels; an odd side repeats its last row or column.

    Examples
    --------
    >>> tile = np.array([[0, 1, 9], [2, 4, 9]], np.uint8)[..., None].repeat(3, axis=2)
    >>> halved(tile)[..., 0].tolist()
    [[2, 9]]
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    total = pixels[::2].astype(np.uint16)
    total += pixels[1::2]
    quarter = total[:, ::2] + total[:, 1::2]
    quarter += 2  # to the nearest, halves upwards
    quarter >>= 2
    return quarter.astype(np.uint8)


def bytes_per_pixel(compression: Compression, quality: int) -> float:
    """Return about how many bytes a pixel of stained tissue takes at most."""
    if compression != "jpeg":
        return 3.0
    return float(np.interp(quality, _QUALITIES, _JPEG_BYTES))
