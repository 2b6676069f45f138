"""What an image is known by: its file's SHA-256 and which part of the file is meant.

The index records the SHA-256 in the manifest. Where it is not recorded it is computed, and kept
beside the caches with the file's size and time of change, so that the next run need not read
every file again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medglean.data.decode import Job, Recorded, file_of, stamp_of
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.errors import ReadError
from medglean.files import sha256_of_file, write_json

FORMAT = 1
"""Of the folder of a cache; part of its key, so that a later format never meets an earlier one."""


class Hashes:
    """SHA-256 of files by path, size and time of change, kept in a folder's ``hashes.json``.

    A file changed twice within the resolution of its time stamp, to the same size, is not noticed;
    a manifest with the column ``sha256`` does not rely on this.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else folder / "hashes.json"
        self._known: dict[str, list[object]] = {}
        self._changed = False
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError):  # lost or damaged: computed anew
                known = json.loads(self._file.read_text(encoding="utf-8"))
                self._known = known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str | None:
        """Return the SHA-256 of a file's content, ``None`` where it cannot be read."""
        stamp = stamp_of(path)
        if stamp is None:
            return None
        entry = self._known.get(str(path))
        if isinstance(entry, list) and entry[:2] == list(stamp) and len(entry) == 3:
            return str(entry[2])
        try:
            digest = sha256_of_file(path)
        except OSError:
            return None
        self._known[str(path)] = [*stamp, digest]
        self._changed = True
        return digest

    def write(self) -> None:
        """Keep what was computed; without the right to write, the next run computes again."""
        if self._file is not None and self._changed:
            with contextlib.suppress(OSError):
                write_json(self._file, self._known)


def with_hashes(jobs: Sequence[Job], hashes: Hashes) -> list[Job]:
    """Fill in the SHA-256 of files that the manifest says nothing of."""
    return [
        replace(
            job,
            recorded=tuple(
                recorded
                if recorded.sha256 is not None
                else Recorded(recorded.bytes, hashes.of(file_of(job, place)))
                for place, recorded in enumerate(job.recorded)
            ),
        )
        for job in jobs
    ]


def key_of_cache(jobs: Sequence[Job], recipe: Recipe, rows: int) -> str:
    """Return 64 hex digits that change with the recipe, any image's content, or the rows' order.

    Names of files, labels, splits and all other columns do not matter.
    """
    by_row = [""] * rows
    for job in jobs:
        content = ";".join(
            f"{recorded.sha256 or 'unreadable'}#{_part(reference)}"
            for reference, recorded in zip(job.references, job.recorded, strict=True)
        )
        for row in job.rows:
            by_row[row] = content
    digest = hashlib.sha256(f"{FORMAT}\n{recipe.hash()}\n".encode())
    for content in by_row:
        digest.update(content.encode() + b"\n")
    return digest.hexdigest()


def _part(reference: str) -> str:
    try:
        return repr(sorted(ImageReference.parse(reference).fragment))
    except ReadError:
        return reference
