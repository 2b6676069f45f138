"""The folder of a cache on disk, and what a disk may do to it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medglean.errors import CacheError
from medglean.files import write_json


class CacheFolder:
    """The folder of one cache, and what it must hold."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.folder, self.shape, self.dtype = folder, shape, dtype.newbyteorder("<")
        self.images, self.done = folder / "images.raw", folder / "done"
        self.image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self.total_bytes = self.image_bytes * shape[0]

    def index(self) -> dict[str, Any] | None:
        """Return the index of a whole cache; None where there is none or half of one."""
        try:
            if not self.done.is_file() or self.images.stat().st_size != self.total_bytes:
                return None
            index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(index, dict) or index.get("shape") != list(self.shape):
            return None
        return index

    def write_index(self, index: dict[str, Any]) -> None:
        """Replace the index by another, whole."""
        write_json(self.folder / "index.json", index)


def reserve(descriptor: int, size: int) -> None:
    """Give a file its whole size with its blocks, so that a full disk shows now."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        else:
            return
    os.truncate(descriptor, size)


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn what the disk says into what a user can do."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free space, or choose a folder on another disk"
        else:
            remedy = "Choose a folder that you may write to"
        raise CacheError(
            f"{folder}: the cache cannot be written ({why}); nothing half is left. {remedy}."
        ) from error
