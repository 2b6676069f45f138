"""Small phantoms for studies, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from medglean.curate.study.settings import EnrichStudyPreset
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_brain, write_ultrasound
from medglean.runs.preset import load_preset

SMALL = (
    "sizes=[4, '20%']",
    "methods=['enrich', 'random']",
    "baselines=['random']",
    "replicates=2",
    "start=2",
    "labels.positive=b-lines",
    "embedding.images.size_px=[16, 16]",
    "embedding.pca.components=8",
    "learner.images.size_px=[32, 32]",
    "learner.thumbnail_px=16",
)


def small_preset(*overrides: str) -> EnrichStudyPreset:
    return load_preset("enrich-pocus", EnrichStudyPreset, overrides=[*SMALL, *overrides])


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_ultrasound(folder / "images", patients=12, frames=4, size_px=(48, 48), seed=0)
    index(folder / "images", out=folder / "data.parquet")
    return folder / "data.parquet"


@pytest.fixture(scope="session")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("brains")
    return Manifest.read(write_brain(folder / "set", patients=8, slices=3, size_px=(32, 32)))
