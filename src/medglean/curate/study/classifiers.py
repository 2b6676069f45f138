"""Train a classifier on a subset and score it on the test images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from medglean.curate.study.material import Material
from medglean.curate.study.settings import PCA_LOGISTIC, LearnerSettings
from medglean.curate.study.training import train
from medglean.data.fetch import Fetch, Normalise, channel_statistics
from medglean.fitting.classification import logits_of, make_step, probabilities
from medglean.measure.curves import auroc
from medglean.measure.labels import accuracy, confusion_matrix, counts_of_confusion
from medglean.nn.backbones import build_backbone
from medglean.nn.floor import logistic, pca_floor, pool_components

SCORED_AT_ONCE = 128


def classify(
    material: Material,
    settings: LearnerSettings,
    *,
    learn: Int[np.ndarray, " n"],
    test: Int[np.ndarray, " m"],
    pool: Int[np.ndarray, " p"],
    seed: int,
    folder: Path,
) -> dict[str, float]:
    """Return the scores of a classifier that learnt from ``learn``; see `class_scores`.

    A subset of one class only teaches nothing: its classifier says the same of every image, and
    has the AUROC of chance.
    """
    targets, count = material.targets, len(material.classes)
    if len(np.unique(targets[learn])) < 2:
        constant = np.tile(np.eye(count)[targets[learn[0]]], (len(test), 1))
        return class_scores(targets[test], constant)
    if settings.name == PCA_LOGISTIC and settings.components == "pool":
        features = _of_pool(material, settings, pool)
        probability = logistic(
            features[learn], targets[learn], features[test], kind="single", classes=count
        )
    elif settings.name == PCA_LOGISTIC:
        probability = pca_floor(
            material.images.stored,
            targets,
            train=learn,
            test=test,
            kind="single",
            classes=count,
            size_px=settings.thumbnail_px,
        )
    else:
        probability = _network(material, settings, learn=learn, test=test, seed=seed, folder=folder)
    return class_scores(targets[test], probability)


_last: tuple[np.ndarray, bytes, np.ndarray] | None = None


def _of_pool(
    material: Material, settings: LearnerSettings, pool: Int[np.ndarray, " p"]
) -> Float[np.ndarray, "n k"]:
    """Return the components of a pool; those of the last pool are kept, for its cells follow."""
    global _last
    stored, key = material.images.stored, pool.tobytes()
    if _last is None or _last[0] is not stored or _last[1] != key:
        _last = (stored, key, pool_components(stored, pool, size_px=settings.thumbnail_px))
    return _last[2]


def _network(
    material: Material,
    settings: LearnerSettings,
    *,
    learn: np.ndarray,
    test: np.ndarray,
    seed: int,
    folder: Path,
) -> Float[np.ndarray, "m k"]:
    """Train a torchvision network and return its probabilities of the test images."""
    stored, targets = material.images.stored, material.targets
    normalise = normalisation(settings, stored, learn)
    network = build_backbone(
        settings.name,
        classes=len(material.classes),
        in_channels=settings.images.channel_count,
        weights=settings.weights,
        seed=seed,
    )
    networks: dict[str, nn.Module] = {"network": network}
    train(
        make_step(networks, kind="single", classes=len(material.classes)),
        networks,
        Fetch(stored, targets, augment=settings.augment, seed=seed, normalise=normalise),
        learn,
        settings=settings,
        seed=seed,
        folder=folder,
    )
    plain = Fetch(stored, targets, normalise=normalise)
    batches = (
        plain(test[start : start + SCORED_AT_ONCE], 0)["image"]
        for start in range(0, len(test), SCORED_AT_ONCE)
    )
    return probabilities(logits_of(network, batches), kind="single")


def normalisation(
    settings: LearnerSettings, stored: np.ndarray, learn: Int[np.ndarray, " n"]
) -> Normalise:
    """Return what is done to values in [0, 1], measured on the subset where it must be."""
    if settings.normalise == "dataset":
        return channel_statistics(stored, learn)
    return Normalise(rule=settings.normalise)


def class_scores(
    target: Int[np.ndarray, " m"], probability: Float[np.ndarray, "m k"]
) -> dict[str, float]:
    """Return AUROC (mean over the classes for which it is defined), accuracy and macro F1.

    Of two classes both have one AUROC. F1 of a class that is neither there nor predicted is
    undefined and left out; one that is there and never predicted counts 0.
    """
    classes = probability.shape[1]
    areas = [auroc(target == number, probability[:, number]) for number in range(classes)]
    known = [area for area in areas if not math.isnan(area)]
    called = probability.argmax(axis=1).astype(np.int64)
    matrix = confusion_matrix(target.astype(np.int64), called, classes=classes)
    counts = counts_of_confusion(matrix)
    there = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    f1 = np.nan_to_num(counts.f1[there])
    return {
        "auroc": float(np.mean(known)) if known else math.nan,
        "accuracy": accuracy(target.astype(np.int64), called),
        "f1": float(f1.mean()),
    }
