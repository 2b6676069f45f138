r"""Farthest-first over shards: each ranks its own images, one more ranking merges them.

Two rounds, as in Malkomes et al. [1]_. All shards start from the same images (the random start and
those taken beforehand). In the first round each shard goes on from there with its own images alone
and puts forward what it picked; in the second the candidates of all shards are ranked in the same
way.

How far that can be from the best. Let the radius of a selection be the largest angle from any image
to the nearest selected one: the angle :math:`\arccos` of the cosine similarity is a metric, so the
triangle inequality holds. Let :math:`r` be the smallest radius that any ``m`` images can reach
beside the start. Farthest-first on any subset of the images, from that start, leaves a radius of at
most :math:`2r` on the subset: the ``m`` images it picked and the one it would pick next lie at
least that radius from the start and from one another, so where the radius is above :math:`2r` no
image of the best selection can serve two of them, and none of the start can serve one: ``m`` images
cannot serve ``m + 1`` (the argument of Gonzalez [2]_). So with ``m`` candidates from each shard
every image is within :math:`2r` of a candidate and every candidate within :math:`2r` of the merged
selection: the merged radius is at most :math:`4r`, and one machine's is no smaller than :math:`r`.
With fewer candidates, or with limits on groups, this does not hold. `covering.certify` still bounds
what a finished selection without limits can lose, from its own numbers.

References
----------
.. [1] Malkomes, Kusner, Chen, Weinberger, Moseley. Fast Distributed k-Center Clustering with
   Outliers on Massive Data. NIPS 2015.
.. [2] Gonzalez. Clustering to minimize the maximum intercluster distance. Theoretical Computer
   Science 38, 1985.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import Limits, Ranking
from medglean.curate.ranking import rank_farthest
from medglean.curate.shards.plan import ShardPlan, candidate_counts
from medglean.errors import UsageError

PROVEN_FACTOR = 4.0
METHODS = ("enrich", "random")


def check_method(method: str) -> None:
    """Refuse a method that cannot be merged from shards.

    Raises
    ------
    UsageError
        If the method is neither ``"enrich"`` nor ``"random"``.
    """
    if method not in METHODS:
        raise UsageError(
            f"method {method!r} needs all images at once; over shards there are "
            f"{' and '.join(map(repr, METHODS))}. Choose one of them, or one machine."
        )


@dataclass(frozen=True)
class Pool:
    """What of the whole collection is ranked together: one shard, or all candidates.

    Attributes
    ----------
    positions
        Positions in the whole collection, shape (n,), ascending: ties go to the lowest.
    values
        Their embeddings, shape (n, d).
    """

    positions: Int[np.ndarray, " n"]
    values: Float[np.ndarray, "n d"]

    @classmethod
    def union(cls, pools: Sequence[Pool]) -> Pool:
        """Return the images of several pools, each once, in the order of their positions."""
        positions = np.concatenate([pool.positions for pool in pools])
        values = np.concatenate([pool.values for pool in pools])
        once, first = np.unique(positions, return_index=True)
        return cls(once, values[first])

    def find(self, positions: Sequence[int] | Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Return the rows of these positions; all must be in the pool."""
        wanted = np.asarray(positions, dtype=np.int64)
        rows: np.ndarray = np.searchsorted(self.positions, wanted)
        return rows

    def at(self, positions: Sequence[int] | Int[np.ndarray, " m"]) -> Pool:
        """Return some images of the pool, sorted."""
        rows = self.find(np.sort(np.asarray(positions, dtype=np.int64)))
        return Pool(self.positions[rows], self.values[rows])


def rank_shard(
    shard: Pool,
    known: Pool,
    *,
    count: int,
    limits: Limits | None = None,
    stop_similarity: float | None = None,
) -> Int[np.ndarray, " m"]:
    """Return the positions that one shard puts forward, the farthest first.

    Parameters
    ----------
    shard
        The shard's images that may be compared.
    known
        What all shards start from. Some of them may be the shard's own.
    count
        How many to put forward beyond those known.
    limits
        Of the whole collection; each shard keeps them by itself.
    stop_similarity
        See `medglean.curate.ranking.rank_farthest`.
    """
    pool = Pool.union([known, shard])
    count = min(count, len(pool.positions) - len(known.positions))
    if not count:
        nothing: Int[np.ndarray, " m"] = np.empty(0, dtype=np.int64)
        return nothing
    ranking = rank_farthest(
        pool.values,
        start=(),
        taken=pool.find(known.positions),
        count=count,
        limits=limits_at(limits, pool.positions),
        stop_similarity=stop_similarity,
    )
    order: Int[np.ndarray, " m"] = pool.positions[ranking.order]
    return order


def merge(
    candidates: Sequence[Pool],
    known: Pool,
    *,
    start: Sequence[int] | Int[np.ndarray, " k"],
    count: int,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    limits: Limits | None = None,
    stop_similarity: float | None = None,
) -> Ranking:
    """Rank the candidates of all shards once more, from the same start.

    Parameters
    ----------
    candidates
        What each shard put forward.
    known
        What all shards started from: the images of ``start`` and ``taken``.
    start, taken
        Positions that the order begins with, and those taken beforehand that it leaves out.
    count
        Length of the order, the start among it.
    limits, stop_similarity
        As for one machine.

    Returns
    -------
    Ranking
        Its positions are those in the whole collection.
    """
    pool = Pool.union([known, *candidates])
    ranking = rank_farthest(
        pool.values,
        start=pool.find(start),
        taken=pool.find(taken),
        count=min(count, len(pool.positions) - len(taken)),
        limits=limits_at(limits, pool.positions),
        stop_similarity=stop_similarity,
    )
    nearest = np.where(ranking.nearest < 0, -1, pool.positions[ranking.nearest])
    return replace(ranking, order=pool.positions[ranking.order], nearest=nearest)


def rank_sharded(
    values: Float[np.ndarray, "n d"],
    plan: ShardPlan,
    *,
    start: Sequence[int] | Int[np.ndarray, " k"],
    count: int,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
    oversample: float | None = None,
    limits: Limits | None = None,
    stop_similarity: float | None = None,
) -> Ranking:
    """Do in one process what the engine does with many: both rounds, shard after shard.

    Parameters
    ----------
    values
        Embeddings of all images, none of them zero or NaN, shape (n, d).
    plan
        Which image is in which shard.
    start, count, taken, limits, stop_similarity
        See `merge`.
    oversample
        See `candidate_counts`; None gives the proven factor.

    Examples
    --------
    >>> import numpy as np
    >>> from medglean.curate.shards.plan import by_unit
    >>> values = np.array([[1.0, 0], [0.9, 0.1], [0, 1.0], [-1.0, 0.2]])
    >>> plan = by_unit(["a", "a", "b", "b"], shards=2)
    >>> rank_sharded(values, plan, start=[0], count=3).order.tolist()
    [0, 3, 2]
    """
    everything = Pool(np.arange(len(values)), values)
    begun = np.concatenate([np.asarray(start, np.int64), np.asarray(taken, np.int64)])
    known = everything.at(begun)
    left = plan.count(np.setdiff1d(everything.positions, begun))
    counts = candidate_counts(left, picks=max(count - len(start), 0), oversample=oversample)
    candidates = [
        everything.at(
            rank_shard(
                everything.at(plan.rows(shard)),
                known,
                count=int(counts[shard]),
                limits=limits,
                stop_similarity=stop_similarity,
            )
        )
        for shard in range(plan.shards)
    ]
    return merge(
        candidates,
        known,
        start=start,
        count=count,
        taken=taken,
        limits=limits,
        stop_similarity=stop_similarity,
    )


def limits_at(limits: Limits | None, positions: Int[np.ndarray, " m"]) -> Limits:
    """Return the limits of some images; groups and strata keep their numbers."""
    if limits is None:
        return Limits()
    return replace(
        limits,
        groups=None if limits.groups is None else limits.groups[positions],
        strata=None if limits.strata is None else limits.strata[positions],
    )
