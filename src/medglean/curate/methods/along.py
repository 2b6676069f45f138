"""What an order says about each of its images: what already taken image it resembles most.

A method decides an order; the similarities here explain it. They are found by blocked products in
float32 and decide nothing, but for which of two images that tie in float32 is named as nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import Limits, Ranking
from medglean.curate.similarity import unit_rows

BLOCK = 1024


def ranked(
    values: Float[np.ndarray, "n d"],
    order: Int[np.ndarray, " m"],
    *,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    reason: str | Sequence[str],
) -> Ranking:
    """Return an order with its similarities and reasons.

    Parameters
    ----------
    values
        Embedding of all images, without zero rows.
    order
        Positions, the first to be labelled first.
    taken
        Positions of the images taken beforehand.
    reason
        One reason for all, or one for each.
    """
    similarity, nearest = to_earlier(values, order, taken=taken)
    reasons = (reason,) * len(order) if isinstance(reason, str) else tuple(reason)
    return Ranking(np.asarray(order, dtype=np.int64), similarity, nearest, reasons)


def to_earlier(
    values: Float[np.ndarray, "n d"],
    order: Int[np.ndarray, " m"],
    *,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Return each image's largest cosine similarity to those before it, and to which one.

    Memory: two blocks of 1,024 x 1,024 beside a float32 copy of the rows; m² d / 2 products.

    Returns
    -------
    similarity : numpy.ndarray
        In [-1, 1], right to about 1e-6; NaN where nothing was taken before.
    nearest : numpy.ndarray
        Position of that image; -1 where nothing was taken before.
    """
    if len(order) == 0:
        return np.empty(0), np.empty(0, dtype=np.int64)
    before = np.asarray(taken, dtype=np.int64)
    sequence = np.concatenate([before, np.asarray(order, dtype=np.int64)])
    rows = unit_rows(values[sequence]).astype(np.float32, copy=False)
    largest = np.full(len(sequence), -np.inf, dtype=np.float32)
    where = np.full(len(sequence), -1, dtype=np.int64)
    for low in range(0, len(sequence), BLOCK):
        high = min(low + BLOCK, len(sequence))
        if high <= len(before):
            continue
        for left in range(0, high, BLOCK):
            product = rows[low:high] @ rows[left : left + BLOCK].T
            if left == low:
                product[np.triu_indices(high - low)] = -np.inf  # itself and what comes later
            best = product.argmax(axis=1)
            found = product[np.arange(high - low), best]
            better = found > largest[low:high]
            largest[low:high][better] = found[better]
            where[low:high][better] = best[better] + left
    largest, where = largest[len(before) :], where[len(before) :]
    first = where < 0
    similarity = np.clip(largest.astype(np.float64), -1.0, 1.0)
    similarity[first] = np.nan
    return similarity, np.where(first, -1, sequence[where])


def take_in_order(
    candidates: Int[np.ndarray, " m"],
    n: int,
    *,
    count: int | None,
    limits: Limits,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Int[np.ndarray, " k"]:
    """Walk along candidates and take each that may still be taken, at most ``count``."""
    counter = limits.counter(n)
    for position in taken:
        counter.take(int(position))
    if not limits.any:
        free: np.ndarray = candidates[counter.free[candidates]]
        return free[:count]
    order: list[int] = []
    for position in candidates.tolist():
        if count is not None and len(order) >= count:
            break
        if counter.free[position]:
            counter.take(position)
            order.append(position)
    return np.array(order, dtype=np.int64)
