"""The experiments behind ``medglean study``: each ends in one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medglean.api import as_manifest
from medglean.console import progress
from medglean.data.manifest import Manifest

if TYPE_CHECKING:
    from medglean.runs.report import Report


def floor(
    manifest: str | Path | Manifest,
    *,
    preset: str | Path = "cxr-small",
    out: str | Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> Report:
    """Train a classifier and set it beside its floor and the shortcut probes.

    See :func:`medglean.classify.study.floor`.
    """
    from medglean.classify.settings import ClassifyPreset
    from medglean.classify.study import floor as run
    from medglean.runs.preset import load_preset

    settings = load_preset(preset, ClassifyPreset, overrides=overrides)
    with progress("decoding images") as tell:
        return run(
            as_manifest(manifest),
            settings,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )


def enrich(
    manifest: str | Path | Manifest,
    *,
    preset: str | Path = "enrich-small",
    out: str | Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> Report:
    """Compare ways of choosing images by what a classifier or a U-Net learns from them.

    See :func:`medglean.curate.study.task.enrich`.
    """
    from medglean.curate.study.settings import EnrichStudyPreset
    from medglean.curate.study.task import enrich as run
    from medglean.runs.preset import load_preset

    settings = load_preset(preset, EnrichStudyPreset, overrides=overrides)
    with progress("decoding and embedding images") as tell:
        return run(
            as_manifest(manifest),
            settings,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )


def wolleb2022(
    manifest: str | Path | Manifest,
    *,
    preset: str | Path = "brain-small",
    out: str | Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> Report:
    """Compare methods that map where the disease is, from image labels alone.

    See :func:`medglean.anomaly.study.task.wolleb2022`.
    """
    from medglean.anomaly.settings import AnomalyPreset
    from medglean.anomaly.study.task import wolleb2022 as run
    from medglean.runs.preset import load_preset

    settings = load_preset(preset, AnomalyPreset, overrides=overrides)
    with progress("decoding and mapping images") as tell:
        return run(
            as_manifest(manifest),
            settings,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )
