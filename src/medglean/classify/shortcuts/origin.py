"""Where images come from: whether the picture tells it, and whether it tells the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from sklearn.metrics import normalized_mutual_info_score

from medglean.classify.shortcuts.baselines import regression
from medglean.data.shortcuts import MIN_PATIENTS, Probe, probe

COLUMNS = ("source", "manufacturer", "view")
"""The first of these that tells images apart says where they come from."""
MOST_SOURCES = 12
OTHERS = "(others)"
UNKNOWN = "(not known)"
WHOLLY = 0.95
"""Share of a class from sources of its own, from which class and source nearly coincide."""


@dataclass(frozen=True)
class Origin:
    """Classes and sources of the images at hand.

    Attributes
    ----------
    column
        Of the manifest.
    classes
        Names, in the order of ``counts``.
    sources
        Names; rare ones are one.
    counts
        Images of each class (row) from each source (column).
    cramers_v
        Of each class and the source, 0 (no relation) to 1; for classes that exclude one another
        one number, under the name ``""``.
    shared_information
        Mutual information over the mean of the entropies, likewise.
    own
        Classes of which `WHOLLY` comes from sources that hold next to nothing else.
    coincides
        Whether every class does.
    probe
        How well the picture tells the source, cross-validated over patients.
    """

    column: str
    classes: tuple[str, ...]
    sources: tuple[str, ...]
    counts: Int[np.ndarray, "k s"]
    cramers_v: dict[str, float]
    shared_information: dict[str, float]
    own: tuple[str, ...]
    coincides: bool
    probe: Probe


def origin_of(
    frame: pd.DataFrame,
    truth: Bool[np.ndarray, "n k"],
    classes: tuple[str, ...],
    groups: np.ndarray,
    features: np.ndarray,
    *,
    exclusive: bool,
    seed: int,
) -> Origin | None:
    """Say how class, source and picture hang together; None without a column that tells.

    Parameters
    ----------
    frame
        The manifest's rows.
    truth, classes, groups
        Of the same images.
    features
        What the picture is to be told by, such as components of thumbnails.
    exclusive
        Whether an image has one class.
    seed
        Of folds and bootstrap.
    """
    found = _sources(frame, groups)
    if found is None:
        return None
    column, names, place = found
    told = place[:, None] == np.arange(len(names))
    counts = truth.T.astype(np.int64) @ told.astype(np.int64)
    if exclusive:
        label = truth.argmax(axis=1)
        values = {"": cramers_v(counts)}
        shared = {"": float(normalized_mutual_info_score(label, place))}
    else:
        values = {
            name: cramers_v(np.stack([counts[j], told.sum(axis=0) - counts[j]]))
            for j, name in enumerate(classes)
        }
        shared = {
            name: float(normalized_mutual_info_score(truth[:, j], place))
            for j, name in enumerate(classes)
        }
    own = own_sources(counts, told.sum(axis=0))
    present = counts.sum(axis=1) > 0
    known = np.array([name not in (OTHERS, UNKNOWN) for name in names])
    tested = told[:, known]
    return Origin(
        column=column,
        classes=classes,
        sources=names,
        counts=counts,
        cramers_v=values,
        shared_information=shared,
        own=tuple(classes[j] for j in np.flatnonzero(own)),
        coincides=bool(present.sum() > 1 and own[present].all()),
        probe=probe(
            f"picture for {column}",
            features,
            tested,
            tuple(name for name, kept in zip(names, known, strict=True) if kept),
            groups,
            seed=seed,
            learner=regression(),
        ),
    )


def _sources(
    frame: pd.DataFrame, groups: np.ndarray
) -> tuple[str, tuple[str, ...], Int[np.ndarray, " n"]] | None:
    """Return the column that tells images apart, its values, and each image's; None without one.

    A source needs `MIN_PATIENTS` patients: a column that names each patient says nothing of where
    other images come from.
    """
    for column in COLUMNS:
        if column not in frame:
            continue
        values = frame[column].astype(object)
        text = values.where(values.notna(), UNKNOWN).astype(str).to_numpy(dtype=object)
        patients = pd.DataFrame({"source": text, "who": groups}).groupby("source")["who"].nunique()
        common = patients[(patients >= MIN_PATIENTS) & (patients.index != UNKNOWN)]
        if len(common) < 2:
            continue
        kept = common.sort_values(ascending=False, kind="stable").index[:MOST_SOURCES]
        named = np.where(np.isin(text, [*kept, UNKNOWN]), text, OTHERS)
        names = [*sorted(kept), *(n for n in (OTHERS, UNKNOWN) if (named == n).any())]
        numbers = {name: number for number, name in enumerate(names)}
        return column, tuple(names), np.array([numbers[n] for n in named], dtype=np.int64)
    return None


def cramers_v(counts: Int[np.ndarray, "k s"]) -> float:
    r"""Return Cramér's V of a table: :math:`\sqrt{\chi^2 / (n \min(k - 1, s - 1))}`.

    Empty rows and columns do not count; NaN where fewer than two of either are left.

    Examples
    --------
    >>> cramers_v(np.array([[5, 0], [0, 5]])), cramers_v(np.array([[5, 5], [5, 5]]))
    (1.0, 0.0)
    """
    table = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0].astype(np.float64)
    smaller = min(table.shape) - 1
    if smaller < 1:
        return float("nan")
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / (total * smaller)))


def own_sources(
    counts: Int[np.ndarray, "k s"], images: Int[np.ndarray, " s"] | Sequence[int]
) -> Bool[np.ndarray, " k"]:
    """Return which classes come almost wholly from sources that hold next to nothing else.

    Parameters
    ----------
    counts
        Images of each class from each source.
    images
        Images of each source.
    """
    share = counts / np.maximum(np.asarray(images), 1)
    alone = share >= WHOLLY
    total = counts.sum(axis=1)
    from_own = (counts * alone).sum(axis=1)
    whole: np.ndarray = (total > 0) & (from_own >= WHOLLY * total)
    return whole
