"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one.

The order is the one that survives a power cut: write a temporary file in the same folder, fsync
it, rename it over the name, fsync the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK_BYTES = 1 << 20


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits, reading it in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: object) -> str:
    """Return the SHA-256 of a JSON-able value in canonical form (sorted keys, no spaces).

    Examples
    --------
    >>> sha256_of_json({"b": 1, "a": 2}) == sha256_of_json({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; on Windows, where none can be synced, do nothing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its name only when all was written.

    Parameters
    ----------
    path
        The file to write; its folder must exist.
    mode
        Permission bits of the file from its first byte on, such as ``0o600``; by default those
        that the user's umask gives.

    Yields
    ------
    IO[bytes]
        A binary file. When the block ends normally the data are fsynced and renamed to ``path``;
        when it raises, the temporary file is removed and ``path`` is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write ``data`` to ``path`` so that no reader ever sees half of it."""
    with atomic_writer(path, mode=mode) as file:
        file.write(data)


def write_text(path: Path, text: str, *, mode: int | None = None) -> None:
    """Write UTF-8 text to ``path`` so that no reader ever sees half of it."""
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json.dumps takes
    """Write a value as indented UTF-8 JSON so that no reader ever sees half of it.

    Raises
    ------
    ValueError
        If it holds NaN or infinity, which JSON has no way to say: pass ``None`` instead.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
