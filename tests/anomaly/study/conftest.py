"""A study that is small enough to run in a test."""

import pytest
from tests.anomaly.tiny import tiny_preset

from medglean.data.phantom import write_brain

METHODS = {
    "Contrast": [],
    "Contrast + threshold": ["combine=threshold"],
    "Translation": ["translate.sampler=ddim", "translate.guidance=classifier-free"],
    "Translation, both signs": [
        "translate.sampler=ddim",
        "translate.guidance=classifier-free",
        "map.difference=absolute",
    ],
    "VAE": ["method=vae"],
    "Threshold": ["method=threshold"],
}


@pytest.fixture(scope="session")
def brain_table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "brains"
    return write_brain(folder, patients=16, slices=4, size_px=(32, 32), seed=0)


def small_study():
    """Return a preset with few methods, levels and scales."""
    return tiny_preset(
        translate={"sampler": "contrast", "contrast_levels": [10, 30], "steps": 3, "scale": 1.0},
        map={"difference": "signed"},
        split={"train": 0.4, "val": 0.25, "test": 0.35},
        study={
            "methods": METHODS,
            "scales": [0.0, 2.0],
            "noise_levels": [20, 50],
            "curve_images": 3,
            "shown": 2,
        },
    )


@pytest.fixture
def study_preset():
    return small_study()
