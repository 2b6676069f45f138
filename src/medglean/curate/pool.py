"""The images that can be chosen: their embedding, small pictures, and what was taken beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from medglean.curate.curation import label_column
from medglean.curate.embed import Embedded
from medglean.curate.settings import CuratePreset
from medglean.data.cache import open_cache
from medglean.data.manifest import Manifest
from medglean.data.recipe import Intensity, Recipe
from medglean.data.tables import read_table
from medglean.errors import DataError, UsageError

THUMBNAIL = Recipe(
    size_px=(64, 64), resize="pad", intensity=Intensity(rule="percentile", low=0.5, high=99.5)
)
"""How images are shown, looked at for contrast, and compared in structure."""


@dataclass(frozen=True)
class Pool:
    """The images that can be chosen, with what is known of them.

    Attributes
    ----------
    manifest, values
        A row each.
    thumbnails
        Grey of 8 bits, shape (n, 64, 64); None where the images themselves are not here.
    taken
        Positions taken beforehand.
    """

    manifest: Manifest
    values: Float[np.ndarray, "n d"]
    thumbnails: UInt8[np.ndarray, "n h w"] | None
    taken: np.ndarray


def choosable(manifest: Manifest) -> Bool[np.ndarray, " n"]:
    """Return which images can be chosen: all but those of a validation or test part."""
    if "split" not in manifest.frame:
        return np.ones(len(manifest), dtype=bool)
    parts = manifest.frame["split"].fillna("train")
    chosen: np.ndarray = (parts == "train").to_numpy(dtype=bool)
    return chosen


def make_pool(
    manifest: Manifest,
    found: Embedded,
    preset: CuratePreset,
    *,
    preselected: Path | None,
    cache: Path,
    workers: int,
) -> Pool:
    """Gather the images of a manifest that can be chosen.

    Parameters
    ----------
    manifest, found
        All images, and the embedding of those that could be read.
    preset
        Says whether labelled images are taken beforehand.
    preselected
        CSV or Parquet with a column ``id`` of images taken beforehand.
    cache, workers
        As for decoding.

    Raises
    ------
    DataError
        If no image can be chosen.
    UsageError
        If images taken beforehand are not among those that can be chosen.
    """
    inside = choosable(manifest)
    rows = np.flatnonzero(found.ok & inside)
    if len(rows) == 0:
        raise DataError(
            f"{manifest.path or 'the manifest'}: no image can be chosen: {int(found.ok.sum())} of "
            f"{len(manifest)} have an embedding, and {int(inside.sum())} are in the training part "
            "or in none. Check problems.csv and the column 'split'."
        )
    chosen = manifest.select(rows)
    values = found.embedding.values[np.searchsorted(np.flatnonzero(found.ok), rows)]
    return Pool(
        chosen,
        values,
        _thumbnails(manifest, rows, cache, workers),
        taken_beforehand(chosen, preset, preselected),
    )


def _thumbnails(
    manifest: Manifest, rows: np.ndarray, cache: Path, workers: int
) -> UInt8[np.ndarray, "n h w"] | None:
    """Return small pictures of all rows; None where one cannot be had (embeddings from a file)."""
    decoded = open_cache(manifest, THUMBNAIL, cache, workers=workers)
    if not decoded.ok[rows].all():
        return None
    grey: np.ndarray = decoded.array[:, 0]
    return grey if len(rows) == len(manifest) else grey[rows]


def taken_beforehand(manifest: Manifest, preset: CuratePreset, file: Path | None) -> np.ndarray:
    """Return the positions of the images taken beforehand: by label, and from a file of ids.

    Raises
    ------
    UsageError
        If there are no labels to go by, or the file names images that are not in the manifest.
    """
    taken = np.zeros(len(manifest), dtype=bool)
    column = label_column(manifest)
    if preset.selection.preselected == "labelled":
        if column is None:
            raise UsageError(
                "selection.preselected is 'labelled', and the manifest has no column 'label' or "
                "'labels'. Name a file of ids with --preselected, or leave it out."
            )
        taken |= manifest.frame[column].notna().to_numpy(dtype=bool)
    if file is not None:
        wanted = _ids_in(file)
        known = set(manifest.ids)
        absent = [one for one in wanted if one not in known]
        if absent:
            raise UsageError(
                f"{file}: {len(absent)} of {len(wanted)} ids are not among the images that can be "
                f"chosen: {', '.join(absent[:10])}. Correct or remove them."
            )
        taken |= np.isin(np.array(manifest.ids, dtype=object), list(wanted))
    return np.flatnonzero(taken)


def _ids_in(file: Path) -> list[str]:
    frame = read_table(file).frame
    if "id" not in frame:
        raise UsageError(
            f"{file}: expected a column 'id' with the images taken beforehand, found "
            f"{', '.join(map(str, frame.columns))}."
        )
    return [str(one) for one in frame["id"].dropna()]
