"""One notation for every image: a path, and what part of the file is meant.

``a.png``, ``a.dcm#frame=3``, ``b.nii.gz#axis=2,index=81``, ``c.tif#page=2``,
``d.svs#level=0,x=1024,y=2048,w=512,h=512``. All numbers count from 0. What follows the first
``#`` is the fragment, so a ``#`` that belongs to a file's name is written ``%23``, and the texts
``%23`` and ``%25`` in a name are written ``%2523`` and ``%2525``. Nothing else is escaped: spaces,
other letters and any other ``%`` stand for themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medglean.errors import ReadError

KEYS = {
    "frame": "one frame of a multi-frame DICOM, an animated PNG, GIF or WebP",
    "page": "one page of a TIFF",
    "volume": "one volume of a 4-D NIfTI",
    "axis": "the axis (0 R, 1 A, 2 S) across which a slice of a volume is taken",
    "index": "which slice along that axis",
    "voi": "which of a DICOM's VOI tables or windows is applied",
    "level": "the level of a whole-slide pyramid",
    "x": "left edge of a region, in pixels of level 0",
    "y": "upper edge of a region, in pixels of level 0",
    "w": "width of a region, in pixels of its level",
    "h": "height of a region, in pixels of its level",
}
"""Every key that a fragment may have, with what it says."""

_LARGEST = 2**63 - 1
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")
_ESCAPED = re.compile(r"%(23|25)")
_TO_ESCAPE = re.compile(r"#|%(?=23|25)")


@dataclass(frozen=True)
class ImageReference:
    """A path with an optional fragment that names a part of the file.

    Attributes
    ----------
    path
        The path as it is on disk, unescaped; usually relative to a manifest's folder.
    fragment
        Pairs of key and whole number, in the order they were written; keys are those of ``KEYS``.

    Raises
    ------
    ReadError
        If the path is empty, a key is unknown or repeated, or a value is not a whole number.

    Examples
    --------
    >>> reference = ImageReference.parse("b.nii.gz#axis=2,index=81")
    >>> reference.path, reference.option("index"), reference.option("frame")
    ('b.nii.gz', 81, None)
    >>> str(ImageReference("scan#2.png"))
    'scan%232.png'
    """

    path: str
    fragment: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path:
            raise ReadError(
                repr(self.path),
                "an image reference needs the path of a file, found none.",
                "Write it as path or path#key=value.",
            )
        seen = set()
        for key, value in self.fragment:
            if key not in KEYS:
                raise self._error(f"unknown key {key!r} in the fragment; the keys are {_known()}.")
            if key in seen:
                raise self._error(f"the key {key!r} stands twice in the fragment.")
            if type(value) is not int or not 0 <= value <= _LARGEST:  # True is no number
                raise self._error(f"{key}={value!r}: expected a whole number from 0 on.")
            seen.add(key)

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Read a reference from its text.

        Raises
        ------
        ReadError
            If the text is not a path with an optional ``#key=value,key=value``.
        """
        head, mark, tail = text.partition("#")
        path = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), head)
        if not mark:
            return cls(path)
        fragment = []
        for part in tail.split(","):
            key, equals, value = part.partition("=")
            if not equals or not _WHOLE_NUMBER.fullmatch(value):
                raise ReadError(
                    text,
                    f"{part!r} after the '#': expected key=number, the keys are {_known()}.",
                    "If the '#' belongs to the file's name, write it as %23.",
                )
            fragment.append((key, int(value)))
        return cls(path, tuple(fragment))

    def __str__(self) -> str:
        """Return the text that ``parse`` reads back as the same reference."""
        path = _TO_ESCAPE.sub(lambda match: f"%{ord(match[0]):02X}", self.path)
        fragment = ",".join(f"{key}={value}" for key, value in self.fragment)
        return f"{path}#{fragment}" if fragment else path

    def option(self, name: str) -> int | None:
        """Return the value of a key of the fragment, or ``None`` where it does not stand."""
        return dict(self.fragment).get(name)

    def _error(self, found: str) -> ReadError:
        path = _TO_ESCAPE.sub(lambda match: f"%{ord(match[0]):02X}", self.path)
        fragment = ",".join(f"{key}={value}" for key, value in self.fragment)
        return ReadError(
            f"{path}#{fragment}", found, "If the '#' belongs to the file's name, write it as %23."
        )


def _known() -> str:
    return ", ".join(KEYS)
