"""What a split shares out evenly: the classes of one column, or of several columns together.

Of several columns everything is counted at once: each value of each column, and each combination
of values that is frequent enough for the smallest part to expect a group of it. Combinations
alone would not do: most are rare, a rare one goes to the largest part as a whole, and what is lost
with each adds up until a whole source or class is off. Values alone would not do either: both
sources may have their share in a part and yet all sick images of one come with all healthy ones
of the other. Rare values of all columns but the first are counted as one, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from medglean.data.labels import label_sets
from medglean.errors import SplitError

if TYPE_CHECKING:
    from medglean.data.manifest import Manifest

Tag = tuple[str, ...]
_NOT_LABELLED, _NONE_OF_THEM, _RARE = ("missing",), ("none",), ("rare",)
"""Tags that stand for no value, for an empty list, and for all rare values: values have two."""


def class_counts(
    manifest: Manifest,
    columns: Sequence[str],
    unit_of_row: Int[np.ndarray, " n"],
    *,
    units: int,
    smallest: float,
) -> Int[np.ndarray, "units classes"]:
    """Return how many images of each class each group has.

    Parameters
    ----------
    manifest
        The n rows.
    columns
        Of names, ``labels`` taken apart at each ``;``. None: every image is of one class.
    unit_of_row
        Number of each row's group, below ``units``.
    units
        How many groups there are.
    smallest
        Share of the smallest part, above 0. A combination of values is a class of its own from
        ``1 / smallest`` groups on.

    Raises
    ------
    SplitError
        If a column is missing.
    """
    if not columns:
        return np.bincount(unit_of_row, minlength=units)[:, np.newaxis]
    tags = [_tags(manifest, name) for name in columns]
    if len(columns) > 1:
        least = math.ceil(1 / smallest - 1e-9)
        tags[1:] = [_pooled(rows, unit_of_row, least) for rows in tags[1:]]
        crossed = [[sum(one, ("and",)) for one in product(*row)] for row in zip(*tags, strict=True)]
        frequent = _frequent(crossed, unit_of_row, least)
        tags.append([[tag for tag in row if tag in frequent] for row in crossed])
        tags[:-1] = [
            [[(columns[k], *tag) for tag in row] for row in rows]
            for k, rows in enumerate(tags[:-1])
        ]
    # sorted, and what is not a value last: ties between equally rare classes go to the first
    classes = sorted(
        {tag for rows in tags for row in rows for tag in row},
        key=lambda tag: (tag == _NOT_LABELLED, tag == _NONE_OF_THEM, tag),
    )
    place = {tag: number for number, tag in enumerate(classes)}
    counts = np.zeros((units, len(classes)), dtype=np.int64)
    for rows in tags:
        for unit, row in zip(unit_of_row.tolist(), rows, strict=True):
            for tag in row:
                counts[unit, place[tag]] += 1
    return counts


def _tags(manifest: Manifest, column: str) -> list[list[Tag]]:
    """Return what each row counts as: one tag, or several of several labels."""
    if column not in manifest.frame:
        raise SplitError(
            f"{manifest.path or 'manifest'}: no column {column!r} to share out evenly. Name "
            "another column, or split without classes (stratify none)."
        )
    sets = label_sets(manifest.frame[column], several=column == "labels")
    return [
        [_NOT_LABELLED] if names is None else [("is", n) for n in names] or [_NONE_OF_THEM]
        for names in sets
    ]


def _pooled(rows: list[list[Tag]], unit_of_row: np.ndarray, least: int) -> list[list[Tag]]:
    """Count the values of fewer than ``least`` groups as one value."""
    frequent = _frequent(rows, unit_of_row, least)
    return [list(dict.fromkeys(t if t in frequent else _RARE for t in row)) for row in rows]


def _frequent(rows: list[list[Tag]], unit_of_row: np.ndarray, least: int) -> set[Tag]:
    """Return the tags that at least so many groups have."""
    holders: dict[Tag, set[int]] = {}
    for unit, row in zip(unit_of_row.tolist(), rows, strict=True):
        for tag in row:
            holders.setdefault(tag, set()).add(unit)
    return {tag for tag, units in holders.items() if len(units) >= least}
