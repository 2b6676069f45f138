"""Phantom brains, written once for all tests that look at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.anomaly.tiny import Opened, opened, tiny_preset

from medglean.data.phantom import write_brain


@pytest.fixture(scope="session")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the manifest of 12 patients with 4 slices each, every second with a lesion."""
    folder = tmp_path_factory.mktemp("brains")
    return write_brain(folder / "set", patients=12, slices=4, size_px=(32, 32), seed=0)


@pytest.fixture(scope="session")
def start(brains: Path) -> Opened:
    """Return those images at 16 pixels, chosen and divided by the tiny preset."""
    return opened(brains, tiny_preset())
