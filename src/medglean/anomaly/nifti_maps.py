"""The map of a volume as a NIfTI file that lies on its scan in any viewer."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float

from medglean.data.readers import Header

NOTICE = "Research use only, never a diagnosis."
"""In the header, which has 79 characters for all it says."""
_COMPRESSION = 4
_PLACED_BY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip


def join(
    slices: Mapping[int, Float[np.ndarray, "y x"]], header: Header, *, axis: int
) -> Float[np.ndarray, "i j k"]:
    """Put the maps of slices together, on the axes of the file that they were taken from.

    Parameters
    ----------
    slices
        By number along the axis. NaN, which is what was not looked at, becomes 0, and so do slices
        that are not there: viewers make nothing of NaN.
    header
        Of the file.
    axis
        0 R, 1 A, 2 S: what the numbers count along.

    Returns
    -------
    ndarray
        float32, of the file's own shape.
    """
    whole = np.zeros(header.extra["ras_shape"][:3], dtype=np.float32)
    for number, values in slices.items():
        np.moveaxis(whole, axis, 0)[number] = np.nan_to_num(values, nan=0.0)
    orientation = header.extra["orientation"]
    stored = whole.transpose([along for along, _ in orientation])
    return stored[tuple(slice(None, None, sign) for _, sign in orientation)]


def nifti_bytes(
    values: Float[np.ndarray, "i j k"], source: Path, *, name: str = "anomaly map"
) -> bytes:
    """Return a map as the content of a ``.nii.gz`` file that lies on its scan.

    Both affines with their codes, the voxel sizes and the units are the scan's. Its other texts and
    its extensions, which may tell of a patient, are not taken over.

    Parameters
    ----------
    values
        Of the scan's own shape.
    source
        The scan.
    name
        Of what the values are; at most 15 characters.
    """
    header = _header_of(source)
    two = isinstance(header, nibabel.Nifti2Header)
    empty: Any = nibabel.Nifti2Header if two else nibabel.Nifti1Header
    made = empty(endianness="<")
    for key in _PLACED_BY:
        made[key] = header[key]
    made.set_data_dtype(np.float32)
    made.set_data_shape(values.shape)
    made["pixdim"][:4] = header["pixdim"][:4]
    made.set_intent("estimate", name=name)
    made["descrip"] = f"{name}, 0 where not looked at. {NOTICE}".encode()[:79]
    made["cal_min"], made["cal_max"] = 0.0, float(values.max(initial=0.0))
    kind: Any = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    image = kind(values, None, made)
    into = io.BytesIO()
    with gzip.GzipFile("", "wb", _COMPRESSION, into, mtime=0) as stream:
        stream.write(image.to_bytes())
    return into.getvalue()


def _header_of(source: Path) -> Any:  # noqa: ANN401 - nibabel is untyped
    """Return a file's header as it is; that its content makes sense was seen by the reader."""
    with source.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(source) if packed else source.open("rb") as file:
        first = int.from_bytes(file.read(4), "little")
        file.seek(0)
        kind = nibabel.Nifti2Header if first in (540, 0x1C020000) else nibabel.Nifti1Header
        return kind.from_fileobj(file, check=False)
