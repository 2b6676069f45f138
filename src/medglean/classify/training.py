"""Fit the network of a classifier to the training part of an image set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from medglean.arrays import Kind
from medglean.classify.fits import load_kept, loss_weights
from medglean.classify.frozen import fit_head
from medglean.classify.prepare import Chosen, normalisation
from medglean.classify.settings import ClassifyPreset
from medglean.classify.validation import validation_values
from medglean.data.fetch import Fetch, Normalise
from medglean.data.imageset import ImageSet
from medglean.errors import DataError
from medglean.fitting import (
    FitResult,
    FitSettings,
    Loader,
    fit,
    make_optimizer,
)
from medglean.fitting.classification import (
    logits_of,
    make_step,
)
from medglean.fitting.devices import resolved
from medglean.nn.backbones import build_backbone, parameter_count
from medglean.nn.ensemble import MeanOfLogits
from medglean.runs.rundir import RunFolder

log = logging.getLogger("medglean")

SEEDS = "seeds"
"""Folder in a run of the trainings of several seeds."""


def check_parts(
    images: ImageSet, sizes: Mapping[str, int], classes: Sequence[str], kind: Kind
) -> None:
    """Refuse a training part from which nothing can be learnt.

    Raises
    ------
    DataError
        If it has no image that could be read, or only one class, or if no image is kept aside to
        measure on.
    """
    if sizes["train"] == 0:
        failed = len(images.failures)
        raise DataError(
            f"no image is left to learn from: {failed} of {len(images)} could not be read. "
            + (str(images.failures[0]) if failed else "Check the column 'split'.")
        )
    if sizes["val"] + sizes["test"] == 0:
        raise DataError(
            "no image is kept aside, so there is nothing to measure the classifier on. Set "
            "split.test above 0, or check problems.csv for images that could not be read."
        )
    targets = images.targets[images.positions("train")]
    if kind == "single" and len(np.unique(targets)) < 2:
        only = classes[int(targets[0])]
        raise DataError(
            f"the training part has only class {only!r}; expected at least two. Check the split, "
            "and problems.csv for images that could not be read."
        )


@dataclass(frozen=True)
class Fitted:
    """Networks that were trained, as one.

    Attributes
    ----------
    network
        On the CPU; a `medglean.nn.ensemble.MeanOfLogits` where there are several.
    results
        Of each training, in the order of the seeds.
    normalise
        What is done to values in [0, 1] before a network sees them.
    """

    network: nn.Module
    results: tuple[FitResult, ...]
    normalise: Normalise


def fit_networks(
    run: RunFolder, images: ImageSet, chosen: Chosen, preset: ClassifyPreset
) -> Fitted:
    """Train as many networks as the preset asks for, one after another, on the same split.

    Checkpoints and logs go into the run folder, with several seeds into ``seeds/<seed>`` in it;
    training goes on from what is there.
    """
    normalise = normalisation(images, preset)
    identity = {"split": str(run.record["split_hash"]), "cache": images.cached.hash}
    networks: list[nn.Module] = []
    results: list[FitResult] = []
    for seed in range(preset.fit.seed, preset.fit.seed + preset.seeds):
        folder = run.path
        if preset.seeds > 1:
            folder = run.path / SEEDS / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            log.info("network %d of %d, seed %d", len(networks) + 1, preset.seeds, seed)
        seeded = preset.model_copy(update={"fit": preset.fit.model_copy(update={"seed": seed})})
        network, result = _fit_one(folder, images, chosen, seeded, normalise, identity)
        networks.append(network)
        results.append(result)
    network = networks[0] if preset.seeds == 1 else MeanOfLogits(networks)
    return Fitted(network, tuple(results), normalise)


def _fit_one(
    folder: Path,
    images: ImageSet,
    chosen: Chosen,
    preset: ClassifyPreset,
    normalise: Normalise,
    identity: Mapping[str, str],
) -> tuple[nn.Module, FitResult]:
    """Train one network, and return it with the weights that the preset keeps, on the CPU."""
    settings = resolved(preset.fit)
    network = build_backbone(
        preset.model.architecture,
        classes=len(chosen.classes),
        in_channels=preset.images.channel_count,
        weights=preset.model.weights,
        dropout=preset.model.dropout,
        seed=preset.fit.seed,
    )
    log.info("%s with %d parameters", preset.model.architecture, parameter_count(network))
    if preset.model.train == "head":
        result = fit_head(folder, network, images, chosen, preset, normalise, identity=identity)
        _warn(result)
        return network.eval(), result
    networks: dict[str, nn.Module] = {"network": network}
    validate = _validation(images, preset, normalise, chosen.kind)
    result = fit(
        make_step(
            networks,
            kind=chosen.kind,
            classes=len(chosen.classes),
            weights=loss_weights(images, chosen, preset),
            smoothing=preset.labels.smoothing,
            mixup=preset.mixup,
        ),
        networks=networks,
        optimizers={
            "network": make_optimizer(
                network.parameters(), settings.optimizer, precision=settings.precision
            )
        },
        loader=_loader(images, preset, settings, normalise),
        settings=settings if validate else settings.model_copy(update={"patience": None}),
        folder=folder,
        validate=validate,
        resume=True,  # the run folder has decided that already
        identity=identity,
    )
    _warn(result)
    load_kept(result, preset, networks)
    return network.cpu(), result


def _warn(result: FitResult) -> None:
    for warning in result.warnings:
        log.warning("%s", warning)


def _loader(
    images: ImageSet, preset: ClassifyPreset, settings: FitSettings, normalise: Normalise
) -> Loader:
    learn = images.positions("train")
    seed = preset.fit.seed
    fetch = Fetch(
        images.stored, images.targets, augment=preset.augment, seed=seed, normalise=normalise
    )
    return Loader(
        fetch,
        learn,
        batch_size=settings.batch_size,
        seed=seed,
        workers=settings.workers,
        drop_last=_last_would_be_one(len(learn), settings.batch_size),
        ids=images.ids,
    )


def _last_would_be_one(count: int, batch_size: int) -> bool:
    """Say whether the last batch would be one image, of which BatchNorm can make nothing."""
    return count > batch_size and count % batch_size == 1


def _validation(
    images: ImageSet, preset: ClassifyPreset, normalise: Normalise, kind: Kind
) -> Callable[[Mapping[str, nn.Module]], dict[str, float]] | None:
    """Return the closure that judges an epoch by loss and AUROC; None without validation images."""
    rows = images.positions("val")
    if len(rows) == 0:
        return None
    fetch = Fetch(images.stored, images.targets, normalise=normalise)
    size = preset.predict.batch_size

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        batches = (
            fetch(rows[start : start + size], 0)["image"] for start in range(0, len(rows), size)
        )
        logits = logits_of(networks["network"], batches, flip=preset.predict.flip)
        return validation_values(images.targets[rows], logits, kind=kind)

    return validate
