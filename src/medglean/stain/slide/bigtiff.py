"""The directories of a pyramidal BigTIFF, appended after tiles that are already in the file.

In a TIFF the tiles may lie anywhere and in any order, and the directories that list them may come
last. So tiles of all levels are appended as they are made, and the file is whole when the
directories follow and its header points at them: nothing is written twice. `BigTIFF
<https://www.awaresystems.be/imaging/tiff/bigtiff.html>`_ has offsets of 64 bits, for files of any
size.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
from jaxtyping import UInt64

HEADER_BYTES = 16
SHORT, LONG, RATIONAL, ASCII, LONG8, IFD8 = 3, 4, 5, 2, 16, 18
JPEG, DEFLATE, NONE = 7, 8, 1
RGB, YCBCR = 2, 6
CENTIMETRE = 3
DIFFERENCES = 2
"""Predictor: each sample is the difference from that of the pixel to its left."""
_FORMATS = {SHORT: "H", LONG: "I", RATIONAL: "I", LONG8: "Q", IFD8: "Q"}
_LARGEST = 2**32 - 1
_POINTER = 8

Compression = Literal["jpeg", "deflate", "none"]
Pyramid = Literal["subifds", "pages"]
"""Lower levels as children of the first directory, as OME-TIFF has them, or in a chain with it."""


@dataclass(frozen=True)
class TiffLevel:
    """One level of a pyramid.

    Attributes
    ----------
    size_px
        Height and width.
    offsets, lengths
        Place in the file and bytes of each tile, row by row.
    """

    size_px: tuple[int, int]
    offsets: UInt64[np.ndarray, " n"]
    lengths: UInt64[np.ndarray, " n"]


def empty_header() -> bytes:
    """Return the header of a file that has no directory yet: no reader takes it for whole."""
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0)


def append_directories(
    file: IO[bytes],
    levels: Sequence[TiffLevel],
    *,
    tile_px: int,
    compression: Compression,
    description: str,
    software: str,
    mpp: tuple[float, float],
    pyramid: Pyramid,
) -> None:
    """Append a directory for each level; the header is not changed yet, see `point_header`.

    Parameters
    ----------
    file
        At its end, which follows the last tile.
    levels
        From the largest.
    tile_px
        Side of the tiles.
    compression
        ``jpeg`` (YCbCr with as many samples of each, complete streams), ``deflate`` (RGB, with
        horizontal differences) or ``none`` (RGB).
    description, software
        ASCII.
    mpp
        Micrometres per pixel of the first level, along rows' and columns' axes (y, x).
    pyramid
        How the lower levels are found.
    """
    start = rounded = -(-file.tell() // 8) * 8
    file.write(bytes(rounded - file.tell()))
    chained = pyramid == "pages"
    entries = []
    for number, level in enumerate(levels):
        scale = levels[0].size_px[1] / level.size_px[1], levels[0].size_px[0] / level.size_px[0]
        tags = _tags(level, tile_px, compression, (mpp[0] * scale[1], mpp[1] * scale[0]))
        tags += [(254, LONG, [int(number > 0)])]
        tags += [(305, ASCII, software.encode("ascii"))]
        if number == 0 or chained:
            tags += [(270, ASCII, description.encode("ascii"))]
        if number == 0 and not chained and len(levels) > 1:
            tags += [(330, IFD8, [0] * (len(levels) - 1))]
        entries.append(sorted(tags, key=lambda tag: tag[0]))
    sizes = [_size(tags) for tags in entries]
    places = list(itertools.accumulate(sizes, initial=start))
    for number, tags in enumerate(entries):
        following = places[number + 1] if chained and number + 1 < len(entries) else 0
        filled = [(c, t, places[1:-1] if c == 330 else values) for c, t, values in tags]
        file.write(_directory(filled, places[number], following))


def point_header(file: IO[bytes], directories_at: int) -> None:
    """Let the header point at the first directory, with which the file is whole.

    Parameters
    ----------
    file
        Open for reading and writing.
    directories_at
        Length of the file before `append_directories`.
    """
    file.seek(_POINTER)
    file.write(struct.pack("<Q", -(-directories_at // 8) * 8))


Tag = tuple[int, int, "Sequence[int] | bytes | np.ndarray"]


def _tags(
    level: TiffLevel, tile_px: int, compression: Compression, mpp: tuple[float, float]
) -> list[Tag]:
    height, width = level.size_px
    codes = {"jpeg": JPEG, "deflate": DEFLATE, "none": NONE}
    tags: list[Tag] = [
        (256, LONG, [width]),
        (257, LONG, [height]),
        (258, SHORT, [8, 8, 8]),
        (259, SHORT, [codes[compression]]),
        (262, SHORT, [YCBCR if compression == "jpeg" else RGB]),
        (277, SHORT, [3]),
        (282, RATIONAL, _per_centimetre(mpp[1])),
        (283, RATIONAL, _per_centimetre(mpp[0])),
        (284, SHORT, [1]),
        (296, SHORT, [CENTIMETRE]),
        (322, LONG, [tile_px]),
        (323, LONG, [tile_px]),
        (324, LONG8, level.offsets),
        (325, LONG8, level.lengths),
    ]
    if compression == "jpeg":
        tags += [(530, SHORT, [1, 1])]
    if compression == "deflate":
        tags += [(317, SHORT, [DIFFERENCES])]
    return tags


def _per_centimetre(mpp: float) -> list[int]:
    """Return pixels per centimetre as a fraction."""
    unit = int(min(_LARGEST / (1e4 / mpp), 1e6))
    return [round(1e4 / mpp * unit), unit]


def _packed(kind: int, values: Sequence[int] | bytes | np.ndarray) -> tuple[int, bytes]:
    """Return how many values a tag has, and their bytes."""
    if isinstance(values, bytes):
        return len(values) + 1, values + b"\0"
    if isinstance(values, np.ndarray):
        return len(values), values.astype("<u8").tobytes()
    count = len(values) // 2 if kind == RATIONAL else len(values)
    return count, struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def _size(tags: Sequence[Tag]) -> int:
    """Return the bytes of a directory with what lies after it."""
    size = 8 + 20 * len(tags) + 8
    for _, kind, values in tags:
        length = len(_packed(kind, values)[1])
        size += -(-length // 8) * 8 if length > 8 else 0
    return -(-size // 8) * 8


def _directory(tags: Sequence[Tag], place: int, following: int) -> bytes:
    """Return the bytes of a directory that begins at ``place``."""
    head = struct.pack("<Q", len(tags))
    outside, at = b"", -(-(place + 8 + 20 * len(tags) + 8) // 8) * 8
    gap = at - (place + 8 + 20 * len(tags) + 8)
    for code, kind, values in tags:
        count, data = _packed(kind, values)
        head += struct.pack("<HHQ", code, kind, count)
        if len(data) > 8:
            head += struct.pack("<Q", at + len(outside))
            outside += data + bytes(-len(data) % 8)
        else:
            head += data.ljust(8, b"\0")
    return head + struct.pack("<Q", following) + bytes(gap) + outside
