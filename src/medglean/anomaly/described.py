"""What a preset's method is and does, in words: for plans, reports, figures and files."""

from __future__ import annotations

from medglean.anomaly.settings import AnomalyPreset

METHODS = {
    "diffusion": "diffusion",
    "vae": "variational autoencoder",
    "fpgan": "Fixed-Point GAN",
    "threshold": "threshold without learning",
}
_SAMPLERS = {
    "ddim": "translation, encoded and decoded without chance (DDIM)",
    "ddpm": "translation, noised at once and decoded with chance (DDPM)",
    "released": "translation as in the authors' code",
    "contrast": "contrast of the classes, without translation",
}


def uses_contrast(preset: AnomalyPreset) -> bool:
    """Say whether maps are contrasts of the classes, for which no image is translated."""
    return preset.method == "diffusion" and preset.translate.sampler == "contrast"


def meaning_of(preset: AnomalyPreset) -> str:
    """Return what a preset's maps mean, as a key of `medglean.anomaly.panel_parts.MEANING`.

    Examples
    --------
    >>> meaning_of(AnomalyPreset(name="paper"))
    'absolute'
    """
    if preset.method == "threshold":
        return "threshold"
    if preset.combine != "none":
        return "combined"
    return "contrast" if uses_contrast(preset) else preset.map.difference


def method_name(preset: AnomalyPreset) -> str:
    """Return the method's name as one says it."""
    name = METHODS[preset.method]
    if uses_contrast(preset):
        name += ", contrast of the classes"
    if preset.combine != "none" and preset.method != "threshold":
        name += ", averaged with the threshold"
    return name


def settings_of_maps(preset: AnomalyPreset) -> dict[str, object]:
    """Return what made the maps, as the report's table of settings says it."""
    made: dict[str, object] = {"method": method_name(preset)}
    if preset.method == "diffusion":
        made |= _of_contrast(preset) if uses_contrast(preset) else _of_translation(preset)
    if preset.method == "threshold":
        made["map"] = preset.threshold.model_dump(mode="json", exclude_none=True)
        return made
    made["map"] = preset.map.model_dump(mode="json", exclude_defaults=True) or "as in the paper"
    if preset.combine != "none":
        made["averaged with"] = f"{METHODS['threshold']}, weight {preset.combine_weight:g}"
    return made


def _of_contrast(preset: AnomalyPreset) -> dict[str, object]:
    how = preset.translate
    levels = ", ".join(str(level) for level in how.contrast_levels)
    return {
        "sampler": _SAMPLERS["contrast"],
        "noise levels": f"{levels} of {preset.diffusion.steps}",
        "draws of noise at each": how.contrast_draws,
    }


def _of_translation(preset: AnomalyPreset) -> dict[str, object]:
    how = preset.translate
    levels = preset.map.noise_levels or (how.noise_level,)
    made: dict[str, object] = {
        "sampler": _SAMPLERS[how.sampler],
        "noise level L": ", ".join(str(level) for level in levels),
    }
    if how.sampler == "released":
        return made | {"steps": "every level", "guidance": f"classifier, s = {how.scale:g}"}
    steps = "every level" if how.steps is None else str(how.steps)
    if how.sampler == "ddim":
        steps = f"{steps} there and {steps} back" if how.steps else f"{steps}, there and back"
        made["inversion iterations of each step"] = how.inversion_iterations
    return made | {"steps": steps, "guidance": guidance_of(preset)}


def guidance_of(preset: AnomalyPreset) -> str:
    """Return what pulls towards healthy, with its scale where it has one."""
    how = preset.translate
    if how.guidance in ("none", "class"):
        return {"none": "none", "class": "the healthy class alone"}[how.guidance]
    normalised = ", normalised" if how.normalised and how.guidance == "classifier" else ""
    return f"{how.guidance}{normalised}, s = {how.scale:g}"
