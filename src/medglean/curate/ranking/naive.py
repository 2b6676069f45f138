"""The ranking in its simplest form: the reference that the fast algorithms must agree with.

After every pick the similarity of all images to it is computed: n d operations a pick.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import METHOD, START, Limits, Ranking
from medglean.curate.ranking.state import FULL, alike_enough

RowOf = Callable[[int], Float[np.ndarray, " n"]]


def rank_naively(
    row_of: RowOf,
    *,
    n: int,
    start: Int[np.ndarray, " s"],
    count: int,
    taken: Int[np.ndarray, " t"],
    limits: Limits,
    rule: str,
    batch_size: int,
    stop_similarity: float,
) -> Ranking:
    """Rank by one similarity row after the other.

    Parameters
    ----------
    row_of
        Gives the similarity of all ``n`` images to one of them.
    n
        Number of images.
    start, count, taken, limits, rule, batch_size, stop_similarity
        As `medglean.curate.ranking.rank_farthest` takes them, checked.
    """
    counter = limits.counter(n)
    largest = np.full(n, -np.inf)
    nearest = np.full(n, -1, dtype=np.int64)
    total = np.zeros(n)
    decisive = largest.copy()  # what picks are decided by; rule "batch" renews it once a batch
    order: list[int] = []
    similarity: list[float] = []
    neighbour: list[int] = []

    def take(position: int) -> None:
        counter.take(position)
        row = row_of(position)
        closer = (row > largest) | ((row == largest) & (position < nearest))
        nearest[closer] = position
        np.maximum(largest, row, out=largest)
        np.add(total, row, out=total)

    def record(position: int) -> None:
        alone = nearest[position] < 0
        order.append(position)
        similarity.append(np.nan if alone else float(largest[position]))
        neighbour.append(int(nearest[position]))
        take(position)

    for position in taken:
        take(int(position))
    for position in start:
        record(int(position))
    stopped = ""
    for picks in range(count - len(start)):
        if rule == "mean":
            decisive = total
        elif rule == "largest" or picks % batch_size == 0:
            decisive = largest.copy()
        if not counter.free.any():
            stopped = FULL
            break
        known = largest if rule == "mean" else decisive
        if known[counter.free].min() >= stop_similarity:
            stopped = alike_enough(stop_similarity)
            break
        record(int(np.argmin(np.where(counter.free, decisive, np.inf))))
    reasons = (START,) * len(start) + (METHOD,) * (len(order) - len(start))
    return Ranking(
        np.array(order, dtype=np.int64),
        np.array(similarity, dtype=np.float64),
        np.array(neighbour, dtype=np.int64),
        reasons,
        stopped,
    )
