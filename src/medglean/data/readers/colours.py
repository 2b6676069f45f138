"""Alpha, ink colours and orientation: what pictures carry that a network should not see.

All arrays are channel first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Num

_ORIENTATIONS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "rows and columns exchanged",
    6: "turned by 90 degrees clockwise",
    7: "rows and columns exchanged and turned by 180 degrees",
    8: "turned by 90 degrees counter-clockwise",
}


def without_alpha(
    values: Num[np.ndarray, "c h w"], alpha: Num[np.ndarray, "h w"], *, full: float
) -> tuple[Num[np.ndarray, "c h w"], str]:
    """Remove an alpha channel: dropped where all is opaque, else composited over black.

    Black, because a transparent border then looks like the dark surround of a radiograph and adds
    no light that was not in the picture.

    Parameters
    ----------
    values
        Colours in 0..full, not multiplied by alpha.
    alpha
        0 is transparent, ``full`` opaque.
    full
        The largest value of the encoding, such as 255.

    Returns
    -------
    values, warning
        The composite in the same type, and a sentence that says what was done.
    """
    if (alpha == full).all():
        return values, "an alpha channel was dropped: every pixel is opaque."
    count = int((alpha < full).sum())
    composite = values * (alpha / full)
    if values.dtype.kind in "ui":
        composite = np.rint(composite)
    return composite.astype(values.dtype), (
        f"the image has transparency: {count:,} pixel(s) that are not opaque were composited "
        "over black."
    )


def cmyk_to_rgb(
    inks: Num[np.ndarray, "4 h w"], *, full: float
) -> tuple[Num[np.ndarray, "3 h w"], str]:
    """Turn ink amounts (0 no ink, ``full`` all ink) into red, green, blue, with no colour profile.

    Each is (1 - ink) (1 - black).
    """
    light = (full - inks[:3].astype(np.float64)) * (full - inks[3].astype(np.float64)) / full
    if inks.dtype.kind in "ui":
        light = np.rint(light)
    return light.astype(inks.dtype), (
        "CMYK colours were turned into RGB without a colour profile: hues are approximate."
    )


def oriented(
    values: Num[np.ndarray, "c h w"], orientation: int
) -> tuple[Num[np.ndarray, "c h2 w2"], tuple[str, ...]]:
    """Turn an image upright as the EXIF or TIFF orientation (1 to 8) says.

    Returns
    -------
    values, warnings
        The upright image, and a sentence where anything was done.
    """
    if orientation not in _ORIENTATIONS:
        return values, ()
    if orientation == 2:
        values = values[:, :, ::-1]
    elif orientation == 3:
        values = values[:, ::-1, ::-1]
    elif orientation == 4:
        values = values[:, ::-1, :]
    elif orientation == 5:
        values = values.transpose(0, 2, 1)
    elif orientation == 6:
        values = values.transpose(0, 2, 1)[:, :, ::-1]
    elif orientation == 7:
        values = values.transpose(0, 2, 1)[:, ::-1, ::-1]
    else:
        values = values.transpose(0, 2, 1)[:, ::-1, :]
    return np.ascontiguousarray(values), (
        f"the file's orientation tag {orientation} was applied: {_ORIENTATIONS[orientation]}.",
    )


def swaps_axes(orientation: int) -> bool:
    """Tell whether an orientation exchanges height and width."""
    return orientation in (5, 6, 7, 8)


def names_of(channels: int) -> tuple[str, ...]:
    """Return the names of 1 or 3 channels."""
    return ("grey",) if channels == 1 else ("red", "green", "blue")
