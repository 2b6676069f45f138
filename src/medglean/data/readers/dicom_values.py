"""From stored samples to values: the standard's pipeline, one function per stage.

modality LUT or slope and intercept -> padding -> VOI, only when asked for -> MONOCHROME1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Num

from medglean.data.readers.dicom_tables import Table, table_of

if TYPE_CHECKING:
    from pydicom import Dataset

_CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")

Frames = Num[np.ndarray, "frame y x"]
Limits = tuple[float, float]


def group_item(dataset: Dataset, keyword: str, frame: int) -> Dataset | None:
    """Return the first item of a functional group: of the frame's own, else of the shared ones."""
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for group in groups:
        items = group.get(keyword)
        if items:
            found: Dataset = items[0]
            return found
    return None


def to_modality(
    samples: Frames, dataset: Dataset, *, frames: range, limits: Limits | None
) -> tuple[Frames, str, Limits | None, tuple[str, ...]]:
    """Apply the modality LUT, or slope and intercept (of each frame where it has its own).

    Parameters
    ----------
    samples
        Stored samples of the frames asked for.
    frames
        Their numbers in the file, from 0.
    limits
        The lowest and highest sample that the encoding can hold.

    Returns
    -------
    values, unit, full_scale, warnings
        Values keep the stored type where there is nothing to apply, and are floats otherwise.
    """
    tables = dataset.get("ModalityLUTSequence")
    if tables:
        signed = samples.dtype.kind == "i"
        table = _table(tables[0], dataset, signed=signed)
        unit = str(tables[0].get("ModalityLUTType") or "US")
        return table.look_up(samples), unit, (0, float((1 << table.bits) - 1)), ()
    rescales = [_rescale(dataset, frame) for frame in frames]
    warnings: tuple[str, ...] = ()
    if any(slope == 0.0 for slope, _, _ in rescales):
        warnings = ("the rescale slope is 0, which would erase the picture; it was ignored.",)
        rescales = [(slope or 1.0, intercept, unit) for slope, intercept, unit in rescales]
    unit = _unit(dataset, samples.dtype.kind, rescales)
    if all(slope == 1.0 and intercept == 0.0 for slope, intercept, _ in rescales):
        return samples, unit, limits, warnings
    slopes = np.array([slope for slope, _, _ in rescales]).reshape(-1, 1, 1)
    intercepts = np.array([intercept for _, intercept, _ in rescales]).reshape(-1, 1, 1)
    exact = samples.dtype.itemsize <= (4 if samples.dtype.kind == "f" else 2)
    values = (samples * slopes + intercepts).astype(np.float32 if exact else np.float64)
    if limits is None:
        return values, unit, None, warnings
    ends = np.stack([slopes * limits[0] + intercepts, slopes * limits[1] + intercepts])
    return values, unit, (float(ends.min()), float(ends.max())), warnings


def _table(item: Dataset, dataset: Dataset, *, signed: bool) -> Table:
    little = bool(dataset.original_encoding[1])
    return table_of(item.LUTDescriptor, item.LUTData, signed=signed, little_endian=little)


def _rescale(dataset: Dataset, frame: int) -> tuple[float, float, str | None]:
    """Return slope, intercept and the stated unit of a frame."""
    source = group_item(dataset, "PixelValueTransformationSequence", frame) or dataset
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None and intercept is None:
        return 1.0, 0.0, None
    stated = source.get("RescaleType")
    return (
        1.0 if slope in (None, "") else float(slope),
        0.0 if intercept in (None, "") else float(intercept),
        str(stated) if stated else "",
    )


def _unit(dataset: Dataset, kind: str, rescales: list[tuple[float, float, str | None]]) -> str:
    """Return the unit by PS3.3: what the file states, HU for CT but for localizers, else US."""
    stated = rescales[0][2]
    if stated:
        return stated
    if str(dataset.get("Modality")) == "PT" and dataset.get("Units"):
        return str(dataset.Units)
    parts = [str(part).upper() for part in _several(dataset.get("ImageType"))]
    if stated is not None and str(dataset.get("SOPClassUID")) in _CT and "LOCALIZER" not in parts:
        return "HU"
    return "float" if kind == "f" else "US"


def padding_mask(
    dataset: Dataset, raw: Frames, samples: Frames
) -> Bool[np.ndarray, "frame y x"] | None:
    """Return where samples are padding, ``None`` where the file names no padding value.

    The value is compared with the samples as stored and with those cleaned of other bits, since
    some writers put it outside of Bits Stored.
    """
    low = _whole(dataset.get("PixelPaddingValue"), raw.dtype)
    if low is None and raw.dtype.kind == "f":
        low = dataset.get("FloatPixelPaddingValue", dataset.get("DoubleFloatPixelPaddingValue"))
    if low is None:
        return None
    high = _whole(dataset.get("PixelPaddingRangeLimit"), raw.dtype)
    if raw.dtype.kind == "f":
        high = dataset.get("FloatPixelPaddingRangeLimit", None)
        kind = raw.dtype.type
        low, high = kind(low), kind(low if high is None else high)
    low, high = sorted((low, low if high is None else high))
    mask: np.ndarray = (raw >= low) & (raw <= high)
    if samples is not raw:
        mask |= (samples >= low) & (samples <= high)
    return mask


def _whole(value: object, dtype: np.dtype) -> Any:  # noqa: ANN401 - a number, or None
    """Return a padding value as the stored type reads it: 63536 is -2000 in signed 16 bits."""
    if value is None or dtype.kind not in "iu":
        return None
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    width = dtype.itemsize * 8
    number &= (1 << width) - 1
    return number - (1 << width) if dtype.kind == "i" and number >> (width - 1) else number


def without_padding(
    values: Frames, mask: Bool[np.ndarray, "frame y x"] | None, *, brightest_is_low: bool
) -> tuple[Frames, tuple[str, ...]]:
    """Give padding the value of the darkest real sample, and count it.

    Parameters
    ----------
    brightest_is_low
        Whether the picture will be inverted, so that the highest value is the darkest.
    """
    if mask is None or not mask.any():
        return values, ()
    count = int(mask.sum())
    if mask.all():
        return values, ("every pixel has the padding value; all were left as they are.",)
    valid = values[~mask]
    darkest = valid.max() if brightest_is_low else valid.min()
    values = values.copy()
    values[mask] = darkest
    return values, (
        f"{count:,} pixel(s) of padding were given the darkest real value ({darkest:g}).",
    )


def apply_voi(values: Frames, dataset: Dataset, number: int, *, frame: int) -> Frames:
    """Apply VOI table or window ``number``, to 0..1.

    VOI LUTs count first, then windows, as in the file.

    Raises
    ------
    IndexError
        If the file has fewer; its argument is how many it has.
    """
    source = group_item(dataset, "FrameVOILUTSequence", frame) or dataset
    tables = list(source.get("VOILUTSequence") or [])
    centers, widths = _several(source.get("WindowCenter")), _several(source.get("WindowWidth"))
    count = len(tables) + min(len(centers), len(widths))
    if number >= count:
        raise IndexError(count)
    if number < len(tables):
        table = _table(tables[number], dataset, signed=bool(values.min() < 0))
        return (table.look_up(values) / np.float32((1 << table.bits) - 1)).astype(np.float32)
    at = number - len(tables)
    shape = str(source.get("VOILUTFunction") or "LINEAR")
    return window(values, float(centers[at]), float(widths[at]), shape=shape)


def window(values: np.ndarray, center: float, width: float, *, shape: str) -> np.ndarray:
    """Apply a window by PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (LINEAR_EXACT, SIGMOID), to 0..1.

    Raises
    ------
    ValueError
        If the width is below what the function allows, or the function is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> window(np.array([-61.0, 39.5, 139.0]), 40.0, 200.0, shape="LINEAR").tolist()
    [0.0, 0.5, 1.0]
    """
    if width < 1 if shape == "LINEAR" else width <= 0:
        raise ValueError(f"a {shape} window of width {width:g}")
    x = values.astype(np.float64)
    if shape == "LINEAR":
        if width == 1:
            y = (x > center - 0.5).astype(np.float64)
        else:
            y = (x - (center - 0.5)) / (width - 1) + 0.5
    elif shape == "LINEAR_EXACT":
        y = (x - center) / width + 0.5
    elif shape == "SIGMOID":
        y = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - center) / width, -700, 700)))
    else:
        raise ValueError(f"the VOI LUT function {shape}")
    return y.clip(0.0, 1.0).astype(np.float32)


def inverted(values: Frames, full_scale: Limits | None) -> Frames:
    """Mirror values in the middle of their full scale, so that larger is brighter."""
    if full_scale is None:
        finite = values[np.isfinite(values)]
        full_scale = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    total = full_scale[0] + full_scale[1]
    if values.dtype.kind == "f":
        return (total - values).astype(values.dtype)
    return (np.int64(total) - values.astype(np.int64)).astype(values.dtype)


def _several(value: object) -> list[Any]:
    """Return the values of an element as a list, whatever its multiplicity."""
    if value is None or value == "":
        return []
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return [value]
    return [part for part in value if part not in (None, "")]
