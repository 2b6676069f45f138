"""A small trained run on phantoms, made once for all tests that look at one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from medglean.classify import task
from medglean.classify.settings import ClassifyPreset
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.phantom import write_cxr
from medglean.runs.preset import load_preset

SMALL = (
    "images.size_px=[32, 32]",
    "fit.epochs=2",
    "fit.batch_size=16",
    "fit.accelerator=cpu",
    "fit.precision=32-true",
    "fit.ema_decay=none",
    "split.train=0.6",
    "split.val=0.2",
    "measure.replicates=200",
    "measure.saliency=2",
)


class Trained(NamedTuple):
    """A run and what it was made from."""

    run: Path
    manifest: Path
    images: Path
    cache: Path


def small_preset(*overrides: str) -> ClassifyPreset:
    return load_preset("cxr-small", ClassifyPreset, overrides=[*SMALL, *overrides])


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Röntgen bilder")
    write_cxr(folder / "images", patients=24, images_per_patient=(1, 2), size_px=(64, 64), seed=0)
    index(folder / "images", out=folder / "data.parquet")
    return folder


@pytest.fixture(scope="session")
def trained(phantoms: Path) -> Trained:
    run, cache = phantoms / "run", phantoms / "cache"
    manifest = phantoms / "data.parquet"
    task.fit(Manifest.read(manifest), small_preset(), out=run, command=["test"], cache=cache)
    return Trained(run, manifest, phantoms / "images", cache)
