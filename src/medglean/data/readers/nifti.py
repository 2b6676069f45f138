"""NIfTI-1 and NIfTI-2 volumes (``.nii``, ``.nii.gz``), turned to right, front, head (RAS).

The axes of a volume are ("R", "A", "S"): index 0 is the leftmost, hindmost, lowest voxel. Where the
file's axes are oblique, the closest is taken; nothing is resampled. ``#axis=2,index=81`` takes one
slice across that RAS axis; a volume with an axis of length 1 is one slice already, so that axis is
dropped. Of a 4-D file one volume must be named: ``#volume=3``. Only what is asked for is read,
and of a compressed file the rest is inflated to check its checksum. NaN and infinite voxels stay as
they are and are counted in a warning.
"""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.finite import non_finite
from medglean.data.readers.header import Header
from medglean.data.readers.request import Request

logging.getLogger("nibabel").addHandler(logging.NullHandler())
logging.getLogger("nibabel.global").addHandler(logging.NullHandler())

_AXES = ("R", "A", "S")
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_SLACK_BYTES = 1 << 26
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie in the file and how they become values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    orientation: np.ndarray
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]
    compressed: bool

    @property
    def end(self) -> int:
        """The byte behind the last voxel."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def nifti_header(request: Request) -> Header:
    """Return the header of a NIfTI file."""
    layout = _layout(request)
    rows, columns, *rest = (*layout.shape, 1)
    return Header(
        format="NIfTI",
        height=rows,
        width=columns,
        frames=math.prod(rest),
        channels=1,
        bits=layout.dtype.itemsize * 8,
        decoded_bytes=math.prod(layout.shape) * layout.dtype.itemsize,
        extra={
            "shape": layout.shape,
            "ras_shape": tuple(
                layout.shape[_stored_axis(layout.orientation, axis)] for axis in range(3)
            )
            + layout.shape[3:],
            "orientation": tuple((int(axis), int(sign)) for axis, sign in layout.orientation),
            "dtype": layout.dtype.name,
        },
    )


def read_nifti(request: Request) -> Picture:
    """Read a volume, or one slice of it, in RAS order and the file's unit."""
    request.allow("a NIfTI", "volume", "axis", "index")
    layout = _layout(request)
    slicer, kept = _slicer(request, layout)
    wanted = tuple(
        length if isinstance(part, slice) else 1
        for length, part in zip(layout.shape, slicer, strict=True)
    )
    request.check_budget(
        tuple(length for length in wanted if length > 1) or (1,),
        _scaled_type(layout).itemsize,
        remedy="Name one slice (#axis=2,index=0). " if len(kept) == 3 else "",
    )
    stored = _voxels(request, layout, slicer)
    values = _upright(_scaled(stored, layout), layout.orientation, kept)
    axes = tuple(axis for axis in range(3) if axis in kept)
    spacing = None if layout.spacing_mm is None else tuple(layout.spacing_mm[a] for a in axes)
    return Picture(
        values=np.ascontiguousarray(values[np.newaxis]),
        unit="US",
        spacing_mm=spacing,
        warnings=layout.warnings + non_finite(values, "voxel"),
        axes=tuple(_AXES[axis] for axis in axes),
    )


def _open(request: Request, *, compressed: bool) -> BinaryIO:
    try:
        return cast(BinaryIO, gzip.open(request.path)) if compressed else request.path.open("rb")
    except OSError as error:
        raise request.unreadable(error) from error


def _layout(request: Request) -> _Layout:
    """Read the header and check that it makes sense and that the file is long enough."""
    import nibabel

    try:
        with request.path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with _open(request, compressed=compressed) as file:
            first = int.from_bytes(file.read(4), "little")
            file.seek(0)
            kind = nibabel.Nifti2Header if first in (540, 0x1C020000) else nibabel.Nifti1Header
            header = kind.from_fileobj(file, check=False)
        shape = tuple(int(length) for length in header.get_data_shape())
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
    except (
        nibabel.spatialimages.HeaderDataError,
        ValueError,
        KeyError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise request.truncated("NIfTI", f"its header: {detail}") from error
    if not bytes(header["magic"].item()).startswith(b"n+"):
        raise request.error(
            "a header without its voxels (a .hdr/.img pair), expected one .nii file.",
            "Convert the pair to one .nii or .nii.gz file.",
        )
    _check_type(request, dtype, shape)
    shape = _significant(request, shape)
    orientation, spacing_mm, warnings = _geometry(header)
    layout = _Layout(
        shape=shape,
        dtype=dtype,
        offset=max(int(header["vox_offset"]), 352),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        orientation=orientation,
        spacing_mm=spacing_mm,
        warnings=warnings,
        compressed=compressed,
    )
    size = request.path.stat().st_size
    if not compressed and layout.end > size:
        request.check_budget(shape[:3], dtype.itemsize)  # a forged size is told as too large
        raise request.truncated("NIfTI", f"{size:,} bytes, its header needs {layout.end:,}")
    return layout


def _check_type(request: Request, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype.names is not None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        what = "RGB" if dtype.names is not None else dtype.name
        raise request.error(
            f"voxels of type {what}, expected integers or floats of at most 64 bits.",
            "Convert it to one number per voxel (magnitude, or one channel per file).",
        )
    if not shape or 0 in shape or min(shape) < 0:
        raise request.truncated("NIfTI", f"a shape of {shape}")


def _significant(request: Request, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape as 3-D, or as 4-D where there are several volumes."""
    three, rest = (*shape, 1, 1, 1)[:3], tuple(length for length in shape[3:] if length != 1)
    if len(rest) > 1:
        raise request.error(
            f"{len(shape)} axes {shape}, expected a 3-D volume or a 4-D series.",
            "Save one volume per file.",
        )
    return three + rest


def _geometry(header: Any) -> tuple[np.ndarray, tuple[float, ...] | None, tuple[str, ...]]:  # noqa: ANN401 - nibabel is untyped
    """Return the orientation of the stored axes, the spacing along R, A, S, and warnings."""
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import io_orientation

    warnings: tuple[str, ...] = ()
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        warnings = (
            "the header states no orientation (sform and qform are 0); the first axis was taken to "
            "run from right to left, as nibabel does.",
        )
    as_stored = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    affine = header.get_best_affine()
    if not np.isfinite(affine).all():
        return as_stored, None, (*warnings, "the orientation in the header is no number.")
    orientation = io_orientation(affine)
    if np.isnan(orientation).any():
        return as_stored, None, (*warnings, "the orientation in the header is degenerate: ignored.")
    unit = header.get_xyzt_units()[0] if int(header["xyzt_units"]) & 7 < 4 else "unknown"
    sizes = voxel_sizes(affine) * _MILLIMETRES.get(unit, 1.0)
    ordered = tuple(float(sizes[_stored_axis(orientation, axis)]) for axis in range(3))
    return orientation, ordered, warnings


def _stored_axis(orientation: np.ndarray, axis: int) -> int:
    """Return which stored axis runs along a RAS axis."""
    return int(np.flatnonzero(orientation[:, 0] == axis)[0])


def _slicer(request: Request, layout: _Layout) -> tuple[tuple[slice | int, ...], tuple[int, ...]]:
    """Return what to take of the stored array, and which RAS axes remain."""
    parts: list[slice | int] = [slice(None)] * len(layout.shape)
    volumes = layout.shape[3] if len(layout.shape) == 4 else 1
    volume = request.pick("volume", volumes, noun="volume")
    if volumes > 1:
        if volume is None:
            raise request.error(
                f"the NIfTI holds {volumes} volumes, expected one.",
                f"Name one, counted from 0: {request.fragment.path}#volume=0.",
            )
        parts[3] = volume
    kept: tuple[int, ...] = (0, 1, 2)
    axis, index = request.option("axis"), request.option("index")
    if (axis is None) != (index is None):
        raise request.error(
            "the fragment has only one of axis= and index=, expected both or none.",
            "Write for example #axis=2,index=81.",
        )
    if axis is not None:
        request.pick("axis", 3, noun="axis")
        stored = _stored_axis(layout.orientation, axis)
        length = layout.shape[stored]
        number = request.pick("index", length, noun="slice") or 0
        parts[stored] = number if layout.orientation[stored, 1] > 0 else length - 1 - number
        return tuple(parts), tuple(other for other in kept if other != axis)
    for stored in (2, 1, 0):
        if layout.shape[stored] == 1 and len(kept) == 3:
            parts[stored] = 0
            kept = tuple(a for a in kept if a != int(layout.orientation[stored, 0]))
    return tuple(parts), kept


def _voxels(request: Request, layout: _Layout, slicer: tuple[slice | int, ...]) -> np.ndarray:
    """Return the asked part of the stored array, from a kept volume where volumes are kept."""
    volumes = request.volumes
    size = math.prod(layout.shape) * layout.dtype.itemsize
    if not layout.compressed or volumes is None or size > volumes.most_bytes:
        return _inflated(request, layout, slicer)
    everything = (slice(None),) * len(layout.shape)
    whole = volumes.voxels(request.path, lambda: _inflated(request, layout, everything))
    return whole[slicer]


def _inflated(request: Request, layout: _Layout, slicer: tuple[slice | int, ...]) -> np.ndarray:
    """Read a part of the stored array from the file, and of a compressed one inflate the rest."""
    from nibabel.fileslice import fileslice

    try:
        with _open(request, compressed=layout.compressed) as file:
            stored: np.ndarray = fileslice(
                file, slicer, layout.shape, layout.dtype, layout.offset, order="F"
            )
            if layout.compressed:
                _check_rest(request, file, layout)
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise request.truncated("NIfTI", str(error) or type(error).__name__) from error
    return stored


def _check_rest(request: Request, file: BinaryIO, layout: _Layout) -> None:
    """Inflate what follows, so that the checksum at the end of the gzip stream is checked."""
    while file.read(_CHUNK_BYTES):
        if file.tell() > layout.end + _SLACK_BYTES:
            raise request.truncated("NIfTI", "its data go on far behind the last voxel")
    if file.tell() < layout.end:
        raise request.truncated("NIfTI", f"{file.tell():,} bytes, its header needs {layout.end:,}")


def _scaled_type(layout: _Layout) -> np.dtype:
    """Return the type of the values: as stored, or a float that holds the scaled ones."""
    if layout.slope == 1.0 and layout.intercept == 0.0:
        return layout.dtype.newbyteorder("=")
    small = layout.dtype.itemsize <= (4 if layout.dtype.kind == "f" else 2)
    return np.dtype(np.float32 if small else np.float64)


def _scaled(stored: np.ndarray, layout: _Layout) -> np.ndarray:
    dtype = _scaled_type(layout)
    if layout.slope == 1.0 and layout.intercept == 0.0:
        return stored.astype(dtype, copy=False)
    return (stored * np.float64(layout.slope) + layout.intercept).astype(dtype)


def _upright(values: np.ndarray, orientation: np.ndarray, kept: tuple[int, ...]) -> np.ndarray:
    """Put the remaining stored axes into RAS order and direction."""
    remaining = [stored for stored in range(3) if int(orientation[stored, 0]) in kept]
    flips = tuple(
        slice(None, None, -1) if orientation[stored, 1] < 0 else slice(None) for stored in remaining
    )
    order = np.argsort([orientation[stored, 0] for stored in remaining])
    return values[flips].transpose(order)
