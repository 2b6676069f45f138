"""The classes of another data set under the names that a run knows."""

from __future__ import annotations

import difflib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medglean.data.labels import label_sets
from medglean.data.manifest import Manifest
from medglean.errors import DataError, Problem

LabelColumn = Literal["label", "labels"]
NAMES = Sequence[tuple[str, ...] | None]
"""Class names of each image; None where it is not labelled."""
_SHOWN = 30
_ALIKE = 0.8
"""Least similarity, from 0 to 1, of a name that is offered as a guess."""


def mapped(
    manifest: Manifest,
    *,
    column: LabelColumn,
    classes: Sequence[str],
    label_map: Mapping[str, str] | None,
) -> tuple[Manifest, list[Problem]]:
    """Give the classes of a manifest the names that a run knows.

    Parameters
    ----------
    manifest
        With a column ``label`` or ``labels``. Where it has only the other one of the two,
        ``labels`` become one ``label`` if the map leaves one class of each image, and a ``label``
        becomes the one finding of ``labels``.
    column
        What the run needs.
    classes
        Of the run.
    label_map
        From a name of the manifest to a class, or to the empty text, which leaves it out: for
        ``label`` the images, for ``labels`` the finding. The name ``""`` stands for images without
        any finding. A class that is not named keeps its name.

    Returns
    -------
    tuple
        The manifest, without the images that are left out, and what a reader should know: how many
        were left out, and which classes of the run do not occur.

    Raises
    ------
    DataError
        If a name is neither a class nor in the map; the message tells all of them with a proposal.
        If the map names a class that the run does not have, leaves an image two classes of which
        it can have one, or leaves no image.
    """
    name = str(manifest.path or "the manifest")
    told = dict(label_map or {})
    _check_map(name, told, classes)
    other: LabelColumn = "label" if column == "labels" else "labels"
    source = column if column in manifest.frame else other
    if source not in manifest.frame:
        raise DataError(
            f"{name}: no column 'label' or 'labels', which holds the truth to compare with. Add "
            f"{column!r}, or use `medglean predict`, which needs none."
        )
    given = label_sets(manifest.frame[source], several=source == "labels")
    counts = Counter(one for names in given for one in names or ())
    _check_names(name, counts, told, classes)
    renamed = [_renamed(names, told) for names in given]
    present = {one for names in renamed for one in names or ()}
    if not present:
        raise DataError(
            f"{name}: no image is labelled with one of the run's classes ({', '.join(classes)}). "
            "Check the column and --map."
        )
    problems = _unused(name, source, counts, told, any(names == () for names in given))
    if column == "label":
        found, more = _one_each(manifest, name, source, given, renamed)
    else:
        found, more = _several_each(manifest, name, source, renamed, changed=bool(told))
    problems += more
    absent = [one for one in classes if one not in present]
    if absent:
        problems.append(
            Problem(
                name,
                f"no image of {', '.join(absent)}, which the run knows: measures of "
                f"{'it' if len(absent) == 1 else 'them'} are n/a.",
                "",
                column=source,
                kind="absent-class",
                fatal=False,
            )
        )
    return found, problems


def proposal(names: Sequence[str], classes: Sequence[str]) -> str:
    """Return options to paste: a guess for each name that is spelt like a class, else ``CLASS``.

    Examples
    --------
    >>> proposal(["No Finding", "tumour"], ["No finding", "COVID-19"])
    "--map 'No Finding=No finding' --map tumour=CLASS"
    """
    plain = {_plain(one): one for one in classes}
    words = []
    for name in names:
        close = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=_ALIKE)
        guess = plain[close[0]] if close else "CLASS"
        words.append(f"--map {shlex.quote(f'{name}={guess}')}")
    return " ".join(words)


def _plain(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum()) or name


def _check_map(name: str, told: Mapping[str, str], classes: Sequence[str]) -> None:
    wrong = {theirs: ours for theirs, ours in told.items() if ours and ours not in classes}
    if wrong:
        theirs, ours = next(iter(wrong.items()))
        raise DataError(
            f"{name}: --map says that {theirs!r} is {ours!r}, and the run's classes are "
            f"{', '.join(classes)}. Name one of them, or nothing to leave {theirs!r} out."
        )


def _check_names(
    name: str, counts: Mapping[str, int], told: Mapping[str, str], classes: Sequence[str]
) -> None:
    unknown = [one for one in sorted(counts) if one not in told and one not in classes]
    if not unknown:
        return
    listed = ", ".join(f"class {one!r} has {counts[one]:,} image(s)" for one in unknown[:_SHOWN])
    more = len(unknown) - _SHOWN
    listed += f", and {more} more" if more > 0 else ""
    raise DataError(
        f"{name}: {listed}; the run's classes are {', '.join(classes)}. Say what each is called "
        f"there, with nothing behind '=' to leave it out:\n  {proposal(unknown[:_SHOWN], classes)}"
    )


def _renamed(names: tuple[str, ...] | None, told: Mapping[str, str]) -> tuple[str, ...] | None:
    if names is None:
        return None
    new = {told.get(one, one) for one in names} if names else {told.get("", "")}
    return tuple(sorted(new - {""}))


def _unused(
    name: str, column: str, counts: Mapping[str, int], told: Mapping[str, str], bare: bool
) -> list[Problem]:
    unused = [one for one in told if one not in counts and not (one == "" and bare)]
    if not unused:
        return []
    found = f"--map names {', '.join(map(repr, unused))}, which no image has."
    return [Problem(name, found, "Check the spelling.", None, column, "unused-map", fatal=False)]


def _one_each(
    manifest: Manifest, name: str, source: str, given: NAMES, renamed: NAMES
) -> tuple[Manifest, list[Problem]]:
    """Return the images that keep one class, or have no label at all."""
    several = [row for row, names in enumerate(renamed) if names is not None and len(names) > 1]
    if several:
        first = renamed[several[0]] or ()
        raise DataError(
            f"{name}: {len(several):,} image(s) have several of the run's classes, the first "
            f"(row {several[0] + 2}) {' and '.join(first)}, and the run gives each image one. "
            "Leave one of them out with --map NAME=, or map both to the same class."
        )
    left_out = Counter(
        " and ".join(given[row] or ()) or "no finding"
        for row, names in enumerate(renamed)
        if names == ()
    )
    problems = []
    if left_out:
        listed = ", ".join(f"{count:,} of {one}" for one, count in left_out.most_common(_SHOWN))
        text = f"{left_out.total():,} images are left out as --map says: {listed}."
        if source == "labels":
            text = f"{left_out.total():,} images have none of the run's classes: {listed}."
        problems.append(Problem(name, text, "", None, source, "left-out", fatal=False))
    labels = [names[0] if names else None for names in renamed]
    if not problems and source == "label" and labels == _texts(manifest, "label"):
        return manifest, problems
    keep = np.array([names != () for names in renamed], dtype=bool)
    columns = {"label": [labels[row] for row in np.flatnonzero(keep)]}
    return _with(manifest, manifest.select(keep), {**columns, "labels": None}), problems


def _several_each(
    manifest: Manifest, name: str, source: str, renamed: NAMES, *, changed: bool
) -> tuple[Manifest, list[Problem]]:
    """Return all images with their findings under the run's names."""
    if source == "labels" and not changed:
        return manifest, []
    problems = []
    if source == "label":
        text = (
            "one class per image, read as its only finding: a finding that was not looked for "
            "counts as absent."
        )
        problems.append(Problem(name, text, "", None, source, "one-finding", fatal=False))
    labels = [None if names is None else ";".join(names) for names in renamed]
    return _with(manifest, manifest, {"labels": labels, "label": None}), problems


def _texts(manifest: Manifest, column: str) -> list[str | None]:
    series = manifest.frame[column]
    return [
        None if gone else str(text)
        for text, gone in zip(series.tolist(), series.isna().tolist(), strict=True)
    ]


def _with(old: Manifest, chosen: Manifest, columns: Mapping[str, object]) -> Manifest:
    """Return rows with other labels that still know their file, as caches and messages need it."""
    new = chosen.with_columns(**columns)
    return Manifest(new.frame, old.root, path=old.path, warnings=old.warnings)
