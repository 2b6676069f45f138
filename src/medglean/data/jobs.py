"""From the rows of a manifest to the images that are to be decoded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medglean.data.decode import Job, Recorded
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
from medglean.errors import DataError


def jobs_of(manifest: Manifest, recipe: Recipe) -> list[Job]:
    """Return one job per image that the manifest's rows name, in the order of the rows.

    Raises
    ------
    DataError
        If the manifest's image columns do not fit the recipe's channels, or it has no rows.
    """
    if len(manifest) == 0:
        raise DataError(
            "the manifest has no rows, expected at least one image. Check how it was made."
        )
    columns = _columns(manifest, recipe)
    frame = manifest.frame
    texts = [frame[column].to_numpy(dtype=object) for column in columns]
    sizes = [_recorded(frame, "bytes", column) for column in columns]
    hashes = [_recorded(frame, "sha256", column) for column in columns]
    rows_of: dict[tuple[tuple[str, ...], tuple[Recorded, ...]], list[int]] = {}
    for row in range(len(frame)):
        recorded = tuple(
            Recorded(
                None if pd.isna(size[row]) else int(size[row]),
                None if pd.isna(digest[row]) else str(digest[row]).lower(),
            )
            for size, digest in zip(sizes, hashes, strict=True)
        )
        references = tuple("" if pd.isna(text[row]) else str(text[row]) for text in texts)
        rows_of.setdefault((references, recorded), []).append(row)
    return [
        Job(tuple(rows), references, recorded, manifest.root, recipe)
        for (references, recorded), rows in rows_of.items()
    ]


def _columns(manifest: Manifest, recipe: Recipe) -> list[str]:
    """Return the manifest's columns with the images of a row, in the recipe's order."""
    present = manifest.image_columns
    if present == ["image"]:
        return present
    if isinstance(recipe.channels, str):
        names = ", ".join(column.removeprefix("image.") for column in present)
        raise DataError(
            f"the manifest has one image per channel ({names}), and the recipe expects one image "
            f"({recipe.channels!r}). Set images.channels to the names to use."
        )
    wanted = [f"image.{name}" for name in recipe.channels]
    missing = [column for column in wanted if column not in present]
    if missing:
        raise DataError(
            f"the manifest has no column {missing[0]!r}; its images are {', '.join(present)}. "
            "Add the column, or set images.channels to names that are there."
        )
    return wanted


def _recorded(frame: pd.DataFrame, what: str, column: str) -> np.ndarray:
    """Return what the index recorded of each row's file: ``sha256``, or ``sha256.<channel>``."""
    name = what + column.removeprefix("image")
    if name in frame:
        return frame[name].to_numpy(dtype=object)
    return np.full(len(frame), None, dtype=object)
