"""What a preset's stain is and does, in words: for plans, reports and files."""

from __future__ import annotations

from medglean.stain.settings import StainPreset

ATTENTION = {
    "none": "without attention",
    "favor": "FAVOR+ attention",
    "softmax": "exact softmax attention",
    "elu": "linear attention (elu + 1)",
}
_LOSSES = ("adversarial", "level", "l1", "pyramid", "density", "colour", "blocks")
_REAPPLIED = {
    "none": "not, so that glass is white",
    "training": "the mean of the training slides",
    "input": "that of the H&E slide",
    "own": "that of the image's own slide, where it is known",
}


def method_name(preset: StainPreset) -> str:
    """Return the method's name as one says it.

    Examples
    --------
    >>> method_name(StainPreset(name="paper"))
    'GAN, FAVOR+ attention, level features, level head'
    """
    if preset.method == "mean-colour":
        return "mean colour of the training images"
    parts = ["GAN" if preset.losses.adversarial > 0 else "U-Net"]
    if preset.generator.attention.kind != "none":
        parts.append(ATTENTION[preset.generator.attention.kind])
    if preset.generator.level_features:
        parts.append("level features")
    if preset.losses.adversarial > 0 and preset.discriminator.level_head:
        parts.append("level head")
    return ", ".join(parts)


def settings_of(preset: StainPreset) -> dict[str, object]:
    """Return what made the images, as the report's table of settings says it."""
    made: dict[str, object] = {"method": method_name(preset)}
    if preset.method == "gan":
        made |= {
            "generator": (
                f"U-Net, {preset.generator.halvings} halvings, width {preset.generator.width}"
            ),
            "attention": _attention(preset),
            "losses": losses_of(preset),
            "crop": _crop(preset),
        }
    return made | {"white": white_of(preset)}


def losses_of(preset: StainPreset) -> str:
    """Return the losses that have a weight, with their weights.

    Examples
    --------
    >>> losses_of(StainPreset(name="paper"))
    'adversarial 1, level 1, l1 100'
    """
    losses = preset.losses
    left_out = set() if losses.adversarial else {"adversarial", "level"}
    if not preset.discriminator.level_head:
        left_out.add("level")
    weights = {name: getattr(losses, name) for name in _LOSSES if name not in left_out}
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)


def white_of(preset: StainPreset) -> str:
    """Return what is done with the white point of targets."""
    if not preset.white.normalise:
        return "as it is"
    return f"normalised; applied again to generated images: {_REAPPLIED[preset.white.reapply]}"


def _attention(preset: StainPreset) -> str:
    attention = preset.generator.attention
    if attention.kind == "none":
        return "none"
    skips = ", ".join(map(str, attention.skips))
    told = f"{ATTENTION[attention.kind]} on the skip connections after {skips} halvings"
    return told + (f", {attention.features} features" if attention.kind == "favor" else "")


def _crop(preset: StainPreset) -> str:
    if preset.augment.crop_px is None:
        return "whole images"
    return f"{preset.augment.crop_px} px, {preset.augment.crops_per_image} of an image and epoch"
