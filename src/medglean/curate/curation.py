"""Everything that is known of a selection once it is made: what the page and the tables tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from medglean.curate.beside import curves_beside
from medglean.curate.comparison import CoverageCurve
from medglean.curate.duplicates import (
    MIN_SIMILARITY,
    MOST_PAIRS,
    LabelConflicts,
    Leakage,
    Pairs,
    by_structure,
    label_conflicts,
    leakage,
    near_duplicates,
)
from medglean.curate.redundancy import Redundancy, redundancy
from medglean.curate.select import Selection
from medglean.curate.similarity import check_embeddings, to_set
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError

ZERO = "embedding of zeros: nothing is similar to it"
OUTLIER = "outlier"


@dataclass(frozen=True)
class Curation:
    """A selection and what was found around it; positions are rows of the manifest.

    Attributes
    ----------
    manifest, values
        The images that have an embedding, and its rows.
    selection
        What was chosen.
    similarity, nearest
        For each image the largest similarity to a selected image, or one taken beforehand, and
        its position; NaN and -1 for a row of zeros.
    redundancy
        How similar the images are to one another.
    grouped_by
        What ``redundancy`` takes as groups: ``group``, ``patient``, or empty.
    curves
        Coverage at rising budgets, by name.
    pairs, leaks, conflicts
        Near-duplicates; those across a split and those labelled differently, where there is a
        split and where there are labels.
    """

    manifest: Manifest
    values: Float[np.ndarray, "n d"]
    selection: Selection
    similarity: Float[np.ndarray, " n"]
    nearest: Int[np.ndarray, " n"]
    redundancy: Redundancy
    grouped_by: str
    curves: Mapping[str, Sequence[CoverageCurve]]
    pairs: Pairs
    leaks: Leakage | None
    conflicts: LabelConflicts | None

    @property
    def label(self) -> str | None:
        """Name of the manifest's column of labels, where it has one."""
        return label_column(self.manifest)

    @property
    def set_aside(self) -> dict[int, str]:
        """Why images could not be chosen, by position."""
        found = dict.fromkeys(self.selection.set_aside.tolist(), ZERO)
        if self.selection.outliers is not None:
            listed = self.selection.outliers
            for position, reason in zip(listed.position.tolist(), listed.reason, strict=True):
                found[position] = f"{OUTLIER}: {reason}"
        return found


def look_into(
    manifest: Manifest,
    values: Float[np.ndarray, "n d"],
    selection: Selection,
    *,
    thumbnails: Num[np.ndarray, "n h w"] | None = None,
    thresholds: Sequence[float] = (0.5, 0.7, 0.9),
    min_similarity: float = MIN_SIMILARITY,
    most_pairs: int = MOST_PAIRS,
    draws: int = 5,
    seed: int = 0,
) -> Curation:
    """Find out what a selection covers, what it leaves out, and what is wrong in the set.

    Parameters
    ----------
    manifest, values
        The images and a row of their embedding each: centred, if the selection was.
    selection
        From `medglean.curate.select.select` on the same rows.
    thumbnails
        Grey values in [0, 1] or of 8 bits: near-duplicates are put in order by their structural
        similarity. None: they stay in the order of the embedding's.
    thresholds
        Similarities above which pairs count as redundant.
    min_similarity, most_pairs
        From which on two images are near-duplicates, and how many pairs are kept.
    draws, seed
        Random orders to compare coverage with, and their seed.

    Raises
    ------
    EmbeddingError
        If there is not one row for each image.
    """
    if len(values) != len(manifest):
        raise EmbeddingError(
            f"{len(values):,} embeddings for {len(manifest):,} images: the two do not match. Give "
            "the manifest of the images that were embedded."
        )
    checked = check_embeddings(values)
    usable = np.flatnonzero(checked.usable)
    rows = checked.values[usable]
    everything = np.concatenate([selection.chosen, selection.taken])
    similarity, nearest = np.full(len(values), np.nan), np.full(len(values), -1)
    largest, which = to_set(rows, np.searchsorted(usable, everything))
    similarity[usable], nearest[usable] = largest, usable[which]
    grouped_by = next((name for name in ("group", "patient") if name in manifest.frame), "")
    groups = manifest.groups(grouped_by)[usable] if grouped_by else None
    pairs = near_duplicates(values, threshold=min_similarity, most=most_pairs)
    if thumbnails is not None:
        pairs = by_structure(pairs, thumbnails)
    eligible = selection.eligible
    label = label_column(manifest)
    frame = manifest.frame
    return Curation(
        manifest=manifest,
        values=values,
        selection=selection,
        similarity=similarity,
        nearest=nearest,
        redundancy=redundancy(rows, groups=groups, thresholds=thresholds),
        grouped_by=grouped_by,
        curves=curves_beside(
            checked.values[eligible],
            np.searchsorted(eligible, selection.ranking.order),
            budget=len(selection.chosen),
            taken=np.searchsorted(eligible, selection.taken),
            draws=draws,
            seed=seed,
        ),
        pairs=pairs,
        leaks=leakage(
            pairs,
            frame["split"].tolist(),
            patients=frame["patient"].tolist() if "patient" in frame else None,
        )
        if "split" in frame
        else None,
        conflicts=label_conflicts(pairs, frame[label].tolist()) if label else None,
    )


def label_column(manifest: Manifest) -> str | None:
    """Return ``label`` or ``labels``, whichever the manifest has."""
    return next((name for name in ("label", "labels") if name in manifest.frame), None)
