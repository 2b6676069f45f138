"""COVID-19 Radiography Database: four class folders with ``images/`` and ``masks/``.

The first version has the images directly in the class folders. ``COVID.metadata.xlsx`` and its
sisters name the page that each image came from. In this set the class is nearly a function of
that page, so it is kept as ``source`` for the audit to see.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from medglean.data.sources import listing
from medglean.data.sources.columns import site
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "covid19-radiography"
CLASSES = {
    listing.plain(name): name for name in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
}
_ALSO = {"covid19": "COVID"}


def _class_folders(tree: Tree) -> dict[str, str]:
    """Return folder to class name, below the wrapper."""
    prefix = listing.wrapper(listing.candidates(tree.files))
    names = {p[len(prefix) :].partition("/")[0] for p in tree.files if p.startswith(prefix)}
    known = CLASSES | _ALSO
    return {f"{prefix}{n}/": known[listing.plain(n)] for n in names if listing.plain(n) in known}


def matches(tree: Tree, options: Options) -> str:
    """Return why: the folders Viral Pneumonia, Normal and COVID of this set are there."""
    names = set(_class_folders(tree).values())
    if not {"COVID", "Normal", "Viral Pneumonia"} <= names:
        return ""
    return f"its class folders are there: {', '.join(sorted(names))}"


def rows(tree: Tree, options: Options) -> Listing:
    """List the images with label, mask and the site they came from."""
    found = Listing()
    folders = _class_folders(tree)
    inside = [path for path in tree.files if any(path.startswith(f) for f in folders)]
    images, masks, left = listing.pair_masks(listing.candidates(inside))
    sources = _sources(tree, found)
    for path in images:
        label = next(name for folder, name in folders.items() if path.startswith(folder))
        stem = path.rpartition("/")[2].partition(".")[0]
        source = sources.pop(_key(stem), None)
        found.entries.append(
            Entry(path, {"label": label, "mask": masks.get(path), "source": source})
        )
    if left:
        found.counts["masks without image"] = len(left)
        found.tell(left[0], "mask", f"{len(left)} masks have no image.", "Fetch the set again.")
    if sources:
        found.counts["rows without file"] = len(sources)
        first = next(iter(sources))
        told = f"{len(sources)} images of the metadata are not in the folder, such as {first!r}."
        found.tell(str(tree.root), "missing-file", told, "Fetch the set again.")
    for name in sorted(set(CLASSES.values()) - set(folders.values())):
        found.tell(str(tree.root), "missing-class", f"the class folder {name!r} is not there.")
    found.notes.append("The set names no patients: there is no column patient.")
    return found


def _sources(tree: Tree, found: Listing) -> dict[str, str]:
    """Return the site of each image by its key; what cannot be read is told."""
    tables = [path for path in tree.files if path.lower().endswith(".metadata.xlsx")]
    if not tables:
        told = "no *.metadata.xlsx: where each image came from is not known."
        found.tell(str(tree.root), "metadata", told, "Fetch the tables too, for the audit.")
    sources: dict[str, str] = {}
    for path in tables:
        try:
            sources.update(_read_sources(tree.root / path))
        except Exception as error:  # noqa: BLE001 - openpyxl raises of every type on damage
            told = f"cannot be read as a workbook ({type(error).__name__})."
            found.tell(path, "metadata", told, "Fetch it again; its images have no source.")
    return sources


def _read_sources(path: Path) -> dict[str, str]:
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl remarks on styles that do not matter here
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            lines = list(workbook.worksheets[0].iter_rows(values_only=True))
        finally:
            workbook.close()
    header = [listing.plain(str(name or "")) for name in lines[0]]
    name_at, url_at = header.index("filename"), header.index("url")
    return {
        _key(str(line[name_at])): site(str(line[url_at] or ""))
        for line in lines[1:]
        if line and line[name_at]
    }


def _key(stem: str) -> str:
    """Return what ``COVID-1``, ``COVID (1)`` and ``Covid-1.png`` have in common."""
    return re.sub(r"[\s()_-]+", "", re.sub(r"\.(png|jpe?g)$", "", stem, flags=re.I)).casefold()
