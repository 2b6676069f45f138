import pytest
from tests.curate.study.conftest import small_preset

from medglean.curate.study.settings import EnrichStudyPreset
from medglean.errors import PresetError
from medglean.runs.preset import load_preset


def study(*overrides):
    return load_preset("enrich-segment", EnrichStudyPreset, overrides=list(overrides))


def test_what_is_compared_and_what_a_label_costs_follow_the_learner():
    assert (small_preset().primary, small_preset().label_seconds) == ("auroc", 1.0)
    assert (study().primary, study().label_seconds) == ("jaccard", 300.0)
    assert small_preset("score=f1", "seconds_per_label=4.0").primary == "f1"
    assert small_preset("seconds_per_label=4.0").label_seconds == 4.0


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("score=jaccard", "score 'jaccard' is not measured for 'pca-logistic'"),
        ("methods=['random', 'random']", "methods must be different"),
        ("methods=['full', 'random']", "none 'full'"),
        ("methods=['random', 'nearest']", "there is no method 'nearest'"),
        ("baselines=['interval']", "baseline 'interval' is not among the methods"),
        ("sizes=[4, '120%']", "must be at most 100 %"),
        ("sizes=[0]", "must be above 0"),
        ("start=-1", "must be above 0"),
        ("labels.classes=['a-lines', 'b-lines']", "positive and classes cannot both be set"),
        ("learner.name=resnet19", "learner 'resnet19': expected one of pca-logistic, unet"),
    ],
)
def test_settings_that_contradict_are_refused(override, told):
    with pytest.raises(PresetError, match=told):
        small_preset(override)


def test_a_unet_takes_flips_only_and_sides_that_halve():
    assert study("learner.augment.flip_vertical=0.5").learner.augment.flip_vertical == 0.5
    with pytest.raises(PresetError, match="by flips only"):
        study("learner.augment.rotation_deg=10.0")
    with pytest.raises(PresetError, match="must be multiples of 8, got"):
        study("learner.images.size_px=[100, 128]", "learner.unet.channels=[4, 8, 8, 8]")


@pytest.mark.parametrize("name", ["enrich-pocus", "enrich-segment", "enrich2023-study"])
def test_presets_that_come_with_medglean_are_whole(name):
    preset = load_preset(name, EnrichStudyPreset)

    assert "enrich" in preset.methods
    assert "random" in preset.baselines
    assert preset.replicates >= 4  # fewer could never be significant
    assert preset.source.deviations
