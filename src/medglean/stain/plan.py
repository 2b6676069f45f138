"""What a dry run of training a stain says; nothing is written or decoded."""

from __future__ import annotations

from medglean.data.manifest import Manifest
from medglean.fitting.settings import FitSettings
from medglean.stain.networks import networks_of
from medglean.stain.pairs import Chosen, choose
from medglean.stain.settings import LossSettings, StainPreset


def plan(manifest: Manifest, preset: StainPreset) -> list[str]:
    """Check what training would check, and say what it would do, in lines.

    Raises
    ------
    DataError
        If the pairs or their labels do not suit.
    SplitError
        If the rows cannot be divided as the preset says.
    """
    chosen = choose(manifest, preset)
    return [
        f"{preset.name}: {_trained(preset)}",
        f"losses: {_weights(preset.losses)}",
        f"white: {_white(preset)}",
        f"pairs: {_counts(chosen)}; kept together by {chosen.manifest.grouped_by}",
        f"levels: {_levels(chosen)}",
        *(str(problem) for problem in chosen.problems),
    ]


def _trained(preset: StainPreset) -> str:
    """Say what is trained, for how long."""
    if preset.method == "mean-colour":
        return "the mean colour of the training targets; nothing to train"
    shape, attention = preset.generator, preset.generator.attention
    said = f"U-Net of {shape.halvings} halvings, {shape.width} channels"
    if shape.patch_px > 1:
        said += f", on squares of {shape.patch_px} px"
    if attention.kind != "none":
        skips = ", ".join(map(str, attention.skips))
        said += f", {attention.kind} attention on the skip connections {skips}"
    said += f"; {_length(preset.fit)}"
    names = networks_of(preset)
    for name, what in (("level", "the levels on H&E"), ("judge", "the levels on real IHC")):
        if name in names:
            said += f"; first a classifier of {what}, {_length(preset.level.fit)}"
    return said


def _length(fit: FitSettings) -> str:
    length = f"{fit.max_steps:,} steps" if fit.max_steps else f"{fit.epochs:,} epochs"
    return f"{length} of {fit.batch_size} images"


def _weights(losses: LossSettings) -> str:
    names = ("adversarial", "level", "l1", "pyramid", "density", "colour", "blocks")
    return ", ".join(
        f"{name} {getattr(losses, name):g}" for name in names if getattr(losses, name) > 0
    )


def _white(preset: StainPreset) -> str:
    if not preset.white.normalise:
        return "as it is in the files"
    back = {
        "none": "glass becomes white",
        "training": "the training slides' mean white is put back",
        "input": "the white of the H&E slide is put back",
        "own": "the white of the slide itself is put back",
    }
    return f"targets divided by their slide's white point; {back[preset.white.reapply]}"


def _counts(chosen: Chosen) -> str:
    parts = chosen.manifest.frame["split"].value_counts()
    return ", ".join(f"{int(parts.get(part, 0)):,} {part}" for part in ("train", "val", "test"))


def _levels(chosen: Chosen) -> str:
    counts = {name: int((chosen.levels == place).sum()) for place, name in enumerate(chosen.names)}
    unknown = int((chosen.levels < 0).sum())
    said = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    return f"{said}; not known: {unknown:,}" if unknown else said
