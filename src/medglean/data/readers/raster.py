"""BMP, GIF, WebP and animated PNG, through Pillow.

An identity grey palette (entry k is the grey k) is grey, any other palette becomes its colours.
Transparency follows ``colours.without_alpha``. Of an animation one frame must be named.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.colours import names_of, oriented, without_alpha
from medglean.data.readers.request import Request

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


def pillow_size(request: Request, kind: str, head: bytes) -> tuple[int, int]:
    """Return width and height from the first bytes, without Pillow's own limit on pixels."""
    if kind == "GIF" and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
    elif kind == "BMP" and head[14:18] == b"\x0c\0\0\0":
        width, height = struct.unpack("<HH", head[18:22])
    elif kind == "BMP" and len(head) >= 26:
        width, height = struct.unpack("<ii", head[18:26])
    elif kind == "WebP":
        width, height = _webp_size(head)
    else:
        width, height = 0, 0
    if 0 in (width, height):
        raise request.truncated(kind, "no sensible size in the header")
    return abs(width), abs(height)


def _webp_size(head: bytes) -> tuple[int, int]:
    if head[12:16] == b"VP8X" and len(head) >= 30:
        width = int.from_bytes(head[24:27], "little") + 1
        return width, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 " and len(head) >= 30:
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def open_pillow(request: Request, kind: str, data: bytes) -> ImageFile:
    """Open bytes with Pillow's reader of that kind, and only that one."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        # our own budget was checked before, from the header
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=[kind.upper()])
        except Image.DecompressionBombError as error:
            raise request.error(
                "the picture has more pixels than Pillow decodes.", "Convert it to TIFF or PNG."
            ) from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise request.truncated(kind, "the header makes no sense") from error


def read_pillow(request: Request, kind: str, *, data: bytes | None = None) -> Picture:
    """Decode a BMP, GIF, WebP or animated PNG (whose size was checked) with Pillow."""
    request.allow(f"a {kind}", *(() if kind == "BMP" else ("frame",)))
    data = request.read_bytes() if data is None else data
    if kind != "PNG":
        width, height = pillow_size(request, kind, data[:64])
        request.check_budget((height, width, 4), 1)
    image = open_pillow(request, kind, data)
    count = int(getattr(image, "n_frames", 1))
    frame = request.pick("frame", count, noun="frame")
    if count > 1 and frame is None:
        raise request.error(
            f"the {kind} is animated and has {count} frames, expected one picture.",
            f"Name one, counted from 0: {request.name}#frame=0.",
        )
    if image.mode.startswith("I"):
        raise request.error(
            f"an animated {kind} of 16 bits, expected 8.", "Export each frame as its own file."
        )
    try:
        image.seek(frame or 0)
        orientation = image.getexif().get(0x0112, 1)
        pixels, mode = _pixels(image)
    except (OSError, EOFError, ValueError, SyntaxError, struct.error) as error:
        raise request.truncated(kind, str(error)) from error
    return _picture(pixels, mode, orientation)


def _pixels(image: ImageFile) -> tuple[np.ndarray, str]:
    """Return samples of shape (h, w, c) and Pillow's mode: 1, L, LA, RGB or RGBA."""
    mode = image.mode
    if mode not in ("1", "L", "LA", "RGB", "RGBA"):
        mode = "RGBA" if image.has_transparency_data else "RGB"
    pixels = np.asarray(image.convert(mode) if mode != image.mode else image)
    return pixels.reshape(*pixels.shape[:2], -1), mode


def _picture(pixels: np.ndarray, mode: str, orientation: object) -> Picture:
    told: tuple[str, ...] = ()
    values = pixels.transpose(2, 0, 1)
    if mode == "1":
        values = values.astype(np.uint8)
    if mode in ("LA", "RGBA"):
        values, warning = without_alpha(values[:-1], values[-1], full=255)
        told += (warning,)
    if isinstance(orientation, int):
        values, turned = oriented(values, orientation)
        told += turned
    return Picture(
        values=np.ascontiguousarray(values),
        unit="1-bit" if mode == "1" else "8-bit",
        channels=names_of(values.shape[0]),
        warnings=told,
        full_scale=(0, 1 if mode == "1" else 255),
    )
