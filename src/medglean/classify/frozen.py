"""Train only the last layer: each image passes through the frozen network once.

What the last layer sees of an image does not change while only that layer learns, so it is
computed once, kept in a file, and an epoch is a product of two matrices.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from medglean.classify.fits import load_kept, loss_weights
from medglean.classify.frozen_features import FeatureFetch, kept_features
from medglean.classify.prepare import Chosen
from medglean.classify.settings import ClassifyPreset
from medglean.classify.validation import validation_values
from medglean.data.augment_settings import Augment
from medglean.data.fetch import Normalise
from medglean.data.imageset import ImageSet
from medglean.errors import UsageError
from medglean.fitting import FitResult, Loader, fit, make_optimizer
from medglean.fitting.classification import (
    logits_of,
    make_step,
)
from medglean.fitting.progress import FitProgress, make_progress
from medglean.nn.backbones import ARCHITECTURES

FEATURES = "features.safetensors"
"""File in the run folder that keeps what the last layer sees of each image."""

_ALWAYS = ("flip_horizontal", "flip_vertical", "quarter_turns")
_BEHIND: dict[str, tuple[str, ...]] = {
    "geometry_probability": (
        "rotation_deg",
        "translate",
        "scale",
        "aspect",
        "shear_deg",
        "crop_area",
        "crop_aspect",
    ),
    "tone_probability": ("invert", "tone_curve", "gamma", "contrast", "brightness"),
    "illumination_probability": ("illumination",),
    "blur_probability": ("blur_sigma_px",),
    "sharpen_probability": ("sharpen",),
    "downscale_probability": ("downscale",),
    "noise_probability": ("noise_sd",),
    "jpeg_probability": ("jpeg_quality",),
    "border_probability": ("border",),
    "erase_probability": ("erase_count",),
}
"""Changes of an image by the probability with which they are met at all."""


def check_frozen(preset: ClassifyPreset) -> None:
    """Refuse settings under which an image would not look the same in every epoch.

    Raises
    ------
    UsageError
        If augmentation or mixup draws anything; each setting to change is named.
    """
    plain = Augment()
    met = [names for gate, names in _BEHIND.items() if getattr(preset.augment, gate) > 0]
    drawn = [
        name
        for names in (_ALWAYS, *met)
        for name in names
        if getattr(preset.augment, name) != getattr(plain, name)
    ]
    asked = [f"augment.{name}={_toml(getattr(plain, name))}" for name in drawn]
    if preset.mixup > 0:
        asked.append("mixup=0")
    if asked:
        raise UsageError(
            "model.train=head keeps what the frozen network sees of each image, so no image may "
            f"change from epoch to epoch; this preset changes them. Set {', '.join(asked)}; or "
            "model.train=all, which trains every weight."
        )


def _toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def frozen_warnings(preset: ClassifyPreset) -> tuple[str, ...]:
    """Return what to know of a classifier of whose network only the last layer is trained."""
    told = []
    if preset.model.weights == "none":
        told.append(
            "Only the last layer was trained, on features of random weights (model.weights=none): "
            "a floor to compare with, not a classifier. Give weights that were learnt elsewhere."
        )
    if preset.model.dropout:
        told.append(
            f"model.dropout={preset.model.dropout} had no effect: the frozen network is in "
            "evaluation mode, where no dropout comes before the last layer."
        )
    return tuple(told)


def fit_head(
    folder: Path,
    network: nn.Module,
    images: ImageSet,
    chosen: Chosen,
    preset: ClassifyPreset,
    normalise: Normalise,
    *,
    identity: Mapping[str, str],
    features: Path | None = None,
    progress: FitProgress | None = None,
) -> FitResult:
    """Train the last layer of a network on features that are computed once, and put it in place.

    The one training loop does it, with the preset's optimiser, schedule, average of weights,
    validation and checkpoints; a fit that was stopped goes on from what is in the folder. The
    precision is float32 whatever ``fit.precision`` says: one product of matrices gains nothing
    from less. Nothing but the weight and bias of the last layer is changed in ``network``.

    Parameters
    ----------
    folder
        Gets the log, checkpoints and, by default, the features.
    network
        Of the architecture that the preset names, on the CPU.
    images, chosen
        The training and validation parts are used.
    preset
        With ``model.train=head``. Without ``fit.workers``, of which features have no need.
    normalise
        What is done to values in [0, 1] before the network sees them.
    identity
        What a resumed fit must share, such as the hash of the split.
    features
        File of the features; several fits whose frozen weights are the same may share one. It is
        read where it holds just these features, and made anew where it does not.
    progress
        Who tells how far it is.

    Returns
    -------
    FitResult
        As `medglean.fitting.fit`; ``warnings`` also says what `frozen_warnings` does.

    Raises
    ------
    UsageError
        If augmentation or mixup draws anything.
    NonFiniteLossError, Interrupted, CheckpointError
        As `medglean.fitting.fit`.
    """
    check_frozen(preset)
    settings = preset.fit.model_copy(update={"precision": "32-true", "workers": 0})
    name = ARCHITECTURES[preset.model.architecture].head
    progress = make_progress() if progress is None else progress
    place = folder / FEATURES if features is None else features
    kept = kept_features(place, network, images, preset, normalise, progress)
    head = copy.deepcopy(network.get_submodule(name))
    networks: dict[str, nn.Module] = {"network": head}
    learn, judge = images.positions("train"), images.positions("val")
    result = fit(
        make_step(
            networks,
            kind=chosen.kind,
            classes=len(chosen.classes),
            weights=loss_weights(images, chosen, preset),
            smoothing=preset.labels.smoothing,
        ),
        networks=networks,
        optimizers={"network": make_optimizer(head.parameters(), settings.optimizer)},
        loader=Loader(
            FeatureFetch(learn, kept.learn, images.targets),
            learn,
            batch_size=settings.batch_size,
            seed=settings.seed,
            ids=images.ids,
        ),
        settings=settings if len(judge) else settings.model_copy(update={"patience": None}),
        folder=folder,
        validate=_validation(kept.judge, images.targets[judge], chosen) if len(judge) else None,
        resume=True,  # the run folder has decided that already
        identity={**identity, "features": kept.hash},
        progress=progress,
    )
    load_kept(result, preset, networks)
    network.get_submodule(name).load_state_dict(head.state_dict())
    return dataclasses.replace(result, warnings=(*frozen_warnings(preset), *result.warnings))


def _validation(
    features: Float[np.ndarray, "m d"], targets: np.ndarray, chosen: Chosen
) -> Callable[[Mapping[str, nn.Module]], dict[str, float]]:
    """Return the closure that judges an epoch by loss and AUROC."""
    seen = torch.from_numpy(features)

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        logits = logits_of(networks["network"], [seen])
        return validation_values(targets, logits, kind=chosen.kind)

    return validate
