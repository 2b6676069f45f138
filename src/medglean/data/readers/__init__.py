"""Readers: from an image reference to a picture in the file's own unit.

``read`` decodes one image, ``probe`` reads only its header. The reader is chosen by content; a
suffix that says something else is told. What cannot be read right is refused with an error that
names the file, what was found, what was expected and what to do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medglean.data.picture import Picture
from medglean.data.readers.header import Header, probe
from medglean.data.readers.request import BUDGET_VARIABLE, DEFAULT_BUDGET_BYTES, Request
from medglean.data.readers.slides import is_slide, read_slide
from medglean.data.readers.sniff import Sniffed, sniff
from medglean.data.readers.volumes import Volumes
from medglean.data.reference import ImageReference

__all__ = ["BUDGET_VARIABLE", "DEFAULT_BUDGET_BYTES", "Header", "Volumes", "probe", "read"]


def read(
    reference: str | Path | ImageReference,
    *,
    root: Path | None = None,
    budget_bytes: int | None = None,
    isolated: bool | None = None,
    volumes: Volumes | None = None,
) -> Picture:
    """Decode the image that a reference names.

    Parameters
    ----------
    reference
        Text such as ``"a.dcm#frame=3"``, an ``ImageReference``, or a ``Path``, which is taken
        literally and has no fragment.
    root
        The folder that relative paths are relative to: a manifest's. By default the current one.
    budget_bytes
        Most bytes that the samples asked for may take once decoded, checked from the header before
        anything is decoded. By default the environment's ``MEDGLEAN_BUDGET_BYTES``, else 1 GiB.
    isolated
        Whether to decode in a worker process, so that a crash or a blow-up of the decoder raises
        ``DecoderError`` instead of ending this process. By default only where the decoder is one
        that has had memory faults: compressed DICOM, TIFF with other compression than Deflate, and
        slides.
    volumes
        Where compressed volumes are kept inflated, for callers that read slice after slice; the
        picture's values may then be read-only. By default nothing is kept.

    Returns
    -------
    Picture
        Values of shape (c, *spatial) in the file's own unit, with warnings where something was
        done that a careful user should know.

    Raises
    ------
    ReadError
        If the image cannot be read right; ``TooLargeError`` beyond the budget, ``DecoderError``
        where the decoder failed in its worker.
    """
    request = Request.of(reference, root=root, budget_bytes=budget_bytes, volumes=volumes)
    request.check_file()
    sniffed = sniff(request)
    if isolated is None:
        isolated = _is_risky(request, sniffed)
    if isolated:
        from medglean.data.sandbox import read_isolated

        return read_isolated(request.name, root=root, budget_bytes=request.budget_bytes)
    picture = _decode(request, sniffed)
    if sniffed.warning:
        picture = replace(picture, warnings=(sniffed.warning, *picture.warnings))
    return picture


def _is_risky(request: Request, sniffed: Sniffed) -> bool:
    """Tell whether a decoder is needed that may crash, and this process is no worker already."""
    if sniffed.format not in ("DICOM", "TIFF", "MIRAX"):
        return False
    from medglean.data.sandbox import inside_worker

    if inside_worker():
        return False
    if is_slide(request, sniffed.format, sniffed.head):
        return True
    if sniffed.format == "DICOM":
        from medglean.data.readers.dicom_header import dicom_is_risky

        return dicom_is_risky(sniffed.head)
    from medglean.data.readers.tiff import tiff_is_risky

    return tiff_is_risky(request)


def _decode(request: Request, sniffed: Sniffed) -> Picture:
    if is_slide(request, sniffed.format, sniffed.head):
        return read_slide(request)
    if sniffed.format == "PNG":
        from medglean.data.readers.png import read_png

        return read_png(request, sniffed.head)
    if sniffed.format == "JPEG":
        from medglean.data.readers.jpeg import read_jpeg

        return read_jpeg(request)
    if sniffed.format == "TIFF":
        from medglean.data.readers.tiff import read_tiff

        return read_tiff(request)
    if sniffed.format == "DICOM":
        from medglean.data.readers.dicom import read_dicom

        return read_dicom(request)
    if sniffed.format == "NIfTI":
        from medglean.data.readers.nifti import read_nifti

        return read_nifti(request)
    from medglean.data.readers.raster import read_pillow

    return read_pillow(request, sniffed.format)
