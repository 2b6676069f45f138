"""The experiments behind ``medglean study``: each ends in one table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medglean.console import progress
from medglean.data.manifest import Manifest
from medglean.errors import UsageError
from medglean.given import as_manifest

if TYPE_CHECKING:
    from medglean.runs.report import Report


@dataclass(frozen=True)
class Study:
    """Where an experiment is, and what it starts from.

    Attributes
    ----------
    module, settings
        The module with a function of the study's name, and ``module:class`` of its preset.
    preset
        Used where none is given.
    seed
        The setting that holds the seed.
    first
        What is done first, for the bar.
    """

    module: str
    settings: str
    preset: str
    seed: str = "fit.seed"
    first: str = "decoding images"


STUDIES = {
    "floor": Study(
        "medglean.classify.study.floor", "medglean.classify.settings:ClassifyPreset", "cxr-small"
    ),
    "enrich": Study(
        "medglean.curate.study.task",
        "medglean.curate.study.settings:EnrichStudyPreset",
        "enrich-small",
        seed="seed",
        first="decoding and embedding images",
    ),
    "wolleb2022": Study(
        "medglean.anomaly.study.task",
        "medglean.anomaly.settings:AnomalyPreset",
        "brain-small",
        first="decoding and mapping images",
    ),
    "bci2024": Study(
        "medglean.stain.study.task", "medglean.stain.settings:StainPreset", "stain-small"
    ),
}
"""By name: `floor` sets a classifier beside its floor and the shortcut probes; `enrich` compares
ways of choosing images by what is learnt from them; `wolleb2022` compares methods that map where
the disease is; `bci2024` compares virtual stains."""


def run_study(
    name: str,
    manifest: str | Path | Manifest,
    *,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    workers: int = 2,
    command: Sequence[str] | None = None,
) -> Report:
    """Run an experiment and write its table and its figures.

    Parameters
    ----------
    name
        One of `STUDIES`.
    manifest
        A file, or a manifest.
    out
        Folder to make.
    preset
        Name or file; by default the study's own.
    overrides
        Settings to change, such as ``"fit.epochs=3"``.
    seed
        Of everything random; by default the preset's.
    resume
        Go on with the study in ``out``.
    cache
        Folder of decoded images; by default ``.medglean-cache`` beside the manifest.
    workers
        Images decoded at the same time.

    Raises
    ------
    UsageError
        If there is no such study.
    """
    from medglean.runs.preset import load_preset

    if name not in STUDIES:
        raise UsageError(f"there is no study {name!r}; expected one of {', '.join(STUDIES)}.")
    study = STUDIES[name]
    module, kind = study.settings.split(":")
    seeded = [] if seed is None else [f"{study.seed}={seed}"]
    model: Any = getattr(importlib.import_module(module), kind)
    settings: Any = load_preset(preset or study.preset, model, overrides=[*seeded, *overrides])
    run: Any = getattr(importlib.import_module(study.module), name)
    with progress(study.first) as tell:
        report: Report = run(
            as_manifest(manifest),
            settings,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )
        return report
