"""Where in its volume a slice lies, which often tells healthy from diseased by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from medglean.data.manifest import Manifest

POSITION = "position"
"""The name under which other settings may ask for it."""


def relative_position(manifest: Manifest, column: str | None) -> Float[np.ndarray, " n"] | None:
    """Return each image's place in its volume, from 0 for the first slice to 1 for the last.

    Slices are numbered differently in volumes of different thickness, so their place among the
    slices of the same group (else patient) is what can be compared.

    Parameters
    ----------
    manifest
        Its column ``group`` says what a volume is, else ``patient``.
    column
        With the number of the slice; None for none.

    Returns
    -------
    ndarray or None
        NaN where the number is missing, or the only one of its volume. None without the column,
        or where no row has a place.
    """
    if column is None or column not in manifest.frame:
        return None
    number = pd.to_numeric(manifest.frame[column], errors="coerce").astype(np.float64)
    volumes = manifest.groups("group" if "group" in manifest.frame else "patient")
    by_volume = number.groupby(volumes)
    first, last = by_volume.transform("min"), by_volume.transform("max")
    span = (last - first).where(last > first)
    place: Float[np.ndarray, " n"] = ((number - first) / span).to_numpy(dtype=np.float64)
    return None if np.isnan(place).all() else place
