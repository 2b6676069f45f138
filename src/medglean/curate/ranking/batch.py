"""Ranking in batches without update inside a batch: the faster, worse variant, for comparison."""

from __future__ import annotations

import numpy as np

from medglean.curate.ranking import kernels as kernels
from medglean.curate.ranking.state import FULL, State, alike_enough
from medglean.curate.similarity import raise_to_set


def rank_batches(state: State, *, batch_size: int) -> None:
    """Complete an order, in place: of each batch all are the lowest before any of it was taken.

    A batch may so hold near-duplicates of each other. The similarity told of a pick counts those
    of its own batch that were taken before it.
    """
    state.used.append("blocked")
    while not state.done:
        chosen = _choose(state, min(batch_size, len(state.order) - state.picked))
        kernels.compare_in_turn(
            state.values, state.inverse_norm, chosen, state.largest, state.nearest
        )
        state.record(chosen)
        rows = np.flatnonzero(state.largest < np.inf)
        new = state.sources[state.source_count - len(chosen) : state.source_count]
        state.exact += raise_to_set(
            state.values,
            state.inverse_norm,
            rows,
            new,
            largest=state.largest,
            nearest=state.nearest,
        )
        state.filtered += len(rows) * len(new)


def _choose(state: State, size: int) -> np.ndarray:
    """Return the positions of one batch; it is short where the order stops."""
    decisive = state.largest.copy()
    chosen: list[int] = []
    while len(chosen) < size:
        position = int(np.argmin(decisive))
        if decisive[position] == np.inf:
            state.stopped = FULL
            break
        if not len(state.room.remaining(np.array([position]))):
            decisive[position] = state.largest[position] = np.inf
            continue
        if decisive[position] >= state.stop_similarity:
            state.stopped = alike_enough(state.stop_similarity)
            break
        decisive[position] = np.inf
        state.room.take(position)
        chosen.append(position)
    return np.array(chosen, dtype=np.int64)
