"""Loops of `medglean.curate.methods.clusters` in machine code."""

from __future__ import annotations

import numpy as np
from numba import njit

LANES = 8


@njit(cache=True)
def _dot(first: np.ndarray, second: np.ndarray) -> float:
    """Return a sum of products in one fixed order: eight running sums, added at the end."""
    sums = np.zeros(LANES)
    whole = len(first) // LANES * LANES
    for k in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += first[k + lane] * second[k + lane]
    for k in range(whole, len(first)):
        sums[k - whole] += first[k] * second[k]
    total = 0.0
    for lane in range(LANES):
        total += sums[lane]
    return total


@njit(cache=True)
def _mean(rows: np.ndarray, members: np.ndarray, mask: np.ndarray, wanted: bool) -> np.ndarray:
    """Return the mean of the members of one side."""
    total = np.zeros(rows.shape[1])
    count = 0
    for place in range(len(members)):
        if mask[place] == wanted:
            count += 1
            row = rows[members[place]]
            for k in range(len(total)):
                total[k] += row[k]
    mean: np.ndarray = total / max(count, 1)
    return mean


@njit(cache=True)
def _farthest(rows: np.ndarray, members: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the direction from the centre to the member farthest from it."""
    best, at = -1.0, 0
    for place in range(len(members)):
        gap = rows[members[place]] - centre
        distance = _dot(gap, gap)
        if distance > best:
            best, at = distance, place
    direction: np.ndarray = rows[members[at]] - centre
    return direction


@njit(cache=True)
def scatter_of(rows: np.ndarray, members: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the sum of squared distances to the mean, and the mean."""
    centre = _mean(rows, members, np.ones(len(members), dtype=np.bool_), True)
    total = 0.0
    for place in range(len(members)):
        gap = rows[members[place]] - centre
        total += _dot(gap, gap)
    return total, centre


@njit(cache=True)
def split_in_two(
    rows: np.ndarray, members: np.ndarray, centre: np.ndarray, power_steps: int, mean_steps: int
) -> np.ndarray:
    """Return which members lie on the one side of the best cut that 2-means finds.

    Begins at the plane through the centre across the longest axis (power iteration from the
    farthest member), which one stray image turns less than two far images as seeds would.
    """
    axis = _farthest(rows, members, centre)
    for _ in range(power_steps):
        turned = np.zeros(len(axis))
        for place in range(len(members)):
            gap = rows[members[place]] - centre
            along = _dot(gap, axis)
            for k in range(len(axis)):
                turned[k] += along * gap[k]
        size = np.sqrt(_dot(turned, turned))
        if size == 0.0:
            break
        axis = turned / size
    side = np.empty(len(members), dtype=np.bool_)
    offset = _dot(centre, axis)
    for place in range(len(members)):
        side[place] = _dot(rows[members[place]], axis) > offset
    for _ in range(mean_steps):
        one, other = _mean(rows, members, side, True), _mean(rows, members, side, False)
        axis = one - other
        offset = 0.5 * (_dot(one, one) - _dot(other, other))
        moved = 0
        for place in range(len(members)):
            new = _dot(rows[members[place]], axis) > offset
            moved += new != side[place]
            side[place] = new
        if moved == 0:
            break
    return side


@njit(cache=True)
def nearest_free(
    rows: np.ndarray, members: np.ndarray, centre: np.ndarray, free: np.ndarray
) -> int:
    """Return the free member nearest to the centre, ties to the lowest position; -1: none."""
    best, chosen = np.inf, -1
    for place in range(len(members)):
        image = members[place]
        if free[image]:
            gap = rows[image] - centre
            distance = _dot(gap, gap)
            if distance < best or (distance == best and image < chosen):
                best, chosen = distance, image
    return chosen
