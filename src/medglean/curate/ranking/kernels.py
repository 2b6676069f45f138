"""Compiled loops of the ranking: the start, and greedy picks inside a pool."""

from __future__ import annotations

import numba
import numpy as np
from numba import njit

from medglean.curate.similarity_kernels import similarity

POOL_EMPTY, ENOUGH, TOO_ALIKE = 0, 1, 2


@njit(cache=True)
def has_room(
    position: int,
    groups: np.ndarray,
    group_left: np.ndarray,
    strata: np.ndarray,
    stratum_left: np.ndarray,
) -> bool:
    """Whether neither the group nor the stratum of an image is full."""
    if len(groups) > 0 and group_left[groups[position]] <= 0:
        return False
    return not (len(strata) > 0 and stratum_left[strata[position]] <= 0)


@njit(cache=True)
def count_taken(
    position: int,
    groups: np.ndarray,
    group_left: np.ndarray,
    strata: np.ndarray,
    stratum_left: np.ndarray,
) -> None:
    """Count an image as taken."""
    if len(groups) > 0:
        group_left[groups[position]] -= 1
    if len(strata) > 0:
        stratum_left[strata[position]] -= 1


@njit(cache=True)
def repeats(values: np.ndarray, position: int, source: int) -> bool:
    """Whether a row equals the row of a source that stands before it.

    Then its canonical similarity to every image equals the source's bit for bit, and ties go to
    the source: comparing with it would change nothing.
    """
    if source < 0 or source > position:
        return False
    for k in range(values.shape[1]):  # noqa: SIM110 - a loop is what numba compiles
        if values[position, k] != values[source, k]:
            return False
    return True


@njit(cache=True)
def compare_in_turn(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    some: np.ndarray,
    largest: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """Compare each of ``some`` with those before it in ``some``."""
    for a in range(len(some)):
        i = some[a]
        for b in range(a):
            j = some[b]
            value = similarity(values, inverse_norm, i, j)
            if value > largest[i] or (value == largest[i] and j < nearest[i]):
                largest[i] = value
                nearest[i] = j


@njit(cache=True, fastmath=True)
def _float32_products(units: np.ndarray, b: int, out: np.ndarray) -> None:
    """Write the product of every row with row b; any order of summation is within the slack."""
    for r in range(units.shape[0]):
        total = numba.float32(0)
        for k in range(units.shape[1]):
            total += units[r, k] * units[b, k]
        out[r] = total


@njit(cache=True)
def pick_in_pool(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    pool: np.ndarray,
    units: np.ndarray,
    slack: float,
    next_value: float,
    next_position: int,
    largest: np.ndarray,
    nearest: np.ndarray,
    groups: np.ndarray,
    group_left: np.ndarray,
    strata: np.ndarray,
    stratum_left: np.ndarray,
    stop_similarity: float,
    order: np.ndarray,
    picked_similarity: np.ndarray,
    neighbour: np.ndarray,
    picked: int,
    sources: np.ndarray,
    source_count: int,
) -> tuple[int, int, int, int]:
    """Pick greedily in a pool while its best is certain to be the best of all.

    ``pool`` holds positions in rising order, up to date; ``units`` their rows at length 1 in
    float32. Outside the pool nothing is better than ``next_value`` at ``next_position``.

    Returns
    -------
    tuple
        Number picked so far, number of sources, how many similarities were computed canonically,
        and why it ended.
    """
    worth = np.empty(len(pool))
    for r in range(len(pool)):
        worth[r] = largest[pool[r]]
    products = np.empty(len(pool), dtype=np.float32)
    exact = 0
    while picked < len(order):
        b = int(np.argmin(worth))
        value, position = worth[b], pool[b]
        if value == np.inf or value > next_value:
            return picked, source_count, exact, POOL_EMPTY
        if value == next_value and position > next_position:
            return picked, source_count, exact, POOL_EMPTY
        worth[b] = np.inf
        largest[position] = np.inf
        if not has_room(position, groups, group_left, strata, stratum_left):
            continue
        if value >= stop_similarity:
            return picked, source_count, exact, TOO_ALIKE
        count_taken(position, groups, group_left, strata, stratum_left)
        order[picked] = position
        picked_similarity[picked] = value
        neighbour[picked] = nearest[position]
        picked += 1
        if repeats(values, position, nearest[position]):
            continue
        sources[source_count] = position
        source_count += 1
        _float32_products(units, b, products)
        for r in range(len(pool)):
            if products[r] + slack >= worth[r] and worth[r] != np.inf:
                exact += 1
                i = pool[r]
                s = similarity(values, inverse_norm, i, position)
                if s > worth[r]:
                    worth[r] = s
                    largest[i] = s
                    nearest[i] = position
                elif s == worth[r] and position < nearest[i]:
                    nearest[i] = position
    return picked, source_count, exact, ENOUGH
