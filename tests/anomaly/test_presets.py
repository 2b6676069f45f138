"""The presets of the paper say what the paper says."""

from __future__ import annotations

import pytest

from medglean.anomaly.settings import AnomalyPreset
from medglean.runs.preset import load_preset


@pytest.fixture(params=["wolleb2022-brats", "wolleb2022-chexpert"])
def paper(request) -> AnomalyPreset:
    return load_preset(request.param, AnomalyPreset)


def test_both_are_the_papers_system(paper):
    assert paper.images.size_px == (256, 256)
    assert (paper.unet.width, paper.unet.multipliers) == (128, (1, 1, 2, 2, 4, 4))
    assert (paper.unet.blocks, paper.unet.attention_px, paper.unet.heads) == (2, (16,), 1)
    assert (paper.classifier.width, paper.classifier.blocks) == (32, 4)
    assert (paper.classifier.attention_px, paper.classifier.head_width) == ((32, 16, 8), 64)
    assert (paper.diffusion.steps, paper.diffusion.beta) == (1000, (1e-4, 0.02))
    assert (paper.diffusion.learned_range, paper.diffusion.label_dropout) == (True, 0)
    assert (paper.fit.max_steps, paper.classifier.fit.max_steps) == (50_000, 20_000)
    for fit in (paper.fit, paper.classifier.fit):
        assert (fit.batch_size, fit.optimizer.name) == (10, "adamw")
        assert (fit.optimizer.learning_rate, fit.optimizer.weight_decay) == (1e-4, 0)
    assert paper.fit.ema_decay == 0.9999
    assert (paper.translate.sampler, paper.translate.guidance) == ("ddim", "classifier")
    assert (paper.translate.noise_level, paper.translate.scale) == (500, 100)
    assert (paper.translate.steps, paper.translate.inversion_iterations) == (None, 0)
    assert paper.map.difference == "absolute"
    assert not paper.augment.model_dump(exclude_defaults=True)
    assert paper.source.url == "https://arxiv.org/abs/2203.04306"


def test_brats_is_padded_without_resampling_and_scaled_by_its_volume():
    images = load_preset("wolleb2022-brats", AnomalyPreset).images

    assert images.channels == ("t1", "t1ce", "t2", "flair")
    assert images.resize == "centre"
    assert images.intensity.scope == "volume"
    assert (images.intensity.high, images.intensity.skip_zeros) == (99, True)


def test_chexpert_is_effusion_against_no_finding():
    preset = load_preset("wolleb2022-chexpert", AnomalyPreset)

    assert (preset.labels.healthy, preset.labels.diseased) == ("No Finding", ("Pleural Effusion",))
    assert preset.images.channels == "grey"
    assert preset.images.intensity.rule == "full-scale"
    assert preset.split.anew


def test_the_small_one_can_be_loaded_and_is_small():
    preset = load_preset("brain-small", AnomalyPreset)

    assert preset.images.size_px == (64, 64)
    assert preset.translate.guidance == "classifier-free"
    assert preset.diffusion.label_dropout > 0
