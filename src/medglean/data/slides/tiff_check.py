"""What a TIFF must be like to be read as a slide, told from its directories alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tifffile

from medglean.data.readers.request import Request
from medglean.data.readers.tiff import opened_tiff

Page = Any  # a tifffile.TiffPage

SPARSE = ("is_philips", "is_bif", "is_scn", "is_ndpi")
"""Kinds of slides whose scanners leave out tiles where they saw nothing."""


@dataclass(frozen=True)
class TiffFacts:
    """What the directories say.

    Attributes
    ----------
    only_tifffile
        Whether OpenSlide would miss levels: an OME-TIFF, or a pyramid in SubIFDs.
    """

    only_tifffile: bool


def check_tiff(request: Request) -> TiffFacts:
    """Refuse a TIFF that is no complete slide of 8-bit RGB.

    Raises
    ------
    ReadError
        If the directories are damaged, a level is not 8-bit RGB, or a tile is missing or lies
        beyond the end of the file.
    """
    with opened_tiff(request) as file:
        levels = level_pages(request, file)
        sparse = any(getattr(file, name, False) for name in SPARSE)
        for number, page in enumerate(levels):
            _check_colour(request, number, page)
            _check_tiles(request, f"level {number}", page, sparse=sparse)
        seen = {page.offset for page in levels}
        for number in range(len(file.pages)):  # levels that only OpenSlide takes for such
            other: Page = file.pages[number]
            if other.offset not in seen and other.is_tiled:
                _check_tiles(request, f"page {number}", other, sparse=sparse)
        in_subifds = bool(file.pages[0].subifds) if len(file.pages) else False
        return TiffFacts(bool(file.is_ome) or in_subifds)


def level_pages(request: Request, file: tifffile.TiffFile) -> list[Page]:
    """Return the pages of a slide's levels, the largest first."""
    if not len(file.pages) or not file.series:
        raise request.truncated("TIFF", "no page")
    pages = []
    for number, level in enumerate(file.series[0].levels):
        if len(level.pages) != 1:
            raise request.error(
                f"level {number} has {len(level.pages)} planes (axes {level.axes}); expected one "
                "picture in colour.",
                "Export one plane as 8-bit RGB.",
            )
        page: Page = level.pages[0]
        if isinstance(page, tifffile.TiffFrame):
            page = page.aspage()
        pages.append(page)
    return pages


def _check_colour(request: Request, number: int, page: Page) -> None:
    name = getattr(page.photometric, "name", page.photometric)
    samples = int(page.samplesperpixel)
    colour = page.photometric in (2, 6) and samples in (3, 4) and page.axes == "YXS"
    if not colour or page.dtype != "uint8":
        raise request.error(
            f"level {number} is {page.dtype} {name} with {samples} sample(s) and the axes "
            f"{page.axes}; expected 8-bit RGB, interleaved.",
            "Export the slide as 8-bit RGB: stains are measured in colour.",
        )


def _check_tiles(request: Request, name: str, page: Page, *, sparse: bool) -> None:
    size = request.path.stat().st_size
    offsets, counts = page.dataoffsets, page.databytecounts
    height, width = page.imagelength, page.imagewidth
    rows, columns = page.chunks[:2]
    expected = -(-height // rows) * -(-width // columns)
    if len(offsets) != len(counts) or len(offsets) < expected:
        raise request.truncated("slide", f"{name} has {len(offsets)} of {expected} strips or tiles")
    for place, (at, count) in enumerate(zip(offsets[:expected], counts, strict=False)):
        across, down = place % -(-width // columns) * columns, place // -(-width // columns) * rows
        where = f"of {name} at x={across}, y={down}"
        if count == 0 and not sparse:
            raise request.truncated("slide", f"the tile {where} is missing")
        if at + count > size:
            raise request.truncated(
                "slide", f"the tile {where} lies beyond the end of the file at byte {size:,}"
            )
