"""Figure 1 of the paper: how much the images of a training pool repeat one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from medglean.curate.redundancy import ALL, BETWEEN, WITHIN, redundancy
from medglean.curate.study.figures import similarity_histogram
from medglean.runs.report import Figure, Table

BINS = 80


def redundancy_of_pool(
    values: Float[np.ndarray, "n d"], groups: np.ndarray, group_name: str
) -> tuple[Figure, Table]:
    """Return histogram and table of the similarities of all pairs, within and between groups.

    Parameters
    ----------
    values
        Embedding of the pool. Zero rows, to which nothing is similar, are left out.
    groups
        What each image belongs to, as text.
    group_name
        What to call that.
    """
    usable = np.flatnonzero(np.any(values != 0, axis=1))
    names = np.asarray(groups)[usable].astype(str)
    found = redundancy(values[usable], groups=names, bins=BINS)
    kinds = {WITHIN: f"within one {group_name}", BETWEEN: f"between {group_name}s"}
    kinds = {key: name for key, name in kinds.items() if found.pairs[key]}
    filled = np.flatnonzero(found.counts[ALL])
    first = int(filled[0]) if len(filled) else 0
    figure = Figure(
        "How much the images repeat one another",
        "Cosine similarity of all pairs of images of the training pool (of the first replicate). "
        "What lies far to the right is nearly the same image twice, and teaches once.",
        similarity_histogram(
            found.edges[first:],
            {name: found.counts[key][first:].astype(float) for key, name in kinds.items()},
            thresholds=found.shares[ALL],
            images=len(usable),
        ),
        kind="svg",
    )
    shown = {ALL: "all pairs", **kinds}
    table = Table(
        "Share of pairs above a cosine similarity",
        ["Pairs", "Number", *(f"above {threshold:g}" for threshold in found.shares[ALL])],
        [
            [
                name,
                found.pairs[key],
                *(f"{100 * share:.1f} %" for share in found.shares[key].values()),
            ]
            for key, name in shown.items()
        ],
        note="Of the training pool of the first replicate.",
    )
    return figure, table
