"""Outlines of regions of cells, along the edges of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int32

SLAB_ROWS = 64
"""Rows of the grid that are searched for corners at a time."""

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


def outlines(
    labels: Int32[np.ndarray, "h w"], chosen: Bool[np.ndarray, " k"] | None = None
) -> dict[int, Outline]:
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
    chosen
        Which numbers are traced; all, where it is not given.

    Returns
    -------
    dict
        By number. The area inside ``outer`` less that inside the holes is that of the cells.

    Examples
    --------
    >>> outlines(np.ones((1, 2), np.int32))[1].outer
    [(0, 0), (2, 0), (2, 1), (0, 1), (0, 0)]
    """
    slabs = range(0, len(labels) + 1, SLAB_ROWS)
    parts = [part for start in slabs for part in _corners(labels, chosen, start)]
    y, x, label, later_x, later_y, below_set = np.concatenate(parts, axis=1)
    order = np.lexsort((later_x, x, y))
    y, x, label, later_y, below_set = (each[order] for each in (y, x, label, later_y, below_set))
    by_column = np.lexsort((later_y, y, x))
    up_or_down = np.empty(len(x), np.int64)
    up_or_down[by_column[::2]], up_or_down[by_column[1::2]] = by_column[1::2], by_column[::2]
    return _walk(x.tolist(), y.tolist(), label.tolist(), up_or_down.tolist(), below_set.tolist())


def _corners(
    labels: Int32[np.ndarray, "h w"], chosen: Bool[np.ndarray, " k"] | None, start: int
) -> list[np.ndarray]:
    """Return the corners on some rows of the grid, so that little memory is taken at a time.

    Returns
    -------
    list
        Arrays of rows y, x, the label of a cell next to the corner, which of two corners at one
        point comes later along its row, and along its column, and whether the cell to the lower
        right is set.
    """
    above, below = max(0, start - 1), min(len(labels), start + SLAB_ROWS)
    named = labels[above:below]
    if chosen is not None:
        named = np.where(chosen[named], named, 0)
    lacking = int(start == 0), int(below == len(labels) and start + SLAB_ROWS > len(labels))
    named = np.pad(named, (lacking, (1, 1)))
    cells = named > 0
    a, b, c, d = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]
    count = a.astype(np.int8) + b + c + d
    single = (count == 1) | (count == 3)
    falling, rising = (count == 2) & a & d, (count == 2) & b & c
    kinds = (
        (single, None, (0, 0)),
        (falling, (0, 0), (0, 0)),
        (falling, (1, 1), (1, 1)),
        (rising, (0, 1), (1, 0)),
        (rising, (1, 0), (0, 1)),
    )
    found = []
    for at, cell, later in kinds:
        y, x = np.nonzero(at)
        if cell is None:  # the labels of one or three cells are one and the same
            around = [named[y + down, x + right] for down in (0, 1) for right in (0, 1)]
            label = np.maximum.reduce(around)
        else:
            label = named[y + cell[0], x + cell[1]]
        same = (np.full_like(y, each) for each in later)
        found.append(np.stack([y + start, x, label, *same, d[y, x]]))
    return found


def _walk(
    x: Sequence[int],
    y: Sequence[int],
    label: Sequence[int],
    up_or_down: Sequence[int],
    below_set: Sequence[bool],
) -> dict[int, Outline]:
    """Follow edges from corners in the order of rows; a neighbour in that order ends the edge.

    The first edge of a ring found in this order is its topmost: what lies below it tells whether
    the ring is a rim or a hole.
    """
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
