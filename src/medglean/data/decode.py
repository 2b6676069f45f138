"""From the reference of an image to its array: what a worker process does for the cache.

A file is compared with what the index recorded of it before it is decoded, so that a cache
never holds another image than the manifest means.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medglean.arrays import UnitImage
from medglean.data.intensity import Limits
from medglean.data.prepare import Prepared, prepare_channels, prepare_one, volume_limits
from medglean.data.readers import Volumes, read
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.errors import DataError, MedgleanError, Problem, ReadError
from medglean.files import sha256_of_file

SLICE_KEYS = ("frame", "axis", "index")
"""Keys of a reference that take a slice of a volume or clip."""

_VOLUMES = Volumes()
"""Of the process that decodes: rows of one volume follow one another."""

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


def decoded(jobs: Sequence[Job], *, workers: int) -> Generator[Decoded | Failed, None, None]:
    """Carry out jobs, in order.

    Parameters
    ----------
    jobs
        What to decode.
    workers
        How many processes decode, each within limits of memory and time, so that a decoder that
        crashes or hangs costs one image; 0: one image after the other in this process, which then
        only isolates decoders that are known to be at risk.
    """
    if workers == 0:
        try:
            yield from map(decode, jobs)
        finally:  # this process goes on to other work
            _VOLUMES.clear()
            _sha256.cache_clear()
        return
    from medglean.data.sandbox import DecoderPool

    with DecoderPool(workers) as pool:
        answers = pool.run("medglean.data.decode:decode_task", map(_to_task, jobs))
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, ReadError):
                yield Failed(answer.problem(), stamps_of(job))
            else:
                yield _from_answer(*answer)


def _to_task(job: Job) -> dict[str, object]:
    """Return a job as JSON has it."""
    return {
        "name": _name(job),
        "references": job.references,
        "recorded": [[recorded.bytes, recorded.sha256] for recorded in job.recorded],
        "root": str(job.root),
        "recipe": job.recipe.model_dump_json(),
    }


def decode_task(task: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Carry out a job in a worker process; what comes back can pass through a pipe.

    Raises
    ------
    MemoryError
        If there was not enough: the worker is replaced then.
    """
    job = Job(
        rows=(),
        references=tuple(task["references"]),
        recorded=tuple(Recorded(size, digest) for size, digest in task["recorded"]),
        root=Path(task["root"]),
        recipe=_recipe(task["recipe"]),
    )
    result = decode(job)
    if isinstance(result, Decoded):
        told: dict[str, object] = {
            "spacing_mm": result.spacing_mm,
            "warnings": result.warnings,
            "stamps": result.stamps,
        }
        return told, {"image": result.stored}
    if result.problem.kind == "memory":
        raise MemoryError
    return {"problem": result.problem.to_row(), "stamps": result.stamps}, {}


@functools.cache
def _recipe(text: str) -> Recipe:
    return Recipe.model_validate_json(text)


def _from_answer(told: dict[str, Any], arrays: dict[str, np.ndarray]) -> Decoded | Failed:
    stamps = tuple(None if stamp is None else (stamp[0], stamp[1]) for stamp in told["stamps"])
    if "problem" in told:
        return Failed(Problem(**told["problem"]), stamps)
    spacing = told["spacing_mm"]
    return Decoded(
        arrays["image"],
        None if spacing is None else (spacing[0], spacing[1]),
        tuple(told["warnings"]),
        stamps,
    )


def decode(job: Job) -> Decoded | Failed:
    """Check, read and prepare one image; whatever is wrong with it becomes a problem."""
    stamps = stamps_of(job)
    try:
        for place in range(len(job.references)):
            _check_unaltered(job, place, stamps[place])
        prepared = _prepared(job)
        if stamps_of(job) != stamps:
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


def stamps_of(job: Job) -> tuple[Stamp, ...]:
    """Return the stamp of the file of each of a job's references."""
    return tuple(stamp_of(file_of(job, place)) for place in range(len(job.references)))


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
        found = _sha256(file_of(job, place), stamp)
    except OSError:
        return  # as above
    if found != recorded.sha256:
        raise _AlteredError(
            job.references[place],
            f"the file was altered: found SHA-256 {found}, expected {recorded.sha256} as recorded "
            "in the manifest.",
            remedy,
        )


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, stamp: Stamp) -> str:
    """Return a file's SHA-256; kept, because the slices of a volume follow one another.

    The stamp is there so that a file that changed is read again.
    """
    return sha256_of_file(path)


def _prepared(job: Job) -> Prepared:
    if "" in job.references:
        raise DataError("a row without an image: expected a reference in each image column.")
    pictures = [read(reference, root=job.root, volumes=_VOLUMES) for reference in job.references]
    limits: list[Limits | None] = [None] * len(pictures)
    recipe = job.recipe
    if recipe.intensity.scope == "volume":
        limits = [_limits(job, place) for place in range(len(pictures))]
    if len(pictures) == 1 and (
        isinstance(recipe.channels, str) or pictures[0].channels != ("grey",)
    ):
        return prepare_one(pictures[0], recipe, limits=limits[0])
    if len(pictures) != len(recipe.channels):
        raise DataError(
            f"{len(pictures)} grey image(s), and the recipe expects channels "
            f"{', '.join(recipe.channels)}. Give one column image.NAME per channel in the "
            "manifest, or set images.channels."
        )
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
    return volume_limits(read(reference, root=root, volumes=_VOLUMES), recipe)


def _name(job: Job) -> str:
    return " + ".join(job.references)
