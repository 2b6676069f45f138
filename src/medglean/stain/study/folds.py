"""Which pairs are learnt from and which are measured: one division, or one for each pair or group.

Where the study divides, each pair is measured exactly once, by networks that have not learnt from
it: neither the generator, nor the classifier whose features it is given, nor the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from medglean.errors import DataError

Rows = Int[np.ndarray, " m"]
Kind = Literal["split", "pair", "group"]


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to measure.

    Attributes
    ----------
    name
        Of its folder.
    train, test
        Positions in the manifest, rising; they share none.
    """

    name: str
    train: Rows
    test: Rows


def folds_of(
    kind: Kind,
    usable: Rows,
    groups: Sequence[object] | np.ndarray,
    parts: Sequence[str] | np.ndarray,
) -> list[Fold]:
    """Divide the pairs that can be used.

    Parameters
    ----------
    kind
        As ``study.folds``.
    usable
        Positions of pairs with both images, rising.
    groups, parts
        Patient or slide, and part of the split, of every row of the manifest. Other kinds than
        ``"split"`` do not look at the parts.

    Raises
    ------
    DataError
        If there is nothing to learn from or to measure.

    Examples
    --------
    >>> folds = folds_of("group", np.arange(3), ["a", "b", "a"], ["train"] * 3)
    >>> [(fold.name, fold.train.tolist(), fold.test.tolist()) for fold in folds]
    [('group-0', [1], [0, 2]), ('group-1', [0, 2], [1])]
    """
    if kind == "split":
        named = np.asarray(parts, dtype=object)[usable]
        learn, test = usable[named == "train"], usable[named == "test"]
        if not len(learn) or not len(test):
            raise DataError(
                f"the study learns from a training part and compares on a test part, and there "
                f"are {len(learn)} and {len(test)} pairs in them that can be used. Set split.test "
                "above 0, or study.folds=pair to leave one pair out at a time."
            )
        return [Fold("split", learn, test)]
    if kind == "pair":
        places = np.arange(len(usable))
    else:
        named = np.asarray(groups, dtype=object)[usable].astype(str)
        order = {name: number for number, name in enumerate(dict.fromkeys(named))}
        places = np.array([order[name] for name in named], dtype=np.int64)
    count = len(np.unique(places))
    if count < 2:
        raise DataError(
            f"study.folds={kind} leaves one {kind} out at a time, and there is only {count} that "
            "can be used, of 2 that are needed. Give more pairs, or study.folds=pair."
        )
    width = len(str(count - 1))
    return [
        Fold(f"{kind}-{number:0{width}d}", usable[places != number], usable[places == number])
        for number in range(count)
    ]


def torn_groups(folds: Sequence[Fold], groups: Sequence[object] | np.ndarray) -> int:
    """Count pairs that are measured by networks that learnt from another pair of their group."""
    named = np.asarray(groups, dtype=object).astype(str)
    return sum(int(np.isin(named[fold.test], named[fold.train]).sum()) for fold in folds)
