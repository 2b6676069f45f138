"""From the rows of a manifest to arrays: what a worker process does for the cache.

A row's file is compared with what the index recorded of it before it is decoded, so that a cache
never holds another image than the manifest means.
"""

from __future__ import annotations

import concurrent.futures
import functools
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.arrays import UnitImage
from medglean.data.intensity import Limits
from medglean.data.manifest import Manifest
from medglean.data.prepare import Prepared, prepare_channels, prepare_one, volume_limits
from medglean.data.readers import read
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.errors import DataError, MedgleanError, Problem, ReadError
from medglean.files import sha256_of_file

SLICE_KEYS = ("frame", "axis", "index")
"""Keys of a reference that take a slice of a volume or clip."""

Stamp = tuple[int, int] | None
"""A file's size in bytes and time of change in nanoseconds; None where it cannot be asked."""


@dataclass(frozen=True)
class Recorded:
    """What the manifest says of one file; None where it says nothing."""

    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Job:
    """One image to decode.

    Attributes
    ----------
    rows
        Rows of the manifest that show it; more than one where the same reference is repeated.
    references
        As the manifest has them: one, or one per channel.
    recorded
        What the manifest says of each reference's file.
    root
        The folder that references are relative to.
    recipe
        What to make of it.
    """

    rows: tuple[int, ...]
    references: tuple[str, ...]
    recorded: tuple[Recorded, ...]
    root: Path
    recipe: Recipe


@dataclass(frozen=True)
class Decoded:
    """An image as the cache keeps it, and what to know about it."""

    stored: np.ndarray
    spacing_mm: tuple[float, float] | None
    warnings: tuple[str, ...]
    stamps: tuple[Stamp, ...]


@dataclass(frozen=True)
class Failed:
    """Why there is no image."""

    problem: Problem
    stamps: tuple[Stamp, ...]


def jobs_of(manifest: Manifest, recipe: Recipe) -> list[Job]:
    """Return one job per image that the manifest's rows name, in the order of the rows.

    Raises
    ------
    DataError
        If the manifest's image columns do not fit the recipe's channels, or it has no rows.
    """
    if len(manifest) == 0:
        raise DataError(
            "the manifest has no rows, expected at least one image. Check how it was made."
        )
    columns = _columns(manifest, recipe)
    frame = manifest.frame
    texts = [frame[column].to_numpy(dtype=object) for column in columns]
    sizes = [_recorded(frame, "bytes", column) for column in columns]
    hashes = [_recorded(frame, "sha256", column) for column in columns]
    rows_of: dict[tuple[tuple[str, ...], tuple[Recorded, ...]], list[int]] = {}
    for row in range(len(frame)):
        recorded = tuple(
            Recorded(
                None if pd.isna(size[row]) else int(size[row]),
                None if pd.isna(digest[row]) else str(digest[row]),
            )
            for size, digest in zip(sizes, hashes, strict=True)
        )
        references = tuple("" if pd.isna(text[row]) else str(text[row]) for text in texts)
        rows_of.setdefault((references, recorded), []).append(row)
    return [
        Job(tuple(rows), references, recorded, manifest.root, recipe)
        for (references, recorded), rows in rows_of.items()
    ]


def _columns(manifest: Manifest, recipe: Recipe) -> list[str]:
    """Return the manifest's columns with the images of a row, in the recipe's order."""
    present = manifest.image_columns
    if present == ["image"]:
        return present
    if isinstance(recipe.channels, str):
        names = ", ".join(column.removeprefix("image.") for column in present)
        raise DataError(
            f"the manifest has one image per channel ({names}), and the recipe expects one image "
            f"({recipe.channels!r}). Set images.channels to the names to use."
        )
    wanted = [f"image.{name}" for name in recipe.channels]
    missing = [column for column in wanted if column not in present]
    if missing:
        raise DataError(
            f"the manifest has no column {missing[0]!r}; its images are {', '.join(present)}. "
            "Add the column, or set images.channels to names that are there."
        )
    return wanted


def _recorded(frame: pd.DataFrame, what: str, column: str) -> np.ndarray:
    """Return what the index recorded of each row's file: ``sha256``, or ``sha256.<channel>``."""
    name = what + column.removeprefix("image")
    if name in frame:
        return frame[name].to_numpy(dtype=object)
    return np.full(len(frame), None, dtype=object)


def decoded(jobs: Sequence[Job], *, workers: int) -> Generator[Decoded | Failed, None, None]:
    """Carry out jobs, in order.

    Parameters
    ----------
    jobs
        What to decode.
    workers
        How many decode at the same time; 0: one after the other in this process.
    """
    if workers == 0:
        yield from map(decode, jobs)
        return
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: deque[concurrent.futures.Future[Decoded | Failed]] = deque()
        for job in jobs:
            waiting.append(pool.submit(decode, job))
            if len(waiting) > 4 * workers:  # bounds how many images wait in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def decode(job: Job) -> Decoded | Failed:
    """Check, read and prepare one image; whatever is wrong with it becomes a problem."""
    stamps = tuple(stamp_of(file_of(job, place)) for place in range(len(job.references)))
    try:
        for place in range(len(job.references)):
            _check_unaltered(job, place, stamps[place])
        prepared = _prepared(job)
        after = tuple(stamp_of(file_of(job, place)) for place in range(len(job.references)))
        if after != stamps:
            raise ReadError(
                _name(job), "it was changed while it was read.", "Index the folder again."
            )
    except ReadError as error:
        kind = "altered-file" if isinstance(error, _AlteredError) else type(error).__name__
        problem = Problem(error.file, error.found, error.remedy, kind=kind)
        return Failed(problem, stamps)
    except MedgleanError as error:
        return Failed(Problem(_name(job), str(error), "", kind=type(error).__name__), stamps)
    except MemoryError:
        found = "not enough memory to decode it."
        return Failed(Problem(_name(job), found, "Set fewer workers.", kind="memory"), stamps)
    except Exception as error:  # noqa: BLE001 - what no reader foresaw costs one image, not all
        found = f"it could not be decoded ({type(error).__name__}: {error})."
        remedy = "Leave the image out, and report this as a fault of medglean."
        return Failed(Problem(_name(job), found, remedy, kind="unforeseen"), stamps)
    stored = to_stored(prepared.image, job.recipe.dtype)
    return Decoded(stored, prepared.spacing_mm, prepared.warnings, stamps)


def to_stored(image: UnitImage, dtype: str) -> np.ndarray:
    """Return an image in [0, 1] as the cache keeps it.

    Rounded to the nearest of 256 or 65,536 levels (halves to the even one), so that a stored value
    is at most 0.5/255 or 0.5/65535 off; ``float32`` is kept as it is.
    """
    if dtype == "float32":
        return image.astype(np.float32)
    kind = np.dtype(dtype)
    return np.rint(image.astype(np.float64) * np.iinfo(kind).max).astype(kind)


def stamp_of(path: Path) -> Stamp:
    """Return a file's size and time of change, ``None`` where it cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def file_of(job: Job, place: int) -> Path:
    """Return the file of one of a job's references; the root where it is not a reference."""
    try:
        return job.root / ImageReference.parse(job.references[place]).path
    except ReadError:
        return job.root


class _AlteredError(ReadError):
    """A file that is not the one that was recorded."""


def _check_unaltered(job: Job, place: int, stamp: Stamp) -> None:
    """Refuse a file whose size or SHA-256 is not the recorded one."""
    recorded = job.recorded[place]
    if stamp is None:
        return  # the reader says better what is wrong with it
    remedy = "Index the folder again if the change is meant; otherwise restore the file."
    if recorded.bytes is not None and stamp[0] != recorded.bytes:
        raise _AlteredError(
            job.references[place],
            f"the file was altered: found {stamp[0]:,} bytes, expected {recorded.bytes:,} as "
            "recorded in the manifest.",
            remedy,
        )
    if recorded.sha256 is None:
        return
    try:
        found = sha256_of_file(file_of(job, place))
    except OSError:
        return  # as above
    if found != recorded.sha256.lower():
        raise _AlteredError(
            job.references[place],
            f"the file was altered: found SHA-256 {found}, expected {recorded.sha256} as recorded "
            "in the manifest.",
            remedy,
        )


def _prepared(job: Job) -> Prepared:
    if "" in job.references:
        raise DataError("a row without an image: expected a reference in each image column.")
    pictures = [read(reference, root=job.root) for reference in job.references]
    limits: list[Limits | None] = [None] * len(pictures)
    recipe = job.recipe
    if recipe.intensity.scope == "volume":
        limits = [_limits(job, place) for place in range(len(pictures))]
    if len(pictures) == 1 and (
        isinstance(recipe.channels, str) or pictures[0].channels != ("grey",)
    ):
        return prepare_one(pictures[0], recipe, limits=limits[0])
    return prepare_channels(pictures, recipe, limits=limits)


def _limits(job: Job, place: int) -> Limits | None:
    """Return the ends of the range over the whole file that a reference takes a slice of."""
    reference = ImageReference.parse(job.references[place])
    if reference.option("page") is not None:
        raise DataError(
            "pages of a TIFF need not be of one volume, and intensity scope 'volume' expects one. "
            "Set images.intensity.scope to 'image', use a window, or convert the file to NIfTI."
        )
    whole = tuple(pair for pair in reference.fragment if pair[0] not in SLICE_KEYS)
    if whole == reference.fragment:
        return None  # the image is all there is
    stamp = stamp_of(file_of(job, place))
    return _limits_of_file(ImageReference(reference.path, whole), job.root, stamp, job.recipe)


@functools.lru_cache(maxsize=16)
def _limits_of_file(reference: ImageReference, root: Path, stamp: Stamp, recipe: Recipe) -> Limits:
    """Read a whole file for its range; kept, because its slices follow one another.

    The stamp is there so that a file that changed is read again.
    """
    if not isinstance(recipe.channels, str):
        recipe = recipe.model_copy(update={"channels": "grey"})
    return volume_limits(read(reference, root=root), recipe)


def _name(job: Job) -> str:
    return " + ".join(job.references)
