"""The floor: what a classifier without any learning of features reaches on the same split.

A network that does not clearly beat this has learnt little that the mean picture does not show.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from medglean.arrays import Kind
from medglean.errors import DataError

SIZE_PX = 48
COMPONENTS = 64


def thumbnails(stored: np.ndarray, *, size_px: int = SIZE_PX) -> Float[np.ndarray, "n p"]:
    """Shrink stored images to flat grey thumbnails.

    Parameters
    ----------
    stored
        Shape (n, c, h, w), of any scale; channels are averaged.
    size_px
        Side of a thumbnail; area averaging.

    Returns
    -------
    ndarray
        float32 of shape (n, size_px**2).
    """
    flat = np.empty((len(stored), size_px * size_px), np.float32)
    for row, image in enumerate(stored):
        grey = np.asarray(image, dtype=np.float32).mean(axis=0)
        small = cv2.resize(grey, (size_px, size_px), interpolation=cv2.INTER_AREA)
        flat[row] = small.reshape(-1)
    return flat


def _standardised(flat: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """Bring every row to mean 0 and standard deviation 1; a constant row to zeros."""
    centred = flat - flat.mean(axis=1, keepdims=True)
    scaled: np.ndarray = centred / (centred.std(axis=1, keepdims=True) + 1e-6)
    return scaled


def pca_floor(
    stored: np.ndarray,
    targets: np.ndarray,
    *,
    train: np.ndarray,
    test: np.ndarray,
    kind: Kind,
    classes: int,
    size_px: int = SIZE_PX,
) -> Float[np.ndarray, "m k"]:
    """Fit PCA of thumbnails and a logistic regression; return probabilities of the test part.

    Each thumbnail is brought to mean 0 and standard deviation 1, then 64 whitened principal
    components of the training part (a quarter of its images, where they are fewer than 256) go
    into a logistic regression (C = 1).

    Parameters
    ----------
    stored
        Images of the whole manifest, shape (n, c, h, w).
    targets
        Class numbers (n,), or 0/1 of shape (n, k) for ``multi``; rows of neither part are not read.
    train, test
        Rows to learn from and to score.
    kind, classes
        As for the network.
    size_px
        Side of a thumbnail.

    Returns
    -------
    ndarray
        Shape (len(test), classes); a class that the training part lacks has probability 0.

    Raises
    ------
    DataError
        If the training part has fewer than two classes.
    """
    known = targets[train]
    if kind == "single" and len(np.unique(known)) < 2:
        raise DataError(
            "the training part has one class only, so there is nothing to tell apart. Check the "
            "column 'label' and the split."
        )
    learn, score = (
        _standardised(thumbnails(stored[rows], size_px=size_px)) for rows in (train, test)
    )
    # a quarter of the images at most: whitening blows up components that are noise
    components = min(COMPONENTS, max(2, len(learn) // 4), learn.shape[1])
    reduce = PCA(n_components=components, whiten=True, svd_solver="full").fit(learn)
    learn, score = reduce.transform(learn), reduce.transform(score)
    probability = np.zeros((len(test), classes))
    if kind == "single":
        model = LogisticRegression(max_iter=5000).fit(learn, known.astype(np.int64))
        probability[:, model.classes_] = model.predict_proba(score)
        return probability
    for j in range(classes):
        share = known[:, j].mean()
        if 0 < share < 1:
            model = LogisticRegression(max_iter=5000).fit(learn, known[:, j].astype(np.int64))
            probability[:, j] = model.predict_proba(score)[:, 1]
        else:
            probability[:, j] = share
    return probability
