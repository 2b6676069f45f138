"""Telling a file's format by its content, and whether its suffix says something else."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from medglean.data.readers.request import Request

HEAD_BYTES = 4096
"""How much of a file is looked at."""

_SUFFIXES = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".svs": "TIFF",
    ".ndpi": "TIFF",
    ".scn": "TIFF",
    ".mrxs": "MIRAX",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WebP",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
}

_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (or an Office document)"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"NRRD", "an NRRD volume"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a bare JPEG 2000 codestream"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM film"),
    (b"version https://git-lfs", "a Git LFS pointer: the image itself was not fetched"),
)

_IMPLICIT_START = re.compile(rb"\x08\x00[\x00-\x18]\x00", re.DOTALL)


@dataclass(frozen=True)
class Sniffed:
    """What the first bytes of a file say.

    Attributes
    ----------
    format
        ``"PNG"``, ``"JPEG"``, ``"TIFF"``, ``"BMP"``, ``"GIF"``, ``"WebP"``, ``"DICOM"``,
        ``"NIfTI"`` or ``"MIRAX"``.
    head
        The first ``HEAD_BYTES`` bytes.
    warning
        A sentence where the suffix says another format, else empty.
    """

    format: str
    head: bytes
    warning: str = ""


def sniff(request: Request) -> Sniffed:
    """Tell the format of a file by its first bytes.

    Raises
    ------
    ReadError
        If the content is of no format that can be read, naming what it seems to be.
    """
    try:
        with request.path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise request.unreadable(error) from error
    expected = suffix_format(request.path)
    # the file with this suffix is a preview or an index: the slide lies in the folder beside it
    found = "MIRAX" if expected == "MIRAX" else format_of(head)
    if found is None:
        raise _unknown(request, head, expected)
    if expected is None or expected == found:
        return Sniffed(found, head)
    suffix = "".join(request.path.suffixes[-1:])
    warning = f"the suffix {suffix!r} says {expected}, the content is {found} and was read as such."
    return Sniffed(found, head, warning)


def format_of(head: bytes) -> str | None:
    """Return the format that the first bytes belong to, ``None`` where there is no such format.

    Examples
    --------
    >>> format_of(b"BM" + bytes(60)), format_of(b"hello")
    ('BMP', None)
    """
    if head[128:132] == b"DICM":  # first: the 128 bytes before it may make it a TIFF as well
        return "DICOM"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM") and len(head) >= 26:
        return "BMP"
    if is_nifti(head):
        return "NIfTI"
    if _is_bare_dicom(head):
        return "DICOM"
    return None


def is_nifti(head: bytes) -> bool:
    """Tell whether the bytes, or what they inflate to, begin a NIfTI-1 or NIfTI-2 file."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1024)
        except zlib.error:
            return False
    first = head[344:348]
    return first in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _is_bare_dicom(head: bytes) -> bool:
    """Tell whether the bytes begin a DICOM data set that lacks the 128-byte preamble.

    Either the file meta group (0002) or the identifying group (0008) must come first; pydicom has
    the last word when the file is read.
    """
    if head.startswith((b"\x02\x00\x00\x00UL", b"\x02\x00\x01\x00OB", b"\x02\x00\x10\x00UI")):
        return True
    if not _IMPLICIT_START.match(head):
        return False
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    return int.from_bytes(head[4:8], "little") <= 64


def suffix_format(path: Path) -> str | None:
    """Return the format that a file's name promises, ``None`` where it promises none."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return "NIfTI"
    return _SUFFIXES.get(path.suffix.lower())


def _unknown(request: Request, head: bytes, expected: str | None) -> Exception:
    what = next((text for magic, text in _OTHERS if head.startswith(magic)), None)
    if what is None and head.startswith(b"\x1f\x8b"):
        what = "a gzip file that holds no NIfTI volume"
    if what is None and not head.strip(b"\0"):
        what = "nothing but zero bytes"
    if what is None:
        what = "text" if _looks_like_text(head) else f"an unknown format (first bytes {head[:4]!r})"
    wanted = expected or "PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM or NIfTI"
    return request.error(
        f"expected {wanted}, found {what}.", "Export the image again, or drop the row."
    )


def _looks_like_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # only a letter cut at the end is forgiven
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\r\n\t\ufeff" for letter in text)
