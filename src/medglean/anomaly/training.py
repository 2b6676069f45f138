"""Fit the networks of a method to the training part of an image set, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from medglean.anomaly.baselines.fixed_point_gan import DISCRIMINATOR, GENERATOR, gan_step
from medglean.anomaly.baselines.vae import VAE, vae_step
from medglean.anomaly.matching import drawn, match_weights
from medglean.anomaly.networks import SECTIONS, build_network, networks_of
from medglean.anomaly.objectives import (
    CLASSIFIER,
    UNET,
    classifier_step,
    classifier_validation,
    diffusion_step,
    diffusion_validation,
    schedule_of,
    trained_timesteps,
)
from medglean.anomaly.prepare import DISEASED, HEALTHY, Chosen
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.augment import to_float
from medglean.data.fetch import Fetch
from medglean.data.imageset import ImageSet
from medglean.errors import DataError, PresetError
from medglean.files import sha256_of_json
from medglean.fitting import FitResult, Loader, fit, load_last, load_weights, make_optimizer
from medglean.fitting.devices import resolved
from medglean.fitting.loop import Step
from medglean.fitting.progress import FitProgress
from medglean.fitting.settings import FitSettings
from medglean.fitting.validation import Validate
from medglean.nn.backbones import parameter_count
from medglean.nn.vae import vae_loss
from medglean.runs.rundir import RunFolder

JUDGED = 64
"""How many validation images a network is judged on at most."""
FOLDERS = {GENERATOR: "gan"}
"""Where a network is trained, if not in a folder of its own name."""

log = logging.getLogger("medglean")


def check_parts(images: ImageSet, chosen: Chosen) -> None:
    """Refuse a training part from which nothing can be learnt.

    Raises
    ------
    DataError
        If it has no image of a class, or no image is kept aside to measure on.
    """
    learn = images.positions("train", labelled=False)
    for target, name in ((HEALTHY, repr(chosen.healthy)), (DISEASED, "a diseased class")):
        if not (chosen.targets[learn] == target).any():
            failed = len(images.failures)
            raise DataError(
                f"the training part has no image of {name}, of {len(learn)} that could be read "
                f"({failed} of {len(images)} could not). Check the column 'split', and "
                "problems.csv."
            )
    if not any(len(images.positions(part, labelled=False)) for part in ("val", "test")):
        raise DataError(
            "no image is kept aside, so there is nothing to measure the maps on. Set split.test "
            "above 0, or check problems.csv for images that could not be read."
        )


def fit_networks(
    run: RunFolder,
    images: ImageSet,
    chosen: Chosen,
    preset: AnomalyPreset,
    *,
    progress: Callable[[], FitProgress] | None = None,
) -> tuple[dict[str, nn.Module], dict[str, FitResult]]:
    """Train what the method needs, going on from what the run folder has.

    Each network has its own folder with log and checkpoints: ``unet``, ``classifier``, ``vae`` or
    ``gan``. One that is done is read, so a run that was stopped in the second goes on there. The
    classifier runs on the devices that ``fit`` names, as the U-Net does.

    Parameters
    ----------
    run
        Open for writing.
    images
        Opened from ``chosen.manifest``.
    chosen
        The classes.
    preset
        What to train, and how.
    progress
        Makes who tells how far a training is; by default a bar or lines on standard error.

    Returns
    -------
    tuple
        The networks that maps are made with, on the CPU, in evaluation mode: with the averaged
        weights where there is an average, of the last step, or with ``patience`` of the best
        validation. And what each training came to. Both are empty where nothing is learnt.

    Raises
    ------
    PresetError
        If the preset's levels or sizes do not go together.
    Interrupted
        After Ctrl-C or SIGTERM; a later call goes on.
    """
    _check_levels(preset)
    networks: dict[str, nn.Module] = {}
    results: dict[str, FitResult] = {}
    for name in networks_of(preset):
        networks[name], results[name] = fit_network(
            name, run, images, chosen, preset, progress=progress
        )
    return networks, results


def fit_network(
    name: str,
    run: RunFolder,
    images: ImageSet,
    chosen: Chosen,
    preset: AnomalyPreset,
    *,
    folder: Path | None = None,
    progress: Callable[[], FitProgress] | None = None,
) -> tuple[nn.Module, FitResult]:
    """Train one network of a preset, going on from what its folder has.

    Parameters
    ----------
    name
        One of `medglean.anomaly.networks.networks_of`.
    run, images, chosen, preset, progress
        As for `fit_networks`.
    folder
        For log and checkpoints; by default in the run, of the network's name.
    """
    plan = _plan(name, images, chosen, preset)
    place = run.path / FOLDERS.get(name, name) if folder is None else folder
    result = _fit(run, images, chosen, preset, plan, place, progress)
    return plan.networks[name].cpu().eval(), result


def trained_by(name: str, preset: AnomalyPreset) -> str:
    """Return a hash of all settings that a network's training depends on.

    Presets with the same one share the network, however they make maps with it.
    """
    shared = {"images", "augment", "labels", "split", "match_on", "position"}
    tables = preset.model_dump(mode="json", include={*SECTIONS[name], *shared})
    fit = preset.classifier.fit if name == CLASSIFIER else preset.fit
    tables.get("classifier", {}).pop("fit", None)
    return sha256_of_json({**tables, "fit": fit.fixed(), "steps": [fit.epochs, fit.max_steps]})


def _check_levels(preset: AnomalyPreset) -> None:
    """Refuse a translation beyond the levels that are trained on."""
    if preset.method != "diffusion":
        return
    last = trained_timesteps(preset.diffusion).stop
    largest = max((preset.translate.noise_level, *preset.map.noise_levels))
    if largest > last:
        raise PresetError(
            f"noise level L = {largest} lies beyond diffusion.train_levels, which end at {last}, "
            "so the networks would not know such images. Set a smaller L, or train further."
        )


@dataclass(frozen=True)
class _Plan:
    """One training: its networks (a GAN has two), its images, its step."""

    name: str
    networks: dict[str, nn.Module]
    rows: Int[np.ndarray, " m"]
    settings: FitSettings
    step: Step
    validate: Validate | None


def _plan(name: str, images: ImageSet, chosen: Chosen, preset: AnomalyPreset) -> _Plan:
    seed, settings = preset.fit.seed, preset.fit
    names = (GENERATOR, DISCRIMINATOR) if name == GENERATOR else (name,)
    networks = {each: build_network(each, preset, seed=seed) for each in names}
    rows = rows_to_learn(images, chosen, seed=seed)
    noising, schedule = preset.diffusion, schedule_of(preset.diffusion)
    validate: Validate | None = None
    val, targets = _judged(images, chosen, healthy_only=name == VAE)
    shared = {"seed": seed, "batch_size": preset.predict.batch_size}
    if name == UNET:
        step = diffusion_step(networks, noising, schedule)
        if len(val):
            validate = diffusion_validation(val, targets, noising, schedule, **shared)
    elif name == CLASSIFIER:
        step = classifier_step(networks, noising, schedule)
        where = preset.fit.model_dump(include={"seed", "accelerator", "devices", "nodes"})
        settings = preset.classifier.fit.model_copy(update=where)
        if len(val):
            validate = classifier_validation(val, targets, noising, schedule, **shared)
    elif name == VAE:
        step = vae_step(networks, beta=preset.vae.beta)
        learn = images.positions("train", labelled=False)
        rows = learn[chosen.targets[learn] == HEALTHY]
        if len(val):
            validate = _vae_validation(val, beta=preset.vae.beta)
    else:
        step = gan_step(networks, preset.gan)
    return _Plan(name, networks, rows, settings, step, validate)


def rows_to_learn(images: ImageSet, chosen: Chosen, *, seed: int) -> Int[np.ndarray, " m"]:
    """Return the rows that a loader visits in an epoch: each once, or as often as it weighs."""
    learn = images.positions("train", labelled=False)
    if chosen.match is None:
        return learn
    weights = match_weights(chosen.match[learn], chosen.targets[learn])
    if not weights.any():
        raise DataError(
            "among the training images that could be read the two classes have no range of "
            "match_on in common. Check problems.csv, or leave match_on out."
        )
    return drawn(learn, weights, seed=seed)


def _judged(
    images: ImageSet, chosen: Chosen, *, healthy_only: bool
) -> tuple[torch.Tensor, Int[np.ndarray, " m"]]:
    """Return a few validation images of each class, and their classes."""
    rows = images.positions("val", labelled=False)
    classes = (HEALTHY,) if healthy_only else (HEALTHY, DISEASED)
    most = JUDGED // len(classes)
    taken = []
    for target in classes:
        own = rows[chosen.targets[rows] == target]
        taken.append(own[:: max(1, -(-len(own) // most))])
    kept = np.sort(np.concatenate(taken))
    values = to_float(np.ascontiguousarray(images.stored[kept]))
    return torch.from_numpy(values), chosen.targets[kept]


def _vae_validation(images: torch.Tensor, *, beta: float) -> Validate:
    """Return the closure that judges a VAE by its loss on healthy images, without drawing."""

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        network = networks[VAE]
        seen = images.to(next(network.parameters()).device)
        rebuilt, posterior = network(seen)
        return {"loss": float(vae_loss(rebuilt, seen, posterior, beta=beta).total)}

    return validate


def _fit(
    run: RunFolder,
    images: ImageSet,
    chosen: Chosen,
    preset: AnomalyPreset,
    plan: _Plan,
    folder: Path,
    progress: Callable[[], FitProgress] | None,
) -> FitResult:
    """Train the networks of a plan in their folder; they have the weights that are kept after."""
    settings = resolved(plan.settings)
    if plan.validate is None:
        settings = settings.model_copy(update={"patience": None})
    loader = Loader(
        Fetch(images.stored, chosen.targets, augment=preset.augment, seed=settings.seed),
        plan.rows,
        batch_size=settings.batch_size,
        seed=settings.seed,
        workers=settings.workers,
        drop_last=len(plan.rows) > settings.batch_size,  # batches of one shape: faster on a GPU
        ids=images.ids,
    )
    weights = parameter_count(plan.networks[plan.name])
    log.info("%s with %d parameters, %d images", plan.name, weights, len(np.unique(plan.rows)))
    result = fit(
        plan.step,
        networks=plan.networks,
        optimizers={
            name: make_optimizer(
                list(network.parameters()), settings.optimizer, precision=settings.precision
            )
            for name, network in plan.networks.items()
        },
        loader=loader,
        settings=settings,
        folder=folder,
        validate=plan.validate,
        resume=True,  # the run folder has decided that already
        identity=_identity(run, images, preset, plan.name),
        progress=None if progress is None else progress(),
    )
    for warning in result.warnings:
        log.warning("%s", warning)
    if settings.patience is not None and result.best is not None:
        load_weights(result.best, plan.networks)
    else:
        load_last(result.last, plan.networks)
    return result


def _identity(
    run: RunFolder, images: ImageSet, preset: AnomalyPreset, name: str
) -> dict[str, str | int | float | bool]:
    """Return what a resumed training must share besides the settings of the loop."""
    tables = preset.model_dump(mode="json", include={*SECTIONS[name], "augment"})
    tables.get("classifier", {}).pop("fit", None)
    return {
        "split": str(run.record["split_hash"]),
        "cache": images.cached.hash,
        "network": sha256_of_json(tables),
    }
