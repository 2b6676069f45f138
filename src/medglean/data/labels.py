"""Class names as a manifest has them, and as numbers that a network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from medglean.errors import DataError

NOT_LABELLED = -1
"""Target of an image that has no label."""


def label_sets(labels: pd.Series, *, several: bool) -> list[tuple[str, ...] | None]:
    """Return the class names of each row, sorted; ``None`` where a row is not labelled.

    Parameters
    ----------
    labels
        Text; missing means not labelled.
    several
        Whether names are joined by ``;`` and empty text means "none of them".

    Examples
    --------
    >>> import pandas as pd
    >>> label_sets(pd.Series(["b;a", "", None]), several=True)
    [('a', 'b'), (), None]
    """
    known = labels.notna().to_numpy()
    out: list[tuple[str, ...] | None] = []
    for text, labelled in zip(labels.to_numpy(dtype=object), known, strict=True):
        if not labelled:
            out.append(None)
        elif several:
            out.append(tuple(sorted({name.strip() for name in text.split(";")} - {""})))
        else:
            out.append((str(text),))
    return out


def class_targets(
    labels: pd.Series, classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    """Return the classes and each row's index among them, -1 where a row is not labelled.

    Raises
    ------
    DataError
        If a label is not one of ``classes``, where these are given.
    """
    sets = label_sets(labels, several=False)
    known = _classes(sets, classes)
    place = {name: index for index, name in enumerate(known)}
    targets = [NOT_LABELLED if names is None else place[names[0]] for names in sets]
    return known, np.array(targets, dtype=np.int64)


def several_targets(
    labels: pd.Series, classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], Float[np.ndarray, "n k"]]:
    """Return the classes and a 1 or 0 for each row and class, NaN where a row is not labelled.

    Raises
    ------
    DataError
        If a label is not one of ``classes``, where these are given.
    """
    sets = label_sets(labels, several=True)
    known = _classes(sets, classes)
    place = {name: index for index, name in enumerate(known)}
    targets = np.zeros((len(sets), len(known)), dtype=np.float32)
    for row, names in enumerate(sets):
        if names is None:
            targets[row] = np.nan
        else:
            targets[row, [place[name] for name in names]] = 1.0
    return known, targets


def _classes(sets: list[tuple[str, ...] | None], classes: Sequence[str] | None) -> tuple[str, ...]:
    found = sorted({name for names in sets if names for name in names})
    if classes is None:
        return tuple(found)
    if len(set(classes)) < len(classes):
        raise DataError(f"the classes name one twice: {list(classes)}. Name each once.")
    unknown = [name for name in found if name not in set(classes)]
    if unknown:
        rows = sum(names is not None and unknown[0] in names for names in sets)
        raise DataError(
            f"class {unknown[0]!r} has {rows} image(s), and the classes expected are "
            f"{list(classes)}"
            + (f" ({len(unknown) - 1} more such classes)" if len(unknown) > 1 else "")
            + ". Rename or leave out these rows, or add the class to the list."
        )
    return tuple(classes)
