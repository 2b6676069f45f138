"""DICOM, in any transfer syntax that the installed decoders know.

- Values are in the file's unit: after the modality LUT or slope and intercept (of each frame where
  frames have their own). CT is in HU unless the file says else.
- MONOCHROME1 is mirrored within its full scale so that larger is brighter; its unit then reads
  "inverted OD", and a warning says so.
- PALETTE COLOR and YBR become RGB. Overlays are ignored, also in unused bits of the samples.
- Pixels with the padding value get the darkest real value and are counted in a warning.
- VOI windows and tables are applied only when asked: ``#voi=0`` is the first of the VOI LUTs and
  then windows; values are then 0..1 and the unit is "VOI".
- ``#frame=3`` counts from 0. A multi-frame file without it has the axes ("frame", "y", "x").
- Spacing is Pixel Spacing; where only Imager Pixel Spacing is known, that of the detector, told.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from medglean.data.picture import Picture
from medglean.data.readers.colours import names_of
from medglean.data.readers.dicom_header import parse
from medglean.data.readers.dicom_pixels import Decoded, decode
from medglean.data.readers.dicom_tables import palette_of
from medglean.data.readers.dicom_values import (
    apply_voi,
    group_item,
    inverted,
    padding_mask,
    to_modality,
    without_padding,
)
from medglean.data.readers.finite import non_finite
from medglean.data.readers.request import Request
from medglean.errors import ReadError

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_dicom(request: Request) -> Picture:
    """Decode a DICOM file, or one frame of it."""
    request.allow("a DICOM file", "frame", "voi")
    request.check_loadable()
    with warnings.catch_warnings():
        # elements are converted when they are used; the warnings then quote their values
        warnings.simplefilter("ignore")
        try:
            return _read(request, parse(request))
        except (ReadError, ImportError, MemoryError):
            raise
        except Exception as error:  # pydicom raises errors of every type on a damaged element
            detail = f"an element of its header: {type(error).__name__}"
            raise request.truncated("DICOM file", detail) from error


def _read(request: Request, dataset: Dataset) -> Picture:
    _check_has_pixels(request, dataset)
    frames = _check_header(request, dataset)
    index = request.pick("frame", frames, noun="frame")
    _check_budget(request, dataset, 1 if index is not None else frames)
    decoded = decode(request, dataset, frames, index)
    numbers = range(frames) if index is None else range(index, index + 1)
    if decoded.photometric.startswith("MONOCHROME"):
        return _grey(request, dataset, decoded, numbers)
    return _colour(request, dataset, decoded)


def _check_has_pixels(request: Request, dataset: Dataset) -> None:
    if any(keyword in dataset for keyword in _PIXELS):
        return
    from pydicom.uid import UID

    if "Rows" in dataset and "Columns" in dataset:
        raise request.truncated("DICOM file", "its header describes pixels, but there are none")
    uid = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    known = UID(uid).name if uid and UID(uid).name != uid else ""
    if "Image Storage" in known:
        raise request.truncated("DICOM file", f"it should be of the class {known}, without pixels")
    if not known and not uid:
        raise request.error(
            "expected a DICOM image, found no image and no SOP class.",
            "If it is no DICOM file, drop it; else export it again.",
        )
    raise request.error(
        f"expected a DICOM image, found {known or 'an object'} without pixels.",
        "Drop it: it is no image.",
    )


def _check_header(request: Request, dataset: Dataset) -> int:
    """Return the number of frames of a header that makes sense."""
    numbers = {}
    for keyword, default in (
        ("Rows", 0),
        ("Columns", 0),
        ("SamplesPerPixel", 1),
        ("BitsAllocated", 0),
        ("NumberOfFrames", 1),
    ):
        value = dataset.get(keyword)
        try:
            numbers[keyword] = default if value in (None, "") else int(value)
        except (TypeError, ValueError):
            numbers[keyword] = 0
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        numbers["BitsAllocated"] = 64 if "DoubleFloatPixelData" in dataset else 32
    wrong = [name for name, number in numbers.items() if number < 1]
    if numbers["NumberOfFrames"] == 0 and wrong == ["NumberOfFrames"]:
        wrong, numbers["NumberOfFrames"] = [], 1
    if numbers["BitsAllocated"] not in (1, 8, 16, 32, 64):
        wrong.append("BitsAllocated")
    if numbers["SamplesPerPixel"] not in (1, 3, 4):
        wrong.append("SamplesPerPixel")
    if wrong:
        raise request.error(
            f"the header's {', '.join(dict.fromkeys(wrong))} is missing or makes no sense.",
            "Export the image again.",
        )
    return numbers["NumberOfFrames"]


def _check_budget(request: Request, dataset: Dataset, frames: int) -> None:
    """Check what the samples asked for will take, as they are decoded."""
    palette = str(dataset.get("PhotometricInterpretation") or "").startswith("PALETTE")
    samples = 3 if palette else int(dataset.get("SamplesPerPixel") or 1)
    allocated = 64 if "DoubleFloatPixelData" in dataset else int(dataset.get("BitsAllocated") or 32)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), samples)
    request.check_budget(
        shape,
        max(1, allocated // 8),
        remedy=f"Name one frame ({request.fragment.path}#frame=0). " if frames > 1 else "",
    )


def _grey(request: Request, dataset: Dataset, decoded: Decoded, numbers: range) -> Picture:
    samples, raw = decoded.samples[..., 0], decoded.raw[..., 0]
    warnings = decoded.warnings
    try:
        values, unit, full_scale, told = to_modality(
            samples, dataset, frames=numbers, limits=decoded.limits
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise request.truncated("DICOM file", f"its modality table: {error}") from error
    warnings += told
    if decoded.bits == 1:
        unit = "1-bit"
    dark_is_high = decoded.photometric == "MONOCHROME1"
    mask = padding_mask(dataset, raw, samples)
    values, told = without_padding(values, mask, brightest_is_low=dark_is_high)
    warnings += told
    voi = request.option("voi")
    if voi is not None:
        values = _with_voi(request, dataset, values, voi, numbers)
        unit, full_scale = "VOI", (0.0, 1.0)
    if dark_is_high:
        values = inverted(values, full_scale)
        warnings += (
            "MONOCHROME1: stored with low as bright; values were mirrored within their full scale "
            "so that larger is brighter.",
        )
        unit = unit if unit in ("US", "VOI", "1-bit") else f"inverted {unit}"
    warnings += non_finite(values)
    return _picture(request, dataset, values[np.newaxis], unit, full_scale, warnings)


def _with_voi(
    request: Request, dataset: Dataset, values: np.ndarray, voi: int, numbers: range
) -> np.ndarray:
    try:
        parts = [
            apply_voi(values[k], dataset, voi, frame=number) for k, number in enumerate(numbers)
        ]
    except IndexError as error:
        raise request.error(
            f"voi={voi} is asked for, but the file has {error.args[0]} VOI table(s) and window(s).",
            "Leave the voi away to have the values in the file's unit.",
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise request.truncated("DICOM file", f"its VOI {voi}: {error}") from error
    return np.stack(parts)


def _colour(request: Request, dataset: Dataset, decoded: Decoded) -> Picture:
    if request.option("voi") is not None:
        raise request.error(
            f"a VOI is for grey images, this one is {decoded.photometric}.", "Leave the voi away."
        )
    samples, bits, warnings = decoded.samples, decoded.bits, decoded.warnings
    if decoded.photometric == "PALETTE COLOR":
        samples, bits, told = _palette(request, dataset, samples[..., 0])
        warnings += told
    elif decoded.photometric != "RGB" or decoded.signed or samples.shape[-1] < 3:
        raise request.error(
            f"the photometric interpretation {decoded.photometric} with {samples.dtype} samples, "
            "expected grey, RGB, YBR or a palette.",
            "Convert the image to RGB.",
        )
    if samples.shape[-1] == 4:
        samples = samples[..., :3]
        warnings += ("a fourth colour channel was dropped.",)
    values = samples.transpose(3, 0, 1, 2)
    full_scale = (0.0, float((1 << bits) - 1))
    return _picture(request, dataset, values, f"{bits}-bit", full_scale, warnings)


def _palette(
    request: Request, dataset: Dataset, indices: np.ndarray
) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Return the colours (frame, y, x, 3) of palette indices, and their bits."""
    if indices.dtype.itemsize > 2 or indices.dtype.kind != "u":
        raise request.error(
            f"a palette with indices of {indices.dtype}, expected 8 or 16 bits unsigned.",
            "Convert to RGB.",
        )
    try:
        table = palette_of(dataset, samples=indices.dtype)
    except Exception as error:  # pydicom raises errors of every type on a broken table
        raise request.truncated("DICOM file", f"its palette: {error}") from error
    if table.dtype == np.uint16 and ((table & 0xFF == 0) | (table == 0xFFFF)).all():
        table = (table >> 8).astype(np.uint8)  # colours of 8 bits in the high byte
    elif table.dtype == np.uint16 and int(table.max()) < 256:
        return (
            table.astype(np.uint8)[indices],
            8,
            ("the palette's 16-bit entries hold 8-bit colours; they were taken as such.",),
        )
    return table[indices], table.dtype.itemsize * 8, ()


def _picture(
    request: Request,
    dataset: Dataset,
    values: np.ndarray,
    unit: str,
    full_scale: tuple[float, float] | None,
    warnings: tuple[str, ...],
) -> Picture:
    """Drop the frame axis where one picture was asked for, and add the spacing."""
    single = values.shape[1] == 1
    frame = request.option("frame") or 0
    spacing, told = _spacing(dataset, frame)
    return Picture(
        values=np.ascontiguousarray(values[:, 0] if single else values),
        unit=unit,
        spacing_mm=spacing if single else None,
        channels=names_of(values.shape[0]),
        warnings=warnings + told,
        axes=("y", "x") if single else ("frame", "y", "x"),
        full_scale=full_scale,
    )


def _spacing(dataset: Dataset, frame: int) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return millimetres between rows and between columns, and a warning where not sure."""
    measures = group_item(dataset, "PixelMeasuresSequence", frame)
    for source, keyword, warning in (
        (measures, "PixelSpacing", ""),
        (dataset, "PixelSpacing", ""),
        (dataset, "ImagerPixelSpacing", "at the detector, not corrected for magnification"),
        (dataset, "NominalScannedPixelSpacing", "of the scanned film"),
    ):
        stated = None if source is None else source.get(keyword)
        if stated is None or stated == "":
            continue
        try:
            rows, columns = (float(number) for number in stated)
        except (TypeError, ValueError):
            return None, (f"{keyword} is not two numbers; it was ignored.",)
        if not (math.isfinite(rows) and math.isfinite(columns) and rows > 0 and columns > 0):
            return None, (f"{keyword} is {rows:g} by {columns:g} mm; it was ignored.",)
        return (rows, columns), ((f"the spacing is that {warning}.",) if warning else ())
    return None, ()
