"""What a dry run of training an anomaly preset says; nothing is written or decoded."""

from __future__ import annotations

import numpy as np

from medglean.anomaly.described import guidance_of, method_name, uses_contrast
from medglean.anomaly.networks import networks_of
from medglean.anomaly.objectives import CLASSIFIER
from medglean.anomaly.prepare import DISEASED, HEALTHY, Chosen, choose
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.manifest import Manifest
from medglean.errors import DataError
from medglean.fitting.settings import FitSettings


def plan(manifest: Manifest, preset: AnomalyPreset) -> list[str]:
    """Check what training would check, and say what it would do, in lines.

    Raises
    ------
    DataError
        If the labels do not suit, or a class has no image in the training part.
    SplitError
        If the rows cannot be divided as the preset says.
    """
    chosen = choose(manifest, preset)
    masked = 0
    if "mask" in chosen.manifest.frame:
        masked = int(np.asarray(chosen.manifest.frame["mask"].notna()).sum())
    return [
        f"{preset.name}: {_trained(preset)}",
        f"maps: {_mapped(preset)}",
        f"healthy: {chosen.healthy}; diseased: {', '.join(chosen.diseased)}",
        f"images: {_counts(chosen)}; kept together by {chosen.manifest.grouped_by}",
        f"masks: {masked:,}, for measuring alone",
        *(str(problem) for problem in chosen.problems),
    ]


def _counts(chosen: Chosen) -> str:
    """Count the images of each part and class."""
    split = chosen.manifest.frame["split"].to_numpy(dtype=object)
    counts, images = {}, {}
    for part in ("train", "val", "test"):
        targets = chosen.targets[split == part]
        counts[part] = {
            "healthy": int((targets == HEALTHY).sum()),
            "diseased": int((targets == DISEASED).sum()),
        }
        images[part] = len(targets)
    for name, count in counts["train"].items():
        if count == 0:
            raise DataError(
                f"the training part has no {name} image, of {images['train']}; expected images of "
                "both classes. Check the column 'split', or give split.train a larger share."
            )
    if images["val"] + images["test"] == 0:
        raise DataError(
            "no image is kept aside, so there is nothing to measure the maps on. Set split.test "
            "above 0."
        )
    return ", ".join(
        f"{part} {found['healthy']:,} healthy + {found['diseased']:,} diseased"
        for part, found in counts.items()
    )


def _trained(preset: AnomalyPreset) -> str:
    """Say what is trained, for how long."""
    name = method_name(preset)
    if preset.method == "threshold":
        return f"{name}: nothing to train"
    said = f"{name}; {_length(preset.fit)}"
    if CLASSIFIER in networks_of(preset):
        said += f", and the classifier {_length(preset.classifier.fit)}"
    return said


def _length(fit: FitSettings) -> str:
    length = f"{fit.max_steps:,} steps" if fit.max_steps else f"{fit.epochs:,} epochs"
    return f"{length} of {fit.batch_size} images"


def _mapped(preset: AnomalyPreset) -> str:
    """Say how maps are made with what was trained."""
    if preset.method == "threshold":
        settings = preset.threshold
        looked = "equalised brightness" if settings.equalise else "brightness"
        return f"{looked} inside the head, median over {settings.median_px} px"
    if preset.method != "diffusion":
        return f"{preset.map.difference} difference from the healthy counterpart"
    how = preset.translate
    if uses_contrast(preset):
        levels = how.contrast_levels
        asked = 2 * len(levels) * how.contrast_draws * (2 if preset.map.flip else 1)
        return (
            "what the network expects of a diseased and not of a healthy image, at noise levels "
            f"{', '.join(map(str, levels))} of {preset.diffusion.steps}, {how.contrast_draws} "
            f"draw(s) of noise each: {asked} evaluations an image"
        )
    noise_levels = preset.map.noise_levels or (how.noise_level,)
    if how.sampler == "released":
        steps = "as the authors' code does"
    elif how.sampler == "ddpm":
        steps = f"in {how.steps or 'all'} stochastic steps"
    else:
        steps = f"in {how.steps} + {how.steps} steps" if how.steps else "over every level and back"
    said = f"{preset.map.difference} difference from the translated image, L = "
    said += f"{', '.join(map(str, noise_levels))} {steps}"
    return said if how.sampler == "released" else f"{said}, guidance: {guidance_of(preset)}"
