"""Phantom pairs, and an architecture for classifiers that is small enough for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stain.tiny import TINY, Opened, opened, tiny_preset

from medglean.data.index import index
from medglean.data.phantom import write_stain
from medglean.nn.backbones import ARCHITECTURES


@pytest.fixture(scope="session", autouse=True)
def _tiny_architecture() -> Iterator[None]:
    """Let ``level.architecture=tiny`` name a classifier with a thousand weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", TINY)
        yield


@pytest.fixture(scope="session")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of 8 slides, two of each level, with 2 pairs of 72 x 72 pixels each."""
    folder = tmp_path_factory.mktemp("stained")
    labels = write_stain(folder / "set", slides_per_level=2, fields_per_slide=2, size_px=(72, 72))
    index(labels, out=folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def start(stained: Path) -> Opened:
    """Return those pairs at 64 pixels, chosen and divided by the tiny preset."""
    return opened(stained, tiny_preset())
