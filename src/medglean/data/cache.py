"""Decode once: all images of a manifest, prepared by a recipe, in one array mapped from disk.

A cache is a folder named by what is in it: the content of the images and the recipe.

``images.raw``
    The array (n, c, h, w), little-endian, row-major, in the order of the manifest's rows. Rows
    that failed are zeros.
``index.json``
    Shape, recipe, failures, warnings, spacing, and size and time of change of every file.
``done``
    Written last. Without it the folder is what a killed process left: it is removed and made anew.

The first process to ask for a cache holds a lock while it builds; others wait and then read.
Caches that are no longer wanted may be deleted at any time; nothing else is kept there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from jaxtyping import Bool

from medglean.data.cache_folder import CacheFolder, reserve, told
from medglean.data.cache_index import altered_since, decoders, new_index, note, to_retry
from medglean.data.content import Hashes, key_of_cache, with_hashes
from medglean.data.decode import Decoded, Failed, Job, decoded
from medglean.data.jobs import jobs_of
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
from medglean.errors import CacheError, Problem
from medglean.files import fsync_folder, write_text

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` while images are decoded."""

SPARE_BYTES = 32 << 20
"""Room that is left on the disk beside the array, for the index and for others."""


@dataclass(frozen=True)
class Cache:
    """Prepared images, one per row of a manifest.

    Attributes
    ----------
    array
        Shape (n, c, h, w), of the recipe's ``dtype``; read-only, mapped from disk or in memory.
    ok
        Whether each row has an image, shape (n,); the others are zeros in ``array``.
    failures
        Why rows have none, with ``row`` as a spreadsheet counts them.
    warnings
        What to know about images that were read, and files that were altered since.
    spacing_mm
        Millimetres between neighbouring pixels of each prepared image, along y and x.
    hash
        Key of the cache: changes with any image's content and with the recipe.
    rebuilt
        Whether anything was decoded just now.
    """

    array: np.ndarray
    ok: Bool[np.ndarray, " n"]
    failures: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    spacing_mm: tuple[tuple[float, float] | None, ...]
    hash: str
    rebuilt: bool


CACHE_NAME = ".medglean-cache"


def default_cache(manifest: Manifest) -> Path:
    """Return the folder beside a manifest in which decoded images are kept."""
    beside = manifest.path.parent if manifest.path is not None else manifest.root
    return beside / CACHE_NAME


def open_cache(
    manifest: Manifest,
    recipe: Recipe,
    folder: Path,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Cache:
    """Return the prepared images of a manifest, decoding only what no earlier run has decoded.

    An image that cannot be read, or whose file is not the one that the index recorded, is told in
    ``failures`` and the rest goes on. Such images are tried again when their file or a decoder's
    version has changed. A file that is altered after it was cached is told in ``warnings``: its
    image stays the one that the manifest recorded.

    Parameters
    ----------
    manifest
        At least one row.
    recipe
        How images are prepared.
    folder
        Where caches lie; made if it does not exist.
    workers
        How many images are decoded at the same time; 0: in this process.
    progress
        Called as ``progress(done, total)``.

    Raises
    ------
    CacheError
        If there is not enough room, or the folder cannot be written. Nothing half is left.
    DataError
        If the manifest is empty or its columns do not fit the recipe.
    """
    folder = Path(folder)
    hashes = Hashes(folder)
    jobs = with_hashes(jobs_of(manifest, recipe), hashes)
    key = key_of_cache(jobs, recipe, len(manifest))
    place = CacheFolder(folder / key[:32], (len(manifest), *recipe.shape), np.dtype(recipe.dtype))
    index, rebuilt = place.index(), False
    if index is None or to_retry(index, jobs):
        try:
            index, rebuilt = _made(place, jobs, recipe, hashes, workers, progress)
        except CacheError:
            if index is None:  # what was readable before is good without a second try
                raise
    array = np.memmap(place.images, dtype=place.dtype, mode="r", shape=place.shape)
    return _cache(array, index, manifest, key, rebuilt, altered_since(index, jobs))


def decode_to_memory(
    manifest: Manifest,
    recipe: Recipe,
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> Cache:
    """As :func:`open_cache`, with the array in memory and nothing on disk."""
    jobs = with_hashes(jobs_of(manifest, recipe), Hashes(None))
    array = np.zeros((len(manifest), *recipe.shape), dtype=recipe.dtype)
    index = new_index(array.shape, recipe)
    for job, result in _run(jobs, workers, progress):
        if isinstance(result, Decoded):
            array[list(job.rows)] = result.stored
        note(index, job, result)
    array.flags.writeable = False
    key = key_of_cache(jobs, recipe, len(manifest))
    return _cache(array, index, manifest, key, True, [])


def _made(
    place: CacheFolder,
    jobs: Sequence[Job],
    recipe: Recipe,
    hashes: Hashes,
    workers: int,
    progress: Progress | None,
) -> tuple[dict[str, Any], bool]:
    """Build a cache or complete it, alone; return its index and whether anything was decoded."""
    folder = place.folder.parent
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        hashes.write()
        with filelock.FileLock(folder / f"{place.folder.name}.lock"):
            index = place.index()  # another process may have built it while this one waited
            if index is None:
                return _build(place, jobs, recipe, workers, progress), True
            again = to_retry(index, jobs)
            if again:
                index = _fill(place, index, again, workers, progress)
            return index, bool(again)


def _build(
    place: CacheFolder, jobs: Sequence[Job], recipe: Recipe, workers: int, progress: Progress | None
) -> dict[str, Any]:
    """Make a cache from nothing; whatever stops it, its folder is removed."""
    shutil.rmtree(place.folder, ignore_errors=True)
    free = shutil.disk_usage(place.folder.parent).free
    if free < place.total_bytes + SPARE_BYTES:
        raise CacheError(
            f"{place.folder.parent}: the cache of {place.shape[0]:,} images needs "
            f"{place.total_bytes + SPARE_BYTES:,} bytes, and {free:,} are free. Free space, choose "
            "a folder on another disk, or set a smaller images.size_px."
        )
    try:
        place.folder.mkdir()
        with place.images.open("xb") as file:
            reserve(file.fileno(), place.total_bytes)
            file.flush()
            os.fsync(file.fileno())
        index = _fill(place, new_index(place.shape, recipe), jobs, workers, progress)
        write_text(place.done, f"{place.total_bytes}\n")
        fsync_folder(place.folder.parent)
    except BaseException:
        shutil.rmtree(place.folder, ignore_errors=True)
        raise
    return index


def _fill(
    place: CacheFolder,
    index: dict[str, Any],
    jobs: Sequence[Job],
    workers: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Decode jobs into the array, and only then write the index that says which rows are good."""
    # written, not mapped: on a full disk a write is an error, a mapped page kills the process
    with place.images.open("r+b") as file:
        for job, result in _run(jobs, workers, progress):
            if isinstance(result, Decoded):
                data = result.stored.astype(place.dtype, copy=False).tobytes()
                for row in job.rows:
                    file.seek(row * place.image_bytes)
                    file.write(data)
            note(index, job, result)
        file.flush()
        os.fsync(file.fileno())
    index["decoders"] = decoders()
    place.write_index(index)
    return index


def _run(
    jobs: Sequence[Job], workers: int, progress: Progress | None
) -> Iterator[tuple[Job, Decoded | Failed]]:
    results = decoded(jobs, workers=workers)
    with contextlib.closing(results):
        for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
            yield job, result
            if progress is not None:
                progress(done, len(jobs))


def _cache(
    array: np.ndarray,
    index: dict[str, Any],
    manifest: Manifest,
    key: str,
    rebuilt: bool,
    altered: list[Problem],
) -> Cache:
    ok = np.ones(len(manifest), dtype=bool)
    failures, warnings = [], list(altered)
    for row, failure in sorted(index["failures"].items(), key=lambda item: int(item[0])):
        ok[int(row)] = False
        failures.append(Problem(**{**failure, "row": int(row) + 2}))
    for row, (name, *sentences) in sorted(index["warnings"].items(), key=lambda item: int(item[0])):
        warnings += [
            Problem(name, f"{sentence}.", "", row=int(row) + 2, kind="image", fatal=False)
            for sentence in sentences
        ]
    spacing = tuple(None if pair is None else (pair[0], pair[1]) for pair in index["spacing_mm"])
    return Cache(array, ok, tuple(failures), tuple(warnings), spacing, key, rebuilt)
