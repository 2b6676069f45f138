"""Kermany's paediatric chest X-rays: ``train/NORMAL/IM-0115-0001.jpeg``, ``test/PNEUMONIA/...``.

The name of a file says who is shown: ``person12_bacteria_46.jpeg``, ``IM-0115-0001-0002.jpeg``,
``NORMAL2-IM-0315-0001.jpeg``; and for pneumonia its cause.
"""

from __future__ import annotations

import re

from medglean.data.sources import listing
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "kermany"
_PERSON = re.compile(r"(person\d+)_(bacteria|virus)_\d+", re.IGNORECASE)
_NORMAL = re.compile(r"((?:NORMAL\d*-)?IM-\d+)-\d+(?:-\d+)*", re.IGNORECASE)
_PATH = re.compile(r"(?:.*/)?(train|val|test)/(NORMAL|PNEUMONIA)/([^/]+)\.[^./]+", re.IGNORECASE)


def matches(tree: Tree, options: Options) -> str:
    """Return why: folders NORMAL and PNEUMONIA in train, val or test, and names of its kind."""
    parts = [found for path in tree.files if (found := _PATH.fullmatch(path))]
    named = sum(_patient(found[3]) is not None for found in parts)
    if not parts or {found[2].upper() for found in parts} != {"NORMAL", "PNEUMONIA"}:
        return ""
    if 2 * named < len(parts):
        return ""
    return f"{named} files named as in Kermany's set lie in NORMAL and PNEUMONIA folders"


def _patient(stem: str) -> tuple[str, str] | None:
    """Return patient and subtype of a file's name."""
    if found := _PERSON.fullmatch(stem):
        return found[1].lower(), found[2].lower()
    if found := _NORMAL.fullmatch(stem):
        return found[1].upper(), "normal"
    return None


def rows(tree: Tree, options: Options) -> Listing:
    """List the images with label, subtype, split and the patient that the name states."""
    found = Listing()
    images = listing.candidates(tree.files)
    nested = _second_copy(images)
    for path in images:
        match = _PATH.fullmatch(path)
        if not match or path.startswith(nested or "\0"):
            found.counts["files of a second copy" if match else "files outside the layout"] += 1
            continue
        split, label, stem = match[1].lower(), match[2].upper(), match[3]
        patient, subtype = _patient(stem) or (None, None)
        if patient is None:
            told = "the name does not say who is shown, expected personN_..., IM-N-N."
            found.tell(path, "name", told, "It will count as a patient of its own.")
        values = {"patient": patient, "label": label, "subtype": subtype, "split": split}
        if "label" in options.columns:
            values["label"] = values.get(options.columns["label"])
        found.entries.append(Entry(path, values))
    if nested:
        found.notes.append(f"{nested} holds the whole set a second time and was left out.")
    found.notes.append(
        "Patients are taken from the names. As far as is known their numbers start anew in each "
        "folder, so a number in both train and test may be two children: a new split by patient "
        "keeps them together, which is safe."
    )
    return found


def _second_copy(images: list[str]) -> str | None:
    """Return the prefix of the copy within the set that one widespread archive holds."""
    prefix = listing.wrapper(images)
    inner = f"{prefix}chest_xray/"
    outer = {path[len(prefix) :] for path in images if not path.startswith(inner)}
    twice = [path for path in images if path.startswith(inner) and path[len(inner) :] in outer]
    return inner if twice else None
