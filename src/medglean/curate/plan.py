"""What a curation would do, checked without decoding an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medglean.curate.budget import count_of
from medglean.curate.pool import choosable, taken_beforehand
from medglean.curate.settings import CuratePreset
from medglean.data.manifest import Manifest
from medglean.errors import DataError


def plan(
    manifest: Manifest,
    preset: CuratePreset,
    *,
    budget: str | float,
    preselected: Path | None = None,
) -> list[str]:
    """Return in lines what `medglean.curate.task.curate` would do.

    Images that cannot be read are not known yet: they count as if they could.

    Raises
    ------
    UsageError
        If the budget or the images taken beforehand do not fit the manifest.
    DataError
        If no image is in the training part or in none.
    """
    pool = manifest.select(np.flatnonzero(choosable(manifest)))
    if len(pool) == 0:
        raise DataError(
            f"{manifest.path or 'the manifest'}: no image can be chosen: none is in the training "
            "part or in no part. Check the column 'split'."
        )
    taken = taken_beforehand(pool, preset, preselected)
    count = count_of(budget, len(pool) - len(taken))
    known = [
        f"{pool.frame[column].nunique():,} {what}"
        for column, what in (
            (preset.selection.group, "groups"),
            (preset.selection.patient, "patients"),
        )
        if column in pool.frame
    ]
    return [
        f"{preset.name}: embedding {preset.embedding.encoder}, method {preset.selection.method}",
        f"images: {len(pool):,} of {len(manifest):,} can be chosen, {len(taken):,} of them are "
        "taken beforehand" + "".join(f"; {one}" for one in known),
        f"to label: {count:,}",
        *(str(problem) for problem in manifest.warnings),
    ]
