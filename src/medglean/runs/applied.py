"""What applying a trained run to images needs, whatever the run is of."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.data.cache import Progress
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
from medglean.errors import DataError, Problem
from medglean.runs.rundir import RunFolder

PART_BYTES = 64 << 20
"""Prepared images that prediction holds at once: what a kill costs at most."""

Scored = tuple[pd.DataFrame, list[Problem]]
"""One row per image that could be used, and what was wrong with the others."""


def with_the_runs_split(manifest: Manifest, run_path: Path) -> Manifest:
    """Give each image the part that it had when a run was trained, found by its id.

    Raises
    ------
    DataError
        If none of the manifest's ids is in the run's split.
    """
    known = _split_of(run_path)
    parts = dict(zip(known["id"], known["split"], strict=True))
    placed = pd.Series([parts.get(one) for one in manifest.ids], dtype="str")
    if placed.isna().all():
        raise DataError(
            f"{manifest.path or 'the manifest'}: has no column 'split', and none of its ids is in "
            f"the split of {run_path}. Leave --split out to evaluate on all its images."
        )
    return type(manifest)(
        manifest.frame.assign(split=placed),
        manifest.root,
        path=manifest.path,
        warnings=manifest.warnings,
    )


def seen_before(run_path: Path, ids: Sequence[str]) -> list[str]:
    """Warn of images that a run was trained on, by their id in its split."""
    known = _split_of(run_path)
    learnt = set(known.loc[known["split"] != "test", "id"])
    seen = sum(one in learnt for one in ids)
    if not seen:
        return []
    return [
        f"{seen:,} of {len(ids):,} images have the id of one that the run was trained or chosen "
        "on: if they are the same images, these numbers flatter it. Evaluate on --split test, or "
        "on other images."
    ]


def _split_of(run_path: Path) -> pd.DataFrame:
    return pd.read_csv(run_path / "split.csv", dtype=str, keep_default_na=False)


def rows_at_a_time(recipe: Recipe, *, most: int = 1024) -> int:
    """Return how many prepared images are worked on between two writes."""
    image_bytes = int(np.prod(recipe.shape)) * np.dtype(recipe.dtype).itemsize
    return int(np.clip(PART_BYTES // image_bytes, 16, most))


def in_parts(
    run: RunFolder,
    manifest: Manifest,
    work: Callable[[Manifest], Scored],
    *,
    rows: int,
    told: Sequence[Problem] = (),
    progress: Progress | None = None,
) -> Scored:
    """Work through a manifest part by part, and read what an earlier call has done.

    Parameters
    ----------
    run
        Keeps the parts under ``parts/`` until :func:`drop_parts`.
    manifest
        All images.
    work
        Takes some of its rows and returns their table and problems.
    rows
        Of a part.
    told
        Problems that were found before.
    progress
        Called as ``progress(done, total)``.

    Raises
    ------
    DataError
        If not one image could be used; ``problems.csv`` is written before.
    """
    frames, problems = [], [*told, *manifest.warnings]
    for number, start in enumerate(range(0, len(manifest), rows)):
        place = np.arange(start, min(start + rows, len(manifest)))
        frame, found = _part(run, manifest.select(place), work, number, start)
        frames.append(frame)
        problems += found
        if progress is not None:
            progress(int(place[-1]) + 1, len(manifest))
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    run.write_problems(problems)
    if table.empty:
        first = next((p for p in problems if p.fatal), None)
        raise DataError(
            f"none of the {len(manifest)} images could be read. "
            + (f"The first: {first}" if first else "See problems.csv.")
        )
    return table, problems


def _part(
    run: RunFolder,
    part: Manifest,
    work: Callable[[Manifest], Scored],
    number: int,
    start: int,
) -> Scored:
    name = f"parts/part-{number:06d}"
    scored, told = run.path / f"{name}.parquet", f"{name}.json"
    if scored.is_file() and (run.path / told).is_file():
        return pd.read_parquet(scored), [Problem(**entry) for entry in run.read_json(told)]
    frame, found = work(part)
    problems = [dataclasses.replace(p, row=None if p.row is None else p.row + start) for p in found]
    run.write_json(told, [problem.to_row() for problem in problems])
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    run.write(f"{name}.parquet", parquet.getvalue())
    return frame, problems


def drop_parts(run: RunFolder) -> None:
    """Remove the parts, once the whole table is written."""
    shutil.rmtree(run.path / "parts")
