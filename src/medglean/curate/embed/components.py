"""The cheapest embedding: principal components of gradients or grey values of thumbnails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from safetensors.numpy import load, save

from medglean.arrays import UnitBatch
from medglean.curate.embed.encoder import Encoder
from medglean.curate.embed.hog import oriented_gradients
from medglean.curate.embed.settings import PcaSettings
from medglean.data.augment import to_float
from medglean.errors import DataError

SMALLEST_SD = 1e-6
"""Below this an image counts as constant and becomes zeros."""
SMALLEST_SHARE = 1e-10
"""A component with less than this share of the first one's variance is rounding."""


def standardised(images: UnitBatch) -> Float[np.ndarray, "b p"]:
    """Flatten images and bring each to mean 0 and standard deviation 1; a constant one to 0."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    sd = flat.std(axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(flat, sd, out=np.zeros_like(flat), where=sd >= SMALLEST_SD)
    return scaled


def principal_components(
    rows: Float[np.ndarray, "n p"], *, count: int
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "k p"], Float[np.ndarray, " k"]]:
    """Return mean, unit components and standard deviations, the largest first.

    Exact (LAPACK, on the smaller of the two Gram matrices), so the same rows give the same result.
    The sign of a component is such that its largest entry is positive.

    Parameters
    ----------
    rows
        At least two.
    count
        How many components at most; there are never more than the rows span.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    n, p = centred.shape
    wide = n < p
    gram = centred @ centred.T if wide else centred.T @ centred
    count = min(count, n - 1, p)
    size = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - count, size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > max(SMALLEST_SHARE * values[0], 0.0)
    values, vectors = values[kept], vectors[:, kept]
    components = (vectors.T @ centred) / np.sqrt(values)[:, None] if wide else vectors.T
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return mean, components * signs[:, None], np.sqrt(values / max(n - 1, 1))


def fit_pca(
    stored: np.ndarray, rows: Int[np.ndarray, " m"], *, settings: PcaSettings, seed: int
) -> Encoder:
    """Find the components of some rows of stored images, and return them as an encoder.

    Raises
    ------
    DataError
        If there are fewer than two images, or all are the same.
    """
    if len(rows) < 2:
        raise DataError(
            f"{len(rows)} image(s) to find components of, expected at least 2. Check the column "
            "'split' and problems.csv."
        )
    flat = _features(settings.features)(to_float(np.ascontiguousarray(stored[rows])))
    mean, components, sd = principal_components(flat, count=settings.components)
    if len(components) == 0:
        raise DataError(
            f"all {len(rows)} images are the same but for brightness and contrast, so there are no "
            "components. Check that the images were read right."
        )
    scale = 1.0 / sd if settings.whiten else np.ones(len(sd))
    matrix = np.ascontiguousarray((components * scale[:, None]).T)
    explained = float((sd**2).sum() / max(flat.var(axis=0, ddof=1).sum(), 1e-300))
    record = {
        "name": "pca",
        "features": settings.features,
        "latent": len(components),
        "whiten": settings.whiten,
        "training_images": len(rows),
        "seed": seed,
        "quality": {"variance_explained": explained, "images": len(rows)},
    }
    return stored_pca(save({"mean": mean, "matrix": matrix}), record)


def stored_pca(weights: bytes, record: dict[str, Any]) -> Encoder:
    """Return the encoder of which `fit_pca` gave these weights and this record."""
    arrays = load(weights)
    mean, matrix = arrays["mean"], arrays["matrix"]
    features = _features(record["features"])

    def apply(images: UnitBatch, _: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b k"]:
        values: np.ndarray = (features(images) - mean) @ matrix
        return values

    return Encoder(apply, record, weights=weights)


def _features(name: str) -> Callable[[UnitBatch], Float[np.ndarray, "b p"]]:
    return standardised if name == "pixels" else oriented_gradients
