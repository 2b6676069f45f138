"""What is written down about each image of a cache, and what follows from it later.

The index is a dictionary as JSON has it: ``failures`` and ``warnings`` by row, ``spacing_mm`` and
the ``stamps`` (size and time of change) of the files of each row.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

from medglean.data.decode import Decoded, Failed, Job, file_of, stamps_of
from medglean.data.recipe import Recipe
from medglean.errors import Problem
from medglean.files import sha256_of_file

_DECODERS = (
    "medglean",
    "pydicom",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "pillow",
    "opencv-python-headless",
    "tifffile",
    "imagecodecs",
    "nibabel",
)


def new_index(shape: tuple[int, ...], recipe: Recipe) -> dict[str, Any]:
    """Return the index of a cache in which nothing is decoded yet."""
    return {
        "shape": list(shape),
        "recipe": recipe.model_dump(mode="json"),
        "decoders": decoders(),
        "failures": {},
        "warnings": {},
        "spacing_mm": [None] * shape[0],
        "stamps": [None] * shape[0],
    }


def note(index: dict[str, Any], job: Job, result: Decoded | Failed) -> None:
    """Write down in the index what became of a job's rows."""
    for row in job.rows:
        index["stamps"][row] = result.stamps
        index["failures"].pop(str(row), None)
        index["warnings"].pop(str(row), None)
        if isinstance(result, Failed):
            index["failures"][str(row)] = result.problem.to_row()
        else:
            index["spacing_mm"][row] = result.spacing_mm
            if result.warnings:
                index["warnings"][str(row)] = [" + ".join(job.references), *result.warnings]


@functools.cache
def decoders() -> dict[str, str]:
    """Return the versions of what decodes: a failure is tried again when one of them changes."""
    versions = {}
    for name in _DECODERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def to_retry(index: dict[str, Any], jobs: Sequence[Job]) -> list[Job]:
    """Return the failed jobs that may do better now."""
    failures = index["failures"]
    if not failures:
        return []
    other_decoders = index["decoders"] != decoders()
    return [
        job
        for job in jobs
        if (failure := failures.get(str(job.rows[0]))) is not None
        and (
            other_decoders
            or failure["kind"] in ("DecoderError", "memory")  # may have been the machine's state
            or _stamps_now(job) != _stamps_then(index, job)
        )
    ]


def _stamps_now(job: Job) -> list[list[int] | None]:
    return [None if stamp is None else list(stamp) for stamp in stamps_of(job)]


def _stamps_then(index: dict[str, Any], job: Job) -> list[list[int] | None]:
    stamps = index["stamps"][job.rows[0]]
    return [None if stamp is None else list(stamp) for stamp in stamps]


def altered_since(index: dict[str, Any], jobs: Sequence[Job]) -> list[Problem]:
    """Return a warning for each file that was altered after its image was cached.

    Only a file whose size or time of change differs is read. A file that is gone is none of it:
    the cache may outlive its sources.
    """
    problems = []
    for job in jobs:
        if str(job.rows[0]) in index["failures"]:
            continue
        then = _stamps_then(index, job)
        for place, now in enumerate(_stamps_now(job)):
            if now is None or now == then[place]:
                continue
            with contextlib.suppress(OSError):
                found, expected = sha256_of_file(file_of(job, place)), job.recorded[place].sha256
                if found != expected:
                    problems.append(
                        Problem(
                            job.references[place],
                            f"the file was altered after it was cached: found SHA-256 {found}, "
                            f"expected {expected}. The cached image, which is the one that the "
                            "manifest recorded, is used.",
                            "Index the folder again to use the new content.",
                            row=job.rows[0] + 2,
                            kind="altered-file",
                            fatal=False,
                        )
                    )
    return problems
