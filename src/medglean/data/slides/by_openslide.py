"""Slides through OpenSlide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medglean.data.readers.request import Request
from medglean.data.slides.slide import Level, Slide
from medglean.errors import ReadError

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
        import openslide
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
    try:
        handle = openslide.OpenSlide(request.path)
        handle.set_cache(openslide.OpenSlideCache(cache_bytes))
        properties = dict(handle.properties)
        sizes = handle.level_dimensions
        downsamples = handle.level_downsamples
    except (openslide.OpenSlideError, ValueError, OSError) as error:
        raise _failed(request, error, "OpenSlide could not open it") from error
    levels = tuple(
        Level((height, width), float(downsample))
        for (width, height), downsample in zip(sizes, downsamples, strict=True)
    )
    source = _OpenSlideSource(request, handle, [level.downsample for level in levels])
    mpp = _mpp(properties)
    return Slide(request.path, "openslide", levels, mpp, vendor, source, properties)


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
    """Regions through one handle of OpenSlide, which locks by itself."""

    def __init__(self, request: Request, handle: Any, downsamples: list[float]) -> None:  # noqa: ANN401
        self._request, self._handle, self._downsamples = request, handle, downsamples

    def rgba(self, level: int, x: int, y: int, w: int, h: int) -> UInt8[np.ndarray, "h w c"]:
        """Return a region with straight alpha.

        OpenSlide takes the corner in whole pixels of level 0. Where a level's downsample is no
        whole number, what it returns is moved by up to half of such a pixel.
        """
        import openslide

        factor = self._downsamples[level]
        corner = (round(x * factor), round(y * factor))
        try:
            image = self._handle.read_region(corner, level, (w, h))
        except (openslide.OpenSlideError, ValueError, OSError) as error:
            raise _failed(
                self._request,
                error,
                f"the region of level {level} at x={x}, y={y}, {w} x {h} pixels, cannot be decoded",
            ) from error
        return np.asarray(image)

    def close(self) -> None:
        """Close the handle."""
        self._handle.close()
