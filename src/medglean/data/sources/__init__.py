"""Layouts of image folders, one module each, tried in this order.

Every module has ``NAME``, ``matches(tree, options)`` and ``rows(tree, options)``; see
:mod:`medglean.data.sources.listing`.
"""

from __future__ import annotations

from typing import Protocol

from medglean.data.sources import (
    bci,
    brats,
    brats_slices,
    chexpert,
    class_folders,
    covid19_radiography,
    covid_chestxray,
    covid_pneumonia_normal,
    folder,
    kermany,
    paired_folders,
    table,
)
from medglean.data.sources.listing import Entry, Listing, Options
from medglean.data.walk import Tree
from medglean.errors import UsageError

__all__ = ["LAYOUTS", "Entry", "Listing", "Options", "Source", "choose"]


class Source(Protocol):
    """What a module of this package offers."""

    NAME: str

    def matches(self, tree: Tree, options: Options) -> str:
        """Return why a folder has this layout, empty where it has not."""

    def rows(self, tree: Tree, options: Options) -> Listing:
        """List its images."""


LAYOUTS: tuple[Source, ...] = (
    covid19_radiography,
    covid_chestxray,
    kermany,
    chexpert,
    table,
    bci,
    brats,
    brats_slices,
    covid_pneumonia_normal,
    paired_folders,
    class_folders,
    folder,
)
"""Known sets first, then tables, then folders; the last takes any folder."""


def choose(tree: Tree, layout: str, options: Options) -> tuple[Source, str]:
    """Return the source for a folder and the reason, in words for the user.

    Raises
    ------
    UsageError
        If there is no layout of the name.
    """
    if layout == "auto":
        for source in LAYOUTS:
            if reason := source.matches(tree, options):
                return source, reason
    by_name = {source.NAME: source for source in LAYOUTS}
    if layout in by_name:
        return by_name[layout], "as asked for"
    raise UsageError(f"layout {layout!r} is not known. Choose auto, {', '.join(by_name)}.")
