"""One look at every image of a manifest: a thumbnail and a few facts, read once for all checks."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from medglean.data import readers
from medglean.data.intensity import to_unit
from medglean.data.manifest import Manifest
from medglean.data.picture import Picture
from medglean.data.recipe import Intensity
from medglean.data.reference import ImageReference
from medglean.errors import DataError, Problem, ReadError
from medglean.files import sha256_of_file

SIDE_PX = 64
FACTS = (
    "bytes", "sha256", "pixels_sha256", "format", "height", "width", "channels", "bits",
    "low", "high", "deviation",
)  # fmt: skip


@dataclass(frozen=True)
class Glances:
    """What one look at n images saw.

    Attributes
    ----------
    thumbnails
        Shape (n, 64, 64): luminance, the aspect ratio not kept; zeros where nothing could be read.
        0..255 is the encoding's range where the file states one, else the image's own.
    facts
        One row per image with the columns ``FACTS``: bytes and SHA-256 of the file, SHA-256 of the
        decoded values, format, size, channels and bits as the header says, lowest and highest
        value in the file's unit, and the standard deviation as a share of the same range as that
        of the thumbnails. Missing where nothing could be read.
    ok
        Which images could be read.
    problems
        Why the others could not.
    """

    thumbnails: UInt8[np.ndarray, "n 64 64"]
    facts: pd.DataFrame
    ok: Bool[np.ndarray, " n"]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Look:
    """What was seen of one image."""

    thumbnail: UInt8[np.ndarray, "64 64"]
    facts: dict[str, object]


def glance(
    manifest: Manifest, *, workers: int = 2, progress: Callable[[int], None] | None = None
) -> Glances:
    """Read every image once.

    Of a volume or clip that the manifest lists as one image, the middle slice is seen. Of an image
    with one file per channel, the first; what is known of the file is of all together.

    Parameters
    ----------
    manifest
        Which images.
    workers
        How many are decoded at a time.
    progress
        Called with the number of images done.
    """
    columns = manifest.image_columns
    rows = manifest.frame[columns].astype(object).to_numpy().tolist()
    thumbnails = np.zeros((len(rows), SIDE_PX, SIDE_PX), np.uint8)
    facts: list[dict[str, object]] = []
    problems: list[Problem] = []
    for number, seen in enumerate(_look_at_all(rows, manifest.root, workers)):
        if isinstance(seen, _Look):
            thumbnails[number] = seen.thumbnail
            facts.append(seen.facts)
        else:
            facts.append({})
            problems.append(seen)
        if progress is not None:
            progress(number + 1)
    table = pd.DataFrame(facts, columns=list(FACTS), index=pd.RangeIndex(len(rows)))
    return Glances(thumbnails, table, table["format"].notna().to_numpy(), tuple(problems))


def _look_at_all(rows: list[list[object]], root: Path, workers: int) -> Iterator[_Look | Problem]:
    """Yield what is seen of each row, in order, holding few decoded images at a time."""
    volumes = readers.Volumes()
    sha256 = functools.lru_cache(maxsize=64)(sha256_of_file)  # slices of a volume share its file

    def look(row: list[object]) -> _Look | Problem:
        return _look_or_problem([str(r) for r in row if isinstance(r, str)], root, volumes, sha256)

    source: Iterable[list[object]] = iter(rows)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        while batch := list(islice(source, 32 * max(1, workers))):
            yield from pool.map(look, batch)


def _look_or_problem(
    references: list[str], root: Path, volumes: readers.Volumes, sha256: Callable[[Path], str]
) -> _Look | Problem:
    """Look at one image; what cannot be read becomes a problem."""
    name = references[0] if references else "(no reference)"
    try:
        if not references:
            raise ReadError(name, "the row names no image.", "Remove the row.")
        return _merged([_look(reference, root, volumes, sha256) for reference in references])
    except ReadError as error:
        return Problem(name, error.found, error.remedy, kind="unreadable")
    except DataError as error:
        return Problem(name, str(error), "", kind="unreadable")
    except OSError as error:
        found = f"it cannot be opened ({error.strerror or error})."
        return Problem(name, found, "Check that it is there and may be read.", kind="unreadable")


def _look(text: str, root: Path, volumes: readers.Volumes, sha256: Callable[[Path], str]) -> _Look:
    reference = ImageReference.parse(text)
    path = root / reference.path
    picture = readers.read(reference, root=root, volumes=volumes)
    header = readers.probe(path)
    values = _plane(picture)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    unit = _unit(picture, values)
    small = cv2.resize(unit, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    digest = hashlib.sha256(f"{picture.values.shape}{picture.values.dtype.str}".encode())
    digest.update(np.ascontiguousarray(picture.values).tobytes())
    facts: dict[str, object] = {
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "pixels_sha256": digest.hexdigest(),
        "format": header.format,
        "height": values.shape[1],
        "width": values.shape[2],
        "channels": header.channels,
        "bits": header.bits,
        "low": low,
        "high": high,
        "deviation": float(unit.std()),
    }
    return _Look(np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8), facts)


def _plane(picture: Picture) -> np.ndarray:
    """Return values (c, h, w): of further axes, other than two of the picture, the middle."""
    values = picture.values
    shown = ("y", "x") if {"y", "x"} <= set(picture.axes) else picture.axes[:2]
    for number in reversed(range(len(picture.axes))):
        if picture.axes[number] not in shown and values.ndim > 3:
            values = values.take(values.shape[number + 1] // 2, axis=number + 1)
    return values


def _unit(picture: Picture, values: np.ndarray) -> np.ndarray:
    """Return the luminance in [0, 1], shape (h, w)."""
    if picture.full_scale is not None:
        unit = to_unit(values, Intensity(), full_scale=picture.full_scale).values
    else:
        unit = to_unit(values, Intensity(rule="percentile", low=0.5, high=99.5)).values
    if picture.channels[:3] == ("red", "green", "blue"):
        grey: np.ndarray = 0.299 * unit[0] + 0.587 * unit[1] + 0.114 * unit[2]
        return grey
    mean: np.ndarray = unit.mean(axis=0)
    return mean


def joined_sha256(digests: Sequence[str]) -> str:
    """Return what stands for an image's files: the SHA-256 of one, or of all of them together."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _merged(looks: list[_Look]) -> _Look:
    """Join what was seen of an image's channels, each in a file of its own.

    The thumbnail is that of the first: in a mean, contrasts of opposite sign would cancel.
    """
    if len(looks) == 1:
        return looks[0]
    facts = dict(looks[0].facts)
    facts["bytes"] = sum(int(str(look.facts["bytes"])) for look in looks)
    facts["deviation"] = max(float(str(look.facts["deviation"])) for look in looks)
    for name in ("sha256", "pixels_sha256"):
        facts[name] = joined_sha256([str(look.facts[name]) for look in looks])
    return _Look(looks[0].thumbnail, facts)
