"""JPEG: its header and its pixels, refused when the decoder had to invent some of them.

libjpeg fills what is missing or damaged with grey and merely warns. Here a warning about the
picture's data is an error; where bytes were skipped before a marker, that is told. Colours are
turned into RGB once; CMYK from Adobe programs is stored inverted and turned back. The dots per
inch that a JPEG may state are not a spacing in the body and are not taken as one.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.colours import cmyk_to_rgb, names_of, oriented
from medglean.data.readers.request import Request
from medglean.errors import ReadError

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class JpegHeader:
    """What stands before the first scan: size in pixels, bits, channels and markers."""

    width: int
    height: int
    bits: int
    samples: int
    lossless: bool
    has_exif: bool
    has_adobe: bool


def jpeg_header(request: Request, data: bytes) -> JpegHeader:
    """Read the markers of a JPEG up to its frame header.

    Parameters
    ----------
    data
        The file's content or its beginning; the error says so where it does not reach.
    """
    at, has_exif, has_adobe = 2, False, False
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise request.truncated("JPEG", "no frame header")
        marker = data[at + 1]
        if marker in _ALONE or marker in (0x00, 0xFF):
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):
            raise request.truncated("JPEG", "no frame header before the data")
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if marker in _FRAME_MARKERS:
            return _frame_header(request, data, at, has_exif, has_adobe)
        has_exif |= marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0"
        has_adobe |= marker == 0xEE and data[at + 4 : at + 9] == b"Adobe"
        at += 2 + length


def _frame_header(
    request: Request, data: bytes, at: int, has_exif: bool, has_adobe: bool
) -> JpegHeader:
    if at + 10 > len(data):
        raise request.truncated("JPEG", "no frame header")
    bits, height, width, samples = struct.unpack(">BHHB", data[at + 4 : at + 10])
    if 0 in (height, width) or samples not in (1, 3, 4):
        raise request.truncated("JPEG", f"{width} x {height} pixels of {samples} samples")
    return JpegHeader(width, height, bits, samples, data[at + 1] in _LOSSLESS, has_exif, has_adobe)


def jpeg_header_of_file(request: Request, head: bytes) -> JpegHeader:
    """Read the frame header of a file whose first bytes may not reach it (large EXIF or ICC)."""
    try:
        return jpeg_header(request, head)
    except ReadError:
        return jpeg_header(request, request.read_bytes())


def read_jpeg(request: Request) -> Picture:
    """Decode a JPEG of 8 bits; more bits and lossless JPEG are refused outside of DICOM."""
    request.allow("a JPEG")
    data = request.read_bytes()
    header = jpeg_header(request, data)
    request.check_budget((header.height, header.width, header.samples), 1)
    if header.bits != 8 or header.lossless:
        kind = f"{header.bits}-bit {'lossless ' if header.lossless else ''}JPEG"
        raise request.error(
            f"expected a JPEG of 8 bits, found a {kind}, whose decoders do not tell damage.",
            "Convert it to a 16-bit PNG, or keep it inside its DICOM file.",
        )
    pixels, warnings = _decoded(request, data, header)
    if pixels.shape[:2] != (header.height, header.width):
        raise request.truncated("JPEG", f"decoded to {pixels.shape}")
    full = 255
    values = pixels.transpose(2, 0, 1)
    if header.samples == 4:
        inks = full - values if header.has_adobe else values
        values, warning = cmyk_to_rgb(inks, full=full)
        warnings += (warning,)
    if header.has_exif:
        values, told = oriented(values, _exif_orientation(data))
        warnings += told
    return Picture(
        values=np.ascontiguousarray(values),
        unit="8-bit",
        channels=names_of(values.shape[0]),
        warnings=warnings,
        full_scale=(0, full),
    )


def _decoded(
    request: Request, data: bytes, header: JpegHeader
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return pixels of shape (h, w, samples), and what the decoder had to skip."""
    import simplejpeg

    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.samples]
    try:
        return simplejpeg.decode_jpeg(data, colorspace=space, strict=True), ()
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise request.truncated("JPEG", str(error)) from error
        told = str(error)
    return _decoded_leniently(request, data), (
        f"the decoder skipped bytes ({told}); a part of the picture may be damaged.",
    )


def _decoded_leniently(request: Request, data: bytes) -> np.ndarray:
    """Return pixels of shape (h, w, samples) with Pillow, which goes on after skipped bytes."""
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        image = JpegImageFile(io.BytesIO(data))
        pixels = np.asarray(image).reshape(*image.size[::-1], -1)
    except (OSError, SyntaxError, ValueError) as error:
        raise request.truncated("JPEG", str(error)) from error
    return 255 - pixels if image.mode == "CMYK" else pixels  # Pillow has inverted the inks


def _exif_orientation(data: bytes) -> int:
    from PIL.JpegImagePlugin import JpegImageFile

    orientation = JpegImageFile(io.BytesIO(data)).getexif().get(0x0112, 1)
    return orientation if isinstance(orientation, int) else 1
