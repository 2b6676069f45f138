"""Slides through tifffile: OME-TIFF, pyramids in SubIFDs, and TIFF that OpenSlide does not know.

Strips or tiles are decoded one by one and the last ones kept, so that memory does not grow with
the slide.
"""

from __future__ import annotations

import math
import re
import threading
import xml.etree.ElementTree as ET
from collections import OrderedDict
from typing import Any

import numpy as np
import tifffile
from jaxtyping import UInt8

from medglean.data.readers.request import Request
from medglean.data.readers.tiff import opened_tiff
from medglean.data.slides.slide import Slide, levels_of
from medglean.data.slides.tiff_check import level_pages

Page = Any  # a tifffile.TiffPage
Tile = UInt8[np.ndarray, "h w c"]

LARGEST_SEGMENT_BYTES = 256 << 20
"""A strip or tile that decodes to more than this is refused: memory would grow with the slide."""

MOST_MPP = 10.0
"""A TIFF's resolution tags state a print or a screen as often as a scanner; more micrometres per
pixel than this are taken for the former, where nothing else says that it is a slide."""

_MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


def open_by_tifffile(request: Request, *, cache_bytes: int) -> Slide:
    """Open a TIFF whose levels were checked.

    Raises
    ------
    ReadError
        If its first tile cannot be decoded, or its tiles are too large.
    """
    source = _TiffSource(request, cache_bytes)
    try:
        slide = Slide(
            request.path,
            "tifffile",
            levels_of([(page.imagelength, page.imagewidth) for page in source.pages]),
            _mpp(source.file, source.pages[0]),
            _vendor(source.file),
            source,
            {"tiff.ImageDescription": str(source.pages[0].description)},
        )
        source.rgba(0, 0, 0, 1, 1)  # a compression without a decoder shows here
    except BaseException:
        source.close()
        raise
    return slide


def _vendor(file: tifffile.TiffFile) -> str:
    known = (("is_ome", "ome"), ("is_svs", "aperio"), ("is_ndpi", "hamamatsu"), ("is_scn", "leica"))
    return next((name for flag, name in known if getattr(file, flag, False)), "generic-tiff")


def _mpp(file: tifffile.TiffFile, page: Page) -> tuple[float, float] | None:
    """Return micrometres per pixel along y and x, ``None`` where nothing sensible is stated."""
    if file.is_ome:
        return _mpp_of_ome(file.ome_metadata or "")
    if file.is_svs:
        stated = re.search(r"\|\s*MPP\s*=\s*([0-9]*\.?[0-9]+)", str(page.description))
        mpp_of_both = float(stated[1]) if stated else 0.0
        return (mpp_of_both, mpp_of_both) if mpp_of_both > 0 else None
    if page.tags.get("XResolution") is None or page.resolutionunit not in (2, 3):
        return None
    unit_um = {2: 25_400.0, 3: 10_000.0}[int(page.resolutionunit)]
    x, y = page.resolution
    if not all(math.isfinite(value) and value > 0 for value in (x, y)):
        return None
    mpp = (unit_um / y, unit_um / x)
    return mpp if max(mpp) <= MOST_MPP else None


def _mpp_of_ome(text: str) -> tuple[float, float] | None:
    """Return the physical size of a pixel of the first image, as OME-XML states it."""
    try:
        pixels = next(one for one in ET.fromstring(text).iter() if one.tag.endswith("}Pixels"))
        found = []
        for axis in "YX":
            unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
            found.append(float(pixels.get(f"PhysicalSize{axis}", "nan")) * _MICROMETRES[unit])
    except (ET.ParseError, StopIteration, ValueError, KeyError):
        return None
    if not all(math.isfinite(value) and value > 0 for value in found):
        return None
    return found[0], found[1]


class _TiffSource:
    """Segments of the pages of an open TIFF; the file is locked, decoding is not."""

    def __init__(self, request: Request, cache_bytes: int) -> None:
        self._request = request
        self._opened = opened_tiff(request)
        self.file = self._opened.__enter__()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Tile] = OrderedDict()
        self._kept_bytes, self._cache_bytes = 0, cache_bytes
        try:
            self.pages = level_pages(request, self.file)
            for page in self.pages:
                self._check_segment(page)
        except BaseException:
            self.close()
            raise

    def _check_segment(self, page: Page) -> None:
        need = math.prod(page.chunks)
        if need > LARGEST_SEGMENT_BYTES:
            size = " x ".join(str(side) for side in page.chunks[:2])
            raise self._request.error(
                f"its pixels lie in strips or tiles of {size} pixels, {need:,} bytes each; at "
                f"most {LARGEST_SEGMENT_BYTES:,} can be read at once.",
                "Convert it to a tiled pyramid, such as with vips tiffsave --tile --pyramid.",
            )

    def rgba(self, level: int, x: int, y: int, w: int, h: int) -> Tile:
        """Return a region of 3 channels, or 4 with straight alpha."""
        page = self.pages[level]
        rows, columns = page.chunks[:2]
        across = -(-page.imagewidth // columns)
        region = np.empty((h, w, page.samplesperpixel), np.uint8)
        for row in range(y // rows, -(-(y + h) // rows)):
            for column in range(x // columns, -(-(x + w) // columns)):
                tile = self._segment(level, row * across + column)
                top, left = row * rows - y, column * columns - x
                into = np.s_[max(top, 0) : top + rows, max(left, 0) : left + columns]
                target = region[into]
                target[:] = tile[max(-top, 0) :, max(-left, 0) :][: len(target), : target.shape[1]]
        return _straight(region, page)

    def _segment(self, level: int, number: int) -> Tile:
        """Return one strip or tile, from those that were kept if it is there."""
        with self._lock:
            found = self._kept.get((level, number))
            if found is not None:
                self._kept.move_to_end((level, number))
                return found
        tile = self._decoded(level, number)
        with self._lock:
            if (level, number) not in self._kept:
                self._kept[level, number] = tile
                self._kept_bytes += tile.nbytes
            while self._kept_bytes > self._cache_bytes:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return tile

    def _decoded(self, level: int, number: int) -> Tile:
        page = self.pages[level]
        try:
            with self._lock:
                handle = page.parent.filehandle
                handle.seek(page.dataoffsets[number])
                data = handle.read(page.databytecounts[number])
            pixels = self._pixels(page, data, number)
            self._check_size(page, pixels, number)
        except Exception as error:  # codecs raise errors of every type
            detail = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "COMPRESSION" in detail:
                raise self._request.error(
                    f"its compression cannot be decoded ({detail}).", "Save it with another one."
                ) from error
            raise self._request.truncated(
                "slide", f"strip or tile {number} of level {level}: {detail}"
            ) from error
        return pixels

    def _pixels(self, page: Page, data: bytes, number: int) -> Tile:
        """Decode a segment; of a JPEG nothing may be missing or invented."""
        if page.compression == 7:
            import simplejpeg

            whole = data if page.jpegtables is None else page.jpegtables[:-2] + data[2:]
            pixels = simplejpeg.decode_jpeg(whole, colorspace="RGB", strict=True)
            if page.photometric == 6:
                return np.asarray(pixels, np.uint8)
        decoded, _, _ = page.decode(data, number, jpegtables=page.jpegtables)
        if decoded is None or decoded.dtype != np.uint8 or decoded.shape[0] != 1:
            raise ValueError("it decodes to no picture")
        return np.asarray(decoded.reshape(decoded.shape[1:]), np.uint8)

    def _check_size(self, page: Page, pixels: Tile, number: int) -> None:
        """Refuse a segment that decodes to another size; the last strip may be cut off."""
        rows, columns = page.chunks[:2]
        least = rows if page.is_tiled else min(rows, page.imagelength - number * rows)
        found, wanted = pixels.shape, (least, columns, page.samplesperpixel)
        if found[0] < least or found[1:] != wanted[1:]:
            raise ValueError(f"decoded to {found}, expected {wanted}")

    def close(self) -> None:
        """Close the file and forget the tiles."""
        self._opened.__exit__(None, None, None)
        self._kept.clear()


def _straight(region: Tile, page: Page) -> Tile:
    """Return colours with straight alpha: premultiplied ones are divided, other extras dropped."""
    if region.shape[2] == 3:
        return region
    kind = int(page.extrasamples[0]) if page.extrasamples else 0
    if kind == 0:
        return np.ascontiguousarray(region[:, :, :3])
    if kind == 1:
        alpha = region[:, :, 3:].astype(np.float32)
        colours = np.rint(region[:, :, :3] * (255 / np.maximum(alpha, 1))).clip(0, 255)
        region[:, :, :3] = colours.astype(np.uint8)
    return region
