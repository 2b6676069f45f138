"""What a TIFF must be like to be read as a slide, told from its directories alone."""

from __future__ import annotations

from typing import Any

import tifffile

from medglean.data.readers.request import Request
from medglean.data.readers.tiff import opened_tiff

Page = Any  # a tifffile.TiffPage

DENSE = (None, "generic-tiff", "aperio")
"""Kinds of slides in which every tile must be there. Other scanners leave out tiles where they saw
nothing, and their levels are for OpenSlide to find."""


def check_tiff(request: Request, vendor: str | None) -> bool:
    """Refuse a TIFF that is no complete slide of 8-bit RGB.

    Parameters
    ----------
    vendor
        What OpenSlide takes the file for; ``None``: no slide.

    Returns
    -------
    bool
        Whether tifffile is to read it: an OME-TIFF or a pyramid in SubIFDs, of which OpenSlide
        would miss levels, or no scanner's format.

    Raises
    ------
    ReadError
        If the directories are damaged, a level is not 8-bit RGB, or a tile is missing or lies
        beyond the end of the file.
    """
    with opened_tiff(request) as file:
        if not len(file.pages):
            raise request.truncated("TIFF", "no page")
        first: Page = file.pages[0]
        own = bool(file.is_ome) or bool(first.subifds) or vendor in (None, "generic-tiff")
        seen = set()
        if own or vendor in DENSE:
            for number, page in enumerate(level_pages(request, file)):
                _check_colour(request, number, page)
                _check_tiles(request, f"level {number}", page)
                seen.add(page.offset)
        for number in range(len(file.pages)):
            other: Page = file.pages[number]
            if other.offset not in seen and other.is_tiled:
                _check_tiles(request, f"page {number}", other, sparse=vendor not in DENSE)
        return own


def level_pages(request: Request, file: tifffile.TiffFile) -> list[Page]:
    """Return the pages of a slide's levels, the largest first."""
    if not file.series:
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


def _check_tiles(request: Request, name: str, page: Page, *, sparse: bool = False) -> None:
    size = request.path.stat().st_size
    rows, columns = page.chunks[:2]
    across = -(-page.imagewidth // columns)
    expected = -(-page.imagelength // rows) * across
    offsets, counts = page.dataoffsets, page.databytecounts
    if not sparse and (len(offsets) != len(counts) or len(offsets) < expected):
        raise request.truncated("slide", f"{name} has {len(offsets)} of {expected} strips or tiles")

    def where(place: int) -> str:
        down, right = divmod(place, across)
        return f"the tile of {name} at x={right * columns}, y={down * rows}"

    for place, (at, count) in enumerate(zip(offsets, counts, strict=False)):
        if count == 0 and not sparse:
            raise request.truncated("slide", f"{where(place)} is missing")
        if at + count > size:
            told = f"{where(place)} lies beyond the end of the file at byte {size:,}"
            raise request.truncated("slide", told)
