"""A folder of images that says nothing of them: no labels, masks by name where there are some."""

from __future__ import annotations

from medglean.data.sources import listing
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree

NAME = "folder"


def matches(tree: Tree, options: Options) -> str:
    """Return a reason for any folder: this layout is the last resort."""
    return "no known layout: every image is listed, without labels"


def rows(tree: Tree, options: Options) -> Listing:
    """List every image."""
    images, masks, left = listing.pair_masks(listing.candidates(tree.files))
    found = Listing([Entry(path, {"mask": masks.get(path)}) for path in images])
    if left:
        found.counts["masks without image"] = len(left)
        told = f"{len(left)} masks have no image of their name, or it has one already."
        found.tell(left[0], "mask", told, "Only the first mask of an image is taken.")
    return found
