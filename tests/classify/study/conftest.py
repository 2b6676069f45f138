"""The tiny network, by a name that presets may give."""

from __future__ import annotations

import pytest
from tests.classify.study.trees import TINY, tiny_architecture

from medglean.nn.backbones import ARCHITECTURES


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ARCHITECTURES, TINY, tiny_architecture())
    return TINY
