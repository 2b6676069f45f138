"""What is known of images without looking at them: facts about the file, columns of the table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.readers import probe
from medglean.data.shortcut_features import HEADER_FIELDS, Features, metadata_families
from medglean.errors import DataError

FACTS = ("bytes", "height", "width", "format", "channels", "bits")


def file_facts(manifest: Manifest, rows: np.ndarray) -> pd.DataFrame:
    """Return what is known of the files of some rows.

    Taken from the manifest, where an index wrote it; else from the header of each file. What
    neither has, such as where the files are on another machine, is missing.

    Returns
    -------
    DataFrame
        A row for each of ``rows``, with the columns `FACTS`.
    """
    frame = manifest.frame.iloc[rows].reset_index(drop=True)
    if set(FACTS) <= set(frame.columns):
        known = frame[list(FACTS)]
        if known.notna().all(axis=None):
            return known
    columns = manifest.image_columns
    found = [_of_files(manifest, texts) for texts in frame[columns].astype(object).to_numpy()]
    table = pd.DataFrame(found, columns=list(FACTS))
    numbers = ["bytes", "height", "width", "channels", "bits"]
    return table.astype(dict.fromkeys(numbers, float))


def _of_files(manifest: Manifest, references: np.ndarray) -> dict[str, object]:
    """Return the facts of an image's files: their bytes together, the rest of the first."""
    try:
        paths = [manifest.file_of(text) for text in references if isinstance(text, str)]
        size = sum(path.stat().st_size for path in paths)
        header = probe(paths[0])
    except (DataError, OSError, IndexError):
        return {}
    return {
        "bytes": float(size),
        "height": float(header.height),
        "width": float(header.width),
        "format": header.format,
        "channels": float(header.channels),
        "bits": float(header.bits),
    }


def families_of(
    images: ImageSet, rows: np.ndarray, *, further: Sequence[str]
) -> dict[str, Features]:
    """Return what is known of some rows, by family; what is the same everywhere is left out.

    Parameters
    ----------
    images, rows
        Which.
    further
        Columns to use beside those that a header usually fills.
    """
    manifest = images.manifest
    fields = tuple(dict.fromkeys([*HEADER_FIELDS, *further]))
    spoken_for = {"id", "patient", "group", "label", "labels", "split", *manifest.image_columns}
    return metadata_families(
        file_facts(manifest, rows),
        manifest.frame.iloc[rows].reset_index(drop=True),
        fields=[name for name in fields if name not in spoken_for],
    )
