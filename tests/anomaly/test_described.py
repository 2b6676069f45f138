"""A preset's method in words, which reports, plans, pictures and files share."""

import pytest
from tests.anomaly.tiny import tiny_preset

from medglean.anomaly.described import (
    guidance_of,
    meaning_of,
    method_name,
    settings_of_maps,
    uses_contrast,
)
from medglean.anomaly.panel_parts import MEANING
from medglean.anomaly.settings import AnomalyPreset
from medglean.runs.preset import load_preset

CONTRAST = {"translate": {"sampler": "contrast", "contrast_levels": [10, 30]}}


@pytest.mark.parametrize(
    ("changes", "meaning"),
    [
        ({}, "absolute"),
        ({"map": {"difference": "signed"}}, "signed"),
        ({"map": {"difference": "negative"}, "method": "vae"}, "negative"),
        (CONTRAST, "contrast"),
        ({**CONTRAST, "method": "vae"}, "absolute"),  # a VAE has no sampler
        ({**CONTRAST, "combine": "threshold"}, "combined"),
        ({"method": "threshold", "combine": "threshold"}, "threshold"),
    ],
)
def test_every_kind_of_map_has_a_meaning(changes, meaning):
    found = meaning_of(tiny_preset(**changes))

    assert found == meaning
    assert len(MEANING[found]) > 20


def test_a_contrast_is_told_in_its_own_unit():
    assert "More like diseased than like healthy tissue" in MEANING["contrast"]
    assert "standard deviations over healthy images" in MEANING["contrast"]


@pytest.mark.parametrize("name", ["brain-small", "wolleb2022-brats", "wolleb2022-chexpert"])
def test_maps_of_every_preset_can_be_told(name):
    preset = load_preset(name, AnomalyPreset)

    assert meaning_of(preset) in MEANING
    assert settings_of_maps(preset)["method"] == method_name(preset)


def test_a_contrast_has_levels_and_draws_and_no_steps_or_scale():
    told = settings_of_maps(tiny_preset(**CONTRAST))

    assert told["noise levels"] == "10, 30 of 100"
    assert told["draws of noise at each"] == 2
    assert not {"noise level L", "guidance", "steps"} & set(told)


def test_a_translation_has_its_levels_steps_and_guidance():
    told = settings_of_maps(tiny_preset(map={"noise_levels": [20, 40]}))

    assert told["noise level L"] == "20, 40"
    assert told["steps"] == "5 there and 5 back"
    assert told["inversion iterations of each step"] == 0
    assert told["guidance"] == "classifier, s = 1"
    assert told["map"] == {"noise_levels": [20, 40]}
    every = settings_of_maps(tiny_preset(translate={"steps": None}))
    assert every["steps"] == "every level, there and back"
    assert every["map"] == "as in the paper"


def test_the_released_sampler_takes_every_level_and_the_classifier():
    told = settings_of_maps(tiny_preset(translate={"sampler": "released", "guidance": "none"}))

    assert (told["steps"], told["guidance"]) == ("every level", "classifier, s = 1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"guidance": "none"}, "none"),
        ({"guidance": "class"}, "the healthy class alone"),
        ({"guidance": "classifier-free", "scale": 2.5, "normalised": True},
         "classifier-free, s = 2.5"),
        ({"guidance": "classifier", "normalised": True}, "classifier, normalised, s = 1"),
    ],
)  # fmt: skip
def test_guidance_has_a_scale_where_it_is_used(changes, told):
    assert guidance_of(tiny_preset(translate=changes)) == told


def test_names_of_methods():
    assert method_name(tiny_preset(method="fpgan")) == "Fixed-Point GAN"
    both = tiny_preset(**CONTRAST, combine="threshold", combine_weight=0.25)
    assert method_name(both) == "diffusion, contrast of the classes, averaged with the threshold"
    assert settings_of_maps(both)["averaged with"] == "threshold without learning, weight 0.25"
    alone = tiny_preset(method="threshold", combine="threshold")
    assert method_name(alone) == "threshold without learning"
    assert settings_of_maps(alone)["map"] == {"equalise": True, "erode": 0.06, "median_px": 9}
    assert not uses_contrast(tiny_preset(**{**CONTRAST, "method": "vae"}))
