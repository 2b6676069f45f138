"""TIFF and BigTIFF, of any byte order, layout and compression that tifffile decodes.

Values stay as they are stored, in 1 to 32 bits or as floats; MinIsWhite is inverted so that larger
is brighter; a palette becomes its colours; ink becomes RGB; transparency follows
``colours.without_alpha``. Of a file with several pages one must be named (``#page=2``, counted from
0 over all directories of the file). The resolution tags describe a print or a scanner and are not
taken as a spacing. Whole slides of 8-bit RGB are read by ``slides``, unless a page is named.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile

from medglean.data.picture import Picture
from medglean.data.readers.colours import cmyk_to_rgb, names_of, oriented, without_alpha
from medglean.data.readers.finite import non_finite
from medglean.data.readers.header import Header
from medglean.data.readers.request import Request
from medglean.errors import ReadError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it tells, we raise

Page = Any  # a tifffile.TiffPage; its types allow None where a checked page has a value

_SAFE_COMPRESSIONS = ("NONE", "DEFLATE", "ADOBE_DEFLATE")
_SLIDES = ("is_svs", "is_ndpi", "is_scn", "is_bif", "is_vips", "is_philips", "is_avs")
_RGB, _PALETTE, _MASK, _CMYK, _YCBCR = 2, 3, 4, 5, 6  # photometric interpretations


@contextmanager
def opened_tiff(request: Request) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; whatever tifffile or a codec raises on a damaged file becomes a ReadError."""
    try:
        with tifffile.TiffFile(request.path) as file:
            yield file
    except (ReadError, ImportError, MemoryError):
        raise
    except Exception as error:  # tifffile and its codecs raise errors of every type
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "COMPRESSION" in detail:
            raise request.error(
                f"its compression cannot be decoded ({detail}).", "Save it with another one."
            ) from error
        raise request.truncated("TIFF", detail) from error


def tiff_header(request: Request) -> Header:
    """Return the header of a TIFF: its first page, and how many pages there are."""
    with opened_tiff(request) as file:
        page, slide = _page(request, file, 0), _is_slide(file)
        frames = 1 if slide else len(file.pages)
        palette = page.photometric == _PALETTE
        return Header(
            format="TIFF",
            height=page.imagelength,
            width=page.imagewidth,
            frames=frames,
            channels=3 if palette else _samples(page),
            bits=_bits(page),
            decoded_bytes=page.nbytes * (3 if palette else 1)
            if frames == 1
            else sum(_page(request, file, k).nbytes for k in range(frames)),
            extra={"compression": _compression(page), "slide": slide},
        )


def tiff_is_risky(request: Request) -> bool:
    """Tell whether the page asked for needs a decoder that has had memory faults."""
    with opened_tiff(request) as file:
        number = request.option("page") or 0
        if number >= len(file.pages):
            return False
        return _compression(_page(request, file, number)) not in _SAFE_COMPRESSIONS


def read_tiff(request: Request) -> Picture:
    """Decode one page of a TIFF."""
    request.allow("a TIFF", "page")
    with opened_tiff(request) as file:
        page = _chosen_page(request, file)
        _check_sizes(request, page, slide=_is_slide(file))
        _check_segments(request, page)
        pixels = _channel_first(request, page, page.asarray(maxworkers=1))
        return _picture(request, page, pixels)


def _page(request: Request, file: tifffile.TiffFile, number: int) -> Page:
    page: Page = file.pages[number]
    if isinstance(page, tifffile.TiffFrame):
        page = page.aspage()
    if page.dtype is None or 0 in page.shape:
        raise request.error(
            f"page {number} has {page.bitspersample} bits per sample of format "
            f"{page.sampleformat}, which no decoder knows.",
            "Convert it to a TIFF or PNG of 8 or 16 bits.",
        )
    return page


def _chosen_page(request: Request, file: tifffile.TiffFile) -> Page:
    count = len(file.pages)
    if count == 0:
        raise request.truncated("TIFF", "no page")
    number = request.pick("page", count, noun="page")
    if count > 1 and number is None:
        what = "the levels of a whole slide" if _is_slide(file) else "one picture expected"
        raise request.error(
            f"the TIFF has {count} pages ({what}).",
            f"Name one, counted from 0: {request.name}#page=0.",
        )
    stacked = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    if count == 1 and stacked > 1:
        raise request.error(
            f"an ImageJ stack of {stacked} images behind one page.",
            "Save it as an ordinary multi-page TIFF.",
        )
    return _page(request, file, number or 0)


def _is_slide(file: tifffile.TiffFile) -> bool:
    """Tell whether a file is a scanner's, or a pyramid of tiled levels."""
    if any(getattr(file, name, False) for name in _SLIDES):
        return True
    page: Page = file.pages[0] if len(file.pages) else None
    if page is None or not page.is_tiled or (len(file.pages) == 1 and not page.subifds):
        return False
    return bool(file.series) and len(file.series[0].levels) > 1


def tiff_is_slide(request: Request) -> bool:
    """Tell whether a TIFF as a whole is a slide of 8-bit RGB, and its first page not all of it."""
    with opened_tiff(request) as file:
        if not _is_slide(file) or (len(file.pages) == 1 and not file.pages[0].subifds):
            return False
        page: Page = file.pages[0]
        return page.photometric in (_RGB, _YCBCR) and page.dtype == np.uint8


def _check_sizes(request: Request, page: Page, *, slide: bool) -> None:
    remedy = ""
    if slide:
        remedy = (
            "It is a whole slide: name a smaller page (#page=...), or a region "
            "(#level=0,x=0,y=0,w=1024,h=1024). "
        )
    itemsize = page.dtype.itemsize
    request.check_budget(page.shape, itemsize, remedy=remedy)
    request.check_budget(tuple(page.chunks), itemsize, remedy=remedy)  # one forged tile


def _check_segments(request: Request, page: Page) -> None:
    """Refuse missing, short or damaged strips and tiles, which decoders may fill at will."""
    size = request.path.stat().st_size
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = int(np.prod([-(-s // c) for s, c in zip(page.shaped, _chunk5(page), strict=True)]))
    if len(offsets) != len(counts) or len(offsets) < expected:
        raise request.truncated("TIFF", f"{len(offsets)} of {expected} strips or tiles")
    if any(count == 0 for count in counts):
        raise request.truncated("TIFF", "a strip or tile is missing")
    if any(at + count > size for at, count in zip(offsets, counts, strict=True)):
        raise request.truncated("TIFF", f"its data go on beyond its end at byte {size:,}")
    compression = _compression(page)
    if compression == "NONE" and sum(counts) * 8 < np.prod(page.shape) * _bits(page):
        raise request.truncated("TIFF", "fewer bytes than pixels")
    if compression == "JPEG" and _bits(page) == 8:
        _check_jpegs(request, page)


def _chunk5(page: Page) -> tuple[int, ...]:
    """Return the size of a strip or tile in the five axes of ``page.shaped``."""
    if page.is_tiled:
        depth, length, width = page.tiledepth, page.tilelength, page.tilewidth
        return 1, depth, length, width, page.shaped[4]
    rows = page.rowsperstrip or page.imagelength
    return 1, 1, min(rows, page.imagelength), page.imagewidth, page.shaped[4]


def _check_jpegs(request: Request, page: Page) -> None:
    import simplejpeg

    tables = page.jpegtables
    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(page.shaped[4], "GRAY")
    segments = page.parent.filehandle.read_segments(
        page.dataoffsets, page.databytecounts, lock=None
    )
    for data, _ in segments:
        whole = data if tables is None else tables[:-2] + data[2:]
        try:
            simplejpeg.decode_jpeg(whole, colorspace=space, strict=True)
        except ValueError as error:
            if "extraneous bytes" not in str(error):
                raise request.truncated("TIFF", f"JPEG inside: {error}") from error


def _compression(page: Page) -> str:
    return str(getattr(page.compression, "name", page.compression))


def _bits(page: Page) -> int:
    bits = page.bitspersample
    return int(max(bits) if isinstance(bits, tuple) else bits)


def _samples(page: Page) -> int:
    """Return the channels that remain once alpha is gone."""
    return int(page.samplesperpixel) - len(page.extrasamples)


def _channel_first(request: Request, page: Page, pixels: np.ndarray) -> np.ndarray:
    if pixels.shape != page.shape:
        raise request.truncated("TIFF", f"decoded to {pixels.shape}, expected {page.shape}")
    if page.axes == "YX":
        return pixels[np.newaxis]
    if page.axes == "YXS":
        return pixels.transpose(2, 0, 1)
    if page.axes == "SYX":
        return pixels
    raise request.error(
        f"a page with the axes {page.axes}, expected one picture.", "Save each plane as a page."
    )


def _picture(request: Request, page: Page, values: np.ndarray) -> Picture:
    """Turn the stored samples (c, h, w) of a page into a picture."""
    bits, kind = _bits(page), page.dtype.kind
    values = values.astype(np.uint8) if kind == "b" else values
    full: float = 1 if kind == "f" else 2**bits - 1
    warnings: tuple[str, ...] = ()
    if page.photometric == _PALETTE:
        values, bits = _colours(request, page, values[:1])
        full = 2**bits - 1
    else:
        values, warnings = _without_extra(page, values, full)
        values, told = _colour_model(request, page, values, full)
        warnings += told
    values, turned = oriented(values, _orientation(page))
    if kind == "f":
        warnings += non_finite(values)
    return Picture(
        values=np.ascontiguousarray(values),
        unit={"f": "float", "i": f"{bits}-bit signed"}.get(kind, f"{bits}-bit"),
        channels=_channel_names(values.shape[0]),
        warnings=warnings + turned,
        full_scale={"f": None, "i": (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)}.get(
            kind, (0, full)
        ),
    )


def _channel_names(count: int) -> tuple[str, ...]:
    return names_of(count) if count in (1, 3) else tuple(f"sample {k}" for k in range(count))


def _colours(request: Request, page: Page, indices: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the colours (3, h, w) of palette indices, and their bits."""
    table = page.colormap
    if table is None or int(indices.max()) >= table.shape[1]:
        raise request.truncated("TIFF", "its palette is missing or too short")
    low = table & 0xFF
    if (low == 0).all() or (low == table >> 8).all():
        return (table >> 8).astype(np.uint8)[:, indices[0]], 8
    if int(table.max()) < 256:  # some writers forget that entries have 16 bits
        return table.astype(np.uint8)[:, indices[0]], 8
    return table[:, indices[0]], 16


def _without_extra(
    page: Page, values: np.ndarray, full: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Remove alpha; extra samples of grey pages that are no alpha stay as channels."""
    extra = [int(kind) for kind in page.extrasamples]
    if not extra:
        return values, ()
    keep = len(values) - len(extra)
    if extra[0] == 2:
        colours, warning = without_alpha(values[:keep], values[keep], full=full)
        return colours, (warning,)
    if extra[0] == 1:
        return values[:keep], (
            "an alpha channel was dropped: the colours are stored composited over black.",
        )
    if keep in (3, 4):
        return values[:keep], (f"{len(extra)} extra channel(s) of unknown meaning were dropped.",)
    return values, ()


def _colour_model(
    request: Request, page: Page, values: np.ndarray, full: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    photometric = int(page.photometric)
    if photometric in (1, _RGB, _MASK):
        return values, ()
    if photometric == 0 and page.dtype.kind in "bu":
        inverted = (full - values).astype(values.dtype)
        return inverted, ("stored with 0 as white; inverted so that larger is brighter.",)
    if photometric == _CMYK and len(values) == 4 and page.dtype.kind == "u":
        rgb, warning = cmyk_to_rgb(values, full=full)
        return rgb, (warning,)
    if photometric == _YCBCR and _compression(page) in ("JPEG", "OJPEG"):
        return values, ()  # libjpeg has turned them into RGB
    name = getattr(page.photometric, "name", photometric)
    raise request.error(
        f"the colour model {name} with {page.dtype} samples, expected grey, RGB, palette or CMYK.",
        "Convert it to RGB.",
    )


def _orientation(page: Page) -> int:
    tag: Any = page.tags.get(274)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1
