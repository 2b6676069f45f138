"""Opening a slide: which library reads it, and what is refused before a pixel is decoded."""

from __future__ import annotations

from pathlib import Path

from medglean.data.readers.request import Request
from medglean.data.readers.sniff import sniff
from medglean.data.slides.slide import ArraySource, Slide, levels_of

CACHE_BYTES = 64 << 20
"""Decoded tiles that an open slide keeps."""


def open_slide(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> Slide:
    """Open a slide to read regions of it.

    OpenSlide reads the formats of scanners (SVS, NDPI, MRXS, SCN, BIF, DICOM, ...); tifffile
    reads OME-TIFF and plain TIFF, pyramidal or not, tile by tile; a PNG or JPEG is held whole,
    within the budget for decoded images. Before anything is decoded, the levels of a TIFF are
    checked: 8-bit RGB, every tile there and inside the file.

    Native code decodes in this process: a slide is read for as long as it takes, and what was
    made of it so far is on disk. Single regions, named by an image reference, are decoded by
    :func:`medglean.data.readers.read` in a worker process.

    Parameters
    ----------
    path
        The file; not a reference with ``#``.
    cache_bytes
        Memory for decoded tiles that are kept for the next region.

    Raises
    ------
    ReadError
        If the file is missing, a folder, damaged, cut short, lacks tiles, or is no slide of 8-bit
        RGB; ``TooLargeError`` for a picture beyond the budget.

    Examples
    --------
    >>> with open_slide("slide.svs") as slide:  # doctest: +SKIP
    ...     tile = slide.read(0, 0, 0, 512, 512)
    """
    request = Request.of(Path(path), root=None, budget_bytes=None)
    request.check_file()
    kind = sniff(request).format
    if kind in ("PNG", "JPEG"):
        return _picture(request, kind)
    if kind == "TIFF":
        return _tiff(request, cache_bytes)
    if kind in ("DICOM", "MIRAX"):
        from medglean.data.slides.by_openslide import open_by_openslide

        return open_by_openslide(request, cache_bytes=cache_bytes)
    raise request.error(
        f"a {kind} file, expected a slide (SVS, NDPI, MRXS, SCN, BIF, DICOM, TIFF) or a PNG or "
        "JPEG.",
        "Export it as a pyramidal TIFF.",
    )


def _tiff(request: Request, cache_bytes: int) -> Slide:
    """Open a vendor's TIFF with OpenSlide, any other with tifffile, which is stricter."""
    from medglean.data.slides.by_openslide import detected, open_by_openslide
    from medglean.data.slides.by_tifffile import open_by_tifffile
    from medglean.data.slides.tiff_check import check_tiff

    if check_tiff(request, detected(request)):
        return open_by_tifffile(request, cache_bytes=cache_bytes)
    return open_by_openslide(request, cache_bytes=cache_bytes)


def _picture(request: Request, kind: str) -> Slide:
    from medglean.data.readers import read

    picture = read(request.path, budget_bytes=request.budget_bytes)
    if picture.channels != ("red", "green", "blue") or picture.unit != "8-bit":
        raise request.error(
            f"a {kind} of {picture.unit} with the channels {', '.join(picture.channels)}; expected "
            "8-bit red, green, blue.",
            "Export it in colour, 8 bits a channel.",
        )
    pixels = picture.values.transpose(1, 2, 0)
    size_px = (int(pixels.shape[0]), int(pixels.shape[1]))
    return Slide(
        request.path, "picture", levels_of([size_px]), None, kind.lower(), ArraySource([pixels])
    )
