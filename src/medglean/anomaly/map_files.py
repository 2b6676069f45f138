"""Names and contents of the files that maps are written to."""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import tifffile
from jaxtyping import Float

import medglean
from medglean.anomaly.described import meaning_of
from medglean.anomaly.model import Mapper
from medglean.anomaly.panel_parts import MEANING, TOP_SHARE, Scale
from medglean.runs.report import RESEARCH_ONLY

LONGEST_NAME = 80
ABOVE_HEALTHY = 3.0
"""End of the colour scale, over the threshold below which healthy images stay."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def safe_names(wanted: Sequence[str], identities: Sequence[str] | None = None) -> list[str]:
    """Return names that are files on any system, unique also where capitals are not told apart.

    A text that is such a name stays as it is. Another one is changed, and gets eight hexadecimal
    digits of its SHA-256, so that a name never depends on the order.

    Parameters
    ----------
    wanted
        Such as ids.
    identities
        What tells equal texts apart, by default the texts.

    Examples
    --------
    >>> safe_names(["p7_s081", "a/b"])
    ['p7_s081', 'a_b-c14cddc0']
    """
    known = list(wanted) if identities is None else list(identities)
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", text).strip(".")[:LONGEST_NAME] for text in wanted]
    often = Counter(name.casefold() for name in plain)
    for digits in (8, 64):  # 64 only where the name of another has just these eight
        names = []
        for text, name, identity in zip(wanted, plain, known, strict=True):
            kept = name == text and often[name.casefold()] == 1 and not _RESERVED.fullmatch(name)
            digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
            names.append(name if kept and name else f"{name or 'map'}-{digest[:digits]}")
        if len({name.casefold() for name in names}) == len(names):
            break
    return names


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
