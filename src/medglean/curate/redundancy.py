"""How much a set repeats itself: exact counts of the similarities of all its pairs.

The share of pairs above a similarity is what the paper reports of its sets. Every pair of two
different images counts once. Pairs are computed block by block, one half of the symmetric matrix
only: n²/2 products of d, and memory for one block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from medglean.curate import redundancy_kernels as kernels
from medglean.curate.similarity import check_comparable, inverse_norms, spans
from medglean.curate.similarity_kernels import filter_slack, gather_unit
from medglean.errors import EmbeddingError, UsageError

BLOCK = 1024  # rows and columns of one matrix product: 4 MB
ALL, WITHIN, BETWEEN = "all", "within", "between"
THRESHOLDS = (0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Redundancy:
    """How similar the images of a set are to one another.

    Each mapping has the keys ``"all"`` and, where groups are known, ``"within"`` (two images of one
    group) and ``"between"`` (of two groups).

    Attributes
    ----------
    pairs
        Number of pairs.
    above
        Number of pairs with a similarity above each threshold (not equal to it).
    shares
        The same over the number of pairs; NaN where there is no pair.
    edges
        Edges of the histogram's bins, from -1 to 1, shape (b + 1,).
    counts
        Number of pairs in each bin, shape (b,). A bin holds its lower edge and not its upper one;
        the last holds 1, too.
    """

    pairs: dict[str, int]
    above: dict[str, dict[float, int]]
    shares: dict[str, dict[float, float]]
    edges: Float[np.ndarray, " b1"]
    counts: dict[str, Int[np.ndarray, " b"]]


def redundancy(
    values: Float[np.ndarray, "n d"],
    *,
    groups: Shaped[np.ndarray, " n"] | Sequence[str] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    bins: int = 40,
) -> Redundancy:
    """Count the similarities of all pairs of images.

    Parameters
    ----------
    values
        Embeddings, shape (n, d), each row with a direction.
    groups
        What each image belongs to (patient, clip): texts or numbers, shape (n,); None: unknown.
    thresholds
        Similarities in [-1, 1].
    bins
        Number of equal bins over [-1, 1].

    Returns
    -------
    Redundancy
        Exact counts: float32 products decide where they can, the canonical similarity elsewhere.

    Raises
    ------
    EmbeddingError
        If the embeddings cannot be compared, or there is not one group for each.
    UsageError
        If there is no bin, or a threshold is outside [-1, 1].

    Examples
    --------
    >>> import numpy as np
    >>> found = redundancy(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), thresholds=(0.5, 0.7))
    >>> found.pairs["all"], found.above["all"]
    (3, {0.5: 2, 0.7: 1})
    """
    rows = check_comparable(values)
    _check(thresholds, bins)
    codes = np.zeros(0, dtype=np.int64)
    if groups is not None:
        if len(groups) != len(rows):
            raise EmbeddingError(
                f"{len(groups)} groups for {len(rows)} embeddings; expected one for each."
            )
        codes = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    edges = np.linspace(-1, 1, bins + 1)
    marks = np.unique(np.concatenate([edges, np.asarray(thresholds, dtype=np.float64)]))
    between, within, between_on, within_on = _sorted_pairs(rows, codes, marks)
    tables = {ALL: (between + within, between_on + within_on)}
    if groups is not None:
        tables |= {WITHIN: (within, within_on), BETWEEN: (between, between_on)}
    pairs = {which: int(table.sum()) for which, (table, _) in tables.items()}
    above = {
        which: {float(t): _above(table, on_edge, marks, t) for t in thresholds}
        for which, (table, on_edge) in tables.items()
    }
    shares = {
        which: {t: _share(count, pairs[which]) for t, count in table.items()}
        for which, table in above.items()
    }
    counts = {which: _histogram(table, marks, edges) for which, (table, _) in tables.items()}
    return Redundancy(pairs=pairs, above=above, shares=shares, edges=edges, counts=counts)


def _check(thresholds: Sequence[float], bins: int) -> None:
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}.")
    for threshold in thresholds:
        if not -1 <= threshold <= 1:
            raise UsageError(f"thresholds must lie in [-1, 1], got {threshold}.")


def _share(count: int, pairs: int) -> float:
    return count / pairs if pairs else math.nan


def _sorted_pairs(
    values: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " c"], marks: Float[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Count pairs by interval between the marks, and on a mark: between groups, within; twice."""
    n, d = values.shape
    inverse = inverse_norms(values)
    cells = _intervals_of_cells(marks, slack=filter_slack(d))
    counts = np.zeros((2, len(marks) + 1), dtype=np.int64)
    on_edge = np.zeros((2, len(marks)), dtype=np.int64)
    left = np.empty((min(BLOCK, n), d), dtype=np.float32)
    right = np.empty_like(left)
    for down in spans(n, BLOCK):
        size = down.stop - down.start
        gather_unit(values, inverse, np.arange(down.start, down.stop), left)
        for across in spans(n, BLOCK):
            if across.start < down.start:
                continue
            gather_unit(values, inverse, np.arange(across.start, across.stop), right)
            kernels.sort_block(
                left[:size] @ right[: across.stop - across.start].T,
                down.start,
                across.start,
                values,
                inverse,
                codes,
                cells,
                marks,
                counts,
                on_edge,
            )
    return counts[0], counts[1], on_edge[0], on_edge[1]


def _intervals_of_cells(marks: Float[np.ndarray, " m"], *, slack: float) -> np.ndarray:
    """Return for each cell the interval of all its values, or UNSURE where a mark is too near."""
    bounds = kernels.LOWEST + kernels.WIDTH * np.arange(kernels.CELLS + 1) / kernels.CELLS
    margin = slack + 1e-6  # the cell itself is found with rounding
    lower = np.searchsorted(marks, bounds[:-1] - margin, side="right")
    upper = np.searchsorted(marks, bounds[1:] + margin, side="right")
    return np.where(lower == upper, lower, kernels.UNSURE).astype(np.int16)


def _above(table: np.ndarray, on_edge: np.ndarray, marks: np.ndarray, threshold: float) -> int:
    """Return how many pairs lie above a threshold, those equal to it left out."""
    place = int(np.searchsorted(marks, threshold))
    return int(table[place + 1 :].sum() - on_edge[place])


def _histogram(table: np.ndarray, marks: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the counts in the bins; what rounding put outside [-1, 1] is in the outer ones."""
    middle = np.concatenate([[-1.0], (marks[:-1] + marks[1:]) / 2, [1.0]])
    place = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(place, weights=table, minlength=len(edges) - 1).astype(np.int64)
