"""From what a table calls a file to the file in the folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath


class Finder:
    """Find files by path, by its last part, by name, or by name without suffix.

    Never by guessing: a name that several files have is none, and where a text names folders the
    last of them must agree.

    Parameters
    ----------
    files
        Paths relative to the folder.
    base
        Prefix of the table's own folder, such as ``"v1/"``: paths may be relative to it.

    Examples
    --------
    >>> finder = Finder(["images/a.png", "b/c.png"])
    >>> finder.find("images/a.png"), finder.find("a.png"), finder.find("c"), finder.find("d")
    ('images/a.png', 'images/a.png', 'b/c.png', None)
    """

    def __init__(self, files: Iterable[str], base: str = "") -> None:
        self._base = base
        self._paths: dict[str, str] = {}
        self._names: dict[str, str | None] = {}
        self._stems: dict[str, str | None] = {}
        for path in files:
            self._paths[_form(path)] = path
            name = _form(path.rpartition("/")[2])
            # None marks a name that several files have
            self._names[name] = None if name in self._names else path
            stem = PurePosixPath(name).stem
            self._stems[stem] = None if stem in self._stems else path

    def find(self, text: str) -> str | None:
        """Return the file that a table's text means, ``None`` for no file or several."""
        wanted = _form(text.strip().replace("\\", "/").removeprefix("./"))
        while True:
            for path in (self._base + wanted, wanted):
                if path in self._paths:
                    return self._paths[path]
            outer, slash, inner = wanted.partition("/")
            if not slash:
                break
            if "/" not in inner and outer:
                # "masks/a.png" is not "images/a.png": the last folder must agree
                return None
            wanted = inner  # the table may give paths of its author's disk
        return self._names[wanted] if wanted in self._names else self._stems.get(wanted)


def _form(text: str) -> str:
    """Return one Unicode form: a disk may hold ``ä`` as two characters and a table as one."""
    return unicodedata.normalize("NFC", text)
