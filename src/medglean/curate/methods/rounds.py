r"""Rounds over groups, the first of them chosen: medglean's default.

Frames of a clip are nearly the same image, so that the number of different clips says most of what
a labelled frame is worth. Therefore every group gives one image before any gives two. In the first
round it matters which groups come first and which image stands for each: they are chosen by
greedy facility location,

.. math:: F(S) = \sum_a \max_{i \in S} \exp(\beta (\cos(x_i, x_a) - 1)),

over anchors a. In later rounds a random image of each group does as well as any choice that was
tried, and a choice made on similarity alone does worse: it comes back to the few clips that vary
most. `docs/explanation/curate.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.curate.methods.along import ranked
from medglean.curate.methods.simple import random_group_positions
from medglean.curate.order import Counter, Limits, Ranking
from medglean.curate.similarity import unit_rows
from medglean.errors import UsageError
from medglean.randomness import numpy_generator

NO_LIMITS = Limits()
BETA = 3.0
"""Steepness of the kernel. A steeper one does better on clips and worse on sets of near-copies."""
ANCHORS = 2048
"""Images whose coverage is looked at: all where there are no more, else so many random ones."""
CHOSEN = 1024
"""Images that are chosen by coverage at most: a further one adds next to nothing."""
_ROWS = 2048  # of a block against all anchors: 32 MiB in float64
_RENEWED = 64
_EQUAL = 1e-9  # gains that differ relatively by less are equal: sums in blocks are no better


def rank_rounds(
    values: Float[np.ndarray, "n d"],
    *,
    groups: Int[np.ndarray, " n"] | None,
    count: int,
    seed: int = 0,
    beta: float = BETA,
    anchors: int = ANCHORS,
    chosen: int = CHOSEN,
    limits: Limits = NO_LIMITS,
    taken: Sequence[int] | Int[np.ndarray, " t"] = (),
) -> Ranking:
    """Rank images in rounds over their groups, the first round by facility location.

    Parameters
    ----------
    values
        Embedding without zero rows.
    groups
        Number of each image's clip or volume (or patient, where that is all that is known),
        0-based; None: each image is a group of its own.
    count
        How many to take; fewer come back where the limits leave fewer.
    seed
        Of the anchors and of the later rounds.
    beta
        Steepness of the kernel, above 0: a large one asks for close resemblance.
    anchors
        How many images at most stand for all when coverage is computed.
    chosen
        How many images at most are chosen by coverage. Groups that are left without one then come
        first in the rounds that follow.
    limits, taken
        What may be taken, and what was taken beforehand: it covers, and its groups have had their
        first image.

    Returns
    -------
    Ranking
        Of equal gains, to a relative 1e-9, the lowest position is taken.

    Raises
    ------
    UsageError
        If ``beta``, ``anchors`` or ``chosen`` is not above 0.
    """
    for name, number in (("beta", beta), ("anchors", anchors), ("chosen", chosen)):
        if not number > 0:
            raise UsageError(f"{name} must be above 0, got {number}.")
    n = len(values)
    codes = np.arange(n) if groups is None else groups
    before = np.asarray(taken, dtype=np.int64)
    rows = unit_rows(values)
    counter = limits.counter(n)
    for position in before:
        counter.take(int(position))
    place = np.arange(n)
    if n > anchors:
        generator = numpy_generator(seed, "curate", "anchors")
        place = np.sort(generator.choice(n, anchors, replace=False))
    first = _first_round(rows, rows[place], codes, counter, before, min(count, chosen), beta)
    rest = random_group_positions(
        codes,
        count=count - len(first),
        seed=seed,
        limits=limits,
        taken=np.concatenate([before, first]),
    )
    reasons = ["adds most coverage"] * len(first)
    reasons += ["random image of the next group"] * len(rest)
    return ranked(values, np.concatenate([first, rest]), taken=before, reason=reasons)


def _first_round(
    rows: Float[np.ndarray, "n d"],
    anchors: Float[np.ndarray, "a d"],
    codes: Int[np.ndarray, " n"],
    counter: Counter,
    taken: Int[np.ndarray, " t"],
    most: int,
    beta: float,
) -> Int[np.ndarray, " m"]:
    """Choose at most one image of each group that has none, by lazy greedy facility location.

    A gain only shrinks while more is taken (F is submodular), so one computed earlier is an upper
    bound: only images that could be next are computed anew, the most promising ones together.
    """
    cover = _Cover(anchors, beta)
    open_groups = np.ones(int(codes.max(initial=-1)) + 1, dtype=bool)
    for low in range(0, len(taken), _ROWS):
        cover.add(rows[taken[low : low + _ROWS]])
    open_groups[codes[taken]] = False
    bound = np.concatenate(
        [np.zeros(0), *(cover.gain(rows[low : low + _ROWS]) for low in range(0, len(rows), _ROWS))]
    )
    renewed = np.zeros(len(rows), dtype=np.int64)
    order: list[int] = []
    while len(order) < most:
        allowed = counter.free & open_groups[codes]
        if not allowed.any():
            break
        best = _best(rows, cover, bound, renewed, allowed, step=len(order))
        order.append(best)
        counter.take(best)
        open_groups[codes[best]] = False
        cover.add(rows[[best]])
    return np.array(order, dtype=np.int64)


def _best(
    rows: Float[np.ndarray, "n d"],
    cover: _Cover,
    bound: Float[np.ndarray, " n"],
    renewed: Int[np.ndarray, " n"],
    allowed: Bool[np.ndarray, " n"],
    *,
    step: int,
) -> int:
    """Return the allowed image of largest gain; of equal ones the lowest position."""
    while True:
        candidates = np.where(allowed, bound, -np.inf)
        top = candidates.max()
        equal = np.flatnonzero(candidates >= top - _EQUAL * abs(top))
        if (renewed[equal] == step).all():
            return int(equal[0])
        promising = np.argpartition(-candidates, min(_RENEWED, len(rows)) - 1)[:_RENEWED]
        stale = np.union1d(promising, equal)
        stale = stale[allowed[stale] & (renewed[stale] < step)]
        bound[stale] = cover.gain(rows[stale])
        renewed[stale] = step


class _Cover:
    """How well each anchor is covered by what was taken."""

    def __init__(self, anchors: Float[np.ndarray, "a d"], beta: float) -> None:
        self.across = np.ascontiguousarray(anchors.T, dtype=np.float64)
        self.beta = beta
        self.covered = np.zeros(len(anchors))

    def kernel(self, rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m a"]:
        # in float64: late gains are small differences, and float32 would decide by its rounding
        likeness: np.ndarray = rows.astype(np.float64, copy=False) @ self.across
        likeness -= 1
        likeness *= self.beta
        np.exp(likeness, out=likeness)
        return likeness

    def gain(self, rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        more = self.kernel(rows)
        more -= self.covered
        np.maximum(more, 0, out=more)
        summed: np.ndarray = more.sum(axis=1)
        return summed

    def add(self, rows: Float[np.ndarray, "m d"]) -> None:
        if len(rows):
            np.maximum(self.covered, self.kernel(rows).max(axis=0), out=self.covered)
