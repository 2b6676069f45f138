from __future__ import annotations

import pytest

from medglean.data.phantom.slide import write_slide


@pytest.fixture(scope="session")
def svs(tmp_path_factory):
    """An Aperio slide of 1100 x 1500 pixels in two levels."""
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", (1100, 1500), mpp=0.5)
