"""COVID-19, Pneumonia, Normal Chest X-ray: three class folders and nothing else."""

from __future__ import annotations

from medglean.data.sources import listing
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "covid-pneumonia-normal"
CLASSES = {
    "covid": "COVID-19",
    "covid19": "COVID-19",
    "pneumonia": "PNEUMONIA",
    "normal": "NORMAL",
}


def _labels(tree: Tree) -> dict[str, str] | None:
    """Return folder to label if the folders are these three and no other."""
    images = [path for path in listing.candidates(tree.files) if listing.promises_image(path)]
    prefix = listing.wrapper(images)
    folders = {path[len(prefix) :].rpartition("/")[0] for path in images}
    if len(folders) != 3 or {CLASSES.get(listing.plain(f)) for f in folders} != set(
        CLASSES.values()
    ):
        return None
    return {f"{prefix}{folder}/": CLASSES[listing.plain(folder)] for folder in folders}


def matches(tree: Tree, options: Options) -> str:
    """Return why: exactly the folders COVID, PNEUMONIA and NORMAL hold images."""
    return "exactly three folders hold images: COVID, PNEUMONIA, NORMAL" if _labels(tree) else ""


def rows(tree: Tree, options: Options) -> Listing:
    """List the images with their labels."""
    labels = _labels(tree) or {}
    found = Listing()
    for path in listing.candidates(tree.files):
        label = labels.get(f"{path.rpartition('/')[0]}/")
        if label is None:
            found.counts["files outside the layout"] += 1
            continue
        found.entries.append(Entry(path, {"label": label}))
    found.tell(
        str(tree.root),
        "no-patients",
        "the set names no patients, and augmented copies in it cannot be told by their names.",
        "Look for near duplicates with medglean audit before you trust a split.",
    )
    return found
