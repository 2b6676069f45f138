"""PNG: its header, its chunks, and its pixels as they are stored, 16 bits included.

Pillow reduces 16-bit colour to 8 bits and fills up a picture whose data end early, so the pixels
come from libpng (imagecodecs) after the CRC of every chunk was checked. Grey of 2 and 4 bits is
scaled to 0..255 as the PNG specification says, 1 bit stays 0 and 1, a palette becomes its colours,
transparency follows ``colours.without_alpha``. The physical size that a PNG may state is the
resolution of a print, not of a body, and is not taken as a spacing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.colours import names_of, oriented, without_alpha
from medglean.data.readers.request import Request

_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@dataclass(frozen=True)
class PngHeader:
    """The IHDR chunk: size in pixels, bits per sample and colour type."""

    width: int
    height: int
    depth: int
    colour_type: int

    @property
    def channels(self) -> int:
        """Channels after decoding, alpha not counted."""
        return 1 if self.colour_type in (0, 4) else 3

    @property
    def decoded_shape(self) -> tuple[int, int, int]:
        """Height, width and samples per pixel, alpha counted, as libpng decodes them."""
        return self.height, self.width, _CHANNELS[self.colour_type] + (self.colour_type == 3)


def png_header(request: Request, head: bytes) -> PngHeader:
    """Read the IHDR chunk from the first bytes of a PNG."""
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise request.truncated("PNG", "no header chunk")
    width, height, depth, colour_type = struct.unpack(">IIBB", head[16:26])
    if depth not in _DEPTHS.get(colour_type, ()) or 0 in (width, height):
        raise request.truncated("PNG", "the header chunk makes no sense")
    return PngHeader(width, height, depth, colour_type)


def png_frames(head: bytes) -> int:
    """Return how many frames a PNG's first bytes announce: 1 unless it is animated."""
    at = 8
    while at + 20 <= len(head):
        (length,) = struct.unpack(">I", head[at : at + 4])
        name = head[at + 4 : at + 8]
        if name == b"acTL":
            return max(1, int(struct.unpack(">I", head[at + 8 : at + 12])[0]))
        if name == b"IDAT":
            return 1
        at += length + 12
    return 1


def read_png(request: Request, head: bytes) -> Picture:
    """Decode a PNG into values of 1, 8 or 16 bits."""
    header = png_header(request, head)
    request.allow("a PNG", "frame")
    request.check_budget(header.decoded_shape, 2 if header.depth == 16 else 1)
    data = request.read_bytes()
    chunks = dict(_checked_chunks(request, data))
    warnings: tuple[str, ...] = ()
    if b"acTL" in chunks:
        from medglean.data.readers.raster import read_pillow

        return read_pillow(request, "PNG", data=data)
    request.pick("frame", 1, noun="frame")
    values = _decoded(request, data, header)
    full = 65535 if header.depth == 16 else 255
    if values.shape[0] in (2, 4):
        values, warning = without_alpha(values[:-1], values[-1], full=full)
        warnings += (warning,)
    if header.depth == 1 and header.colour_type == 0:
        values, full = values // 255, 1
    if b"eXIf" in chunks:
        values, told = oriented(values, _exif_orientation(chunks[b"eXIf"]))
        warnings += told
    return Picture(
        values=np.ascontiguousarray(values),
        unit={1: "1-bit", 255: "8-bit", 65535: "16-bit"}[full],
        channels=names_of(values.shape[0]),
        warnings=warnings,
        full_scale=(0, full),
    )


def _checked_chunks(request: Request, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of every chunk but the pixels', having checked its CRC."""
    at = 8
    view = memoryview(data)
    while True:
        if at + 12 > len(data):
            raise request.truncated("PNG", f"it ends at byte {len(data)} without an end chunk")
        (length,) = struct.unpack(">I", view[at : at + 4])
        name = bytes(view[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(data):
            raise request.truncated("PNG", f"it ends at byte {len(data)}, inside a chunk")
        (crc,) = struct.unpack(">I", view[end : end + 4])
        if zlib.crc32(view[at + 4 : end]) != crc:
            raise request.truncated("PNG", f"wrong CRC of the chunk at byte {at}")
        if name == b"IEND":
            return
        yield name, b"" if name in (b"IDAT", b"fdAT") else bytes(view[at + 8 : end])
        at = end + 4


def _decoded(request: Request, data: bytes, header: PngHeader) -> np.ndarray:
    """Return all samples, channel first, alpha last if there is any."""
    import imagecodecs

    try:
        pixels: np.ndarray = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise request.truncated("PNG", str(error)) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    fits = pixels.shape[:2] == (header.height, header.width)
    if not fits or (pixels.dtype == np.uint16) != (header.depth == 16):
        raise request.truncated("PNG", f"decoded to {pixels.shape} {pixels.dtype}")
    return pixels.transpose(2, 0, 1)


def _exif_orientation(content: bytes) -> int:
    from PIL import Image

    exif = Image.Exif()
    exif.load(content)
    orientation = exif.get(0x0112, 1)
    return orientation if isinstance(orientation, int) else 1
