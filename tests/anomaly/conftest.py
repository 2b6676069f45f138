"""Golden values made with the authors' code; their README says how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of golden files; skips where it is absent."""
    data = Path(os.environ.get("MEDGLEAN_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = data.parent / "golden"
    if not folder.is_dir():
        pytest.skip("golden values are not here; set MEDGLEAN_DATA to the data folder beside them")
    return folder
