"""Dealing whole groups out to parts so that every part gets its share of every class.

Greedy, after the iterative stratification of Sechidis et al. [1]_, with groups in place of single
images: the class with the fewest images left is dealt first, its largest group first, each to the
part that lacks the largest share of what it wants of that class. Rare classes go first because they
leave the least choice.

References
----------
.. [1] Sechidis, Tsoumakas, Vlahavas. On the Stratification of Multi-Label Data. ECML PKDD 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from medglean.randomness import key_of


def balance(
    counts: Int[np.ndarray, "groups classes"],
    shares: Sequence[float],
    *,
    names: np.ndarray,
    seed: int,
    standing: Int[np.ndarray, " groups"] | None = None,
) -> Int[np.ndarray, " groups"]:
    """Assign each group to one part.

    Parameters
    ----------
    counts
        Images of each class in each group.
    shares
        Wanted share of each part; they sum to 1.
    names
        A unique name per group; ties are broken by it and by the seed, so that the order of
        groups does not matter.
    seed
        Which of the equally good results is taken.
    standing
        The part that a group stands in already, or -1. By default none does.

    Returns
    -------
    ndarray
        Part of each group, counted from 0. No part is empty where there are as many groups as
        parts, unless too many stand already.

    Examples
    --------
    >>> import numpy as np
    >>> four_of_each = np.repeat(np.eye(2, dtype=int), 4, axis=0)
    >>> sides = balance(four_of_each, [0.75, 0.25], names=np.arange(8).astype(str), seed=0)
    >>> [int(four_of_each[sides == part].sum()) for part in (0, 1)]
    [6, 2]
    """
    counts = counts[:, counts.sum(axis=0) > 0]
    luck = np.array([key_of(seed, "split", str(name)) for name in names])
    sides = np.full(len(counts), -1) if standing is None else standing.astype(np.int64)
    sizes = counts.sum(axis=1)
    # what stands in a part without a share is no part of what is shared out
    shared = ~np.isin(sides, [part for part, share in enumerate(shares) if share == 0])
    totals = counts[shared].sum(axis=0)
    wanted = [[share * int(total) for total in totals] for share in shares]
    room = [share * int(sizes[shared].sum()) for share in shares]

    def take(group: int, part: int) -> None:
        for place in np.flatnonzero(counts[group]).tolist():
            wanted[part][place] -= int(counts[group, place])
        room[part] -= int(sizes[group])

    for group in np.flatnonzero(sides >= 0).tolist():
        take(group, int(sides[group]))
    while (left := np.flatnonzero(sides < 0)).size:
        remaining = counts[left].sum(axis=0)
        rarest = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())
        holders = left[counts[left, rarest] > 0]
        # largest first: small groups, dealt last, even out what large ones could not
        order = holders[np.lexsort((luck[holders], -sizes[holders], -counts[holders, rarest]))]
        for group in order.tolist():
            part = _due([want[rarest] for want in wanted], room, shares, int(counts[group, rarest]))
            sides[group] = part
            take(group, part)
    free = np.ones(len(sides), dtype=bool) if standing is None else standing < 0
    _fill_empty(sides, sizes, luck, np.array(shares), free)
    return sides


def _due(wanted: Sequence[float], room: Sequence[float], shares: Sequence[float], size: int) -> int:
    """Return the part that a group of ``size`` images of a class goes to.

    Of the parts that still have room for it, the one that lacks most of what it should get, as a
    share of that: so groups of every size are spread over all parts. By absolute lack the largest
    part would get all large groups, and the others only patients with a single image. Where no part
    has room, the one that lacks most.
    """
    parts = [p for p, share in enumerate(shares) if share > 0]
    fitting = [p for p in parts if wanted[p] >= size - 1e-9]
    if fitting:
        return max(
            fitting,
            key=lambda p: (
                round(wanted[p] / shares[p], 9),
                round(room[p] / shares[p], 9),
                shares[p],
            ),
        )
    return max(parts, key=lambda p: (round(wanted[p], 9), round(room[p], 9), shares[p]))


def _fill_empty(
    sides: np.ndarray, sizes: np.ndarray, luck: np.ndarray, shares: np.ndarray, free: np.ndarray
) -> None:
    """Give each empty part the smallest free group of the part that is most over its share."""
    for part in range(len(shares)):
        if (sides == part).any():
            continue
        groups = np.bincount(sides, minlength=len(shares))
        # never empty one part to fill another, nor move what stood there before
        giving = [p for p in range(len(shares)) if groups[p] > 1 and free[sides == p].any()]
        if not giving:
            continue
        giver = max(giving, key=lambda p: sizes[sides == p].sum() - shares[p] * sizes.sum())
        givable = np.flatnonzero((sides == giver) & free)
        sides[givable[np.lexsort((luck[givable], sizes[givable]))[0]]] = part
