"""The picture pages of a curation: first picks, pairs kept and left out, junk, doubtful labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.duplicates import LabelConflicts, Pairs
from medglean.curate.order import Ranking
from medglean.runs.style import BLUE, INK, RED, plain
from medglean.runs.tiles import Tile, side_by_side, tile_grid

Picture = Callable[[int], np.ndarray]
"""From a position to the image there: (h, w), (1, h, w) or (3, h, w), values in [0, 1]."""
PICKS, PAIRS = 12, 8
_PAIR_IN = 3.2
_SIDE = 22  # characters of one side of a pair


def first_picks(
    ranking: Ranking, picture: Picture, ids: Sequence[str], *, count: int = PICKS
) -> bytes:
    """Show the first images of an order with rank and reason.

    Where the order begins with a random start longer than ``count``, half of the pictures are the
    first of these and half the first that the method chose.
    """
    places = spread_over_reasons(ranking.reason, count)
    return tile_grid(
        [
            Tile(
                picture(int(ranking.order[place])),
                ids[ranking.order[place]],
                (plain(ids[ranking.order[place]], limit=30), ranking.reason[place]),
                f"rank {place + 1:,}" + _beside(float(ranking.similarity[place])),
                BLUE,
            )
            for place in places
        ]
    )


def spread_over_reasons(reasons: Sequence[str], count: int) -> list[int]:
    """Return which places of an order to show, so that its second reason is seen, too.

    Examples
    --------
    >>> spread_over_reasons(["start"] * 5 + ["least similar"] * 9, 4)
    [0, 1, 5, 6]
    >>> spread_over_reasons(["start", "least similar", "least similar"], 4)
    [0, 1, 2]
    """
    change = next((k for k, reason in enumerate(reasons) if reason != reasons[0]), len(reasons))
    if change <= count // 2 or change == len(reasons):
        return list(range(min(count, len(reasons))))
    half = count // 2
    return [*range(half), *range(change, min(change + count - half, len(reasons)))]


def _beside(similarity: float) -> str:
    return "" if np.isnan(similarity) else f", similarity {similarity:.2f}"


def left_out(
    picture: Picture,
    ids: Sequence[str],
    *,
    dropped: Int[np.ndarray, " p"],
    kept: Int[np.ndarray, " p"],
    similarity: Float[np.ndarray, " p"],
    count: int = PAIRS,
) -> bytes:
    """Show pairs: on the left the selected image, on the right one that it stands for.

    Parameters
    ----------
    picture, ids
        Of all images, by position.
    dropped, kept, similarity
        Pairs to choose from.
    count
        How many are shown, spread evenly from the most to the least similar; of one selected image
        only one pair where there are enough.
    """
    chosen = spread_pairs(kept, similarity, count)
    return tile_grid(
        [
            Tile(
                side_by_side(picture(int(kept[p])), picture(int(dropped[p]))),
                ids[kept[p]],
                (
                    f"selected: {plain(ids[kept[p]], limit=30)}",
                    f"left out: {plain(ids[dropped[p]], limit=30)}",
                ),
                f"similarity {similarity[p]:.3f}",
                INK,
            )
            for p in chosen
        ],
        columns=2,
        width_in=_PAIR_IN,
    )


def spread_pairs(
    kept: Int[np.ndarray, " p"], similarity: Float[np.ndarray, " p"], count: int
) -> list[int]:
    """Return ``count`` pairs from the most to the least similar, of different selected images.

    Examples
    --------
    >>> import numpy as np
    >>> spread_pairs(np.array([7, 7, 8, 9]), np.array([0.9, 0.8, 0.7, 0.6]), 2)
    [0, 3]
    """
    order = np.argsort(-similarity, kind="stable")
    order = order[~np.isnan(similarity[order])]
    _, first = np.unique(kept[order], return_index=True)
    single = order[np.sort(first)]
    pool = single if len(single) >= count else order
    places = np.unique(np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int))
    return [int(pool[place]) for place in places]


def junk(
    picture: Picture,
    ids: Sequence[str],
    *,
    positions: Int[np.ndarray, " m"],
    score: Float[np.ndarray, " m"],
    reason: Sequence[str],
    count: int = PICKS,
) -> bytes:
    """Show the images that look like no others, the most lonely first."""
    return tile_grid(
        [
            Tile(
                picture(int(positions[place])),
                ids[positions[place]],
                (plain(ids[positions[place]], limit=30), reason[place]),
                "" if np.isnan(score[place]) else f"similarity to others {score[place]:.2f}",
                INK,
            )
            for place in range(min(count, len(positions)))
        ]
    )


def doubtful_labels(
    picture: Picture, ids: Sequence[str], conflicts: LabelConflicts, *, count: int = PAIRS
) -> bytes:
    """Show near-duplicates with different labels, the most similar first.

    Pairs of images that are in none shown before come first: two clips give many pairs.
    """
    pairs = conflicts.pairs
    tiles = []
    for place in _fresh_first(pairs)[:count]:
        i, j = int(pairs.first[place]), int(pairs.second[place])
        one, other = conflicts.labels[place]
        tiles.append(
            Tile(
                side_by_side(picture(i), picture(j)),
                ids[i],
                (
                    f"left: {_labelled(one)} ({plain(ids[i], limit=_SIDE)})",
                    f"right: {_labelled(other)} ({plain(ids[j], limit=_SIDE)})",
                    _vote(conflicts, place),
                ),
                _alike(pairs, place),
                RED,
            )
        )
    return tile_grid(tiles, columns=2, width_in=_PAIR_IN)


def _fresh_first(pairs: Pairs) -> list[int]:
    seen: set[int] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for place, both in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        (rest if seen & set(both) else fresh).append(place)
        seen |= set(both)
    return fresh + rest


def _labelled(name: str) -> str:
    return plain(name, limit=16) if name else "no class"


def _vote(conflicts: LabelConflicts, place: int) -> str:
    votes, of = conflicts.votes[place]
    if of == 2:
        return "no third near-duplicate decides"
    if not conflicts.majority[place]:
        return f"no majority among {of} near-duplicates"
    told = f"{votes} of {of} say {plain(conflicts.majority[place], limit=18)}"
    suspect = int(conflicts.suspect[place])
    if suspect < 0:
        return told
    return f"{told}: check the {'left' if suspect == conflicts.pairs.first[place] else 'right'} one"


def _alike(pairs: Pairs, place: int) -> str:
    told = f"similarity {pairs.similarity[place]:.3f}"
    return told if pairs.structure is None else f"{told}, SSIM {pairs.structure[place]:.2f}"
