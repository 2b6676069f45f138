"""Structural checks of one compressed frame: its size, and whether it is whole.

Decoders of the JPEG family return a picture of another size than the header's, or fill up a cut
one, without raising. The markers of the codestream tell both.
"""

from __future__ import annotations

import struct

from medglean.data.readers.request import Request

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # F7: JPEG-LS
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def check_frame(request: Request, frame: bytes, rows: int, columns: int) -> None:
    """Check one frame of encapsulated pixel data; frames that are no JPEG of any kind pass.

    Raises
    ------
    ReadError
        If the codestream ends early or has another size than the header's rows and columns.
    """
    if frame.startswith(b"\xff\xd8"):
        size = _jpeg_size(frame)
        whole = b"\xff\xd9" in frame[-64:]
    elif (start := _codestream_start(frame)) is not None:
        size = _jpeg2000_size(frame, start)
        whole = _tiles_are_whole(frame, start)
    else:
        return
    if size is None or not whole:
        raise request.truncated("pixel data", f"a frame of {len(frame):,} bytes ends early")
    if size != (rows, columns):
        raise request.error(
            f"the header says {rows} rows and {columns} columns, the compressed frame has "
            f"{size[0]} and {size[1]}.",
            "Export the image again; no size can be trusted.",
        )


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            at += 1
            continue
        marker = frame[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES:
            rows, columns = struct.unpack(">HH", frame[at + 5 : at + 9])
            return rows, columns
        at += 2 + int(struct.unpack(">H", frame[at + 2 : at + 4])[0])
    return None


def _codestream_start(frame: bytes) -> int | None:
    """Return where a JPEG 2000 codestream begins, bare or in a JP2 box."""
    if frame.startswith(b"\xff\x4f\xff\x51"):
        return 0
    if frame[4:8] == b"jP  ":
        found = frame.find(b"\xff\x4f\xff\x51")
        return found if found >= 0 else None
    return None


def _jpeg2000_size(frame: bytes, start: int) -> tuple[int, int] | None:
    if start + 24 > len(frame):
        return None
    right, lower, left, upper = struct.unpack(">IIII", frame[start + 8 : start + 24])
    return lower - upper, right - left


def _tiles_are_whole(frame: bytes, start: int) -> bool:
    """Tell whether every tile part has the length that it states."""
    at = start + 2
    while at + 4 <= len(frame) and frame[at : at + 2] != b"\xff\x90":
        at += 2 + int(struct.unpack(">H", frame[at + 2 : at + 4])[0])
    while at + 12 <= len(frame) and frame[at : at + 2] == b"\xff\x90":
        (length,) = struct.unpack(">I", frame[at + 6 : at + 10])
        if length == 0:  # reaches to the end mark
            return b"\xff\xd9" in frame[-64:]
        at += max(length, 12)
    return at <= len(frame) and frame[at : at + 2] != b"\xff\x90"
