"""Which image goes to which shard, and how many candidates each shard puts forward.

A shard holds whole patients. The images of one patient resemble one another, so a shard of whole
patients has a part of the embedding space for itself and the candidates of two shards seldom repeat
one another. Shards dealt at random all hold the same mixture and put forward the same images.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from medglean.errors import UsageError
from medglean.randomness import numpy_generator


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """Which shard each image is in.

    Attributes
    ----------
    shard_of
        Shard of each image, shape (n,), from 0 to ``shards`` - 1.
    shards
        Number of shards; none is empty.
    by
        What is never divided: ``"patient"``, ``"patient+group"``, ..., or ``"random"``.
    """

    shard_of: Int[np.ndarray, " n"]
    shards: int
    by: str

    @functools.cached_property
    def sizes(self) -> Int[np.ndarray, " s"]:
        """Number of images in each shard."""
        return np.bincount(self.shard_of, minlength=self.shards)

    def count(self, positions: Int[np.ndarray, " m"]) -> Int[np.ndarray, " s"]:
        """Return how many of some images are in each shard."""
        return np.bincount(self.shard_of[positions], minlength=self.shards)

    def rows(self, shard: int) -> Int[np.ndarray, " m"]:
        """Return the positions of a shard's images, ascending."""
        ends = np.cumsum(self.sizes)
        first = int(ends[shard] - self.sizes[shard])
        return self._sorted[first : int(ends[shard])]

    @functools.cached_property
    def _sorted(self) -> Int[np.ndarray, " n"]:
        return np.argsort(self.shard_of, kind="stable")


def by_unit(units: np.ndarray | Sequence[object], *, shards: int, by: str = "patient") -> ShardPlan:
    """Deal whole patients into shards of about equal numbers of images.

    The patient with the most images goes first, each to the shard that is smallest so far; equal
    ones in the order of their first image, to the first of equal shards. This is the longest-
    processing-time rule of Graham [1]_: the largest shard is at most 4/3 of what the best division
    would give. Nothing is random: the same manifest gives the same plan.

    Parameters
    ----------
    units
        What each image belongs to, shape (n,): its patient.
    shards
        How many shards, at least 1 and at most the number of patients.
    by
        What to call the units in messages and records.

    Raises
    ------
    UsageError
        If there are no images, or fewer patients than shards.

    References
    ----------
    .. [1] Graham. Bounds on Multiprocessing Timing Anomalies. SIAM J. Appl. Math. 17, 1969.

    Examples
    --------
    >>> by_unit(["a", "a", "a", "b", "b", "c"], shards=2).shard_of.tolist()
    [0, 0, 0, 1, 1, 1]
    """
    names: dict[object, int] = {}
    codes = np.array([names.setdefault(unit, len(names)) for unit in units], dtype=np.int64)
    _check(shards, len(names), by)
    images = np.bincount(codes)
    heap = [(0, shard) for shard in range(shards)]
    home = np.empty(len(images), dtype=np.int32)
    for unit in np.argsort(-images, kind="stable"):
        size, shard = heapq.heappop(heap)
        home[unit] = shard
        heapq.heappush(heap, (size + int(images[unit]), shard))
    return ShardPlan(home[codes], shards, by)


def at_random(n: int, *, shards: int, seed: int) -> ShardPlan:
    """Deal images into shards at random, whatever patient they are of: only to compare with.

    Raises
    ------
    UsageError
        If there are no images, or fewer images than shards.
    """
    _check(shards, n, "image")
    order = numpy_generator(seed, "random shards").permutation(n)
    shard_of = np.empty(n, dtype=np.int32)
    shard_of[order] = np.arange(n, dtype=np.int32) % shards
    return ShardPlan(shard_of, shards, "random")


def candidate_counts(
    sizes: Int[np.ndarray, " s"], *, picks: int, oversample: float | None = None
) -> Int[np.ndarray, " s"]:
    """Return how many candidates each shard puts forward.

    Parameters
    ----------
    sizes
        Number of images in each shard that can be picked.
    picks
        How many images the merged selection takes beyond those that all shards start from.
    oversample
        Each shard puts forward this many times its share of ``picks`` by size, rounded up, at
        least 1.0. None: each shard puts forward ``picks``, which the proven factor of `select`
        needs and which makes ``shards`` times as many candidates.

    Returns
    -------
    ndarray
        Never more than the shard has or than ``picks``.

    Raises
    ------
    UsageError
        If ``picks`` is negative or ``oversample`` is below 1.

    Examples
    --------
    >>> candidate_counts(np.array([60, 30, 10]), picks=20).tolist()
    [20, 20, 10]
    >>> candidate_counts(np.array([60, 30, 10]), picks=20, oversample=1.5).tolist()
    [18, 9, 3]
    """
    if picks < 0:
        raise UsageError(f"picks must be 0 or more, got {picks}.")
    most: Int[np.ndarray, " s"] = np.minimum(sizes, picks)
    if oversample is None:
        return most
    if not 1.0 <= oversample < math.inf:
        raise UsageError(
            f"oversample must be a number of at least 1, got {oversample}. Below 1 the shards "
            "together put forward fewer images than are to be taken."
        )
    # rounded first: 1.5 * 20 * 0.6 must not become 19 because of the last bit
    share = np.ceil(np.round(oversample * picks * sizes / max(sizes.sum(), 1), 9)).astype(np.int64)
    counts: Int[np.ndarray, " s"] = np.minimum(most, share)
    return counts


def _check(shards: int, units: int, by: str) -> None:
    if shards < 1:
        raise UsageError(f"shards must be at least 1, got {shards}.")
    if units < shards:
        raise UsageError(
            f"{shards} shards were asked for, and there are {units} different values of {by} to "
            f"deal into them; none is divided. Ask for at most {max(units, 1)} shards."
        )
