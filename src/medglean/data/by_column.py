"""A split by the values of a column, such as the view: to learn from PA and AP, test on AP supine.

Such a split asks how a model fares on another kind of image. Whether it also asks how it fares on
other patients depends on the data: a patient may have images of both kinds. So this is looked at,
refused, or told with its size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medglean.data.manifest import Manifest
from medglean.data.splits import PARTS
from medglean.errors import Problem, SplitError

ColumnValues = Mapping[str, tuple[str, ...]]
"""Part to the values of the column that it is made of."""


def plain_value(value: object) -> str:
    """Return a value as it is compared: without spaces, in one case.

    Examples
    --------
    >>> plain_value(" AP  Supine"), plain_value("ap supine")
    ('apsupine', 'apsupine')
    """
    return "".join(str(value).casefold().split())


def named_rows(
    manifest: Manifest, column: str, values: ColumnValues
) -> tuple[Bool[np.ndarray, " n"], list[Problem]]:
    """Return which rows have a value that a part names, and what is to be told of the others.

    Raises
    ------
    SplitError
        If there is no such column.
    """
    texts = _texts(manifest, column)
    wanted = {plain_value(value) for named in values.values() for value in named}
    inside = np.array([text in wanted for text in texts], dtype=bool)
    name = str(manifest.path or "the manifest")
    problems = []
    if not inside.all():
        others = manifest.frame[column][~inside].astype(object)
        counts = others.where(others.notna(), "no value").astype(str).value_counts()
        listed = ", ".join(f"{value} ({count})" for value, count in counts.head(8).items())
        more = f" and {len(counts) - 8} further values" if len(counts) > 8 else ""
        found = (
            f"{int((~inside).sum())} of {len(inside)} images have a value that no part names and "
            f"are left out: {listed}{more}."
        )
        problems.append(Problem(name, found, "", column=column, kind="other-value", fatal=False))
    occurring = set(texts)
    absent = [
        value for named in values.values() for value in named if plain_value(value) not in occurring
    ]
    if absent:
        found = f"no image has the value {', '.join(map(repr, absent))}, which the split names."
        problems.append(Problem(name, found, "", column=column, kind="absent-value", fatal=False))
    return inside, problems


def parts_by_column(manifest: Manifest, column: str, values: ColumnValues) -> np.ndarray:
    """Return the part of each row, shape (n,), text; empty where no part names its value.

    Raises
    ------
    SplitError
        If there is no such column, or no row has a value that a part with values names.
    """
    texts = _texts(manifest, column)
    part_of = {plain_value(value): part for part, named in values.items() for value in named}
    parts = np.array([part_of.get(text, "") for text in texts], dtype=object)
    for part, named in values.items():
        if named and not (parts == part).any():
            found = manifest.frame[column].dropna().astype(str).value_counts().index[:12].tolist()
            raise SplitError(
                f"{manifest.path or 'the manifest'}: no image for {part!r}: none has "
                f"{' or '.join(map(repr, named))} in column {column!r}, where "
                f"{', '.join(map(repr, found)) or 'nothing'} stands. Correct split.{part}_values."
            )
    return parts


def torn_problems(
    manifest: Manifest, parts: np.ndarray, names: np.ndarray, *, column: str
) -> list[Problem]:
    """Return a problem that counts who is on two sides, none where nobody is.

    Parameters
    ----------
    manifest
        The n rows.
    parts
        Part of each row, shape (n,); empty for none.
    names
        What each row belongs to, shape (n,).
    column
        By which the rows were divided.
    """
    placed = parts != ""
    sides = pd.Series(parts[placed]).groupby(names[placed]).nunique()
    torn = sides.index[sides > 1].tolist()
    if not torn:
        return []
    rows = placed & np.isin(names, torn)
    counted = pd.Series(parts[rows]).value_counts()
    counts = ", ".join(f"{counted[part]} in {part}" for part in PARTS if part in counted)
    found = (
        f"{len(torn)} group(s), such as {torn[0]!r}, have images on more than one side when "
        f"divided by {column!r}: {int(rows.sum())} images ({counts}), expected none."
    )
    remedy = (
        "Choose values that keep patients apart, or set split.across_groups=true to divide so "
        "all the same; the test then measures memory of these patients, too."
    )
    file = str(manifest.path or "the manifest")
    return [Problem(file, found, remedy, column=column, kind="groups-across-parts", fatal=False)]


def _texts(manifest: Manifest, column: str) -> list[str]:
    """Return each row's value as it is compared, empty where it is missing."""
    if column not in manifest.frame:
        raise SplitError(
            f"{manifest.path or 'the manifest'}: no column {column!r} to divide by; the columns "
            f"are {', '.join(map(str, manifest.frame.columns))}. Correct split.column."
        )
    series = manifest.frame[column].astype(object)
    known = series.notna().to_numpy()
    return [plain_value(v) if k else "" for v, k in zip(series.tolist(), known, strict=True)]
