"""Ranking that skips whole clusters by the triangle inequality on angles.

Worth it where images come in groups of near-duplicates, as frames of a clip do: a new pick then
matters to its own group and to few others. Every image keeps the largest similarity that it knew of
when it was last looked at, a lower bound; only the one that looks best is brought up to date, and
only against the picks that the triangle inequality cannot rule out.
"""

from __future__ import annotations

import numpy as np

from medglean.curate.ranking import pruned_kernels as kernels
from medglean.curate.ranking.clusters import Clusters, assign, cluster_count, find_centres
from medglean.curate.ranking.state import FULL, State, alike_enough
from medglean.curate.similarity_kernels import canonical_slack

PENDING = 256  # sources that a cluster's members may lag behind; 12 bytes each and cluster
PROMISING = 0.2  # share of pairs not skipped on a sample, above which clusters are not tried
DEAR = 0.04  # of n products a pick; a canonical product costs about 8 of a matrix product
_SAMPLE_ROWS, _SAMPLE_SOURCES = 256, 64


def looks_prunable(state: State, centres: np.ndarray) -> bool:
    """Whether a sample of pairs says that clusters will rule most of them out."""
    alive = np.flatnonzero(state.largest < np.inf)
    rows = alive[np.linspace(0, len(alive) - 1, min(_SAMPLE_ROWS, len(alive)), dtype=np.int64)]
    others = alive[np.linspace(0, len(alive) - 1, min(_SAMPLE_SOURCES, len(alive)), dtype=np.int64)]
    share = kernels.share_not_skipped(
        state.values,
        state.inverse_norm,
        centres,
        rows,
        others,
        state.largest,
        canonical_slack(state.values.shape[1]),
    )
    return bool(share < PROMISING)


def rank_pruned(state: State, *, give_up: bool = False) -> None:
    """Complete an order, in place, or go on until that has become too dear.

    Parameters
    ----------
    state
        Every image has seen all sources.
    give_up
        Whether to return before the order is complete where pruning does not pay, with ``state``
        such that the blocked algorithm can go on.
    """
    if state.done or not (state.largest < np.inf).any():
        state.stopped = state.stopped or ("" if state.done else FULL)
        return
    picks = len(state.order) - state.picked
    centres = find_centres(state, cluster_count(state.n, picks))
    if give_up and not looks_prunable(state, centres):
        return
    state.used.append("pruned")
    _run(state, assign(state, centres), give_up=give_up)


def _run(state: State, clusters: Clusters, *, give_up: bool) -> None:
    """Pick by clusters, and write back what the members know."""
    count = len(clusters.offsets) - 1
    members, room = clusters.members, state.room
    worth, nearest = state.largest[members], state.nearest[members]
    seen = np.zeros(state.n, dtype=np.int32)
    pending = np.zeros((count, PENDING), dtype=np.int32)
    theta = np.zeros((count, PENDING))
    length = np.zeros(count, dtype=np.int64)
    examined = np.full(count, state.source_count, dtype=np.int64)
    per_pick = DEAR * state.n if give_up else 0.0
    allowance = per_pick * (64 - state.picked) if give_up else np.inf
    state.picked, state.source_count, products, ended = kernels.pick_by_clusters(
        state.values,
        state.inverse_norm,
        clusters.centres,
        clusters.offsets,
        members,
        clusters.angles,
        worth,
        nearest,
        seen,
        pending,
        theta,
        length,
        examined,
        canonical_slack(state.values.shape[1]),
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
        allowance,
        per_pick,
    )
    state.exact += products
    state.largest[members] = worth
    state.nearest[members] = nearest
    state.seen[members] = _sources_seen(clusters, seen, pending, length, examined)
    if ended == kernels.FULL:
        state.stopped = FULL
    if ended == kernels.TOO_ALIKE:
        state.stopped = alike_enough(state.stop_similarity)


def _sources_seen(
    clusters: Clusters,
    seen: np.ndarray,
    pending: np.ndarray,
    length: np.ndarray,
    examined: np.ndarray,
) -> np.ndarray:
    """Return how many sources, from the first, each member need not be compared with again."""
    cluster = np.repeat(np.arange(len(length)), np.diff(clusters.offsets))
    next_one = pending[cluster, np.minimum(seen, pending.shape[1] - 1)]
    return np.where(seen < length[cluster], next_one, examined[cluster])
