"""Which networks a preset has, and how each is built."""

from __future__ import annotations

from torch import nn

from medglean.anomaly.baselines.fixed_point_gan import DISCRIMINATOR, GENERATOR
from medglean.anomaly.baselines.vae import VAE
from medglean.anomaly.objectives import CLASSIFIER, UNET
from medglean.anomaly.settings import AnomalyPreset
from medglean.errors import PresetError
from medglean.nn.diffusion_unet import DiffusionUNet, NoiseClassifier, Patched
from medglean.nn.fixed_point_gan import build_discriminator, build_generator
from medglean.nn.vae import build_vae

CLASSES = 2
"""Healthy and diseased."""

SECTIONS = {
    UNET: ("unet", "diffusion"),
    CLASSIFIER: ("classifier", "diffusion"),
    VAE: ("vae",),
    GENERATOR: ("gan",),
    DISCRIMINATOR: ("gan",),
}
"""The tables of a preset that say what each network is, besides the images'."""


def networks_of(preset: AnomalyPreset) -> tuple[str, ...]:
    """Return the names of the networks that a preset's maps are made with.

    Examples
    --------
    >>> networks_of(AnomalyPreset(name="paper"))
    ('unet', 'classifier')
    """
    if preset.method == "threshold":
        return ()
    if preset.method == "vae":
        return (VAE,)
    if preset.method == "fpgan":
        return (GENERATOR,)
    return (UNET, CLASSIFIER) if needs_classifier(preset) else (UNET,)


def needs_classifier(preset: AnomalyPreset) -> bool:
    """Say whether diffusion is guided by a classifier: as the settings say, or as released."""
    translate = preset.translate
    if translate.sampler == "contrast":
        return False
    return translate.guidance == "classifier" or translate.sampler == "released"


def build_network(name: str, preset: AnomalyPreset, *, seed: int = 0) -> nn.Module:
    """Build a network of a preset with fresh weights, which depend on the seed alone.

    Raises
    ------
    PresetError
        If the images are not square.
    UsageError
        If sides and widths do not go together.
    """
    height, width = preset.images.size_px
    channels = preset.images.channel_count
    if height != width:
        raise PresetError(
            f"images.size_px is [{height}, {width}]: method {preset.method!r} takes square images. "
            "Set both sides alike; images.resize=pad keeps the aspect ratio."
        )
    if name == UNET:
        return _unet(preset, side_px=height, seed=seed)
    if name == CLASSIFIER:
        return NoiseClassifier(
            side_px=height,
            in_channels=channels,
            classes=CLASSES,
            seed=seed,
            **preset.classifier.model_dump(exclude={"fit"}),
        )
    if name == VAE:
        return build_vae(
            side_px=height,
            in_channels=channels,
            width=preset.vae.width,
            latent=preset.vae.latent,
            seed=seed,
        )
    if name == GENERATOR:
        return build_generator(
            in_channels=channels,
            domains=CLASSES,
            width=preset.gan.width,
            blocks=preset.gan.blocks,
            seed=seed,
        )
    if name == DISCRIMINATOR:
        return build_discriminator(
            side_px=height, in_channels=channels, domains=CLASSES, width=preset.gan.width, seed=seed
        )
    raise ValueError(f"no network is named {name!r}; there are {', '.join(SECTIONS)}.")


def _unet(preset: AnomalyPreset, *, side_px: int, seed: int) -> nn.Module:
    """Build the diffusion U-Net, on pixels or on patches of them."""
    patch = preset.unet.patch_px
    channels = preset.images.channel_count * patch**2
    network = DiffusionUNet(
        side_px=side_px // patch,
        in_channels=channels,
        out_channels=2 * channels if preset.diffusion.learned_range else channels,
        classes=CLASSES,
        seed=seed,
        **preset.unet.model_dump(exclude={"patch_px"}),
    )
    return network if patch == 1 else Patched(network, patch)
