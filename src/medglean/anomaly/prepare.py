"""From a manifest to what training needs: which images are healthy, which part each is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from medglean.anomaly.matching import match_weights
from medglean.anomaly.position import POSITION, relative_position
from medglean.anomaly.settings import AnomalyPreset, LabelSettings
from medglean.data.cache import Progress
from medglean.data.division import check_division, divide
from medglean.data.imageset import ImageSet
from medglean.data.labels import label_sets
from medglean.data.manifest import Manifest
from medglean.errors import DataError, Problem

HEALTHY, DISEASED = 0, 1
"""The classes as networks take them, in every run alike."""
NULL = -1
"""No class: withheld from the network, or not known of an image."""

_BINARY = "healthy-or-diseased"  # a column that stands only while the rows are divided


@dataclass(frozen=True)
class Chosen:
    """The rows of a manifest that are healthy or diseased.

    Attributes
    ----------
    manifest
        Those rows, each with its ``split``.
    targets
        HEALTHY or DISEASED of each row, int64, shape (n,).
    healthy
        Name of the healthy class.
    diseased
        Names of what counts as diseased.
    match
        The number in which both classes are made alike, shape (n,); None where none is asked for.
    problems
        What was left out and what is uneven.
    """

    manifest: Manifest
    targets: Int[np.ndarray, " n"]
    healthy: str
    diseased: tuple[str, ...]
    match: Float[np.ndarray, " n"] | None
    problems: tuple[Problem, ...]


def column_of(manifest: Manifest) -> str:
    """Return the column that holds the classes: ``label``, or else ``labels``.

    Raises
    ------
    DataError
        If there is neither.
    """
    for name in ("label", "labels"):
        if name in manifest.frame:
            return name
    raise DataError(
        f"{_name(manifest)}: no column 'label' or 'labels', so there is no telling which images "
        "are healthy. Add one, or index a folder whose sub-folders are the classes."
    )


def targets_of(manifest: Manifest, labels: LabelSettings) -> Int[np.ndarray, " n"]:
    """Return HEALTHY or DISEASED for each row, NULL for those that are neither or unlabelled.

    A row is diseased if any of its names is, and healthy if one is the healthy class and none is
    diseased.

    Raises
    ------
    DataError
        If the manifest has no column for it.
    """
    column = column_of(manifest)
    sets = label_sets(manifest.frame[column], several=column == "labels")
    return np.array([_target(names, labels) for names in sets], dtype=np.int64)


def _target(names: Sequence[str] | None, labels: LabelSettings) -> int:
    if names is None:
        return NULL
    if labels.diseased is None:
        if any(name != labels.healthy for name in names):
            return DISEASED
    elif any(name in labels.diseased for name in names):
        return DISEASED
    return HEALTHY if labels.healthy in names else NULL


def choose(manifest: Manifest, preset: AnomalyPreset) -> Chosen:
    """Tell healthy from diseased rows, and divide both.

    Raises
    ------
    DataError
        If there is no such class, if one class has no image, or if ``match_on`` names no column
        of numbers.
    SplitError
        If the rows cannot be divided as the preset says.
    """
    column = column_of(manifest)
    known = manifest.classes(column)
    diseased = _checked_names(manifest, column, known, preset.labels)
    targets = targets_of(manifest, preset.labels)
    _check_both(manifest, targets, preset.labels, diseased)
    problems = _left_out(manifest, column, targets)
    keep = np.flatnonzero(targets != NULL)
    targets = targets[keep]
    names = np.where(targets == HEALTHY, "healthy", "diseased").astype(object)
    rows = manifest.select(keep).with_columns(**{_BINARY: pd.Series(names, dtype="str")})
    rows = divide(rows, preset.split, seed=preset.fit.seed, label=_BINARY)
    problems += check_division(rows, preset.split, label=_BINARY)
    rows = rows.with_columns(**{_BINARY: None})
    match = None
    if preset.match_on is not None:
        match = _numbers(manifest, preset)[keep]
        problems += _unmatched(rows, match, targets, preset.match_on)
    return Chosen(rows, targets, preset.labels.healthy, diseased, match, tuple(problems))


def _checked_names(
    manifest: Manifest, column: str, known: Sequence[str], labels: LabelSettings
) -> tuple[str, ...]:
    """Return the names of what is diseased, after a look at whether all names occur."""
    listed = ", ".join(repr(name) for name in known) or "none"
    if labels.healthy not in known:
        raise DataError(
            f"{_name(manifest)}: no image is of the healthy class {labels.healthy!r}; the classes "
            f"in column {column!r} are {listed}. Set labels.healthy= to the name of one of them."
        )
    if labels.diseased is None:
        return tuple(name for name in known if name != labels.healthy)
    if labels.healthy in labels.diseased:
        raise DataError(
            f"{labels.healthy!r} is named as healthy and as diseased. Take it out of "
            "labels.diseased, or set labels.healthy= to another name."
        )
    unknown = [name for name in labels.diseased if name not in known]
    if unknown:
        raise DataError(
            f"{_name(manifest)}: class {unknown[0]!r} of labels.diseased has no image; the classes "
            f"in column {column!r} are {listed}. Correct the name, or leave it out."
        )
    return tuple(labels.diseased)


def _check_both(
    manifest: Manifest, targets: np.ndarray, labels: LabelSettings, diseased: Sequence[str]
) -> None:
    """Refuse a manifest in which one class has no image."""
    if not (targets == HEALTHY).any():
        raise DataError(
            f"{_name(manifest)}: every image with {labels.healthy!r} has a diseased name, too, so "
            "none is healthy. Check the labels, or name what is diseased in labels.diseased."
        )
    if not (targets == DISEASED).any():
        names = ", ".join(repr(name) for name in diseased) or f"other than {labels.healthy!r}"
        raise DataError(
            f"{_name(manifest)}: no image is diseased ({names}); expected images of both classes. "
            "Add some, or check the labels."
        )


def _left_out(manifest: Manifest, column: str, targets: np.ndarray) -> list[Problem]:
    unlabelled = manifest.frame[column].isna().to_numpy()
    without, others = int(unlabelled.sum()), int(((targets == NULL) & ~unlabelled).sum())
    name, problems = _name(manifest), []
    if without:
        found = f"{without} of {len(targets)} images have no {column} and are left out."
        problems.append(Problem(name, found, "", column=column, kind="unlabelled", fatal=False))
    if others:
        found = f"{others} of {len(targets)} images are neither healthy nor diseased; left out."
        problems.append(Problem(name, found, "", column=column, kind="other-class", fatal=False))
    return problems


def _numbers(manifest: Manifest, preset: AnomalyPreset) -> Float[np.ndarray, " n"]:
    """Return a column of numbers; rows that are left out may lack one, which is looked at later."""
    column = str(preset.match_on)
    if column == POSITION and column not in manifest.frame:
        place = relative_position(manifest, preset.position)
        if place is None:
            raise DataError(
                f"{_name(manifest)}: match_on is the position, and column {preset.position!r}, "
                "which position names, has no number of a slice. Set position= to one that has, "
                "or leave match_on out."
            )
        return place
    if column not in manifest.frame:
        raise DataError(
            f"{_name(manifest)}: no column {column!r}, which match_on names; the columns are "
            f"{', '.join(map(str, manifest.frame.columns))}. Set match_on= to one with numbers."
        )
    given = manifest.frame[column]
    values = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _unmatched(
    rows: Manifest, match: np.ndarray, targets: np.ndarray, column: str
) -> list[Problem]:
    """Refuse what is no number; tell how many images of the training part are never drawn."""
    bad = np.flatnonzero(~np.isfinite(match))
    if len(bad):
        value = rows.frame[column].iloc[bad[0]] if column in rows.frame else None
        shown = "nothing" if pd.isna(value) else repr(value)
        raise DataError(
            f"column {column!r}, which match_on names: {shown} at id {rows.ids[bad[0]]!r}, "
            f"expected a number ({len(bad)} such rows). Fill it, or leave these rows out."
        )
    inside = np.flatnonzero((rows.frame["split"] == "train").to_numpy(dtype=bool))
    if len(np.unique(targets[inside])) < 2:
        return []  # told by whoever looks at the training part
    weights = match_weights(match[inside], targets[inside])
    never = int((weights == 0).sum())
    if never == len(inside):
        raise DataError(
            f"column {column!r}, which match_on names: the two classes of the training part have "
            "no range in common, so they cannot be made alike in it. Leave match_on out."
        )
    if never == 0:
        return []
    found = (
        f"{never} of {len(inside)} training images lie where {column!r} has images of one class "
        "alone, and are never drawn."
    )
    name = _name(rows)
    return [Problem(name, found, "", column=column, kind="unmatched", fatal=False)]


def open_images(
    manifest: Manifest,
    preset: AnomalyPreset,
    *,
    cache: Path | None,
    workers: int,
    progress: Progress | None = None,
) -> ImageSet:
    """Open a manifest's images as the preset prepares them, in the cache folder given.

    The set has no classes of its own: ask it for ``positions(part, labelled=False)``, and take
    the classes from `Chosen.targets` or `targets_of`.
    """
    return ImageSet(
        manifest,
        preset.images,
        cache=cache,
        label_column=None,
        workers=workers,
        progress=progress,
    )


def _name(manifest: Manifest) -> str:
    return str(manifest.path or "the manifest")
