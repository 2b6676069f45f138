"""What a manifest says of having been chosen: a curated set is for learning, not for testing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from medglean.data.manifest import Manifest

CURATED_BY = "curated_by"
"""Column that names the method by which an image was chosen; missing where it was not."""


def not_representative(
    manifest: Manifest, rows: Int[np.ndarray, " m"] | None = None
) -> tuple[str, ...]:
    """Return a warning where images to measure on were chosen by a curation.

    Such images were picked to differ from one another, so that rare pictures are over-represented:
    a number measured on them does not tell what happens on the images they were picked from.

    Parameters
    ----------
    manifest
        Of which the column ``curated_by`` is read, where it has one.
    rows
        Positions of the images to measure on; by default all.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"id": ["1"], "image": ["a.png"], "curated_by": ["enrich"]})
    >>> len(not_representative(Manifest.from_frame(table, ".")))
    1
    """
    if CURATED_BY not in manifest.frame:
        return ()
    told = manifest.frame[CURATED_BY]
    if rows is not None:
        told = told.iloc[rows]
    chosen = told.dropna()
    chosen = chosen[chosen.astype(str) != ""]
    if chosen.empty:
        return ()
    methods = ", ".join(sorted({str(name) for name in chosen}))
    return (
        f"{len(chosen):,} of {len(told):,} images to measure on were chosen by a curation "
        f"({methods}). They are not representative of the set that they were chosen from: choose a "
        "test set at random, by patient, before curating the rest.",
    )
