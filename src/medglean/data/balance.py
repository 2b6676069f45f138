"""Dealing whole groups out to parts so that every part gets its share of every class.

Greedy, after the iterative stratification of Sechidis et al. [1]_, with groups in place of single
images: the class with the fewest images left is dealt first, its largest group first, each to the
part that still wants the most of that class. Rare classes go first because they leave the least
choice.

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
        parts.

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
    wanted = np.outer(shares, counts.sum(axis=0)).astype(np.float64)
    sizes = counts.sum(axis=1)
    room = np.array(shares) * sizes.sum()
    for part in range(len(shares)):
        wanted[part] -= counts[sides == part].sum(axis=0)
        room[part] -= sizes[sides == part].sum()

    while (left := np.flatnonzero(sides < 0)).size:
        remaining = counts[left].sum(axis=0)
        rarest = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())
        holders = left[counts[left, rarest] > 0]
        # largest first: small groups, dealt last, even out what large ones could not
        order = holders[np.lexsort((luck[holders], -sizes[holders], -counts[holders, rarest]))]
        for group in order:
            part = _neediest(wanted[:, rarest], room, shares)
            sides[group] = part
            wanted[part] -= counts[group]
            room[part] -= sizes[group]
    _fill_empty(sides, sizes, luck, np.array(shares))
    return sides


def _neediest(wanted: np.ndarray, room: np.ndarray, shares: Sequence[float]) -> int:
    """Return the part that wants most of a class; among equals the one with most room."""
    return int(np.lexsort((-np.asarray(shares), -room.round(9), -wanted.round(9)))[0])


def _fill_empty(sides: np.ndarray, sizes: np.ndarray, luck: np.ndarray, shares: np.ndarray) -> None:
    """Give each empty part the smallest group of the part that is most over its share."""
    for part in range(len(shares)):
        if (sides == part).any():
            continue
        groups = np.bincount(sides, minlength=len(shares))
        surplus = np.array([sizes[sides == p].sum() for p in range(len(shares))], dtype=float)
        surplus -= shares * sizes.sum()
        surplus[groups < 2] = -np.inf  # never empty one part to fill another
        if np.isneginf(surplus).all():
            return
        giver = np.flatnonzero(sides == surplus.argmax())
        sides[giver[np.lexsort((luck[giver], sizes[giver]))[0]]] = part
