"""Figure 1 of the paper: how much the images of a training pool repeat one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from medglean.curate.similarity import unit_rows
from medglean.curate.study.figures import similarity_histogram
from medglean.randomness import numpy_generator
from medglean.runs.report import Figure

THRESHOLDS = (0.5, 0.7, 0.9)
MOST_IMAGES = 4000
"""More are sampled: a picture does not need all pairs; `medglean curate` counts them exactly."""
BINS = 50


def histogram_figure(
    values: Float[np.ndarray, "n d"], groups: np.ndarray, group_name: str
) -> Figure:
    """Return the histogram of all pairs, within and between groups.

    Parameters
    ----------
    values
        Embedding of the pool.
    groups
        What each image belongs to.
    group_name
        What to call that.
    """
    rows = np.arange(len(values))
    if len(rows) > MOST_IMAGES:
        rows = np.sort(numpy_generator(0, "study", "histogram").permutation(rows)[:MOST_IMAGES])
    usable = rows[np.any(values[rows] != 0, axis=1)]
    unit = unit_rows(values[usable]).astype(np.float32)
    upper = np.triu_indices(len(usable), 1)
    similarity = np.clip((unit @ unit.T)[upper], -1.0, 1.0)
    names = np.asarray(groups, dtype=object)[usable]
    within = names[upper[0]] == names[upper[1]]
    low = float(np.floor(10 * similarity.min(initial=0.0)) / 10)
    edges = np.linspace(low, 1.0, BINS + 1)
    kinds = {
        f"within one {group_name}": similarity[within],
        f"between {group_name}s": similarity[~within],
    }
    counts = {
        name: np.histogram(found, edges)[0].astype(np.float64)
        for name, found in kinds.items()
        if len(found)
    }
    shares = {threshold: float((similarity > threshold).mean()) for threshold in THRESHOLDS}
    sampled = (
        f" {len(usable):,} of {len(values):,} were drawn." if len(usable) < len(values) else ""
    )
    return Figure(
        "How much the images repeat one another",
        "Cosine similarity of pairs of images of the training pool of the first replicate. What "
        f"lies far to the right is nearly the same image twice, and teaches once.{sampled}",
        similarity_histogram(edges, counts, thresholds=shares, images=len(usable)),
        kind="svg",
    )
