"""BraTS cut into slices as the code of Wolleb et al. (2022) reads it: a folder for each slice.

``training/000001/brats_train_001_t1_080_w.nii.gz`` and ``_t1ce_``, ``_t2_``, ``_flair_``,
``_seg_``; for testing ``testing/000247/...`` without a segmentation, which is
``test_labels/000247-label.nii.gz`` then. Each file is a single slice of 240 x 240 values, already
in 0..1 by its volume; the number before ``_w`` is the axial slice.

The headers state a unit orientation, so slices are taken as they are stored. BraTS volumes run from
left to right and from front to back, so that the same slice read from a volume is turned by 180
degrees: do not mix the two layouts in one training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from medglean.data.sources.listing import SPLIT_FOLDERS, Entry, Listing, Options
from medglean.data.sources.sequences import (
    CHANNELS,
    NAMES,
    SEQUENCE,
    Scan,
    diseased_slices,
    label_of,
    ras_shape,
    tell_left_out,
)
from medglean.data.walk import Tree
from medglean.errors import Problem, ReadError

NAME = "brats-slices"
_FILE = re.compile(
    rf"(?P<folder>(?:.*/)?)(?P<patient>[^/]+?)_(?P<sequence>{SEQUENCE})_(?P<slice>\d{{2,4}})"
    r"(?:_w)?\.nii(?:\.gz)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?:.*/)?([^/]+?)[-_]label\.nii(?:\.gz)?", re.IGNORECASE)


def matches(tree: Tree, options: Options) -> str:
    """Return why: some slices have all four sequences."""
    complete = sum(set(CHANNELS) <= set(scan.files) for scan in _scans(tree, Listing()))
    return f"{complete} slices have files t1, t1ce, t2 and flair" if complete else ""


def _scans(tree: Tree, found: Listing) -> list[Scan]:
    """Return the slices by folder and name, with their segmentation or label file."""
    scans: dict[tuple[str, str], Scan] = {}
    for path in tree.files:
        if match := _FILE.fullmatch(path):
            name = f"{match['patient']}_{match['slice']}"
            scan = scans.setdefault((match["folder"], name), Scan(name))
            scan.files.setdefault(NAMES[match["sequence"].lower()], path)
    labels = {match[1]: path for path in tree.files if (match := _LABEL.fullmatch(path))}
    for (folder, _), scan in scans.items():
        label = labels.get(PurePosixPath(folder).name)
        if label is not None:
            scan.files.setdefault("seg", label)
    return list(_each_once(scans.values(), found))


def _each_once(scans: Iterable[Scan], found: Listing) -> Iterable[Scan]:
    seen: set[str] = set()
    for scan in scans:
        if scan.name in seen:
            found.counts["files of a second copy"] += len(scan.files)
        else:
            seen.add(scan.name)
            yield scan


def rows(tree: Tree, options: Options) -> Listing:
    """List every slice that is complete; each segmentation is read once."""
    found = Listing()
    for scan in _scans(tree, found):
        if entry := _entry(tree, scan, found):
            found.entries.append(entry)
    found.notes.append(
        "Slices are taken as they are stored, which for BraTS is turned by 180 degrees against "
        "the volumes that layout brats reads: do not mix the two."
    )
    return found


def _entry(tree: Tree, scan: Scan, found: Listing) -> Entry | None:
    shape = ras_shape(tree.root, scan, found)
    if shape is None:
        return None
    try:
        diseased = diseased_slices(tree.root, scan)
    except ReadError as error:
        tell_left_out(Problem(scan.files["seg"], error.found, error.remedy), scan, found)
        return None
    path = scan.files["t1"]
    match = _FILE.fullmatch(path)
    if match is None or shape[2] != 1:
        told = f"{shape[2]} slices, expected one file for each slice."
        tell_left_out(Problem(path, told, "Index it as layout brats."), scan, found)
        return None
    values = {
        "id": scan.name,
        "patient": match["patient"],
        "group": match["patient"],
        "label": label_of(None if diseased is None else bool(diseased.any())),
        "mask": scan.files.get("seg"),
        "modality": "MR",
        "slice": int(match["slice"]),
        "split": next(filter(None, map(_split, path.split("/")[:-1])), None),
    }
    return Entry(path, values, scan.references())


def _split(folder: str) -> str | None:
    return SPLIT_FOLDERS.get(folder.casefold())
