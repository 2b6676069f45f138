"""Names and contents of the files that maps are written to."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from jaxtyping import Float

import medglean
from medglean.anomaly.described import meaning_of
from medglean.anomaly.model import Mapper
from medglean.anomaly.panel_parts import MEANING, TOP_SHARE, Scale
from medglean.runs.report import RESEARCH_ONLY

ABOVE_HEALTHY = 3.0
"""End of the colour scale, over the threshold below which healthy images stay."""


def scale_for(mapper: Mapper, values: Float[np.ndarray, "h w"]) -> Scale:
    """Return the colour scale of a map: the same for all images of a mapper with a threshold.

    On a scale of its own, the noise of a healthy image would shine like a lesion.
    """
    meaning = MEANING[meaning_of(mapper.preset)]
    if mapper.method == "threshold":
        return Scale(1.0, meaning)
    fixed = threshold_of(mapper)
    finite = values[np.isfinite(values)]
    own = float(np.quantile(finite, TOP_SHARE)) if finite.size else 0.0
    top = ABOVE_HEALTHY * fixed if fixed is not None else own
    return Scale(top if top > 0 else 1.0, meaning)


def threshold_of(mapper: Mapper) -> float | None:
    """Return the value from which a pixel counts as anomalous, None where none was measured."""
    return next((float(value) for value in mapper.thresholds.values()), None)


def tiff_bytes(values: Float[np.ndarray, "y x"], mapper: Mapper, *, id: str) -> bytes:
    """Return a map as a TIFF of 32-bit floats that says what it is.

    Deflated, since background is 0. NaN is what was not looked at.
    """
    words = (
        f"Anomaly map of image {id}. {MEANING[meaning_of(mapper.preset)]}. NaN: not looked at. "
        f"Preset {mapper.preset.name}, weights {mapper.weights_sha256[:12]}. {RESEARCH_ONLY}"
    )
    into = io.BytesIO()
    tifffile.imwrite(
        into,
        np.ascontiguousarray(values, dtype=np.float32),
        photometric="minisblack",
        compression="zlib",
        compressionargs={"level": 1},
        description=words.encode("ascii", "backslashreplace").decode("ascii"),
        software=f"medglean {medglean.__version__}",
        metadata=None,
    )
    return into.getvalue()
