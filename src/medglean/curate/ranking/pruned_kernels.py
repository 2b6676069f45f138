"""Compiled loops of the pruned ranking.

Angles between rows obey the triangle inequality. With θ the angle of a source to a cluster's
centre and φ that of a member, the angle between source and member is at least abs(θ - φ). Where
that is more than the member's angle α to its nearest source so far, the source cannot become
nearest and is not compared. All angles carry margins for rounding, so that what is skipped is
certain to have a smaller canonical similarity; ties are never skipped.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from medglean.curate.ranking.kernels import count_taken, has_room, repeats
from medglean.curate.similarity_kernels import dot, similarity

COMPLETE, FULL, TOO_ALIKE, TOO_DEAR = 0, 1, 2, 3
TRIG = 1e-13  # far above the rounding of acos and of sums of angles below 2 pi
_BEST_FIRST = 8  # from this many sources on, the nearest by bound is compared first


@njit(cache=True)
def upper_angle(cosine: float, slack: float) -> float:
    """Largest true angle that a cosine within ``slack`` of the truth can belong to."""
    return math.acos(max(-1.0, min(1.0, cosine - slack))) + TRIG


@njit(cache=True)
def lower_angle(cosine: float, slack: float) -> float:
    """Smallest true angle that a cosine within ``slack`` of the truth can belong to."""
    return math.acos(max(-1.0, min(1.0, cosine + slack))) - TRIG


@njit(cache=True)
def widest(slack: float) -> float:
    """Bound of how far the two bounds of one angle can be apart.

    That is at 0, and at pi: acos(1 - 2 slack) is 2 sqrt(slack) and a little.
    """
    return 2.1 * math.sqrt(slack) + 2 * TRIG


@njit(cache=True)
def spread_out(sample: np.ndarray, count: int) -> np.ndarray:
    """Return rows of a sample, each the farthest from those before it; for clustering only."""
    largest = np.full(len(sample), -np.inf)
    chosen = np.zeros(count, dtype=np.int64)
    for c in range(1, count):
        for r in range(len(sample)):
            largest[r] = max(largest[r], dot(sample, r, sample, chosen[c - 1]))
        chosen[c] = np.argmin(largest)
    return chosen


@njit(cache=True)
def angles_to_centres(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    centres: np.ndarray,
    label: np.ndarray,
    slack: float,
    out: np.ndarray,
) -> None:
    """Write the angle of every row to the centre it belongs to, rounded up."""
    for i in range(len(values)):
        cosine = dot(values, i, centres, label[i]) * inverse_norm[i]
        out[i] = upper_angle(cosine, 2 * slack)


@njit(cache=True)
def share_not_skipped(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    centres: np.ndarray,
    rows: np.ndarray,
    sources: np.ndarray,
    largest: np.ndarray,
    slack: float,
) -> float:
    """Share of (row, source) pairs that the triangle inequality would not skip.

    Not now, where a group without any image taken rules nothing out, but once there is about one
    image taken for each centre.
    """
    kept = 0
    for i in rows:
        label, best = 0, -np.inf
        for c in range(len(centres)):
            cosine = dot(values, i, centres, c)
            if cosine > best:
                label, best = c, cosine
        phi = upper_angle(best * inverse_norm[i], slack)
        alpha = min(phi, upper_angle(min(largest[i], 1.0), 2 * slack))
        for j in sources:
            cosine = dot(values, j, centres, label) * inverse_norm[j]
            theta = lower_angle(cosine, slack)
            if abs(theta - phi) <= alpha:
                kept += 1
    return kept / (len(rows) * len(sources))


@njit(cache=True)
def _compare(
    q: int,
    j: int,
    values: np.ndarray,
    inverse_norm: np.ndarray,
    members: np.ndarray,
    worth: np.ndarray,
    alpha: np.ndarray,
    nearest: np.ndarray,
    slack: float,
) -> None:
    """Compare member q with source j, canonically."""
    value = similarity(values, inverse_norm, members[q], j)
    if value > worth[q]:
        worth[q] = value
        nearest[q] = j
        alpha[q] = upper_angle(value, 2 * slack)
    elif value == worth[q] and j < nearest[q]:
        nearest[q] = j


@njit(cache=True)
def bring_member_up_to_date(
    q: int,
    pending: np.ndarray,
    theta: np.ndarray,
    length: int,
    angles: np.ndarray,
    seen: np.ndarray,
    sources: np.ndarray,
    values: np.ndarray,
    inverse_norm: np.ndarray,
    members: np.ndarray,
    worth: np.ndarray,
    alpha: np.ndarray,
    nearest: np.ndarray,
    slack: float,
    width: float,
) -> int:
    """Compare a member with the pending sources that it has not seen; return how many it took."""
    begin = seen[q]
    seen[q] = length
    phi = angles[q]
    done = 0
    first = -1
    if length - begin >= _BEST_FIRST:
        least = np.inf
        for e in range(begin, length):
            gap = abs(theta[e] - phi)
            if gap < least:
                least = gap
                first = e
        if least <= alpha[q] + width:
            j = sources[pending[first]]
            _compare(q, j, values, inverse_norm, members, worth, alpha, nearest, slack)
            done += 1
        else:
            return 0
    for e in range(begin, length):
        if abs(theta[e] - phi) <= alpha[q] + width and e != first:
            j = sources[pending[e]]
            _compare(q, j, values, inverse_norm, members, worth, alpha, nearest, slack)
            done += 1
    return done


@njit(cache=True)
def pick_by_clusters(
    values: np.ndarray,
    inverse_norm: np.ndarray,
    centres: np.ndarray,
    offsets: np.ndarray,
    members: np.ndarray,
    angles: np.ndarray,
    worth: np.ndarray,
    nearest: np.ndarray,
    seen: np.ndarray,
    pending: np.ndarray,
    theta: np.ndarray,
    length: np.ndarray,
    examined: np.ndarray,
    slack: float,
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
    allowance: float,
    allowance_per_pick: float,
) -> tuple[int, int, int, int]:
    """Pick until the order is complete, or until that takes more comparisons than allowed.

    Arrays over members: ``worth`` (largest similarity so far, infinite once taken), ``nearest``,
    ``seen`` (how many entries of the cluster's list of pending sources each has passed). Arrays
    over clusters: ``pending`` and ``theta`` (the list: number of the source, its angle to the
    centre rounded down), ``length`` of the list, ``examined`` (how many sources were sorted in).

    Returns
    -------
    tuple
        Number picked so far, number of sources, number of dot products, and why it ended.
    """
    clusters = len(length)
    alpha = np.empty(len(members))
    for q in range(len(members)):
        alpha[q] = upper_angle(min(worth[q], 1.0), 2 * slack)
    centre_slack = 2 * slack  # a centre's length is 1 up to rounding, too
    # θ is rounded down and φ up; for φ - θ they must be the other way round.
    width = 2 * widest(centre_slack)
    reach = np.empty(clusters)
    best = np.empty(clusters, dtype=np.int64)
    for c in range(clusters):
        reach[c] = _reach(c, offsets, angles, alpha, worth)
        best[c] = _lowest(c, offsets, worth)
    products = 0
    while picked < len(order):
        c = _first_cluster(best, worth, members)
        q = best[c]
        if worth[q] == np.inf:
            return picked, source_count, products, FULL
        position = members[q]
        if not has_room(position, groups, group_left, strata, stratum_left):
            worth[q] = np.inf
            best[c] = _lowest(c, offsets, worth)
            continue
        emptied = False
        while examined[c] < source_count:
            if length[c] == pending.shape[1]:
                for other in range(offsets[c], offsets[c + 1]):
                    if worth[other] != np.inf:
                        products += bring_member_up_to_date(
                            other, pending[c], theta[c], length[c], angles, seen, sources,
                            values, inverse_norm, members, worth, alpha, nearest, slack, width,
                        )  # fmt: skip
                    seen[other] = 0
                length[c] = 0
                reach[c] = _reach(c, offsets, angles, alpha, worth)
                emptied = True
            j = sources[examined[c]]
            cosine = dot(values, j, centres, c) * inverse_norm[j]
            products += 1
            angle = lower_angle(cosine, centre_slack)
            if angle <= reach[c]:
                pending[c, length[c]] = examined[c]
                theta[c, length[c]] = angle
                length[c] += 1
            examined[c] += 1
        if emptied:
            best[c] = _lowest(c, offsets, worth)
            continue
        if seen[q] < length[c]:
            before = alpha[q]
            products += bring_member_up_to_date(
                q, pending[c], theta[c], length[c], angles, seen, sources,
                values, inverse_norm, members, worth, alpha, nearest, slack, width,
            )  # fmt: skip
            if angles[q] + before >= reach[c] - 2 * TRIG:  # it was the one that set the reach
                reach[c] = _reach(c, offsets, angles, alpha, worth)
            best[c] = _lowest(c, offsets, worth)
            if products > allowance + allowance_per_pick * picked:
                return picked, source_count, products, TOO_DEAR
            continue
        value = worth[q]
        if value >= stop_similarity:
            return picked, source_count, products, TOO_ALIKE
        order[picked] = position
        picked_similarity[picked] = value
        neighbour[picked] = nearest[q]
        picked += 1
        count_taken(position, groups, group_left, strata, stratum_left)
        worth[q] = np.inf
        best[c] = _lowest(c, offsets, worth)
        if not repeats(values, position, nearest[q]):
            sources[source_count] = position
            source_count += 1
    return picked, source_count, products, COMPLETE


@njit(cache=True)
def _reach(
    c: int, offsets: np.ndarray, angles: np.ndarray, alpha: np.ndarray, worth: np.ndarray
) -> float:
    """Largest angle to the centre at which a source may still matter to a member."""
    far = -1.0
    for q in range(offsets[c], offsets[c + 1]):
        if worth[q] != np.inf:
            far = max(far, angles[q] + alpha[q])
    return far + TRIG


@njit(cache=True)
def _lowest(c: int, offsets: np.ndarray, worth: np.ndarray) -> int:
    """Member of lowest value, the first of several: members stand in the order of positions."""
    lowest = offsets[c]
    for q in range(offsets[c], offsets[c + 1]):
        if worth[q] < worth[lowest]:
            lowest = q
    return lowest  # type: ignore[no-any-return]


@njit(cache=True)
def _first_cluster(best: np.ndarray, worth: np.ndarray, members: np.ndarray) -> int:
    """Cluster whose lowest value, stale or not, is lowest of all; ties to the lowest position."""
    first = 0
    for c in range(1, len(best)):
        value, lowest = worth[best[c]], worth[best[first]]
        if value < lowest or (value == lowest and members[best[c]] < members[best[first]]):
            first = c
    return first
