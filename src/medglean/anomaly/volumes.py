"""Volumes among images to be mapped, taken apart into axial slices: that is what networks take.

Slices are counted along the axes right, front, head, as the NIfTI reader counts them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from medglean.data.manifest import Manifest
from medglean.data.manifest_checks import reference_columns
from medglean.data.readers import Header, probe
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.errors import DataError, Problem, ReadError

AXIAL = 2
"""The axis of a volume that runs towards the head."""
VOLUME = "volume.id"
"""Column with the id of the volume that a row is a slice of."""
SLICE = "slice"
"""Column with the slice's number, counted from 0 at the bottom."""
_PLANE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".dcm")


class Place(NamedTuple):
    """Where in a volume a slice lies: its file, without the slice, and axis and number."""

    volume: ImageReference
    axis: int
    number: int


def place_of(reference: str) -> Place | None:
    """Return where in its volume the image of a reference lies; None for what is no such slice.

    Examples
    --------
    >>> place_of("a.nii#axis=2,index=7")
    Place(volume=ImageReference(path='a.nii', fragment=()), axis=2, number=7)
    >>> place_of("a.png") is None
    True
    """
    parsed = ImageReference.parse(reference)
    axis, index = parsed.option("axis"), parsed.option("index")
    if axis is None or index is None:
        return None
    rest = tuple(pair for pair in parsed.fragment if pair[0] not in ("axis", "index"))
    return Place(ImageReference(parsed.path, rest), axis, index)


def slices_of(manifest: Manifest, recipe: Recipe) -> tuple[Manifest, list[Problem]]:
    """Replace each row that is a NIfTI volume by one row for each of its axial slices.

    The axial axis is the one of the file that is nearest to foot-head. Slices have the id
    ``<id>_s081``, references with ``#axis=2,index=81``, the number in column ``slice``, and the
    volume's id in ``volume.id`` and, where there is none, in ``group``. All other rows stay as they
    are: two-dimensional images, slices, frames.

    Parameters
    ----------
    manifest
        Any images.
    recipe
        Says which of several channels are used; others are not opened.

    Returns
    -------
    tuple
        The manifest, which may be empty, and what is wrong with volumes that were left out: one
        that cannot be read, or whose channels differ in shape.

    Raises
    ------
    DataError
        If a slice would get the id of another row.
    """
    used = manifest.image_columns
    if not isinstance(recipe.channels, str) and used != ["image"]:
        used = [name for name in used if name.removeprefix("image.") in recipe.channels]
    headers: dict[Path, Header | Problem] = {}
    depths = np.zeros(len(manifest), dtype=np.int64)  # 0: no volume
    problems, good = [], np.ones(len(manifest), dtype=bool)
    texts = manifest.frame[used].astype(object).to_numpy()
    for row, references in enumerate(texts):
        present = [str(text) for text in references if not pd.isna(text)]
        found = _depth(manifest, present, headers)
        if isinstance(found, Problem):
            problems.append(_in_row(found, row))
            good[row] = False
        else:
            depths[row] = found
    if not depths.any() and good.all():
        return manifest, []
    return _expanded(manifest, np.where(good, np.maximum(depths, 1), 0), depths > 0), problems


def _in_row(problem: Problem, row: int) -> Problem:
    return Problem(problem.file, problem.found, problem.remedy, row=row + 2, kind=problem.kind)


def _depth(
    manifest: Manifest, references: list[str], headers: dict[Path, Header | Problem]
) -> int | Problem:
    """Return how many axial slices an image has: 0 for one that is no volume."""
    parsed = [ImageReference.parse(text) for text in references]
    if not parsed or any(one.option("axis") is not None for one in parsed):
        return 0
    if all(one.path.lower().endswith(_PLANE_SUFFIXES) for one in parsed):
        return 0
    shapes = []
    for text, one in zip(references, parsed, strict=True):
        file = manifest.root / one.path
        if file not in headers:
            headers[file] = _header(text, file)
        header = headers[file]
        if isinstance(header, Problem):
            return header
        shape: tuple[int, ...] = tuple(header.extra.get("ras_shape", ()))
        if len(shape) == 4 and one.option("volume") is None:
            return Problem(
                text,
                f"the NIfTI holds {shape[3]} volumes, expected one.",
                f"Name one, counted from 0: {one.path}#volume=0.",
                kind="several-volumes",
            )
        shapes.append(tuple(map(int, shape[:3])))
    if len(set(shapes)) > 1:
        said = ", ".join(" x ".join(map(str, one)) or "a plane image" for one in shapes)
        return Problem(
            " + ".join(references),
            f"the channels of one volume differ in shape ({said}): expected one grid.",
            "Register and resample them to one grid first.",
            kind="shapes-differ",
        )
    if len(shapes[0]) < 3 or 1 in shapes[0][:AXIAL]:
        return 0  # a plane across another axis is one image already
    return int(shapes[0][AXIAL])


def _header(text: str, file: Path) -> Header | Problem:
    try:
        return probe(file)
    except ReadError as error:
        return Problem(text, error.found, error.remedy, kind=type(error).__name__)


def _expanded(manifest: Manifest, counts: np.ndarray, volumes: np.ndarray) -> Manifest:
    """Return each row as often as it has slices, with the columns of a slice."""
    rows = np.repeat(np.arange(len(manifest)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    numbers, sliced = np.arange(len(rows)) - first, volumes[rows]
    frame = manifest.frame.iloc[rows].reset_index(drop=True)
    owners = frame["id"].astype(object).where(sliced, None)
    for name in reference_columns(frame.columns):
        texts = zip(frame[name].astype(object), numbers.tolist(), sliced.tolist(), strict=True)
        frame[name] = pd.Series([_sliced(*one) for one in texts], dtype="str")
    ids = zip(frame["id"].astype(str), numbers.tolist(), sliced.tolist(), strict=True)
    frame["id"] = pd.Series([f"{i}_s{n:03d}" if cut else i for i, n, cut in ids], dtype="str")
    _check_unique(frame["id"])
    group = frame["group"].astype(object) if "group" in frame else owners
    frame["group"] = pd.Series(group.where(group.notna(), owners).tolist(), dtype="str")
    frame[VOLUME] = pd.Series(owners.tolist(), dtype="str")
    number = pd.Series(numbers, dtype="Int64").where(pd.Series(sliced), pd.NA)
    if SLICE in frame:
        number = number.fillna(pd.to_numeric(frame[SLICE], errors="coerce").astype("Int64"))
    frame[SLICE] = number
    return type(manifest)(frame, manifest.root, path=manifest.path, warnings=manifest.warnings)


def _sliced(text: object, number: int, is_slice: bool) -> str | None:
    if not isinstance(text, str):
        return None
    parsed = ImageReference.parse(text)
    if not is_slice or parsed.option("axis") is not None:
        return text
    return str(ImageReference(parsed.path, (*parsed.fragment, ("axis", AXIAL), ("index", number))))


def _check_unique(ids: pd.Series) -> None:
    again = ids[ids.duplicated()]
    if len(again):
        raise DataError(
            f"the id {again.iloc[0]!r} would be that of a slice and of another row: expected ids "
            "that occur once. Rename the other row."
        )
