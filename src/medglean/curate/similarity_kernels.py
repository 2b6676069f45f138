"""Compiled loops over pairs of rows: the canonical cosine similarity, and what is built on it.

The canonical similarity of rows i and j is ``dot(i, j) * (inverse_norm[i] * inverse_norm[j])`` in
float64. Its dot product adds in one fixed order (`medglean.curate.lanes_kernels`), without fused
multiply-add and without any freedom for the compiler: the same two rows give the same bits in
every loop, block, order of arguments and machine with IEEE arithmetic. So algorithms that compare
canonical similarities agree on every tie.

Compiled loops are kept beside the modules, and numba renews them only when their own file changes:
after a change to `dot` or to the lanes, remove ``__pycache__``, or other modules keep the old one.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import njit

from medglean.curate.lanes_kernels import LANES, lanes_dot


@njit(cache=True)
def dot(left: np.ndarray, i: int, right: np.ndarray, j: int) -> float:
    """Return the float64 dot product of row i of ``left`` and row j of ``right``."""
    d = left.shape[1]
    blocks = d // LANES
    total = lanes_dot(left, i, right, j, blocks)
    for k in range(blocks * LANES, d):
        total += numba.float64(left[i, k]) * numba.float64(right[j, k])
    result: float = total
    return result


@njit(cache=True)
def similarity(values: np.ndarray, inverse_norm: np.ndarray, i: int, j: int) -> float:
    """Return the canonical similarity of rows i and j; the same for (j, i)."""
    cosine: float = dot(values, i, values, j) * (inverse_norm[i] * inverse_norm[j])
    return cosine


@njit(cache=True)
def squared_norms(values: np.ndarray) -> np.ndarray:
    """Return the float64 squared norm of every row; NaN or infinite where the row is."""
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = dot(values, i, values, i)
    return out


@njit(cache=True)
def similarities_to(values: np.ndarray, inverse_norm: np.ndarray, j: int, out: np.ndarray) -> None:
    """Write the canonical similarity of every row to row j into ``out``."""
    for i in range(len(values)):
        out[i] = similarity(values, inverse_norm, i, j)


@njit(cache=True)
def gather_unit(
    values: np.ndarray, inverse_norm: np.ndarray, rows: np.ndarray, out: np.ndarray
) -> None:
    """Write rows of length 1 in float32 into ``out``, each entry rounded once."""
    for r in range(len(rows)):
        i = rows[r]
        for k in range(values.shape[1]):
            out[r, k] = numba.float32(numba.float64(values[i, k]) * inverse_norm[i])


@njit(cache=True, fastmath=True)
def _row_maximum(table: np.ndarray, r: int) -> float:
    """Largest entry of a row; comparisons only, so fast arithmetic changes nothing."""
    best: float = table[r, 0]
    for c in range(table.shape[1]):
        best = max(best, table[r, c])
    return best


@njit(cache=True)
def absorb(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    filtered: np.ndarray,
    slack: float,
    largest: np.ndarray,
    nearest: np.ndarray,
) -> int:
    """Raise the largest similarity of ``rows`` by those to ``columns``; return how many were exact.

    ``filtered`` holds the similarities in float32, each within ``slack`` of the canonical one. Only
    pairs that could reach the maximum are computed canonically, those that could tie included, so
    ``largest`` is canonical and ``nearest`` the lowest position that has it.
    """
    exact = 0
    for r in range(len(rows)):
        i = rows[r]
        best = numba.float64(_row_maximum(filtered, r))
        if best + slack < largest[i]:
            continue
        floor = max(largest[i], best - slack) - slack
        for c in range(len(columns)):
            if filtered[r, c] >= floor:
                exact += 1
                j = columns[c]
                value = similarity(values, inverse_norm, i, j)
                if value > largest[i]:
                    largest[i] = value
                    nearest[i] = j
                    floor = max(floor, value - slack)
                elif value == largest[i] and j < nearest[i]:
                    nearest[i] = j
    return exact


def canonical_slack(d: int) -> float:
    """Bound of the difference between a canonical similarity and the true cosine.

    A sum of d products errs by at most d u relative to the product of the norms (u = 2^-53), the
    two squared norms likewise, of which half arrives in each inverse norm: 2 d u, and some for the
    square roots, divisions and products.
    """
    return (2 * d + 32) * 2.0**-53


def filter_slack(d: int) -> float:
    """Bound of the difference between a float32 product of unit rows and the canonical similarity.

    Each entry is rounded once (2 u for a product, u = 2^-24) and a sum of d products in any order,
    fused or not, errs by at most d u (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    section 3.1), to first order; the factor covers the higher orders, the last term underflow.
    """
    unit = 2.0**-24
    return 1.01 * (d + 4) * unit / (1 - (d + 4) * unit) + d * 2.0**-126 + math.sqrt(d) * 2.0**-125
