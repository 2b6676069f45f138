"""Outlines of regions of cells, along the edges of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int32

Ring = list[tuple[int, int]]
"""Corners (x, y) on the grid between cells, closed: the last is the first."""


@dataclass
class Outline:
    """A region: where it ends, and where its holes do.

    Attributes
    ----------
    outer
        Its rim.
    holes
        A ring each.
    """

    outer: Ring
    holes: list[Ring] = field(default_factory=list)


def outlines(labels: Int32[np.ndarray, "h w"]) -> dict[int, Outline]:
    """Trace every region.

    Corners of regions are those points of the grid around which one or three of four cells are
    set, or two opposite ones (then twice). Along every row and every column of the grid the
    corners are the ends of edges, two by two; going from corner to corner by a horizontal and a
    vertical edge in turn walks around each rim and each hole.

    Parameters
    ----------
    labels
        0 for cells of no region, and a number for each region, whose cells are joined by their
        sides (4-connected).

    Returns
    -------
    dict
        By number. The area inside ``outer`` less that inside the holes is that of the cells.

    Examples
    --------
    >>> outlines(np.ones((1, 2), np.int32))[1].outer
    [(0, 0), (2, 0), (2, 1), (0, 1), (0, 0)]
    """
    named = np.pad(labels, 1)
    set_ = named > 0
    a, b, c, d = set_[:-1, :-1], set_[:-1, 1:], set_[1:, :-1], set_[1:, 1:]
    count = a.astype(np.int8) + b + c + d
    single = (count == 1) | (count == 3)
    falling, rising = (count == 2) & a & d, (count == 2) & b & c
    # of two corners at one point, which comes first along its row, and along its column
    parts = [
        _nodes(single, named, (0, 0), later=(0, 0)),
        _nodes(falling, named, (0, 0), later=(0, 0)),
        _nodes(falling, named, (1, 1), later=(1, 1)),
        _nodes(rising, named, (0, 1), later=(1, 0)),
        _nodes(rising, named, (1, 0), later=(0, 1)),
    ]
    y, x, label, later_x, later_y = np.concatenate(parts, axis=1)
    order = np.lexsort((later_x, x, y))
    y, x, label, later_y = y[order], x[order], label[order], later_y[order]
    by_column = np.lexsort((later_y, y, x))
    up_or_down = np.empty(len(x), np.int64)
    up_or_down[by_column[::2]], up_or_down[by_column[1::2]] = by_column[1::2], by_column[::2]
    # the first edge of a ring found in this order is its topmost: what lies below it tells
    below_set = set_[y + 1, x + 1]
    return _walk(x.tolist(), y.tolist(), label.tolist(), up_or_down.tolist(), below_set.tolist())


def _nodes(
    at: Bool[np.ndarray, "h w"],
    named: Int32[np.ndarray, "y x"],
    cell: tuple[int, int],
    *,
    later: tuple[int, int],
) -> np.ndarray:
    """Return rows y, x, label and order of corners, labelled by a cell next to them."""
    y, x = np.nonzero(at)
    label = named[y + cell[0], x + cell[1]]
    if cell == later == (0, 0):  # one or three cells set: whichever is
        for down, right in ((0, 1), (1, 0), (1, 1)):
            label = np.maximum(label, named[y + down, x + right] * (label == 0))
    return np.stack([y, x, label, np.full_like(y, later[0]), np.full_like(y, later[1])])


def _walk(
    x: Sequence[int],
    y: Sequence[int],
    label: Sequence[int],
    up_or_down: Sequence[int],
    below_set: Sequence[bool],
) -> dict[int, Outline]:
    """Follow edges from corners in the order of rows; a neighbour in that order ends the edge."""
    found: dict[int, Outline] = {}
    seen = bytearray(len(x))
    for start in range(0, len(x), 2):
        if seen[start]:
            continue
        ring, node = [], start
        while not seen[node]:
            seen[node] = 1
            ring.append((x[node], y[node]))
            node ^= 1
            seen[node] = 1
            ring.append((x[node], y[node]))
            node = up_or_down[node]
        ring.append(ring[0])
        if below_set[start]:
            found[label[start]] = Outline(ring)
        else:  # its region's rim begins further up
            found[label[start]].holes.append(ring)
    return found
