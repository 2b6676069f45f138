"""From values in a file's own unit to values in [0, 1]: every change of range happens here.

(Two things are the reader's, because they belong to the encoding and not to a choice: the slope
and intercept that give a DICOM or NIfTI file its unit, and the inversion of MONOCHROME1.)

What is done about bad values, each time with a sentence for the user:

- NaN becomes 0 and is counted; it takes no part in finding the ends of the range.
- Infinity takes no part either and is clipped like any value beyond the ends.
- An image with no finite value is refused.
- A constant image, which has no range, becomes zeros.
- Where two percentiles coincide in an image that is not constant (one bright spot on black), the
  image's minimum and maximum are used instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medglean.arrays import Values
from medglean.data.recipe import Intensity
from medglean.errors import DataError


class Limits(NamedTuple):
    """The ends of the range of each channel, in the file's unit: ``low`` maps to 0, ``high`` to 1.

    ``high`` equals ``low`` where a channel is constant.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    warnings: tuple[str, ...] = ()


class UnitValues(NamedTuple):
    """Values in [0, 1], float32, of the shape that came in, and what the user should know."""

    values: np.ndarray
    warnings: tuple[str, ...]


def limits_of(
    values: Values,
    intensity: Intensity,
    *,
    full_scale: tuple[float, float] | None = None,
) -> Limits:
    """Find the ends of the range that an intensity rule maps to 0 and 1, for each channel.

    Parameters
    ----------
    values
        An image or a whole volume, in its own unit.
    intensity
        The rule.
    full_scale
        The lowest and highest value of the encoding, for the rule ``full-scale``.

    Raises
    ------
    DataError
        If the rule needs the encoding's range and there is none, or if a channel has no finite
        value.
    """
    count = values.shape[0]
    if intensity.rule == "window":
        return Limits((intensity.low,) * count, (intensity.high,) * count)
    if intensity.rule == "full-scale":
        if full_scale is None:
            raise DataError(
                "the range of this file's encoding is not known (floating-point or signed "
                "values), and intensity rule 'full-scale' expects one. Set images.intensity.rule "
                "to 'percentile', 'min-max' or 'window'."
            )
        return Limits((float(full_scale[0]),) * count, (float(full_scale[1]),) * count)

    ends = [_ends_of_channel(channel, intensity) for channel in values]
    warnings: tuple[str, ...] = ()
    if any(coincide for _, _, coincide in ends):
        warnings = (
            f"percentiles {intensity.low:g} and {intensity.high:g} have the same value; "
            "the image's minimum and maximum were used instead",
        )
    return Limits(tuple(low for low, _, _ in ends), tuple(high for _, high, _ in ends), warnings)


def _ends_of_channel(channel: np.ndarray, intensity: Intensity) -> tuple[float, float, bool]:
    """Return the lower end, the upper end, and whether the asked percentiles coincided."""
    finite = channel
    if channel.dtype.kind == "f":
        good = np.isfinite(channel)
        finite = channel if good.all() else channel[good]
    if finite.size == 0:
        raise DataError(
            f"none of the {channel.size} values of a channel is finite, so it has no range. "
            "Remove the image from the manifest, or export it again."
        )
    smallest, largest = float(finite.min()), float(finite.max())
    if intensity.rule == "min-max" or smallest == largest:
        return smallest, largest, False
    low, high = _percentiles(finite, intensity, smallest, largest)
    if not low < high:
        return smallest, largest, True
    return low, high, False


def _percentiles(
    finite: np.ndarray, intensity: Intensity, smallest: float, largest: float
) -> tuple[float, float]:
    """Return the asked percentiles; 0 and 100 are the extremes whether or not zeros count."""
    counted = finite[finite != 0] if intensity.skip_zeros else finite
    low, high = np.percentile(counted.astype(np.float64), [intensity.low, intensity.high])
    return (
        smallest if intensity.low == 0 else float(low),
        largest if intensity.high == 100 else float(high),
    )


def to_unit(
    values: Values,
    intensity: Intensity,
    *,
    full_scale: tuple[float, float] | None = None,
    limits: Limits | None = None,
) -> UnitValues:
    """Map values linearly to [0, 1], each channel by its own ends, and clip what lies beyond.

    Parameters
    ----------
    values
        An image in its own unit.
    intensity
        The rule.
    full_scale
        The lowest and highest value of the encoding, where known.
    limits
        Ends found before over a whole volume; by default those of ``values``.

    Returns
    -------
    UnitValues
        Values in [0, 1], never NaN, and sentences about what had to be handled.

    Raises
    ------
    DataError
        As :func:`limits_of`.

    Examples
    --------
    >>> import numpy as np
    >>> to_unit(np.array([[-1000, 0, 40, 400]]), Intensity(rule="window", low=-160, high=240))[0]
    array([[0. , 0.4, 0.5, 1. ]], dtype=float32)
    """
    if limits is None:
        limits = limits_of(values, intensity, full_scale=full_scale)
    if len(limits.low) != values.shape[0]:
        raise DataError(
            f"the image has {values.shape[0]} channels, the volume it is a slice of "
            f"{len(limits.low)}: expected the same number."
        )
    warnings = list(limits.warnings)
    out = np.zeros(values.shape, dtype=np.float32)
    for channel, low, high, unit in zip(values, limits.low, limits.high, out, strict=True):
        if low < high:
            unit[...] = _scale(channel, low, high)
    constant = sum(low == high for low, high in zip(limits.low, limits.high, strict=True))
    if constant:
        warnings.append(
            f"{constant} of {values.shape[0]} channels constant: no range, set to zeros"
        )
    if values.dtype.kind == "f":
        warnings += _replace_nan(values, out)
    return UnitValues(out, tuple(warnings))


def _scale(channel: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to [0, 1] and clip; NaN stays."""
    # float32 is exact for 16-bit integers; wider types would lose digits against a large offset
    exact = channel.dtype.itemsize <= 2 and channel.dtype.kind in "iub"
    work: np.ndarray = channel.astype(np.float32 if exact else np.float64)
    if np.isinf(high - low):  # ends near the largest float: halve, or the difference overflows
        work, low, high = np.multiply(work, 0.5), low / 2, high / 2
    work = np.divide(np.subtract(work, low, out=work), high - low, out=work)
    return np.clip(work, 0.0, 1.0, out=work)


def _replace_nan(values: np.ndarray, out: np.ndarray) -> list[str]:
    """Set to 0 what is NaN in ``out``, and say how many values were not finite."""
    nan = np.isnan(values)
    nan_count = int(nan.sum())
    infinite_count = int(np.isinf(values).sum())
    out[nan] = 0.0
    told = []
    if nan_count:
        told.append(f"{nan_count} of {values.size} values are NaN; set to 0")
    if infinite_count:
        told.append(f"{infinite_count} of {values.size} values are infinite; clipped to the range")
    return told
