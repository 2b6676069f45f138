"""Which images train, which choose the best epoch, which are kept for the test: by patient.

A patient (or clip, volume, slide) is on one side only, and so is everything that is tied to it.
Within that, the parts get the same share of every class as far as whole patients allow. The
result depends on the seed and on the rows' ids, patients and labels, never on the rows' order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medglean.data.balance import balance
from medglean.data.labels import label_sets
from medglean.data.strata import class_counts
from medglean.errors import Problem, SplitError
from medglean.files import sha256_of_json

if TYPE_CHECKING:
    from medglean.data.manifest import Manifest

PARTS = ("train", "val", "test")
_ANEW = "divide all images anew (split.anew=true in a preset, overwrite=True in Python)"
TIED_BY = ("sha256",)
"""Columns whose equal values tie rows together besides the group: the same file listed twice."""


def split_by_group(
    manifest: Manifest,
    *,
    fractions: Mapping[str, float],
    group: str = "patient",
    stratify: str | Sequence[str] | None = "label",
    seed: int,
    tied: Iterable[Iterable[str]] = (),
    tied_by: Sequence[str] = TIED_BY,
    overwrite: bool = False,
) -> Manifest:
    """Give every row of a manifest its ``split``.

    A split that stands in the manifest is kept: rows that have one keep it, rows that have none
    go where their group is, and only the rest is dealt out. Where every row has one, the manifest
    comes back as it was, whatever the fractions.

    Parameters
    ----------
    manifest
        At least one row.
    fractions
        Share of the images for each of ``train``, ``val`` and ``test``; they sum to 1, and a part
        with share 0 gets nothing beyond what stands there.
    group
        Column whose rows stay together; rows without a value follow ``manifest.groups``.
    stratify
        Column whose classes are shared out evenly: ``label``, ``labels`` (names joined by ``;``),
        any other column of names, several of them (see `medglean.data.strata`), or ``None``. Rows
        without a label are shared out as if "unlabelled" were a class.
    seed
        Which of the equally good splits is taken.
    tied
        Sets of ids that must stay together, such as near duplicates that an audit found.
    tied_by
        Columns whose equal values tie rows together; those that the manifest lacks are left out.
    overwrite
        Deal all rows out anew, whatever split stands in the manifest.

    Returns
    -------
    Manifest
        The same rows with ``split`` filled. :func:`split_problems` tells what is uneven in it.

    Raises
    ------
    SplitError
        If the shares are not shares, a column is missing, there are fewer groups than parts, or
        the split that stands in the manifest has one group on two sides.
    """
    shares = _checked_shares(fractions)
    names = joined_groups(manifest, group=group, tied=tied, tied_by=tied_by)
    fixed = None if overwrite else _standing_split(manifest, names)
    if fixed is not None:
        if (fixed != "").all():
            return manifest
        # a part that is not dealt out may stand
        shares |= {part: 0.0 for part in fractions if part not in shares and part in fixed}
    units, unit_of_row = np.unique(names, return_inverse=True)
    if len(units) < len(shares):
        raise SplitError(
            f"{manifest_name(manifest)}: {len(units)} group(s) by {group!r} in {len(names)} rows, "
            f"expected at least {len(shares)} to fill {', '.join(shares)}. Ask for fewer parts, "
            "add patients, or check that the column really tells patients apart."
        )
    counts = class_counts(
        manifest,
        columns_of(stratify),
        unit_of_row,
        units=len(units),
        smallest=min(share for share in shares.values() if share > 0),
    )
    standing = np.full(len(units), -1)
    if fixed is not None:
        for row, part in enumerate(fixed):
            if part in shares:
                standing[unit_of_row[row]] = list(shares).index(part)
            elif part:
                raise SplitError(
                    f"{manifest_name(manifest)}: rows stand in part {part!r}, and the shares asked "
                    f"for name {', '.join(shares)}. Name every part that stands in the column "
                    f"'split', or {_ANEW}."
                )
    sides = balance(counts, list(shares.values()), names=units, seed=seed, standing=standing)
    parts = np.array(list(shares), dtype=object)
    empty = [part for place, part in enumerate(parts) if not (sides == place).any()]
    if empty:
        raise SplitError(
            f"{manifest_name(manifest)}: too many groups have a part already, and none is left for "
            f"{empty[0]!r}. Ask for fewer parts, or {_ANEW}."
        )
    return manifest.with_columns(split=pd.Series(parts[sides[unit_of_row]], dtype="str"))


def k_folds(
    manifest: Manifest,
    *,
    folds: int,
    group: str = "patient",
    stratify: str | Sequence[str] | None = "label",
    seed: int,
    tied: Iterable[Iterable[str]] = (),
    tied_by: Sequence[str] = TIED_BY,
) -> np.ndarray:
    """Return the fold, 0 to ``folds - 1``, of each row: shape (n,), int64.

    The parameters are those of :func:`split_by_group`; a split that stands is not looked at.

    Raises
    ------
    SplitError
        If there are fewer groups than folds, or fewer than 2 folds.
    """
    if folds < 2:
        raise SplitError(f"{folds} fold(s) asked for, expected at least 2.")
    names = joined_groups(manifest, group=group, tied=tied, tied_by=tied_by)
    units, unit_of_row = np.unique(names, return_inverse=True)
    if len(units) < folds:
        raise SplitError(
            f"{manifest_name(manifest)}: {len(units)} group(s) by {group!r}, expected at least "
            f"{folds} for {folds} folds. Ask for fewer folds."
        )
    counts = class_counts(
        manifest, columns_of(stratify), unit_of_row, units=len(units), smallest=1 / folds
    )
    sides = balance(counts, [1 / folds] * folds, names=units, seed=seed)
    return sides[unit_of_row].astype(np.int64)


def joined_groups(
    manifest: Manifest,
    *,
    group: str = "patient",
    tied: Iterable[Iterable[str]] = (),
    tied_by: Sequence[str] = TIED_BY,
) -> np.ndarray:
    """Return for each row the name of all that must stay with it: shape (n,), text.

    Groups that share a file, or that ``tied`` names together, are joined, and take the name of
    the alphabetically first of them.

    Raises
    ------
    SplitError
        If the manifest is empty, or ``tied`` names an id that it does not have.
    """
    if len(manifest) == 0:
        raise SplitError(
            f"{manifest_name(manifest)}: no rows, expected at least one. Check how it was made."
        )
    names = np.asarray(manifest.groups(group), dtype=object)
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # halve the path, so that later walks are short
            name = parent[name]
        return name

    def join(members: Iterable[str]) -> None:
        roots = sorted({root(name) for name in members})
        for other in roots[1:]:
            parent[other] = roots[0]

    frame = manifest.frame
    for column in tied_by:
        if column in frame:
            known = frame[column].notna().to_numpy()
            values = frame[column].to_numpy()[known]
            for members in pd.Series(names[known]).groupby(values, sort=False).unique():
                if len(members) > 1:
                    join(members)
    by_id = dict(zip(manifest.ids, names, strict=True))
    for linked in tied:
        linked = list(linked)
        unknown = [one for one in linked if one not in by_id]
        if unknown:
            raise SplitError(
                f"{manifest_name(manifest)}: id {unknown[0]!r} is to be tied to others, and the "
                "manifest has no such id. Make the list of ties anew from this manifest."
            )
        join(by_id[one] for one in linked)
    return np.array([root(name) for name in names], dtype=object)


def columns_of(stratify: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns to share out evenly as a tuple, the empty one for ``None``."""
    if stratify is None:
        return ()
    return (stratify,) if isinstance(stratify, str) else tuple(dict.fromkeys(stratify))


def split_hash(manifest: Manifest) -> str:
    """Return the SHA-256 of who is where: the same for any order of rows, 64 hex digits.

    Raises
    ------
    SplitError
        If the manifest has no split.
    """
    if "split" not in manifest.frame:
        raise SplitError(
            f"{manifest_name(manifest)}: no column 'split'. Make one with split_by_group."
        )
    parts = manifest.frame["split"]
    pairs = zip(manifest.ids, parts.where(parts.notna(), None), strict=True)
    return sha256_of_json(sorted([one, part] for one, part in pairs))


def split_problems(
    manifest: Manifest,
    *,
    group: str = "patient",
    stratify: str | None = "label",
    tied: Iterable[Iterable[str]] = (),
    tied_by: Sequence[str] = TIED_BY,
) -> list[Problem]:
    """Say what is wrong or uneven in the split of a manifest.

    A group on two sides is fatal. Warnings: rows without a part, rows without a label, and a
    class that a part lacks.
    """
    file = manifest_name(manifest)
    frame = manifest.frame
    parts = frame["split"].fillna("").to_numpy(dtype=object)
    problems = _groups_on_two_sides(
        file, joined_groups(manifest, group=group, tied=tied, tied_by=tied_by), parts
    )
    without = int((parts == "").sum())
    if without:
        problems.append(
            Problem(
                file,
                f"{without} of {len(parts)} rows have no part.",
                "They are not used. Split again to place them.",
                column="split",
                kind="no-part",
                fatal=False,
            )
        )
    if stratify is None:
        return problems
    unlabelled = int(frame[stratify].isna().sum())
    if unlabelled:
        problems.append(
            Problem(
                file,
                f"{unlabelled} of {len(parts)} rows have no label.",
                "They are not used for training or scores.",
                column=stratify,
                kind="unlabelled",
                fatal=False,
            )
        )
    return problems + _absent_classes(file, frame[stratify], parts, stratify)


def manifest_name(manifest: Manifest) -> str:
    """Return the manifest's path as text, or ``manifest`` where it was not read from a file."""
    return "manifest" if manifest.path is None else str(manifest.path)


def _groups_on_two_sides(file: str, names: np.ndarray, parts: np.ndarray) -> list[Problem]:
    placed = parts != ""
    sides = pd.Series(parts[placed]).groupby(names[placed]).unique()
    return [
        Problem(
            file,
            f"group {name!r} is in {' and '.join(sorted(found))}, expected on one side only.",
            f"Correct the column, or {_ANEW}.",
            column="split",
            kind="group-on-two-sides",
        )
        for name, found in sides.items()
        if len(found) > 1
    ]


def _absent_classes(file: str, labels: pd.Series, parts: np.ndarray, column: str) -> list[Problem]:
    tags = label_sets(labels, several=column == "labels")
    found: dict[str, set[str]] = {}
    for row, part in zip(tags, parts, strict=True):
        for name in row or ():
            found.setdefault(name, set()).update({part} - {""})
    problems = []
    if len(found) == 1 and column != "labels":
        problems.append(
            Problem(
                file,
                f"one class only, {next(iter(found))!r}; expected at least two.",
                "Add images of another class, or check the column.",
                column=column,
                kind="one-class",
                fatal=False,
            )
        )
    every = [part for part in PARTS if (parts == part).any()]
    for name, where in sorted(found.items()):
        lacking = [part for part in every if part not in where]
        if lacking:
            problems.append(
                Problem(
                    file,
                    f"class {name!r} has no image in {' and '.join(lacking)}.",
                    "Its scores there are undefined. Add images of other patients, or leave the "
                    "class out.",
                    column=column,
                    kind="class-absent",
                    fatal=False,
                )
            )
    return problems


def _checked_shares(fractions: Mapping[str, float]) -> dict[str, float]:
    unknown = [name for name in fractions if name not in PARTS]
    if unknown:
        raise SplitError(f"part {unknown[0]!r}: expected {', '.join(PARTS)}.")
    for name, share in fractions.items():
        if not 0.0 <= share <= 1.0:
            raise SplitError(f"the share of {name!r} is {share}, expected 0 to 1.")
    total = sum(fractions.values())
    if abs(total - 1.0) > 1e-6:
        raise SplitError(
            f"the shares {dict(fractions)} sum to {total:g}, expected 1. "
            "Change one so that they do."
        )
    return {name: fractions[name] for name in PARTS if fractions.get(name, 0.0) > 0}


def _standing_split(manifest: Manifest, names: np.ndarray) -> np.ndarray | None:
    """Return the part that each row stands in, empty where none, or None without the column."""
    if "split" not in manifest.frame:
        return None
    parts = manifest.frame["split"].fillna("").to_numpy(dtype=object)
    torn = _groups_on_two_sides(manifest_name(manifest), names, parts)
    if torn:
        more = f" ({len(torn) - 1} more such groups.)" if len(torn) > 1 else ""
        raise SplitError(f"{torn[0]}{more}")
    return parts
