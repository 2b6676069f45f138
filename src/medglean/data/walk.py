"""Which ordinary files lie in a folder, and what was passed over and why."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from medglean.errors import DataError, Problem

LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db"})
"""Names that systems leave behind; names that begin with a dot are passed over as well."""
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


@dataclass
class Tree:
    """The files of a folder.

    Attributes
    ----------
    root
        The folder.
    files
        Paths of all ordinary files, relative to ``root``, with ``/``, sorted.
    problems
        What could not be looked into or cannot be named in a manifest.
    counts
        What was passed over: ``hidden`` (names that begin with a dot, and system litter),
        ``links``, ``special``.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def tell(self, path: str, kind: str, found: str, remedy: str) -> None:
        """Add a warning about one path."""
        self.problems.append(Problem(path, found, remedy, kind=kind, fatal=False))

    def folders(self) -> list[str]:
        """Return the names of the folders at the top that hold files, sorted."""
        return sorted({path.partition("/")[0] for path in self.files if "/" in path})


def walk(root: Path, *, follow_links: bool = False, ignore: Collection[Path] = ()) -> Tree:
    """List the ordinary files below a folder, in an order that does not depend on the disk.

    Parameters
    ----------
    root
        The folder; it may itself be a link.
    follow_links
        Whether links inside it are followed. By default none is: a link to something that is
        listed under its own name would list it twice, and a link out of the folder is told. A
        link to a hidden file of the folder, as git-annex makes them, is always followed.
    ignore
        Files to leave out, such as the manifest that is being written.

    Raises
    ------
    DataError
        If there is no such folder or it cannot be opened.
    """
    if not root.is_dir():
        what = "a file, expected a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. Give the folder that holds the images.")
    tree = Tree(root)
    real_root = os.path.realpath(root)
    left_out = {os.path.realpath(path) for path in ignore}
    seen = {real_root}
    folders = [""]
    while folders:
        inside = folders.pop()
        entries = _entries(tree, inside)
        if inside and entries == []:
            tree.tell(inside, "empty-folder", "the folder is empty.", "Is something missing?")
        for entry in entries or []:
            path = f"{inside}{entry.name}"
            if not _nameable(tree, path, entry.name):
                continue
            if entry.is_symlink() and not _follow(tree, path, real_root, follow_links):
                continue
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                tree.tell(path, "unreadable", f"cannot be looked at ({error.strerror}).", "")
                continue
            if stat.S_ISDIR(mode):
                real = os.path.realpath(root / path)
                if not follow_links or real not in seen:  # links can lead round in a loop
                    seen.add(real)
                    folders.append(f"{path}/")
            elif stat.S_ISREG(mode):
                if not left_out or os.path.realpath(root / path) not in left_out:
                    tree.files.append(path)
            else:
                what = next((name for test, name in _KINDS if test(mode)), "no ordinary file")
                tree.counts["special"] += 1
                tree.tell(path, "special-file", f"{what}, passed over.", "Only files are indexed.")
    tree.files.sort()
    return tree


def _entries(tree: Tree, inside: str) -> list[os.DirEntry[str]] | None:
    """Return what a folder holds, sorted; ``None`` for one that cannot be opened, which is told."""
    try:
        with os.scandir(tree.root / inside) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if not inside:
            raise DataError(
                f"{tree.root}: the folder cannot be opened ({reason}). Give one that you may read."
            ) from error
        remedy = "Give yourself the right to read it, or leave it out on purpose."
        tree.tell(inside, "unreadable-folder", f"the folder cannot be opened ({reason}).", remedy)
        return None


def _nameable(tree: Tree, path: str, name: str) -> bool:
    """Tell whether a name is to be listed; hidden ones are counted, impossible ones told."""
    if name.startswith(".") or name.lower() in LITTER:
        tree.counts["hidden"] += 1
        return False
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        tree.tell(shown, "name", "the name is not valid UTF-8.", "Rename it.")
        return False
    if "\\" in path:
        found = "a backslash in the name, which would be taken for a folder on Windows."
        tree.tell(path, "name", found, "Rename it.")
        return False
    return True


def _follow(tree: Tree, path: str, real_root: str, follow_links: bool) -> bool:
    target = Path(os.path.realpath(tree.root / path))
    if not target.exists():
        tree.counts["links"] += 1
        tree.tell(path, "broken-link", "a link to nothing.", "Restore what it points to.")
        return False
    if follow_links:
        return True
    inside = target.is_relative_to(real_root)
    hidden = inside and any(part[0] == "." for part in target.relative_to(real_root).parts)
    if hidden and target.is_file():
        return True  # git-annex: the content lies below .git and has no other name
    tree.counts["links"] += 1
    if not inside:
        found = "a link that leads out of the folder, not followed."
        remedy = "Index the folder it leads to, or ask for links to be followed."
        tree.tell(path, "link", found, remedy)
    return False
