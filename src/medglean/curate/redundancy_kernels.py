"""Compiled loop that sorts the similarities of a block of pairs into intervals."""

from __future__ import annotations

import numpy as np
from numba import njit

from medglean.curate.similarity_kernels import similarity

UNSURE = -1
CELLS, LOWEST, WIDTH = 16384, -1.001, 2.002  # the cells cover every cosine with its rounding


@njit(cache=True)
def sort_block(
    filtered: np.ndarray,
    first_row: int,
    first_column: int,
    values: np.ndarray,
    inverse_norm: np.ndarray,
    codes: np.ndarray,
    interval_of_cell: np.ndarray,
    edges: np.ndarray,
    counts: np.ndarray,
    on_edge: np.ndarray,
) -> int:
    """Count pairs (i, j) with i < j by interval; return how many were computed canonically.

    ``filtered`` holds float32 similarities. They are looked up in a table of fine cells, which
    tells the interval, or that an edge is too near to be sure; then the canonical similarity
    decides. Interval e holds edges[e - 1] <= s < edges[e]; ``on_edge`` counts equality with an
    edge. Both have a row for pairs between groups (0) and within one (1).
    """
    exact = 0
    scale = CELLS / WIDTH
    grouped = len(codes) > 0
    for r in range(filtered.shape[0]):
        i = first_row + r
        for c in range(max(0, i + 1 - first_column), filtered.shape[1]):
            j = first_column + c
            within = 1 if grouped and codes[i] == codes[j] else 0
            interval = interval_of_cell[int((filtered[r, c] - LOWEST) * scale)]
            if interval == UNSURE:
                exact += 1
                value = similarity(values, inverse_norm, i, j)
                interval = np.searchsorted(edges, value, side="right")
                if interval > 0 and edges[interval - 1] == value:
                    on_edge[within, interval - 1] += 1
            counts[within, interval] += 1
    return exact
