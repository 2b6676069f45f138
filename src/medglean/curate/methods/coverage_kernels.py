"""Loops of `medglean.curate.methods.coverage` in machine code."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def gain_of(
    image: int,
    start: np.ndarray,
    column: np.ndarray,
    weight: np.ndarray,
    share: np.ndarray,
    covered: np.ndarray,
) -> float:
    """Return by how much the weighted coverage grows when ``image`` is taken.

    Always the same terms in the same order, each of which can only shrink while more is covered:
    an old gain is never below a new one, not even by rounding, which lazy greedy rests upon.
    """
    total: float = share[image] * (1.0 - covered[image])
    for edge in range(start[image], start[image + 1]):
        other = column[edge]
        more = weight[edge] - covered[other]
        if more > 0.0:
            total += share[other] * more
    return total


@njit(cache=True)
def gains_of_all(
    start: np.ndarray,
    column: np.ndarray,
    weight: np.ndarray,
    share: np.ndarray,
    covered: np.ndarray,
) -> np.ndarray:
    """Return the gain of every image."""
    gain = np.empty(len(share))
    for image in range(len(share)):
        gain[image] = gain_of(image, start, column, weight, share, covered)
    return gain


@njit(cache=True)
def cover(
    image: int, start: np.ndarray, column: np.ndarray, weight: np.ndarray, covered: np.ndarray
) -> int:
    """Take ``image``; return of how many images, itself among them, it is now the nearest."""
    stands_for = 1
    covered[image] = 1.0
    for edge in range(start[image], start[image + 1]):
        if weight[edge] > covered[column[edge]]:
            covered[column[edge]] = weight[edge]
            stands_for += 1
    return stands_for


@njit(cache=True)
def _sift_down(heap: np.ndarray, size: int, hole: int, gain: np.ndarray) -> None:
    """Move one entry down to its place: largest gain on top, ties to the lowest position."""
    moved = heap[hole]
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size:
            left, right = heap[child], heap[child + 1]
            if gain[right] > gain[left] or (gain[right] == gain[left] and right < left):
                child += 1
        other = heap[child]
        if gain[moved] > gain[other] or (gain[moved] == gain[other] and moved < other):
            break
        heap[hole] = other
        hole = child
    heap[hole] = moved


@njit(cache=True)
def heapify(heap: np.ndarray, gain: np.ndarray) -> None:
    """Order a heap from nothing."""
    for hole in range(len(heap) // 2 - 1, -1, -1):
        _sift_down(heap, len(heap), hole, gain)


@njit(cache=True)
def next_best(
    heap: np.ndarray,
    size: int,
    free: np.ndarray,
    gain: np.ndarray,
    start: np.ndarray,
    column: np.ndarray,
    weight: np.ndarray,
    share: np.ndarray,
    covered: np.ndarray,
) -> tuple[int, int]:
    """Return the free image of largest gain, -1 where none is left, and the heap's new size.

    The top's gain is brought up to date until it stays on top. What is not free leaves for good.
    """
    while size > 0:
        top = heap[0]
        if not free[top]:
            size -= 1
            heap[0] = heap[size]
            _sift_down(heap, size, 0, gain)
            continue
        gain[top] = gain_of(top, start, column, weight, share, covered)
        _sift_down(heap, size, 0, gain)
        if heap[0] == top:
            return top, size
    return -1, size
