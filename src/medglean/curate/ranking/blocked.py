"""Ranking by pools and matrix products, with stale values as lower bounds.

The largest similarity of an image to those taken only grows as more are taken. So a value that has
not been brought up to date bounds the true one from below, and an image whose stale value is not
among the lowest cannot be the next pick. A round takes the images with the lowest stale values as a
pool, brings them up to date by matrix products, and picks greedily inside the pool while its best
stays below the lowest stale value outside. Images that never come near the lowest values are never
brought up to date at all.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from medglean.curate import similarity_kernels
from medglean.curate.ranking import kernels as kernels
from medglean.curate.ranking.state import FULL, State, alike_enough
from medglean.curate.similarity import raise_to_set, spans

SMALLEST_POOL, LARGEST_POOL = 512, 8192


def bring_up_to_date(state: State, rows: Int[np.ndarray, " r"]) -> None:
    """Compare rows with all sources that they have not seen.

    Rows that have seen about equally much are compared together, with everything that the one of
    them that has seen least is missing: seeing a source twice changes nothing.
    """
    rows = rows[state.seen[rows] < state.source_count]
    rows = rows[np.argsort(state.seen[rows], kind="stable")]
    for part in spans(len(rows), 256 if len(rows) <= LARGEST_POOL else 2048):
        some = rows[part]
        unseen = state.sources[state.seen[some[0]] : state.source_count]
        state.exact += raise_to_set(
            state.values,
            state.inverse_norm,
            some,
            unseen,
            largest=state.largest,
            nearest=state.nearest,
        )
        state.filtered += len(some) * len(unseen)
        state.seen[some] = state.source_count


def _choose_pool(state: State, size: int) -> tuple[np.ndarray, float, int]:
    """Return the positions of lowest stale value, and the best (value, position) outside."""
    worth = state.largest
    if size < len(worth):
        bound = float(np.partition(worth, size)[size])
        below, tied = np.flatnonzero(worth < bound), np.flatnonzero(worth == bound)
        room = size - len(below)
        if bound < np.inf and room < len(tied):
            return np.sort(np.concatenate([below, tied[:room]])), bound, int(tied[room])
    return np.flatnonzero(worth < np.inf), np.inf, len(worth)


def rank_blocked(state: State) -> None:
    """Complete an order, in place."""
    state.used.append("blocked")
    d = state.values.shape[1]
    slack = similarity_kernels.filter_slack(d)
    room = state.room
    size = SMALLEST_POOL
    while not state.done:
        pool, next_value, next_position = _choose_pool(state, size)
        if not len(pool):
            state.stopped = FULL
            return
        free = room.remaining(pool)
        if len(free) < len(pool):
            state.largest[np.setdiff1d(pool, free, assume_unique=True)] = np.inf
            continue
        bring_up_to_date(state, pool)
        units = np.empty((len(pool), d), dtype=np.float32)
        similarity_kernels.gather_unit(state.values, state.inverse_norm, pool, units)
        before, sources_before = state.picked, state.source_count
        state.picked, state.source_count, exact, ended = kernels.pick_in_pool(
            state.values,
            state.inverse_norm,
            pool,
            units,
            slack,
            next_value,
            next_position,
            state.largest,
            state.nearest,
            room.groups,
            room.group_left,
            room.strata,
            room.stratum_left,
            state.stop_similarity,
            state.order,
            state.similarity,
            state.neighbour,
            state.picked,
            state.sources,
            state.source_count,
        )
        state.seen[pool] = state.source_count
        state.exact += exact
        state.filtered += (state.source_count - sources_before) * len(pool)
        if ended == kernels.TOO_ALIKE:
            state.stopped = alike_enough(state.stop_similarity)
        share = (state.picked - before) / len(pool)
        if share < 1 / 16:
            size = min(2 * size, LARGEST_POOL)
        elif share > 1 / 4:
            size = max(size // 2, SMALLEST_POOL)
