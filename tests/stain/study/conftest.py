"""A study that is small enough to run in a test."""

from __future__ import annotations

import pytest
from tests.stain.tiny import tiny_preset

from medglean.stain import figures, panels
from medglean.stain.settings import StainPreset

METHODS = {
    "GAN": [],
    "U-Net": ["losses.adversarial=0"],
    "White U-Net": ["losses.adversarial=0", "white.normalise=true", "white.reapply=training"],
    "White U-Net, glass white": ["losses.adversarial=0", "white.normalise=true"],
}


def small_study(**study) -> StainPreset:
    """Return a preset whose rows share and do not share networks."""
    fit = {"max_steps": 2, "batch_size": 2}
    return tiny_preset(
        generator={"level_features": True, "attention": {"kind": "none"}},
        fit=fit,
        level={"fit": fit},
        study={"methods": METHODS, "shown": 2, **study},
    )


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    monkeypatch.setattr(panels, "to_png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(figures, "to_svg", lambda figure: b"<svg/>")
