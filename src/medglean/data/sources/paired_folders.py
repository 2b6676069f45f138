"""H&E and IHC in folders of their own, a pair by equal names: ``HE/a.png`` and ``IHC/a.png``.

The folders may be called HE and IHC, A and B, or trainA, trainB, valA, valB, as the tools for
image translation want them and MIST has them (``HER2/TrainValAB/trainA/...``). What lies around
them in the path must agree, but for folders that tell the split.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from medglean.data.sources import listing
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "paired-folders"
_STAINS = {"he": "image", "h&e": "image", "ihc": "target"}
_LETTERS = {"A": "image", "B": "target"}  # small ones are more often classes
_SPLIT_LETTER = re.compile(r"(train|val|test)([AB])")
_PATCH = re.compile(r"(.*\d.*)_\d+_\d+")
MARKERS = {"her2": "HER2", "er": "ER", "pr": "PR", "ki67": "Ki67"}
"""Folders that tell what is stained."""
LEAST_SHARE = 0.5
"""The share of images in folders HE and IHC that must have partners."""
LEAST_LETTERS = 0.9
"""The same in folders A and B, which may be classes."""
BOTH = ("image", "target")


@dataclass(frozen=True)
class Place:
    """Where one image of a pair lies.

    Attributes
    ----------
    key
        What both images of a pair have alike.
    side
        image or target.
    split
        Of the folder's name; None where it tells none.
    """

    key: str
    side: str
    split: str | None


def place_of(path: str) -> Place | None:
    """Return the place of a file, None where it lies in no folder of this kind.

    Examples
    --------
    >>> place_of("HER2/TrainValAB/valB/12M_3_4.jpg")
    Place(key='her2/trainvalab/val/12m_3_4', side='target', split='val')
    >>> place_of("set/HE/train/a.png").key == place_of("set/train/IHC/a.tif").key
    True
    """
    at, side, split = _side(path.split("/")[:-1])
    if side is None:
        return None
    *folders, name = path.casefold().split("/")
    rest = []
    for folder in (*folders[:at], *folders[at + 1 :]):
        if split is None and folder in listing.SPLIT_FOLDERS:
            split = listing.SPLIT_FOLDERS[folder]
        else:
            rest.append(folder)
    key = "/".join([*rest, split or "", PurePosixPath(name).stem])
    return Place(key, side, split)


def _side(folders: list[str]) -> tuple[int, str | None, str | None]:
    """Return which folder tells the side, the side, and the split if it tells that, too."""
    for names in (_STAINS, _LETTERS):  # a folder HE inside one called A is what tells
        for at in reversed(range(len(folders))):
            name = folders[at].casefold() if names is _STAINS else folders[at]
            if name in names:
                return at, names[name], None
            found = _SPLIT_LETTER.fullmatch(folders[at])
            if names is _LETTERS and found:
                return at, names[found[2]], listing.SPLIT_FOLDERS[found[1]]
    return 0, None, None


def matches(tree: Tree, options: Options) -> str:
    """Return why: most images lie in such folders, and have partners there."""
    images = [path for path in listing.candidates(tree.files) if listing.promises_image(path)]
    sides: dict[str, set[str]] = defaultdict(set)
    inside = letters = 0
    for path in images:
        place = place_of(path)
        if place is not None:
            sides[place.key].add(place.side)
            inside += 1
            letters += not set(path.casefold().split("/")[:-1]) & set(_STAINS)
    pairs = sum(len(found) == 2 for found in sides.values())
    share = LEAST_LETTERS if letters else LEAST_SHARE
    if not pairs or 2 * pairs < share * inside or 2 * inside < len(images):
        return ""
    return f"{pairs} images in folders of H&E (HE or A) have one of their name in IHC or B"


def marker_of(path: str) -> str | None:
    """Return what is stained, by the folders' names.

    Examples
    --------
    >>> marker_of("MIST/HER2/TrainValAB/trainA/12M_3_4.jpg")
    'HER2'
    """
    return next((MARKERS[part] for part in path.casefold().split("/") if part in MARKERS), None)


def slide_of(stem: str) -> str | None:
    """Return the slide of a patch called after it and its column and row, as MIST's are.

    Examples
    --------
    >>> slide_of("15M2102762_15_26"), slide_of("patch_3_4"), slide_of("00007_test_1+")
    ('15M2102762', None, None)
    """
    found = _PATCH.fullmatch(stem)
    return found[1] if found else None


def rows(tree: Tree, options: Options) -> Listing:
    """List the pairs with split and slide, where folders and names tell them."""
    found = Listing()

    def values(path: str, place: Place) -> dict[str, str | None]:
        slide = slide_of(PurePosixPath(path).stem)
        return {"split": place.split, "group": slide, "marker": marker_of(path)}

    pair_up(tree, place_of, values, found)
    markers = sorted({str(entry.values["marker"]) for entry in found.entries
                      if "marker" in entry.values})  # fmt: skip
    if len(markers) > 1:
        found.notes.append(
            f"Several stains ({', '.join(markers)}), told in the column marker: one network learns "
            "one, so index the folder of that one."
        )
    if found.entries and {entry.values.get("split") for entry in found.entries} == {"train", "val"}:
        found.notes.append(
            "There are parts train and val and no test: what is measured at the end is val."
        )
    slides = {entry.values["group"] for entry in found.entries if "group" in entry.values}
    if slides:
        found.notes.append(
            f"{len(slides)} slides are taken from the names, which are SLIDE_COLUMN_ROW; the pairs "
            "of one stay together when a split is made."
        )
    elif found.entries:
        found.notes.append(
            "The slides are not known from the names: patches of one slide may come to both sides "
            "of a split. Name them in a column 'group' if you know them."
        )
    found.notes.append("Folders tell no level of expression: there is no column label.")
    return found


def pair_up(
    tree: Tree,
    place_of: Callable[[str], Place | None],
    values: Callable[[str, Place], dict[str, str | None]],
    found: Listing,
) -> None:
    """Add an entry for each pair, and tell what has no partner, or more than one.

    Parameters
    ----------
    tree
        The files.
    place_of
        Tells where a file lies.
    values
        Tells what else is known of an H&E image.
    found
        Gets entries and problems.
    """
    files: dict[str, dict[str, list[str]]] = defaultdict(lambda: {side: [] for side in BOTH})
    places: dict[str, Place] = {}
    for path in listing.candidates(tree.files):
        place = place_of(path)
        if place is None:
            found.counts["files outside the layout"] += 1
        else:
            places[path] = place
            files[place.key][place.side].append(path)
    told: Counter[str] = Counter()
    for key in sorted(files):
        images, targets = (files[key][side] for side in BOTH)
        if len(images) == len(targets) == 1:
            known = {name: one for name, one in values(images[0], places[images[0]]).items() if one}
            found.entries.append(Entry(images[0], known | {"target": targets[0]}))
        elif len(images) > 1 or len(targets) > 1:
            # which of two files of one name is meant would be a guess
            several = images if len(images) > 1 else targets
            told["images that stand twice"] += len(images) + len(targets)
            what = f"{len(several)} files have this name: {', '.join(several)}."
            found.tell(several[0], "duplicate", what, "The pair is left out; keep one of them.")
        else:
            alone, missing = (images, "IHC") if images else (targets, "H&E")
            told["images without a partner"] += 1
            what = f"no {missing} image of this name."
            found.tell(alone[0], "unpaired", what, "It is left out.")
    found.counts.update(told)
