"""The experiments behind ``medglean study``: each ends in one table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    datasets
        Of a study of sets that are known by name: the preset for each. Such a study takes a set's
        folder, too.
    """

    module: str
    settings: str
    preset: str
    seed: str = "fit.seed"
    first: str = "decoding images"
    datasets: Mapping[str, str] = field(default_factory=dict)


STUDIES = {
    "floor": Study(
        "medglean.classify.study.floor", "medglean.classify.settings:ClassifyPreset", "cxr-small"
    ),
    "cxr2022": Study(
        "medglean.classify.study.task",
        "medglean.classify.study.settings:CxrStudyPreset",
        "cxr2022-radiography",
        first="indexing and decoding images",
        datasets={
            "radiography": "cxr2022-radiography",
            "pneumonia": "cxr2022-pneumonia",
            "covid-chestxray": "cxr2022-covid",
        },
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
"""By name: `floor` sets a classifier beside its floor and the shortcut probes; `cxr2022` trains the
classifiers of a report of 2022 on one of its sets; `enrich` compares ways of choosing images by
what is learnt from them; `wolleb2022` compares methods that map where the disease is; `bci2024`
compares virtual stains."""


def run_study(
    name: str,
    manifest: str | Path | Manifest,
    *,
    out: str | Path,
    preset: str | Path | None = None,
    dataset: str | None = None,
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
        A file, or a manifest; for a study with ``--dataset`` also the folder of that set.
    out
        Folder to make.
    preset
        Name or file; by default the study's own, or that of the set.
    dataset
        Which set it is, for the studies that ask.
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
        If there is no such study or set, or a set is named and the study asks for none.
    """
    from medglean.runs.preset import load_preset

    if name not in STUDIES:
        raise UsageError(f"there is no study {name!r}; expected one of {', '.join(STUDIES)}.")
    study = STUDIES[name]
    usual, named = _of_set(name, study, dataset)
    module, kind = study.settings.split(":")
    seeded = [] if seed is None else [f"{study.seed}={seed}"]
    model: Any = getattr(importlib.import_module(module), kind)
    settings: Any = load_preset(preset or usual, model, overrides=[*seeded, *overrides])
    run: Any = getattr(importlib.import_module(study.module), name)
    with progress(study.first) as tell:
        report: Report = run(
            manifest if study.datasets else as_manifest(manifest),
            settings,
            **named,
            out=Path(out),
            command=sys.argv if command is None else command,
            resume=resume,
            cache=None if cache is None else Path(cache),
            workers=workers,
            progress=tell,
        )
        return report


def _of_set(name: str, study: Study, dataset: str | None) -> tuple[str, dict[str, str]]:
    """Return the preset to take by default, and what the study is told of its set."""
    if not study.datasets:
        if dataset is not None:
            raise UsageError(
                f"--dataset {dataset}: the study {name!r} takes any images. Leave --dataset out."
            )
        return study.preset, {}
    if dataset is None or dataset not in study.datasets:
        found = "no --dataset" if dataset is None else f"--dataset {dataset}"
        raise UsageError(
            f"study {name!r}: {found}; expected --dataset with one of {', '.join(study.datasets)}."
        )
    return study.datasets[dataset], {"dataset": dataset}
