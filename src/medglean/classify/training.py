"""Fit the network of a classifier to the training part of an image set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from medglean.arrays import Kind
from medglean.classify.prepare import Chosen, normalisation
from medglean.classify.settings import ClassifyPreset
from medglean.data.fetch import Fetch, Normalise
from medglean.data.imageset import ImageSet
from medglean.errors import DataError
from medglean.fitting import FitResult, Loader, fit, load_last, load_weights, make_optimizer
from medglean.fitting.classification import (
    class_weights,
    classification_loss,
    logits_of,
    make_step,
    probabilities,
)
from medglean.fitting.devices import resolved
from medglean.measure.curves import auroc
from medglean.nn.backbones import build_backbone, parameter_count
from medglean.runs.rundir import RunFolder

log = logging.getLogger("medglean")


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


def fit_network(
    run: RunFolder, images: ImageSet, chosen: Chosen, preset: ClassifyPreset
) -> tuple[nn.Module, FitResult, Normalise]:
    """Train, and return the network with the weights that the preset keeps, on the CPU.

    Checkpoints and the log go into the run folder; training goes on from what is there.
    """
    settings, seed = resolved(preset.fit), preset.fit.seed
    normalise = normalisation(images, preset)
    network = build_backbone(
        preset.model.architecture,
        classes=len(chosen.classes),
        in_channels=preset.images.channel_count,
        weights=preset.model.weights,
        dropout=preset.model.dropout,
        seed=seed,
    )
    log.info("%s with %d parameters", preset.model.architecture, parameter_count(network))
    learn = images.positions("train")
    fetch = Fetch(
        images.stored, images.targets, augment=preset.augment, seed=seed, normalise=normalise
    )
    loader = Loader(
        fetch,
        learn,
        batch_size=settings.batch_size,
        seed=seed,
        workers=settings.workers,
        drop_last=_last_would_be_one(len(learn), settings.batch_size),
        ids=images.ids,
    )
    weights = None
    if preset.labels.weights == "balanced":
        weights = class_weights(
            images.targets[learn], kind=chosen.kind, classes=len(chosen.classes)
        )
    networks: dict[str, nn.Module] = {"network": network}
    step = make_step(
        networks,
        kind=chosen.kind,
        classes=len(chosen.classes),
        weights=weights,
        smoothing=preset.labels.smoothing,
        mixup=preset.mixup,
    )
    validate = _validation(images, preset, normalise, chosen.kind)
    result = fit(
        step,
        networks=networks,
        optimizers={
            "network": make_optimizer(
                network.parameters(), settings.optimizer, precision=settings.precision
            )
        },
        loader=loader,
        settings=settings if validate else settings.model_copy(update={"patience": None}),
        folder=run.path,
        validate=validate,
        resume=True,  # the run folder has decided that already
        identity={
            "split": str(run.record["split_hash"]),
            "cache": images.cached.hash,
        },
    )
    for warning in result.warnings:
        log.warning("%s", warning)
    if preset.keep == "best" and result.best is not None:
        load_weights(result.best, {"network": network})
    else:
        load_last(result.last, {"network": network})
    return network.cpu(), result, normalise


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
        targets = images.targets[rows]
        loss = classification_loss(torch.from_numpy(logits), torch.from_numpy(targets), kind=kind)
        return {"loss": float(loss), "auroc": mean_auroc(targets, logits, kind=kind)}

    return validate


def mean_auroc(targets: np.ndarray, logits: np.ndarray, *, kind: Kind) -> float:
    """Return the mean AUROC over the classes for which it is defined; NaN where none is.

    For two exclusive classes it is the AUROC.
    """
    probability = probabilities(logits, kind=kind)
    truth = targets[:, None] == np.arange(logits.shape[1]) if kind == "single" else targets > 0.5
    areas = [
        auroc(truth[:, j], probability[:, j])
        for j in range(truth.shape[1])
        if 0 < truth[:, j].sum() < len(truth)
    ]
    return float(np.mean(areas)) if areas else float("nan")
