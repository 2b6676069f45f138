"""Which networks a preset has, and how each is built."""

from __future__ import annotations

import torch
from torch import nn

from medglean.nn.stain_gan import PatchDiscriminator, StainUNet
from medglean.randomness import key_of
from medglean.stain.levels import JUDGE, LEVEL, LevelClassifier, check_size
from medglean.stain.settings import StainPreset

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
"""Names of the networks and of their optimisers."""

SECTIONS = {
    LEVEL: ("level",),
    JUDGE: ("level",),
    GENERATOR: ("generator", "discriminator", "losses"),
    DISCRIMINATOR: ("discriminator",),
}
"""The tables of a preset that say what each network is, besides those of the images."""


def networks_of(preset: StainPreset) -> tuple[str, ...]:
    """Return the names of the networks that a preset's runs keep, in the order of training.

    Examples
    --------
    >>> networks_of(StainPreset(name="paper"))
    ('level', 'judge', 'generator')
    """
    if preset.method == "mean-colour":
        return ()
    wanted = ((LEVEL, preset.generator.level_features), (JUDGE, preset.measure.judge))
    return (*(name for name, needed in wanted if needed), GENERATOR)


def needs_discriminator(preset: StainPreset) -> bool:
    """Say whether the generator has an opponent."""
    return preset.method == "gan" and preset.losses.adversarial > 0


def needs_level_head(preset: StainPreset) -> bool:
    """Say whether the discriminator tells the level, and learns from it."""
    head = preset.discriminator.level_head and preset.losses.level > 0
    return head and needs_discriminator(preset)


def build_network(name: str, preset: StainPreset, *, seed: int = 0) -> nn.Module:
    """Build a network of a preset with fresh weights, which depend on the seed alone.

    Raises
    ------
    PresetError
        If there is no such architecture of the classifier, or it is too deep for its images.
    """
    levels = len(preset.level.names)
    if name in (LEVEL, JUDGE):
        check_size(preset)
        # a judge that begins as the other classifier did would be less of an outsider
        own = seed if name == LEVEL else key_of(seed, name)
        return LevelClassifier(preset.level.architecture, levels=levels, seed=own)
    if name == GENERATOR:
        generator, attention = preset.generator, preset.generator.attention
        return StainUNet(
            width=generator.width,
            halvings=generator.halvings,
            dropout=generator.dropout,
            patch_px=generator.patch_px,
            attention=attention.kind,
            skips=attention.skips,
            heads=attention.heads,
            head_width=attention.head_width,
            features=attention.features,
            level_channels=_feature_count(preset) if generator.level_features else None,
            seed=seed,
        )
    if name == DISCRIMINATOR:
        return PatchDiscriminator(
            width=preset.discriminator.width,
            layers=preset.discriminator.layers,
            levels=levels if needs_level_head(preset) else None,
            seed=seed,
        )
    raise ValueError(f"no network is named {name!r}; there are {', '.join(SECTIONS)}.")


def _feature_count(preset: StainPreset) -> int:
    """Return how many features the level classifier has, without memory for its weights."""
    with torch.device("meta"):
        return LevelClassifier(preset.level.architecture, levels=2).feature_count
