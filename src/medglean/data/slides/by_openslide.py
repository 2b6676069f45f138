"""Slides through OpenSlide."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from medglean.data.readers.request import Request
from medglean.data.slides.slide import Level, Slide
from medglean.errors import ReadError

if TYPE_CHECKING:
    from openslide import OpenSlide

_REMEDY = "Copy it again from its source, or convert it to a pyramidal TIFF of 8-bit RGB."


def detected(request: Request) -> str | None:
    """Return what OpenSlide takes a file for; ``None``: no slide, or there is no OpenSlide."""
    try:
        import openslide
    except ImportError:
        return None
    found: str | None = openslide.OpenSlide.detect_format(request.path)
    return found


def open_by_openslide(request: Request, *, cache_bytes: int) -> Slide:
    """Open a slide with OpenSlide.

    Raises
    ------
    ReadError
        If OpenSlide is not installed, does not know the file or cannot open it.
    """
    try:
        import openslide  # noqa: F401
    except ImportError as error:
        raise request.error(
            "reading it needs OpenSlide, which is not installed.",
            "Run: pip install openslide-python openslide-bin",
        ) from error
    vendor = detected(request)
    if vendor is None:
        raise request.error(
            "it is no whole slide that OpenSlide knows (SVS, NDPI, MRXS, SCN, BIF, DICOM, TIFF).",
            "Give the slide's main file, or convert it to a pyramidal TIFF of 8-bit RGB.",
        )
    handle = _handle(request, cache_bytes)
    properties = dict(handle.properties)
    sizes, downsamples = handle.level_dimensions, handle.level_downsamples
    levels = tuple(
        Level((height, width), float(downsample))
        for (width, height), downsample in zip(sizes, downsamples, strict=True)
    )
    source = _OpenSlideSource(request, cache_bytes, handle, [one.downsample for one in levels])
    mpp = _mpp(properties)
    return Slide(request.path, "openslide", levels, mpp, vendor, source, properties)


def _handle(request: Request, cache_bytes: int) -> OpenSlide:
    import openslide

    try:
        handle = openslide.OpenSlide(request.path)
        handle.set_cache(openslide.OpenSlideCache(cache_bytes))
    except (openslide.OpenSlideError, OSError) as error:
        raise _failed(request, error, "OpenSlide could not open it") from error
    return handle


def _mpp(properties: dict[str, str]) -> tuple[float, float] | None:
    """Return micrometres per pixel along y and x, ``None`` where nothing sensible is stated."""
    found = []
    for axis in "yx":
        try:
            value = float(properties.get(f"openslide.mpp-{axis}", "nan"))
        except ValueError:
            return None
        if not math.isfinite(value) or value <= 0:
            return None
        found.append(value)
    return found[0], found[1]


def _failed(request: Request, error: Exception, what: str) -> ReadError:
    detail = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return request.error(f"{what} ({detail}).", _REMEDY)


class _OpenSlideSource:
    """Regions through a handle of OpenSlide, which several threads may use."""

    def __init__(
        self, request: Request, cache_bytes: int, handle: OpenSlide, downsamples: list[float]
    ) -> None:
        self._request, self._cache_bytes = request, cache_bytes
        self._handle, self._downsamples = handle, downsamples
        self._lock = threading.Lock()

    def rgba(self, level: int, x: int, y: int, w: int, h: int) -> UInt8[np.ndarray, "h w c"]:
        """Return a region with straight alpha.

        OpenSlide takes the corner in whole pixels of level 0. Where a level's downsample is no
        whole number, what it returns is moved by up to half of such a pixel.
        """
        import openslide

        factor = self._downsamples[level]
        corner = (round(x * factor), round(y * factor))
        handle = self._handle
        try:
            return np.asarray(handle.read_region(corner, level, (w, h)))
        except openslide.OpenSlideError as error:
            # a handle that failed once fails for ever, perhaps at a region that another thread read
            fresh = self._replaced(handle)
            try:
                return np.asarray(fresh.read_region(corner, level, (w, h)))
            except openslide.OpenSlideError:
                self._replaced(fresh)
                where = f"level {level} at x={x}, y={y}, {w} x {h} pixels"
                raise _failed(
                    self._request, error, f"the region of {where}, cannot be decoded"
                ) from error

    def _replaced(self, broken: OpenSlide) -> OpenSlide:
        """Return another handle than one that failed."""
        with self._lock:
            if self._handle is broken:
                self._handle = _handle(self._request, self._cache_bytes)
            return self._handle

    def close(self) -> None:
        """Close the handle."""
        self._handle.close()
