"""The table of scores: one row per image, raw logits beside probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch.nn import functional as F

from medglean.arrays import Kind, ScoreTable
from medglean.classify.decisions import calibrated
from medglean.classify.model import Classifier
from medglean.data.augment import to_float
from medglean.data.imageset import ImageSet
from medglean.errors import DataError
from medglean.fitting.classification import logits_of, probabilities
from medglean.nn.ensemble import members_of

LOGIT = "logit."
PROBABILITY = "probability."


@dataclass(frozen=True)
class Scores:
    """What a classifier says of some rows of a manifest.

    Attributes
    ----------
    rows
        Positions in the manifest, shape (m,).
    logits
        Raw, shape (m, k): the mean over the networks.
    probability
        Shape (m, k), calibrated where the preset says so.
    members
        Logits of each network, shape (s, m, k).
    """

    rows: np.ndarray
    logits: np.ndarray
    probability: ScoreTable
    members: np.ndarray

    def of(self, rows: np.ndarray) -> Scores:
        """Return the scores of some of the rows, given as positions in the manifest, rising."""
        places = np.searchsorted(self.rows, rows)
        return Scores(rows, self.logits[places], self.probability[places], self.members[:, places])


def score_rows(classifier: Classifier, images: ImageSet, rows: np.ndarray) -> Scores:
    """Apply a classifier to rows of an image set that have an image."""
    settings = classifier.preset.predict
    found = []
    with torch.inference_mode():
        for network in members_of(classifier.network):
            views = [
                logits_of(
                    network,
                    _batches(classifier, images, rows, settings.batch_size, zoom),
                    flip=settings.flip,
                )
                for zoom in settings.zooms
            ]
            found.append(np.mean(views, axis=0, dtype=np.float64).astype(np.float32))
    members = np.stack(found)
    if len(rows) == 0:
        members = np.zeros((len(found), 0, len(classifier.classes)), np.float32)
    logits = members.mean(axis=0, dtype=np.float64).astype(np.float32)
    return Scores(rows, logits, probability_of(classifier, logits), members)


def probability_of(classifier: Classifier, logits: np.ndarray) -> ScoreTable:
    """Turn raw logits into probabilities, calibrated where the classifier has a temperature."""
    if classifier.decisions is None:
        return probabilities(logits, kind=classifier.kind)
    return calibrated(logits, classifier.decisions, kind=classifier.kind)


def _batches(
    classifier: Classifier, images: ImageSet, rows: np.ndarray, size: int, zoom: float
) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), size):
        values = to_float(np.ascontiguousarray(images.stored[rows[start : start + size]]))
        yield classifier.normalise(magnified(torch.from_numpy(values), zoom))


def magnified(
    images: Float[torch.Tensor, "b c h w"], zoom: float
) -> Float[torch.Tensor, "b c h w"]:
    """Return images magnified about their centre, of the same size; 0 where nothing is.

    Bilinear. Above 1 the outermost parts are cut off; 1 returns the images themselves.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 5, 5)
    >>> image[0, 0, 2, 3] = 1.0
    >>> magnified(image, 2.0)[0, 0, 2].tolist()
    [0.0, 0.0, 0.0, 0.5, 1.0]
    """
    if zoom == 1.0:
        return images
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0 / zoom
    grid = F.affine_grid(matrix, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=True)


def called_names(
    probability: ScoreTable, classes: Sequence[str], *, kind: Kind, threshold: float
) -> list[str]:
    """Return what each image is called: a class, or findings joined by ``;``."""
    if kind == "single":
        return [classes[j] for j in probability.argmax(axis=1)]
    return [
        ";".join(name for name, p in zip(classes, row, strict=True) if p >= threshold)
        for row in probability
    ]


def score_frame(
    classifier: Classifier, images: ImageSet, scores: Scores, *, truth: bool
) -> pd.DataFrame:
    """Return the table that is written: id, image, truth where asked, call, scores, warnings.

    Rows of the image set without an image are not in it; `failure_frame` tells them.
    """
    manifest = images.manifest
    chosen = manifest.frame.iloc[scores.rows]
    columns: dict[str, object] = {"id": chosen["id"].to_numpy(dtype=object)}
    for name in (*manifest.image_columns, "patient", "group", "split"):
        if name in chosen:
            columns[name] = chosen[name].to_numpy(dtype=object)
    if truth and images.label_column is not None:
        columns[images.label_column] = chosen[images.label_column].to_numpy(dtype=object)
    columns["predicted"] = called_names(
        scores.probability,
        classifier.classes,
        kind=classifier.kind,
        threshold=classifier.preset.labels.threshold,
    )
    for j, name in enumerate(classifier.classes):
        columns[PROBABILITY + name] = scores.probability[:, j]
    for j, name in enumerate(classifier.classes):
        columns[LOGIT + name] = scores.logits[:, j].astype(np.float64)
    told: dict[int, list[str]] = {}
    for problem in images.warnings:
        if problem.row is not None:
            told.setdefault(problem.row - 2, []).append(problem.found)
    columns["warnings"] = [" ".join(told.get(int(row), [])) for row in scores.rows]
    return pd.DataFrame(columns)


def read_probability(frame: pd.DataFrame, classes: Sequence[str], *, file: str) -> ScoreTable:
    """Return the probabilities of a score table, shape (n, k).

    Raises
    ------
    DataError
        If a class has no column.
    """
    missing = [name for name in classes if PROBABILITY + name not in frame]
    if missing:
        raise DataError(
            f"{file}: no column {PROBABILITY + missing[0]!r}; expected one for each of "
            f"{', '.join(classes)}. Predict again with this run."
        )
    values: np.ndarray = frame[[PROBABILITY + name for name in classes]].to_numpy(dtype=np.float64)
    return values
