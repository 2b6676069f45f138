"""Loops of `medglean.curate.methods.neighbours` in machine code."""

from __future__ import annotations

import numpy as np
from numba import njit

from medglean.curate.similarity_kernels import similarity as canonical

STRETCH = 64  # numbers looked at together: most stretches hold none that enters a heap


@njit(cache=True)
def _replace_smallest(
    similarity: np.ndarray, position: np.ndarray, new_similarity: float, new_position: int
) -> None:
    """Put a pair in place of the smallest of a heap (smallest at 0)."""
    size = len(similarity)
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and similarity[child + 1] < similarity[child]:
            child += 1
        if similarity[child] >= new_similarity:
            break
        similarity[hole] = similarity[child]
        position[hole] = position[child]
        hole = child
    similarity[hole] = new_similarity
    position[hole] = new_position


@njit(cache=True)
def _none_enters(found: np.ndarray, row_smallest: float, column_smallest: np.ndarray) -> bool:
    """Say whether no number beats the root of its row or of its column; without a branch."""
    entering = 0
    for b in range(len(found)):
        entering += (found[b] > row_smallest) | (found[b] > column_smallest[b])
    return entering == 0


@njit(cache=True)
def offer_tile(
    tile: np.ndarray,
    row: int,
    column: int,
    similarity: np.ndarray,
    position: np.ndarray,
    smallest: np.ndarray,
) -> None:
    """Offer the similarities of rows ``row...`` and columns ``column...`` to the heaps of both.

    ``tile`` is (a, b) in float32; ``similarity`` and ``position`` (n, k) hold a heap per image and
    ``smallest`` (n,) the root of each, side by side because every number is compared with one. A
    tile on the diagonal is offered to its rows only: it holds every pair twice.
    """
    is_diagonal = row == column
    for a in range(tile.shape[0]):
        i = row + a
        for left in range(0, tile.shape[1], STRETCH):
            stretch = tile[a, left : left + STRETCH]
            first = column + left
            if _none_enters(stretch, smallest[i], smallest[first : first + len(stretch)]):
                continue
            for b in range(len(stretch)):
                j = first + b
                found = stretch[b]
                if found > smallest[i] and i != j:
                    _replace_smallest(similarity[i], position[i], found, j)
                    smallest[i] = similarity[i, 0]
                if found > smallest[j] and not is_diagonal:
                    _replace_smallest(similarity[j], position[j], found, i)
                    smallest[j] = similarity[j, 0]


@njit(cache=True)
def list_all_others(candidates: np.ndarray) -> None:
    """Write all other images as candidates of each: shape (n, n - 1)."""
    for i in range(candidates.shape[0]):
        for place in range(candidates.shape[1]):
            candidates[i, place] = place + (place >= i)


@njit(cache=True)
def canonical_of_pairs(
    values: np.ndarray, inverse: np.ndarray, first: int, candidates: np.ndarray, out: np.ndarray
) -> None:
    """Write the canonical similarities of images ``first...`` to their candidates (m, c)."""
    for row in range(candidates.shape[0]):
        for place in range(candidates.shape[1]):
            out[row, place] = canonical(values, inverse, first + row, candidates[row, place])
