"""Clusters of rows, with the angle of every row to the centre of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.ranking import pruned_kernels as kernels
from medglean.curate.ranking.state import State
from medglean.curate.similarity import ROWS, spans
from medglean.curate.similarity_kernels import canonical_slack, gather_unit
from medglean.randomness import numpy_generator

SAMPLE_PER_CLUSTER, LLOYD_ROUNDS = 12, 2
FEWEST_CLUSTERS, MOST_CLUSTERS = 256, 1024


@dataclass(frozen=True)
class Clusters:
    """Rows sorted by cluster, within a cluster by position.

    Attributes
    ----------
    centres
        Float64 rows of length 1, shape (c, d); several clusters may share a centre.
    offsets
        Where each cluster begins in ``members``, shape (c + 1,).
    members
        Positions of the rows, shape (n,).
    angles
        Angle of each member to its centre in radians, rounded up, shape (n,).
    """

    centres: Float[np.ndarray, "c d"]
    offsets: Int[np.ndarray, " c1"]
    members: Int[np.ndarray, " n"]
    angles: Float[np.ndarray, " n"]


def cluster_count(n: int, picks: int) -> int:
    """Return how many clusters to make: about the root of n, so that a cluster has as many rows.

    Not fewer than a few hundred, so that as many clips have a cluster each: two clips in one
    cluster make it so wide that it rules nothing out. But assigning the rows costs n times this
    many products, which must stay small beside n times the number of picks.
    """
    return max(1, min(max(round(math.sqrt(n)), FEWEST_CLUSTERS), picks // 8, MOST_CLUSTERS))


def find_centres(state: State, count: int) -> Float[np.ndarray, "c d"]:
    """Return centres found on a sample: farthest-first, then a few rounds of spherical k-means.

    Farthest-first finds every group of near-duplicates that the sample holds, which random centres
    do not. The sample is drawn with a fixed seed; the order does not depend on it, only the time.
    """
    size = min(state.n, SAMPLE_PER_CLUSTER * count)
    chosen = numpy_generator("ranking clusters", state.n).choice(state.n, size, replace=False)
    sample = np.empty((size, state.values.shape[1]), dtype=np.float32)
    gather_unit(state.values, state.inverse_norm, chosen, sample)
    centres = sample[kernels.spread_out(sample, min(count, size))].astype(np.float64)
    for _ in range(LLOYD_ROUNDS):
        label = np.argmax(sample @ centres.astype(np.float32).T, axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, label, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = lengths[:, 0] > 1e-3  # members that cancel out have no mean direction
        centres[moved] = sums[moved] / lengths[moved]
    unit: np.ndarray = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return unit


def assign(state: State, centres: Float[np.ndarray, "c d"]) -> Clusters:
    """Sort all rows to the centres that are about nearest, in clusters of limited size.

    A cluster far above the average is cut by angle: scanning one stays cheap, and members of about
    one angle are ruled out together.
    """
    n, d = state.values.shape
    label = np.empty(n, dtype=np.int32)
    single = centres.astype(np.float32).T
    block = np.empty((min(ROWS, n), d), dtype=np.float32)
    for rows in spans(n, ROWS):
        size = rows.stop - rows.start
        gather_unit(state.values, state.inverse_norm, np.arange(rows.start, rows.stop), block)
        label[rows] = np.argmax(block[:size] @ single, axis=1)
    angle = np.empty(n)
    slack = canonical_slack(d)
    kernels.angles_to_centres(state.values, state.inverse_norm, centres, label, slack, angle)
    members = np.argsort(label, kind="stable")
    sizes = np.bincount(label, minlength=len(centres))
    most = max(64, 4 * n // len(centres))
    parts, owners = [], []
    for c, part in enumerate(np.split(members, np.cumsum(sizes)[:-1])):
        pieces = -(-len(part) // most)
        if pieces > 1:
            part = part[np.argsort(angle[part], kind="stable")]
        for piece in np.array_split(part, pieces) if pieces else []:
            parts.append(np.sort(piece))
            owners.append(c)
    members = np.concatenate(parts)
    offsets = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    return Clusters(np.ascontiguousarray(centres[owners]), offsets, members, angle[members])
