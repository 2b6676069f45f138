"""Golden values made with the authors' code (their README says how), and phantom brains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.anomaly.tiny import Opened, opened, tiny_preset

from medglean.data.phantom import write_brain

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of golden files; skips where it is absent."""
    data = Path(os.environ.get("MEDGLEAN_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = data.parent / "golden"
    if not folder.is_dir():
        pytest.skip("golden values are not here; set MEDGLEAN_DATA to the data folder beside them")
    return folder


@pytest.fixture(scope="session")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of 12 patients with 4 slices each, every second with a lesion."""
    folder = tmp_path_factory.mktemp("brains")
    return write_brain(folder / "set", patients=12, slices=4, size_px=(32, 32), seed=0)


@pytest.fixture(scope="session")
def start(brains: Path) -> Opened:
    """Return those images at 16 pixels, chosen and divided by the tiny preset."""
    return opened(brains, tiny_preset())
