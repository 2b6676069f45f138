"""Train a U-Net on a subset and score its masks of the test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from medglean.curate.study.classifiers import normalisation
from medglean.curate.study.material import Material
from medglean.curate.study.settings import LearnerSettings
from medglean.curate.study.training import train
from medglean.data.augment_settings import Augment
from medglean.data.fetch import Fetch, Normalise
from medglean.fitting.classification import Update
from medglean.measure.pixels import Overlap, overlap
from medglean.nn.segmentation import build_unet, segmentation_loss
from medglean.randomness import uniforms

SCORED_AT_ONCE = 64


class PairFetch:
    """Batches of images with their masks, flipped together.

    Parameters
    ----------
    material
        With masks.
    augment
        Its flips are used.
    seed
        Of the flips.
    normalise
        Applied to images last.
    """

    def __init__(
        self, material: Material, *, augment: Augment, seed: int, normalise: Normalise
    ) -> None:
        self.material, self.seed = material, seed
        self.flips = (augment.flip_horizontal, augment.flip_vertical)
        self.plain = Fetch(material.images.stored, material.targets, normalise=normalise)

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> dict[str, torch.Tensor]:
        """Return ``image`` (b, c, h, w), ``mask`` (b, s, h, w) and ``index``."""
        batch = self.plain(indices, epoch)
        masks = torch.from_numpy(self.material.masks_of(indices).astype(np.float32))
        drawn = uniforms(self.seed, "flip", epoch, index=indices, draws=2)
        for place, (horizontal, vertical) in enumerate(drawn < self.flips):
            axes = [axis for axis, flip in ((-1, horizontal), (-2, vertical)) if flip]
            if axes:
                batch["image"][place] = batch["image"][place].flip(axes)
                masks[place] = masks[place].flip(axes)
        return {"image": batch["image"], "mask": masks, "index": batch["index"]}


def segment(
    material: Material,
    settings: LearnerSettings,
    *,
    learn: Int[np.ndarray, " n"],
    test: Int[np.ndarray, " m"],
    seed: int,
    folder: Path,
) -> dict[str, float]:
    """Return the scores of a U-Net that learnt from ``learn``; see `mask_scores`."""
    normalise = normalisation(settings, material.images.stored, learn)
    network = build_unet(
        len(material.structures),
        in_channels=settings.images.channel_count,
        channels=settings.unet.channels,
        residual_units=settings.unet.residual_units,
        seed=seed,
    )
    networks = {"network": network}

    def step(
        batch: Mapping[str, torch.Tensor], generator: torch.Generator, update: Update
    ) -> dict[str, torch.Tensor]:
        loss = segmentation_loss(networks["network"](batch["image"]), batch["mask"])
        update(loss, "network")
        return {"loss": loss.detach()}

    fetch = PairFetch(material, augment=settings.augment, seed=seed, normalise=normalise)
    train(step, networks, fetch, learn, settings=settings, seed=seed, folder=folder)
    counted = _predicted(network, material, normalise, test)
    return mask_scores(counted, material.patients[test], material.structures)


@torch.no_grad()
def _predicted(
    network: nn.Module, material: Material, normalise: Normalise, test: np.ndarray
) -> Overlap:
    plain = Fetch(material.images.stored, material.targets, normalise=normalise)
    parts = []
    for start in range(0, len(test), SCORED_AT_ONCE):
        rows = test[start : start + SCORED_AT_ONCE]
        inside = network(plain(rows, 0)["image"]).numpy() > 0
        parts.append(overlap(material.masks_of(rows), inside))
    return Overlap(
        np.concatenate([part.both for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.predicted for part in parts]),
    )


def mask_scores(
    counted: Overlap, patients: np.ndarray, structures: tuple[str, ...]
) -> dict[str, float]:
    """Return Jaccard and Dice, the mean over structures, and Jaccard of each structure.

    Parameters
    ----------
    counted
        Of the test images.
    patients
        One per image.
    structures
        Their names.

    Returns
    -------
    dict
        ``jaccard`` and ``dice``: pixels are pooled over the images of a patient, so that an image
        with two pixels does not count as much as one with a thousand; then the mean over patients.
        ``jaccard of NAME``: of one structure. ``jaccard per image``: the mean over images, those
        left out in which there is nothing and nothing was found; ``jaccard pooled``: of all pixels
        of the test images together.
    """
    of_patient = counted.pooled(patients)
    each = _mean(of_patient.jaccard(), axis=0)
    return {
        "jaccard": _mean_of(each),
        "dice": _mean_of(_mean(of_patient.dice(), axis=0)),
        "jaccard per image": _mean_of(_mean(counted.jaccard(), axis=0)),
        "jaccard pooled": _mean_of(counted.pooled().jaccard()[0]),
        **{
            f"jaccard of {name}": float(value) for name, value in zip(structures, each, strict=True)
        },
    }


def _mean(values: np.ndarray, *, axis: int) -> np.ndarray:
    """Return the mean over what is defined; NaN, without a warning, where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    mean: np.ndarray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _mean_of(values: np.ndarray) -> float:
    return float(_mean(np.asarray(values), axis=0))
