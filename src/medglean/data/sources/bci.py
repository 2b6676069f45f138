"""BCI: H&E and HER2 IHC in 1024 x 1024 patches: ``train/HE/00001_train_2+.png`` and ``IHC``.

Also as it circulates, ``HE/train/00001_train_2+.png``. The name tells number, part and level: 0,
1+, 2+ or 3+, which is that of the whole slide (Liu et al., CVPRW 2022). No name tells the slide.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath

from medglean.data.sources import listing
from medglean.data.sources.listing import Listing, Options
from medglean.data.sources.paired_folders import Place, pair_up
from medglean.data.walk import Tree

NAME = "bci"
LEVELS = ("0", "1+", "2+", "3+")
_STEM = re.compile(r"(\d+)_(train|test)_(.+)", re.IGNORECASE)


def place_of(path: str) -> Place | None:
    """Return the place of a file, None where folder or name are not BCI's.

    Examples
    --------
    >>> place_of("BCI/train/IHC/00001_train_2+.png")
    Place(key='bci/00001_train_2+', side='target', split='train')
    """
    *folders, name = path.split("/")
    stem = _STEM.fullmatch(PurePosixPath(name).stem)
    sides = [folder for folder in folders if folder.upper() in ("HE", "IHC")]
    if stem is None or len(sides) != 1:
        return None
    rest = [
        folder
        for folder in folders
        if folder not in sides and folder.casefold() not in ("train", "test")
    ]
    side = "image" if sides[0].upper() == "HE" else "target"
    return Place("/".join([*rest, stem[0]]).casefold(), side, stem[2].lower())


def matches(tree: Tree, options: Options) -> str:
    """Return why: folders HE and IHC hold files of BCI's names, and most images are such."""
    images = [path for path in listing.candidates(tree.files) if listing.promises_image(path)]
    places = [place for path in images if (place := place_of(path))]
    if {place.side for place in places} != {"image", "target"} or 2 * len(places) < len(images):
        return ""
    return f"{len(places)} files named as in BCI lie in folders HE and IHC"


def rows(tree: Tree, options: Options) -> Listing:
    """List the pairs with level and split."""
    found = Listing()
    unknown: Counter[str] = Counter()

    def values(path: str, place: Place) -> dict[str, str | None]:
        level = place.key.rpartition("/")[2].split("_", 2)[2]
        if level not in LEVELS:
            unknown[level] += 1
            told = f"the name says {level!r}, expected one of the levels {', '.join(LEVELS)}."
            found.tell(path, "level", told, "The pair gets no label.", column="label")
        return {"label": level if level in LEVELS else None, "split": place.split}

    pair_up(tree, place_of, values, found)
    found.counts["pairs without a level"] += sum(unknown.values())
    if any(
        folder_split(entry.image) not in (None, entry.values["split"]) for entry in found.entries
    ):
        found.notes.append("Where folder and name tell different parts, the name's is taken.")
    found.notes.append(
        "The label is the HER2 level of the whole slide, not of the patch: a weak label. No name "
        "tells the slide, so patches of one may stand in train and test."
    )
    return found


def folder_split(path: str) -> str | None:
    """Return the part that a file's folders tell, None where they tell none."""
    parts = [folder.casefold() for folder in path.split("/")[:-1]]
    return next((part for part in parts if part in ("train", "test")), None)
