"""How the rows of a manifest are divided into what is learnt from, chosen on, and tested on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from medglean.data.by_column import parts_by_column, torn_problems
from medglean.data.manifest import Manifest
from medglean.data.split_settings import SplitSettings
from medglean.data.splits import joined_groups, manifest_name, split_by_group, split_problems
from medglean.errors import Problem, SplitError

__all__ = ["SplitSettings", "check_division", "divide"]

MOST_TOGETHER = 0.2
"""Share of the images in one group of near duplicates from which on the search is in doubt."""


def divide(
    rows: Manifest,
    split: SplitSettings,
    *,
    seed: int,
    label: str,
    tied: Collection[Collection[str]] | None = None,
) -> Manifest:
    """Divide the rows; a split that stands is kept, and validation taken from its training part.

    Parameters
    ----------
    rows
        To divide.
    split
        How.
    seed
        Where the settings name none.
    label
        Column that ``stratify = "label"`` means.
    tied
        Sets of ids that stay on one side besides the groups: what `medglean.data.ties` finds
        where ``split.duplicates`` is ``together``.

    Returns
    -------
    Manifest
        The same rows with ``split``: missing only where the settings divide by a column, and a
        row's value is named for no part (see `medglean.data.by_column.named_rows`).

    Raises
    ------
    SplitError
        If the rows cannot be divided so.
    """
    if split.duplicates == "together" and tied is None:
        raise SplitError(
            f"{manifest_name(rows)}: split.duplicates is 'together', and near duplicates are not "
            "looked for here. Set split.duplicates=ignore."
        )
    tied = tied or ()
    seed = seed if split.seed is None else split.seed
    stratify = _present(rows, split, label)
    standing = np.full(len(rows), "", dtype=object)
    if "split" in rows.frame and not split.anew:
        standing = rows.frame["split"].fillna("").to_numpy(dtype=object)
    if split.column is not None:
        parts = _parts_by_column(rows, split, tied)
    else:
        parts = standing.copy()
        _check_ties(rows, parts, tied)
    inside = parts == "train"
    whole = split.val == 0 or (parts == "val").any() or not inside.any()
    if split.column is not None and whole:
        return _placed(rows, parts, standing)
    if split.column is None and (whole or (parts == "").any()):
        # parts that the preset does not deal out may stand in the manifest
        kept = dict.fromkeys(sorted(set(parts) - {""}), 0.0)
        return split_by_group(
            rows,
            fractions={**kept, **split.fractions},
            group=split.group,
            stratify=stratify,
            seed=seed,
            tied=tied,
            overwrite=split.anew,
        )
    both = split.train + split.val
    chosen = rows.select(np.flatnonzero(inside))
    known = set(chosen.ids)
    halved = split_by_group(
        chosen,
        fractions={"train": split.train / both, "val": split.val / both},
        group=split.group,
        stratify=stratify,
        seed=seed,
        tied=[[one for one in linked if one in known] for linked in tied],
        overwrite=True,
    )
    parts[inside] = halved.frame["split"].to_numpy(dtype=object)
    return _placed(rows, parts, standing)


def check_division(
    rows: Manifest,
    split: SplitSettings,
    *,
    label: str,
    tied: Iterable[Collection[str]] = (),
) -> list[Problem]:
    """Return what is uneven about a division.

    Parameters
    ----------
    rows
        With ``split``.
    split, label, tied
        As `divide` took them.

    Raises
    ------
    SplitError
        If a group stands on two sides, and the settings do not allow it.
    """
    tied = tuple(tied)
    uneven = split_problems(rows, group=split.group, stratify=label, tied=tied)
    torn = [problem for problem in uneven if problem.kind == "group-on-two-sides"]
    if torn and split.column is not None and split.across_groups:
        names = joined_groups(rows, group=split.group, tied=tied)
        parts = rows.frame["split"].fillna("").to_numpy(dtype=object)
        told = torn_problems(rows, parts, names, column=split.column)
        uneven = told + [problem for problem in uneven if problem not in torn]
    elif torn:
        more = f" ({len(torn) - 1} more such groups.)" if len(torn) > 1 else ""
        raise SplitError(f"{torn[0]}{more}")
    lacking = [name for name in split.columns(label) if name not in rows.frame]
    uneven += [
        Problem(
            manifest_name(rows),
            f"no column {name!r}, which split.stratify names; the parts are divided without it.",
            "",
            column=name,
            kind="stratify-absent",
            fatal=False,
        )
        for name in lacking
    ]
    return uneven + _chained(rows, split, tied)


def _present(rows: Manifest, split: SplitSettings, label: str) -> tuple[str, ...]:
    """Return the columns to share out evenly that are there; one that is alone must be."""
    asked = split.columns(label)
    if len(asked) < 2:
        return asked
    # the first column's rare values are kept apart, so it is the label
    names = sorted(asked, key=lambda name: name != label)
    return tuple(name for name in names if name in rows.frame or name == label)


def _parts_by_column(
    rows: Manifest, split: SplitSettings, tied: Collection[Collection[str]]
) -> np.ndarray:
    """Return the part of each row by its value, after a look at who is on two sides."""
    column = str(split.column)
    parts = parts_by_column(rows, column, split.values)
    if not split.across_groups:
        names = joined_groups(rows, group=split.group, tied=tied)
        torn = torn_problems(rows, parts, names, column=column)
        if torn:
            raise SplitError(str(torn[0]))
    return parts


def _placed(rows: Manifest, parts: np.ndarray, standing: np.ndarray) -> Manifest:
    """Write the parts, unless another split stands in the manifest."""
    moved = (standing != "") & (standing != parts)
    allowed = (standing == "train") & (parts == "val")  # validation is taken from it
    if (moved & ~allowed).any():
        raise SplitError(
            f"{manifest_name(rows)}: {int((moved & ~allowed).sum())} of {len(rows)} rows stand in "
            "another part than split.column gives them. Set split.anew=true to divide by the "
            "column, or leave split.column out to keep what stands."
        )
    series = pd.Series(parts, dtype="str")
    return rows.with_columns(split=series.where(series != "", None))


def _check_ties(rows: Manifest, parts: np.ndarray, tied: Collection[Collection[str]]) -> None:
    """Refuse a standing split with near duplicates on both sides, and say that it is these."""
    place = dict(zip(rows.ids, parts.tolist(), strict=True))
    torn = []
    for linked in tied:
        sides = {place.get(one, "") for one in linked} - {""}
        if len(sides) > 1:
            torn.append((sorted(linked), sorted(sides)))
    if torn:
        (linked, between), more = torn[0], len(torn) - 1
        raise SplitError(
            f"{manifest_name(rows)}: near duplicates stand in {' and '.join(between)}, such as "
            f"{linked[0]!r} and {linked[1]!r}, expected on one side"
            + (f" ({more} more such groups)" if more else "")
            + ". Divide all images anew (split.anew=true), or set split.duplicates=ignore to "
            "accept that the test knows them."
        )


def _chained(
    rows: Manifest, split: SplitSettings, tied: Collection[Collection[str]]
) -> list[Problem]:
    """Warn of a group that near duplicates have made of much of the set."""
    if not tied:
        return []
    alone = pd.Series(joined_groups(rows, group=split.group)).value_counts()
    largest = pd.Series(joined_groups(rows, group=split.group, tied=tied)).value_counts()
    share = largest.iloc[0] / len(rows)
    if share <= MOST_TOGETHER or largest.iloc[0] <= alone.iloc[0]:
        return []
    found = (
        f"near duplicates chain {int(largest.iloc[0])} of {len(rows)} images ({share:.0%}) "
        "together, and all of them are on one side."
    )
    remedy = (
        "Look at the pairs with medglean audit: either the set is made of few pictures, or "
        "different images were taken for copies (then set split.duplicates=ignore)."
    )
    file = manifest_name(rows)
    return [Problem(file, found, remedy, kind="duplicates-chained", fatal=False)]
