"""The header pass: what a file says about itself, without decoding a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medglean.data.readers.request import DEFAULT_BUDGET_BYTES, Request
from medglean.data.readers.sniff import Sniffed, sniff
from medglean.data.reference import ImageReference


@dataclass(frozen=True)
class Header:
    """What a file's header says.

    Attributes
    ----------
    format
        ``"PNG"``, ``"JPEG"``, ``"TIFF"``, ``"BMP"``, ``"GIF"``, ``"WebP"``, ``"DICOM"`` or
        ``"NIfTI"``: by content, not by suffix; ``"MIRAX"`` by its suffix.
    height, width
        Pixels of one frame or page as stored: an orientation tag is not applied. Of a NIfTI
        volume, the first two axes as stored; of a whole slide, level 0.
    frames
        Frames of a DICOM or an animated PNG, pages of a TIFF, slices (times volumes) of a NIfTI;
        1 for GIF and WebP, whose frames only ``read`` counts, and for a whole slide.
    channels
        1 grey, 3 colour, 4 ink, as stored but palettes count 3; alpha is not counted.
    bits
        Bits per sample as stored.
    decoded_bytes
        Bytes of the whole file once decoded, as the header claims it.
    extra
        Everything that only some formats have. ``suffix_warning`` where suffix and content
        disagree. DICOM: ``dataset`` (a pydicom ``Dataset`` with the tags asked for and nothing
        else: do not parse the file again), ``transfer_syntax`` (UID as text), ``photometric``,
        ``has_pixels`` (bool), ``media_storage`` (SOP class UID). TIFF: ``compression`` (name).
        TIFF, DICOM and MIRAX: ``slide`` (bool). NIfTI: ``shape`` as stored, ``ras_shape`` along
        right, front, head, ``orientation`` (for each stored axis its RAS axis, and -1 where it
        runs backwards), ``dtype``.
    """

    format: str
    height: int
    width: int
    frames: int
    channels: int
    bits: int
    decoded_bytes: int
    extra: dict[str, Any] = field(default_factory=dict)


def probe(path: str | Path, *, dicom_tags: Sequence[str] = ()) -> Header:
    """Read a file's header: never its pixels.

    What is found is what the header claims. A file whose header is sound can still be damaged
    further in; only ``read`` finds that.

    Parameters
    ----------
    path
        A file on disk, taken literally (no fragment).
    dicom_tags
        Keywords such as ``"PatientID"`` that the DICOM data set in ``extra["dataset"]`` must hold
        where the file has them, beside those that describe the pixels.

    Raises
    ------
    ReadError
        If the file is missing, empty, not an ordinary file, of an unknown format, or its header
        makes no sense. A DICOM file without pixels (a report, a DICOMDIR) is no error here:
        ``extra["has_pixels"]`` is False.
    """
    text = str(path)
    request = Request(
        text, Path(path), ImageReference(text or "\0"), budget_bytes=DEFAULT_BUDGET_BYTES
    )
    request.check_file()
    sniffed = sniff(request)
    header = _header(request, sniffed, dicom_tags)
    if sniffed.warning:
        header.extra["suffix_warning"] = sniffed.warning
    return header


def _header(request: Request, sniffed: Sniffed, dicom_tags: Sequence[str]) -> Header:
    kind, head = sniffed.format, sniffed.head
    if kind == "PNG":
        from medglean.data.readers.png import png_frames, png_header

        png = png_header(request, head)
        return _plain(kind, png.height, png.width, png.channels, png.depth, png_frames(head))
    if kind == "JPEG":
        from medglean.data.readers.jpeg import jpeg_header_of_file

        jpeg = jpeg_header_of_file(request, head)
        return _plain(kind, jpeg.height, jpeg.width, jpeg.samples, jpeg.bits)
    if kind == "TIFF":
        from medglean.data.readers.tiff import tiff_header

        return tiff_header(request)
    if kind == "DICOM":
        from medglean.data.readers.dicom_header import dicom_header

        return dicom_header(request, dicom_tags)
    if kind == "NIfTI":
        from medglean.data.readers.nifti import nifti_header

        return nifti_header(request)
    if kind == "MIRAX":
        from medglean.data.slides import open_slide

        with open_slide(request.path) as slide:
            height, width = slide.size_px
        header = _plain(kind, height, width, 3, 8)
        header.extra["slide"] = True
        return header
    return _of_pillow(request, kind, head)


def _of_pillow(request: Request, kind: str, head: bytes) -> Header:
    """Return the header of a BMP, GIF or WebP; their frames are counted only by ``read``."""
    from medglean.data.readers.raster import pillow_size

    width, height = pillow_size(request, kind, head)
    if kind == "BMP":
        depth = int.from_bytes(head[24:26] if head[14] == 12 else head[28:30], "little")
        return _plain(kind, height, width, 1 if depth == 1 else 3, 1 if depth == 1 else 8)
    return _plain(kind, height, width, 3, 8)


def _plain(kind: str, height: int, width: int, channels: int, bits: int, frames: int = 1) -> Header:
    decoded = math.prod((height, width, channels, frames)) * max(1, (bits + 7) // 8)
    return Header(kind, height, width, frames, channels, bits, decoded)
