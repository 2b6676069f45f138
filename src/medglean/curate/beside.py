"""Coverage at rising budgets: a selection beside random orders and fixed intervals.

On at most 5,000 images drawn at random the coverage of all is known to about a percentage point,
and a set of a million takes no longer than one of ten thousand.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.comparison import LOW_PERCENTILE, CoverageCurve
from medglean.curate.methods.simple import interval_positions, random_positions
from medglean.curate.similarity import unit_rows
from medglean.errors import UsageError
from medglean.randomness import key_of, numpy_generator

MOST_MEASURED = 5_000
SELECTION, RANDOM, INTERVAL = "this selection", "random", "fixed interval"
_COLUMNS = 4_096


def budgets_around(budget: int, n: int) -> Int[np.ndarray, " b"]:
    """Return numbers of images from an eighth of the budget to four times it, at most all.

    Each is 1.41 times the one before it, and the budget is among them.

    Examples
    --------
    >>> budgets_around(100, 1_000).tolist()
    [12, 18, 25, 35, 50, 71, 100, 141, 200, 283, 400]
    >>> budgets_around(3, 4).tolist()
    [1, 2, 3, 4]
    """
    if not 1 <= budget <= n:
        raise UsageError(f"the budget must be 1 to {n:,} images, got {budget:,}.")
    spread = np.round(budget * 2.0 ** (np.arange(-6, 5) / 2)).astype(np.int64)
    return np.unique(np.clip(spread, 1, n))


def curves_beside(
    values: Float[np.ndarray, "n d"],
    order: Int[np.ndarray, " m"],
    *,
    budget: int,
    taken: Int[np.ndarray, " t"] | None = None,
    draws: int = 5,
    seed: int = 0,
) -> dict[str, list[CoverageCurve]]:
    """Return coverage at several budgets, by name: the selection, random orders, intervals.

    Parameters
    ----------
    values
        Embedding of the images that could be chosen, without zero rows.
    order
        Positions, the first to be labelled first; at least ``budget`` of them.
    budget
        How many were chosen.
    taken
        Positions of images taken beforehand, which cover from the beginning, whatever is compared.
    draws
        Random orders.
    seed
        Of the draws, and of the images whose coverage is measured.
    """
    n = len(values)
    before = np.zeros(0, dtype=np.int64) if taken is None else np.asarray(taken, dtype=np.int64)
    unit = unit_rows(values).astype(np.float32, copy=False)
    budgets = budgets_around(budget, n - len(before))
    budgets = budgets[budgets <= len(order)]
    measured = np.arange(n)
    if n > MOST_MEASURED:
        measured = np.sort(numpy_generator(seed, "coverage").permutation(n)[:MOST_MEASURED])
    rows = unit[measured]
    longest = int(budgets.max(initial=0))
    random = [
        random_positions(n, count=longest, seed=key_of(seed, "beside", draw), taken=before)
        for draw in range(draws)
    ]
    every = [interval_positions(n, count=int(count), taken=before) for count in budgets]
    return {
        SELECTION: [_nested(unit, rows, np.asarray(order), budgets, before)],
        RANDOM: [_nested(unit, rows, one, budgets, before) for one in random],
        INTERVAL: [_joined([_nested(unit, rows, e, np.array([len(e)]), before) for e in every])],
    }


def _nested(
    unit: np.ndarray, rows: np.ndarray, order: np.ndarray, budgets: np.ndarray, taken: np.ndarray
) -> CoverageCurve:
    nearest = np.full(len(rows), -1.0, dtype=np.float32)
    _raise_to(rows, unit[taken], nearest)
    told, done = [], 0
    for budget in budgets.tolist():
        _raise_to(rows, unit[order[done:budget]], nearest)
        done = budget
        exact = np.clip(nearest, -1.0, 1.0).astype(np.float64)
        told.append((exact.mean(), np.percentile(exact, LOW_PERCENTILE), exact.min()))
    mean, low, worst = np.array(told, dtype=np.float64).reshape(-1, 3).T
    return CoverageCurve(budgets, mean, low, worst)


def _raise_to(rows: np.ndarray, chosen: np.ndarray, nearest: np.ndarray) -> None:
    for start in range(0, len(chosen), _COLUMNS):
        product = rows @ chosen[start : start + _COLUMNS].T
        np.maximum(nearest, product.max(axis=1), out=nearest)


def _joined(points: list[CoverageCurve]) -> CoverageCurve:
    """Join selections of one size each: fixed intervals are not nested."""
    parts = [
        np.concatenate([getattr(point, name) for point in points])
        for name in ("budgets", "mean", "low", "worst")
    ]
    return CoverageCurve(*parts)
