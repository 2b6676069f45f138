"""BraTS volumes: a folder for each patient with four sequences and a segmentation, as NIfTI.

``BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz`` and ``_t1``, ``_t1ce``, ``_t2``,
``_seg``; from 2023 on ``BraTS-GLI-00000-000-t2f.nii.gz`` and ``-t1n``, ``-t1c``, ``-t2w``,
``-seg``. Folders around them do not matter.

Every axial slice from 80 to 128, counted from 0 at the bottom, becomes a row: Wolleb et al. (2022)
leave out the lowest 80 and the uppermost 26 of 155 slices, where tumours are rare. A slice is
``diseased`` where its mask holds anything, else ``healthy``; without a segmentation, as in the sets
for validation, it has no label.
"""

from __future__ import annotations

import re

from medglean.data.reference import ImageReference
from medglean.data.sources.listing import Entry, Listing, Options
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

NAME = "brats"
SLICES = (80, 128)
"""First and last axial slice that becomes a row."""
AXIAL = 2
_FILE = re.compile(rf"(?:.*/)?(.+?)[_-]({SEQUENCE})\.nii(?:\.gz)?", re.IGNORECASE)
# one patient of 2020 has a segmentation under a name of its own: W39_1998.09.19_Segm.nii
_ODD_MASK = re.compile(r"(?:.*/)?[^/]*segm\.nii(?:\.gz)?", re.IGNORECASE)
_TIME_POINT = re.compile(r"(.*-\d{5})-\d{3}")


def matches(tree: Tree, options: Options) -> str:
    """Return why: some scans have all four sequences."""
    complete = sum(set(CHANNELS) <= set(scan.files) for scan in _scans(tree, Listing()))
    return f"{complete} scans have files t1, t1ce, t2 and flair" if complete else ""


def _scans(tree: Tree, found: Listing) -> list[Scan]:
    """Return the scans by their names; a second copy of a file is counted."""
    scans: dict[str, Scan] = {}
    in_folder: dict[str, set[str]] = {}
    for path in tree.files:
        if match := _FILE.fullmatch(path):
            files = scans.setdefault(match[1], Scan(match[1])).files
            channel = NAMES[match[2].lower()]
            found.counts["files of a second copy"] += channel in files
            files.setdefault(channel, path)
            in_folder.setdefault(path.rpartition("/")[0], set()).add(match[1])
    for path in filter(_ODD_MASK.fullmatch, tree.files):
        names = in_folder.get(path.rpartition("/")[0], set())
        if len(names) == 1:  # of two scans in one folder neither gets it: it would be a guess
            scans[next(iter(names))].files.setdefault("seg", path)
    return [scans[name] for name in sorted(scans)]


def patient_of(name: str) -> str:
    """Return who is shown: without the time point, where the name has one.

    Examples
    --------
    >>> patient_of("BraTS-GLI-00005-001"), patient_of("BraTS20_Training_001")
    ('BraTS-GLI-00005', 'BraTS20_Training_001')
    """
    match = _TIME_POINT.fullmatch(name)
    return match[1] if match else name


def rows(tree: Tree, options: Options) -> Listing:
    """List the slices of every scan that is complete; each segmentation is read once."""
    found = Listing()
    scans = _scans(tree, found)
    unlabelled = 0
    for scan in scans:
        entries = _entries(tree, scan, options, found)
        unlabelled += bool(entries) and "seg" not in scan.files
        found.entries += entries
    first, last = options.slices or SLICES
    found.notes.append(
        f"A row is an axial slice, {first} to {last} counted from 0 at the bottom, of one of "
        f"{len(scans)} scans; it is diseased where its mask is not empty."
    )
    if unlabelled:
        found.notes.append(f"{unlabelled} scans have no segmentation, and so no label.")
    return found


def _entries(tree: Tree, scan: Scan, options: Options, found: Listing) -> list[Entry]:
    shape = ras_shape(tree.root, scan, found)
    if shape is None:
        return []
    try:
        diseased = diseased_slices(tree.root, scan)
    except ReadError as error:
        tell_left_out(Problem(scan.files["seg"], error.found, error.remedy), scan, found)
        return []
    first, last = options.slices or SLICES
    if first >= shape[AXIAL]:
        told = f"{shape[AXIAL]} axial slices, expected more than the first asked for, {first}."
        problem = Problem(scan.files["t1"], told, "Ask for other slices.")
        tell_left_out(problem, scan, found)
        return []
    entries = []
    for number in range(first, min(last + 1, shape[AXIAL])):
        fragment = (("axis", AXIAL), ("index", number))
        mask = scan.files.get("seg")
        values = {
            "id": f"{scan.name}_{number:03d}",
            "patient": patient_of(scan.name),
            "group": scan.name,
            "label": label_of(None if diseased is None else bool(diseased[number])),
            "mask": None if mask is None else ImageReference(mask, fragment),
            "modality": "MR",
            "slice": number,
        }
        entries.append(Entry(scan.files["t1"], values, scan.references(*fragment)))
    return entries
