"""Voxels of the compressed volumes that were read last, so that slices need not inflate each anew.

A gzip stream can only be read from its start. Of a volume of 155 slices and four channels, each
slice would cost four whole volumes; kept, the volume costs itself once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

DEFAULT_BYTES = 512 << 20
"""Room for the four sequences and the mask of a BraTS volume, also as 64-bit floats (357 MB)."""

_Key = tuple[str, int, int]


class Volumes:
    """The volumes read last, up to a number of bytes; several threads may ask at once.

    Parameters
    ----------
    most_bytes
        Most bytes of voxels that are kept; a larger volume is not.
    """

    def __init__(self, *, most_bytes: int = DEFAULT_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[_Key, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def voxels(self, path: Path, load: Callable[[], np.ndarray]) -> np.ndarray:
        """Return a file's voxels, read-only: those kept, or what ``load`` returns.

        A file whose size or time of change differs is another file.
        """
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        with self._lock:  # also while loading: two threads that want one volume read it once
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            values = load()
            values.flags.writeable = False
            self._kept[key] = values
            while sum(one.nbytes for one in self._kept.values()) > self.most_bytes:
                self._kept.popitem(last=False)
            return values

    def clear(self) -> None:
        """Forget all volumes."""
        with self._lock:
            self._kept.clear()
