"""What all tests share: one hypothesis profile, and where real images lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("medglean", deadline=None, derandomize=True)
hypothesis.settings.load_profile("medglean")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return a function from a data set's folder name to its path; skips where it is absent."""
    root = Path(os.environ.get("MEDGLEAN_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real images {name!r} are not here; set MEDGLEAN_DATA to their folder")
        return root / name

    return find
