"""What each method selects from the pool of each replicate: images alone decide, never labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medglean.curate.embed import embed
from medglean.curate.embed.task import centred
from medglean.curate.methods.table import BEGIN_AT_RANDOM
from medglean.curate.select import select
from medglean.curate.study.plan import Replicate, sizes_of, start_of
from medglean.curate.study.settings import EnrichStudyPreset
from medglean.data.cache import Progress
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, Problem
from medglean.randomness import key_of


def embed_pool(
    manifest: Manifest,
    replicate: Replicate,
    preset: EnrichStudyPreset,
    *,
    folder: Path,
    cache: Path | None,
    fixed: bool,
    workers: int,
    progress: Progress | None = None,
) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """Return the embedding of a replicate's training pool, row by row with it.

    An encoder that is trained learns from the pool alone, and is centred on it alone.

    Parameters
    ----------
    manifest
        Of the study's usable rows.
    folder
        For a trained encoder.
    fixed
        Whether all replicates have the same pool: then they share one encoder.

    Raises
    ------
    EmbeddingError
        If an image of the pool cannot be embedded although it could be read before.
    """
    number = 0 if fixed else replicate.number
    learn = replicate.pool
    # all rows are given, so that replicates share decoded images; it learns from "train" alone
    parts = np.full(len(manifest), "test", dtype=object)
    parts[learn] = "train"
    settings = preset.embedding.model_copy(update={"centre": False})
    found = embed(
        manifest.with_columns(split=pd.Series(parts, dtype="str")),
        settings,
        folder=folder / f"embedding-{number:03}",
        cache=cache,
        seed=key_of(preset.seed, "study", "embedding", number),
        workers=workers,
        progress=progress,
    )
    missing = [manifest.ids[row] for row in learn if not found.ok[row]]
    if missing:
        raise EmbeddingError(
            f"{len(missing)} of {len(learn)} images of the training pool have no embedding, such "
            f"as {missing[0]!r}: {found.problems[0] if found.problems else ''} Leave them out of "
            "the manifest, or embed them."
        )
    values = found.embedding.values[np.cumsum(found.ok)[learn] - 1]
    return (centred(values) if preset.embedding.centre else values), found.problems


def subsets(
    manifest: Manifest, replicate: Replicate, values: np.ndarray, preset: EnrichStudyPreset
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return what every method selects at every size.

    Returns
    -------
    pandas.DataFrame
        Columns ``method``, ``size`` (its text), ``rank`` (from 1) and ``row`` (of the manifest).
    list
        What the selections warned of.
    """
    pool = replicate.pool
    counts = sizes_of(preset, len(pool))
    start = start_of(preset, len(pool), list(counts.values()))
    groups, patients = (manifest.groups(name)[pool] for name in (preset.group, "patient"))
    parts: list[pd.DataFrame] = []
    problems: list[Problem] = []
    for method in preset.methods:
        for size, count in counts.items():
            found = select(
                values,
                budget=count,
                method=method,
                groups=groups,
                patients=patients,
                start=start if method in BEGIN_AT_RANDOM else None,
                order_length=count,
                draws=0,
                seed=key_of(preset.seed, "study", "select", replicate.number, method),
            )
            problems += found.warnings
            rows = pool[found.chosen]
            parts.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "size": size,
                        "rank": np.arange(1, len(rows) + 1),
                        "row": rows,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True), problems
