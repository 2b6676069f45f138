"""What a person hands over: a manifest, its file, a folder of images, or one image."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from medglean.console import progress
from medglean.data.manifest import SUFFIXES, Manifest
from medglean.data.reference import ImageReference
from medglean.errors import Problem

TABLES = (*SUFFIXES, ".tsv", ".txt", ".xlsx", "")
"""Ends of names that are taken for a table's; any other file is taken for an image."""


def as_manifest(given: str | Path | Manifest) -> Manifest:
    """Return a manifest, read from its file where that is given."""
    return given if isinstance(given, Manifest) else Manifest.read(given)


def images_given(
    source: str | Path | Manifest,
    *,
    keep_ids: bool = False,
    key_file: str | Path | None = None,
    workers: int = 2,
) -> tuple[Manifest, list[Problem]]:
    """Return the images to apply a run to, and what was wrong with some of a folder's.

    Parameters
    ----------
    source
        A manifest or its file; a folder, which is indexed; or one image, which becomes a row.
    keep_ids, key_file, workers
        Of indexing; see :func:`medglean.data.index.index`.
    """
    if isinstance(source, Manifest):
        return source, []
    source = Path(source)
    if source.is_dir():
        return _indexed(source, keep_ids, key_file, workers)
    if source.suffix.lower() in TABLES or not source.is_file():
        return Manifest.read(source), []
    one = {"id": [source.stem], "image": [str(ImageReference(source.name))]}
    return Manifest.from_frame(pd.DataFrame(one), source.parent, name=str(source)), []


def _indexed(
    folder: Path, keep_ids: bool, key_file: str | Path | None, workers: int
) -> tuple[Manifest, list[Problem]]:
    from medglean.data.index import index

    with tempfile.TemporaryDirectory(prefix="medglean-") as place:
        out = Path(place) / "manifest.parquet"
        with progress("reading headers") as tell:
            made = index(
                folder,
                out=out,
                keep_ids=keep_ids,
                key_file=key_file,
                workers=workers,
                progress=tell,
            )
        return Manifest.read(out), made.problems
