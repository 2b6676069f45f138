"""The header of a DICOM file: parsed once, without its pixels."""

from __future__ import annotations

import logging
import warnings
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medglean.data.readers.header import Header
from medglean.data.readers.request import Request
from medglean.data.readers.slides import WHOLE_SLIDE_STORAGE

if TYPE_CHECKING:
    from pydicom import Dataset

logging.getLogger("pydicom").addHandler(logging.NullHandler())

UNCOMPRESSED = frozenset(
    {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
)
"""Transfer syntaxes whose pixels need no decoder."""

_DEFLATED = "1.2.840.10008.1.2.1.99"

PIXEL_TAGS = (
    "SOPClassUID",
    "Modality",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
)
"""What describes the pixels; ``probe`` always reads these."""


def dicom_header(request: Request, tags: Sequence[str]) -> Header:
    """Return the header of a DICOM file with a data set of the pixels' tags and ``tags``."""
    dataset = parse(request, tags=(*PIXEL_TAGS, *tags), stop_before_pixels=True)
    _convert(dataset)
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    channels = _number(dataset, "SamplesPerPixel", 1)
    frames = max(1, _number(dataset, "NumberOfFrames", 1))
    allocated = _number(dataset, "BitsAllocated", 8)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if photometric == "PALETTE COLOR":
        channels = 3
    storage = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    slide = storage == WHOLE_SLIDE_STORAGE
    if slide and frames > 1:  # its frames are tiles of one picture
        rows = _number(dataset, "TotalPixelMatrixRows", rows)
        columns = _number(dataset, "TotalPixelMatrixColumns", columns)
        frames = 1
    return Header(
        format="DICOM",
        height=rows,
        width=columns,
        frames=frames,
        channels=channels,
        bits=_number(dataset, "BitsStored", allocated),
        decoded_bytes=rows * columns * channels * frames * max(1, allocated // 8),
        extra={
            "dataset": dataset,
            "transfer_syntax": transfer_syntax(dataset),
            "photometric": photometric,
            "has_pixels": rows > 0 and columns > 0,
            "media_storage": storage,
            "slide": slide,
        },
    )


def parse(
    request: Request,
    *,
    tags: Sequence[str] | None = None,
    stop_before_pixels: bool = False,
) -> Dataset:
    """Parse a DICOM file with or without its preamble.

    Parameters
    ----------
    tags
        Keywords of the only elements to keep; by default all.
    stop_before_pixels
        Whether to leave the pixels on disk.

    Raises
    ------
    ReadError
        If it is no DICOM data set.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    _check_deflated(request)
    with warnings.catch_warnings():
        # remarks on single elements quote their values, which may be a patient's name
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(
                request.path,
                force=True,
                stop_before_pixels=stop_before_pixels,
                specific_tags=None if tags is None else list(tags),
            )
        except (InvalidDicomError, EOFError, OSError) as error:
            raise request.truncated("DICOM file", "its header cannot be parsed") from error
        except Exception as error:  # pydicom raises errors of every type on damage
            raise request.truncated(
                "DICOM file", f"its header cannot be parsed: {type(error).__name__}"
            ) from error
    if not len(dataset) and not len(dataset.file_meta):
        raise request.error(
            "expected DICOM, found no data element.", "Export the image again, or drop the row."
        )
    return dataset


def dicom_is_risky(head: bytes) -> bool:
    """Tell from a file's first bytes whether its pixels, or all of it, are compressed."""
    syntax = _stated_syntax(head)
    return syntax is not None and (syntax not in UNCOMPRESSED or syntax == _DEFLATED)


def _stated_syntax(head: bytes) -> str | None:
    """Return the transfer syntax that the file meta group in the first bytes states."""
    at = head.find(b"\x02\x00\x10\x00UI")
    if at < 0:
        return None
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")


def _check_deflated(request: Request) -> None:
    """Refuse a deflated file that inflates to too much: pydicom inflates it whole."""
    with request.path.open("rb") as file:
        head = file.read(1024)
        if _stated_syntax(head) != _DEFLATED:
            return
        start = head.find(b"\x02\x00\x00\x00UL")
        if start < 0:
            return
        file.seek(start + 12 + int.from_bytes(head[start + 8 : start + 12], "little"))
        inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        limit = 2 * request.budget_bytes + (1 << 20)
        while (data := inflater.unconsumed_tail or file.read(1 << 16)) and not inflater.eof:
            try:
                length += len(inflater.decompress(data, 1 << 20))
            except zlib.error as error:
                raise request.truncated("DICOM file", f"its deflated part: {error}") from error
            if length > limit:
                request.check_budget((length,), 1)
        if not inflater.eof:
            raise request.truncated("DICOM file", "its deflated part ends early")


def _convert(dataset: Dataset) -> None:
    """Have pydicom convert every element now; one that it cannot convert is as if it were missing.

    It would do so when an element is first used, with errors of every type, and with warnings that
    quote the value.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in (dataset, dataset.file_meta):
            for tag in list(part.keys()):
                try:
                    part[tag]
                except Exception:  # noqa: BLE001 - pydicom raises errors of every type on damage
                    del part[tag]


def transfer_syntax(dataset: Dataset) -> str:
    """Return the UID of the transfer syntax; what a file without file meta seems to be."""
    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _number(dataset: Dataset, keyword: str, default: int = 0) -> int:
    value = dataset.get(keyword)
    try:
        return default if value in (None, "") else int(value)
    except (TypeError, ValueError):
        return default
