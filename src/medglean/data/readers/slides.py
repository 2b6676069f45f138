"""Regions of whole slides, and slides as pictures.

``d.svs#level=0,x=1024,y=2048,w=512,h=512`` names a region: x and y in pixels of level 0, w and h in
pixels of the level. What is left out is 0 for level, x and y, and the rest of the level for w and
h; so ``d.svs`` alone is all of level 0 and ``d.svs#level=2`` all of level 2, within the budget. The
micrometres per pixel that the slide states become the spacing. A region that reaches beyond the
slide is refused, not filled up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.request import Request
from medglean.data.reference import ImageReference

if TYPE_CHECKING:
    from medglean.data.slides import Slide

KEYS = ("level", "x", "y", "w", "h")
"""What the fragment of a region consists of."""

WHOLE_SLIDE_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of DICOM's whole slide images."""

_BAND_PX = 1024
_kept: dict[tuple[Path, int, int], Slide] = {}


def names_region(request: Request) -> bool:
    """Tell whether the fragment names a level or a region."""
    return any(request.option(key) is not None for key in KEYS)


def is_slide(request: Request, kind: str, head: bytes) -> bool:
    """Tell whether a reference is to be read as a slide.

    That is a region of a file that may be one, or a slide as a whole; not a page or a frame.
    """
    if kind == "MIRAX":
        return True
    if kind not in ("TIFF", "DICOM"):
        return False
    if names_region(request):
        return True
    if any(request.option(key) is not None for key in ("page", "frame", "voi")):
        return False
    if kind == "DICOM":
        start = head.find(WHOLE_SLIDE_STORAGE.encode())
        after = head[start + len(WHOLE_SLIDE_STORAGE) :][:1]
        return start >= 0 and not (after.isdigit() or after == b".")
    from medglean.data.readers.tiff import tiff_is_slide

    return tiff_is_slide(request)


def read_slide(request: Request) -> Picture:
    """Read the region of a slide that a reference names.

    Raises
    ------
    ReadError
        If there is no such level, or the region has no pixel or reaches beyond the slide; whatever
        :func:`medglean.data.slides.open_slide` and reading raise. ``TooLargeError`` beyond the
        budget; it says which level would fit.
    """
    request.allow("a slide", *KEYS)
    with _opened(request) as slide:
        number = request.pick("level", len(slide.levels), noun="level") or 0
        x, y, w, h = _region(request, slide, number)
        request.check_budget((h, w, 3), 1, remedy=_remedy(request, slide))
        pixels = np.empty((3, h, w), np.uint8)
        missing = 0
        for top in range(0, h, _BAND_PX):  # what is decoded at once stays small beside the result
            rows = min(_BAND_PX, h - top)
            band, covered = slide.read_covered(number, x, y + top, w, rows)
            pixels[:, top : top + rows] = band.transpose(2, 0, 1)
            missing += covered.size - int(covered.sum())
        told: tuple[str, ...] = ()
        if missing:
            share = 100 * missing / (w * h)
            told = (f"{share:.3g} % of the region holds nothing that was scanned; it is white.",)
        downsample = slide.levels[number].downsample
        spacing = None if slide.mpp is None else tuple(m * downsample / 1000 for m in slide.mpp)
    return Picture(
        values=pixels,
        unit="8-bit",
        spacing_mm=spacing,
        channels=("red", "green", "blue"),
        warnings=told,
        full_scale=(0, 255),
    )


def _region(request: Request, slide: Slide, number: int) -> tuple[int, int, int, int]:
    """Return x, y, w, h in pixels of the level, sure to lie inside it."""
    level = slide.levels[number]
    height, width = level.size_px
    x = round((request.option("x") or 0) / level.downsample)
    y = round((request.option("y") or 0) / level.downsample)
    given_w, given_h = request.option("w"), request.option("h")
    w = width - x if given_w is None else given_w
    h = height - y if given_h is None else given_h
    if w < 1 or h < 1 or x + w > width or y + h > height:
        shrunk = "" if number == 0 else f", shrunk {level.downsample:g} times"
        raise request.error(
            f"the region begins at x={x}, y={y} of level {number} and has {w} x {h} pixels; the "
            f"level has {width} x {height}{shrunk}.",
            "Name a region inside the slide: x and y in pixels of level 0, w and h in pixels of "
            "the level.",
        )
    return x, y, w, h


def _remedy(request: Request, slide: Slide) -> str:
    """Return how else to come by the pixels: a region, or the largest level that fits."""
    height, width = slide.size_px
    side = max(1, min(1024, height, width))
    region = (("level", 0), ("x", 0), ("y", 0), ("w", side), ("h", side))
    said = (
        f"It is a slide of {width} x {height} pixels. Name a region, such as "
        f"{ImageReference(request.fragment.path, region)}"
    )
    for number, level in enumerate(slide.levels):
        if 3 * level.size_px[0] * level.size_px[1] <= request.budget_bytes:
            smaller = ImageReference(request.fragment.path, (("level", number),))
            return f"{said}, or a smaller level: {smaller}. " if number else f"{said}. "
    return f"{said}. "


@contextlib.contextmanager
def _opened(request: Request) -> Iterator[Slide]:
    """Open a slide; a worker, which has one thread, keeps the last one for the next region."""
    from medglean.data.sandbox import inside_worker
    from medglean.data.slides import open_slide

    if not inside_worker():
        with _named(request), open_slide(request.path) as slide:
            yield slide
        return
    status = request.path.stat()
    key = (request.path, status.st_size, status.st_mtime_ns)
    if key not in _kept:
        while _kept:
            _kept.popitem()[1].close()
        with _named(request):
            _kept[key] = open_slide(request.path)
    with _named(request):
        yield _kept[key]


@contextlib.contextmanager
def _named(request: Request) -> Iterator[None]:
    """Let errors name the reference as the user wrote it, not only the file."""
    from medglean.errors import ReadError

    try:
        yield
    except ReadError as error:
        if error.file == request.name:
            raise
        raise type(error)(request.name, error.found, error.remedy) from error
