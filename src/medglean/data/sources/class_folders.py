"""Class folders in general: ``NORMAL/a.png``, or ``train/NORMAL/a.png``."""

from __future__ import annotations

import re
from collections import Counter

from medglean.data.sources import listing
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "class-folders"
MOST_CLASSES = 50
"""More folders than this are more likely patients than classes."""
_DICOM = (".dcm", ".dicom", ".ima")


def matches(tree: Tree, options: Options) -> str:
    """Return why the folders are classes: at least two, few, each with several images."""
    images = listing.pair_masks(listing.candidates(tree.files))[0]
    images = [path for path in images if listing.promises_image(path)]
    prefix = listing.wrapper(images)
    counts: Counter[str] = Counter()
    deeper = 0
    for path in images:
        split, name = _class_of(path[len(prefix) :])
        if name is None:
            return ""  # an image at the top belongs to no class
        counts[name] += 1
        below = path[len(prefix) :].split("/")[2 if split else 1 : -1]
        deeper += any(part.casefold() not in listing.IMAGE_FOLDERS for part in below)
    if 10 * deeper > len(images) or any(re.fullmatch(r"\d{3,}", name) for name in counts):
        return ""  # patients' and studies' folders rather than classes
    if not 2 <= len(counts) <= MOST_CLASSES or sum(counts.values()) < 2 * len(counts):
        return ""
    if any(path.lower().endswith(_DICOM) for path in images):
        return ""  # an export's folders are called after patients and studies
    if any(name.casefold() in listing.IMAGE_FOLDERS for name in counts):
        return ""
    shown = ", ".join(repr(name) for name in sorted(counts)[:6])
    return f"{len(counts)} folders hold the images ({shown}), taken as classes"


def _class_of(path: str) -> tuple[str | None, str | None]:
    """Return split and class of a path below the wrapper, ``None`` where it has none."""
    parts = path.split("/")[:-1]
    split = listing.SPLIT_FOLDERS.get(parts[0].casefold()) if parts else None
    if split:
        parts = parts[1:]
    return split, parts[0] if parts else None


def rows(tree: Tree, options: Options) -> Listing:
    """List every image with its folder as its label."""
    found = Listing()
    images, masks, left = listing.pair_masks(listing.candidates(tree.files))
    prefix = listing.wrapper(images)
    counts: Counter[str | None] = Counter()
    for path in images:
        split, name = _class_of(path[len(prefix) :])
        counts[name] += 1
        values = {"label": name, "split": split, "mask": masks.get(path)}
        found.entries.append(Entry(path, values))
    if left:
        found.counts["masks without image"] = len(left)
        told = f"{len(left)} masks have no image of their name, or it has one already."
        found.tell(left[0], "mask", told, "Only the first mask of an image is taken.")
    for name, count in counts.items():
        if count == 1 and name is not None:
            told = f"the class {name!r} has one image, which can be on one side of a split only."
            found.tell(name, "one-image", told, "Add images, or leave the class out.")
    found.notes.append("Who is shown is not known from folders: there is no column patient.")
    return found
