"""What goes over the pipe between a worker process and its parent: JSON and raw arrays.

A message is four marks, the length of a JSON text, the text, and then the bytes of the arrays that
the text describes. Nothing is unpickled: a worker whose decoder was taken over by a hostile file
can send wrong pixels, but cannot make the parent run code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from medglean.data.picture import Picture

_MARK = b"MGL1"
_HEAD = struct.Struct("<4sI")
_LARGEST_TEXT = 1 << 24
_MOST_AXES = 8

Arrays = dict[str, np.ndarray]


class GarbledError(Exception):
    """What came over the pipe is no message, or the pipe ended inside one."""


def send(pipe: BinaryIO, text: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Write one message."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape)}
        for name, array in whole.items()
    ]
    data = json.dumps({"text": text, "arrays": described}).encode()
    _write(pipe, _HEAD.pack(_MARK, len(data)) + data)
    for array in whole.values():
        if array.size:
            _write(pipe, array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def receive(pipe: BinaryIO, *, most_bytes: int) -> tuple[dict[str, Any], Arrays]:
    """Read one message.

    Parameters
    ----------
    most_bytes
        Most bytes of arrays that are accepted.

    Raises
    ------
    EOFError
        If the pipe ended before the message began.
    GarbledError
        If what came is no message.
    """
    head = _read(pipe, _HEAD.size)
    if not head:
        raise EOFError
    if len(head) < _HEAD.size:
        raise GarbledError
    mark, length = _HEAD.unpack(head)
    if mark != _MARK or length > _LARGEST_TEXT:
        raise GarbledError
    try:
        message = json.loads(_read(pipe, length))
        text, described = message["text"], message["arrays"]
        arrays: Arrays = {}
        for array in described:
            most_bytes -= _receive_array(pipe, array, arrays, most_bytes)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise GarbledError from error
    if not isinstance(text, dict):
        raise GarbledError
    return text, arrays


def _receive_array(
    pipe: BinaryIO, described: Mapping[str, Any], arrays: Arrays, most_bytes: int
) -> int:
    """Read one array into ``arrays`` and return its size in bytes."""
    dtype = np.dtype(str(described["dtype"]))
    shape = tuple(int(length) for length in described["shape"])
    if dtype.kind not in "biuf" or len(shape) > _MOST_AXES or min(shape, default=0) < 0:
        raise GarbledError
    size = math.prod(shape) * dtype.itemsize
    if size > most_bytes:
        raise GarbledError
    array = np.empty(shape, dtype)
    if size:
        view = array.reshape(-1).view(np.uint8).data
        while view:
            count = pipe.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise GarbledError
            view = view[count:]
    arrays[str(described["name"])] = array
    return size


def picture_to_wire(picture: Picture) -> tuple[dict[str, object], Arrays]:
    """Return a picture as JSON-able text and its array."""
    text: dict[str, object] = {
        "unit": picture.unit,
        "spacing_mm": None if picture.spacing_mm is None else list(picture.spacing_mm),
        "channels": list(picture.channels),
        "warnings": list(picture.warnings),
        "axes": list(picture.axes),
        "full_scale": None if picture.full_scale is None else list(picture.full_scale),
    }
    return text, {"values": picture.values}


def picture_from_wire(text: Mapping[str, Any], arrays: Arrays) -> Picture:
    """Return the picture that ``picture_to_wire`` took apart.

    Raises
    ------
    GarbledError
        If the parts do not make a picture.
    """
    try:
        spacing, scale = text["spacing_mm"], text["full_scale"]
        return Picture(
            values=arrays["values"],
            unit=str(text["unit"]),
            spacing_mm=None if spacing is None else tuple(float(s) for s in spacing),
            channels=tuple(str(name) for name in text["channels"]),
            warnings=tuple(str(sentence) for sentence in text["warnings"]),
            axes=tuple(str(axis) for axis in text["axes"]),
            full_scale=None if scale is None else (scale[0], scale[1]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise GarbledError from error


def _read(pipe: BinaryIO, length: int) -> bytes:
    """Read so many bytes, fewer only where the pipe ends."""
    parts = []
    while length:
        part = pipe.read(min(length, 1 << 20))
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _write(pipe: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of it, also to a pipe without a buffer, which may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]
