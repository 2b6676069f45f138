"""One number per image from its map: how anomalous the image is as a whole."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

TOP = 0.01
"""Share of the pixels that decide by default: the largest lesions fill more, the smallest less."""


def image_scores(
    maps: Float[np.ndarray, "n h w"],
    *,
    inside: Bool[np.ndarray, "n h w"] | None = None,
    kind: Literal["top", "mean"] = "top",
    share: float = TOP,
) -> Float[np.ndarray, " n"]:
    """Return the mean of each map's largest values, or of all.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    inside
        Pixels that count, such as `medglean.data.foreground.foreground_mask`; by default all.
    kind
        ``top``: the mean of the largest ``share`` of the values inside, at least one value.
        ``mean``: of all values inside, in which a small lesion drowns.
    share
        In (0, 1].

    Returns
    -------
    ndarray
        float64. NaN for a map with NaN, 0 for an image without a pixel inside.

    Examples
    --------
    >>> maps = np.array([[[4.0, 2.0], [0.0, 0.0]]])
    >>> image_scores(maps, share=0.5), image_scores(maps, kind="mean")
    (array([3.]), array([1.5]))
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}.")
    scores = np.zeros(len(maps))
    for place, one in enumerate(maps):
        values = one.ravel() if inside is None else one[inside[place]]
        if np.isnan(one).any():
            scores[place] = np.nan
        elif values.size:
            count = max(1, round(share * values.size)) if kind == "top" else values.size
            largest = np.partition(values, values.size - count)[values.size - count :]
            scores[place] = largest.mean(dtype=np.float64)
    return scores
