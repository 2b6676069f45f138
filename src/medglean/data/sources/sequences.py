"""Scans of which each sequence is a file: whether they are complete, of one shape, and finite.

Sequences are MR images of one patient in one position; here t1, t1ce (after contrast), t2 and
flair. What is wrong with a scan is told with the file's name, and the scan is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from medglean.data import readers
from medglean.data.reference import ImageReference
from medglean.data.sources.listing import Listing
from medglean.errors import Problem, ReadError

CHANNELS = ("t1", "t1ce", "t2", "flair")
"""Names of the channels, in the order of the paper's images."""
NAMES = {
    "t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair", "seg": "seg",
    "t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair",
}  # fmt: skip
"""What BraTS calls each sequence in its files, up to 2021 and from 2023 on."""
SEQUENCE = "|".join(sorted(NAMES, key=len, reverse=True))
HEALTHY, DISEASED = "healthy", "diseased"


@dataclass
class Scan:
    """The files of one scan.

    Attributes
    ----------
    name
        What its rows are called after.
    files
        Path of each sequence, relative to the folder; the segmentation is ``seg``.
    """

    name: str
    files: dict[str, str] = field(default_factory=dict)

    def references(self, *fragment: tuple[str, int]) -> dict[str, ImageReference]:
        """Return the image columns of a row, each referring to the same part of its file."""
        return {f"image.{name}": ImageReference(self.files[name], fragment) for name in CHANNELS}


def ras_shape(root: Path, scan: Scan, found: Listing) -> tuple[int, int, int] | None:
    """Return the shape that all files of a scan share, along right, front, head.

    Returns ``None``, and tells why, where a sequence is missing, a file cannot be read or is of
    another shape, or a voxel is not finite. Only headers are read, and voxels of float type.
    """
    problem = _incomplete(scan)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in () if problem else scan.files.values():
        try:
            header = readers.probe(root / path)
            shapes[path] = tuple(header.extra.get("ras_shape", (0,)))
            if header.format != "NIfTI":
                problem = Problem(path, f"expected NIfTI, found {header.format}.", "Export again.")
            elif str(header.extra["dtype"]).startswith("float"):
                problem = _not_finite(root, path)
        except ReadError as error:
            problem = Problem(path, error.found, error.remedy)
        if problem:
            break
    if problem is None:
        problem = _odd_shape(shapes)
    if problem is None:
        right, front, head = next(iter(shapes.values()))
        return right, front, head
    tell_left_out(problem, scan, found)
    return None


def tell_left_out(problem: Problem, scan: Scan, found: Listing) -> None:
    """Tell a problem for which a scan is left out."""
    remedy = f"{problem.remedy} {scan.name} is left out.".strip()
    found.problems.append(Problem(problem.file, problem.found, remedy, kind="scan"))
    found.counts["scans left out"] += 1


def diseased_slices(root: Path, scan: Scan) -> Bool[np.ndarray, " n"] | None:
    """Return for each axial slice, from the lowest, whether its mask holds anything.

    ``None`` without a segmentation: whether a tumour is there is not known then.

    Raises
    ------
    ReadError
        If the segmentation cannot be read.
    """
    path = scan.files.get("seg")
    if path is None:
        return None
    values = readers.read(ImageReference(path), root=root).values[0]
    if values.ndim == 2:
        values = values[..., np.newaxis]
    anything: np.ndarray = (values != 0).any(axis=(0, 1))
    return anything


def label_of(diseased: bool | None) -> str | None:
    """Return the name of a slice's class."""
    return None if diseased is None else DISEASED if diseased else HEALTHY


def _incomplete(scan: Scan) -> Problem | None:
    missing = [name for name in CHANNELS if name not in scan.files]
    if not missing:
        return None
    there = ", ".join(name for name in CHANNELS if name in scan.files) or "no sequence"
    beside = next(iter(scan.files.values()))
    folder, slash, name = beside.rpartition("/")
    pattern = re.compile(rf"(?<=[_-])(?:{SEQUENCE})(?=[_.])", re.IGNORECASE)
    file = f"{folder}{slash}{pattern.sub(missing[0], name, count=1)}"
    found = f"there is no sequence {', '.join(missing)} beside {there}, expected all four."
    return Problem(file, found, "Fetch it again.")


def _not_finite(root: Path, path: str) -> Problem | None:
    values = readers.read(ImageReference(path), root=root).values
    wrong = int((~np.isfinite(values)).sum())
    if not wrong:
        return None
    found = f"{wrong:,} of {values.size:,} voxels are NaN or infinite, expected none."
    return Problem(path, found, "Export it again.")


def _odd_shape(shapes: dict[str, tuple[int, ...]]) -> Problem | None:
    usual = Counter(shapes.values()).most_common(1)[0][0]
    if len(usual) != 3:
        path = next(iter(shapes))
        return Problem(
            path, f"a shape of {usual}, expected one volume.", "Save one volume per file."
        )
    for path, shape in shapes.items():
        if shape != usual:
            found = f"a shape of {shape}, the scan's other files have {usual}: expected one shape."
            return Problem(path, found, "Register and resample the sequences to one grid.")
    return None
