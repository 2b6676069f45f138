"""The floor: what a classifier without any learning of features reaches on the same split.

A network that does not clearly beat this has learnt little that the mean picture does not show.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from medglean.classify.learning import Kind
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


def pca_floor(
    stored: np.ndarray,
    targets: np.ndarray,
    *,
    train: np.ndarray,
    test: np.ndarray,
    kind: Kind,
    classes: int,
) -> Float[np.ndarray, "m k"]:
    """Fit PCA of thumbnails and a logistic regression; return probabilities of the test part.

    Each thumbnail is brought to mean 0 and standard deviation 1, then 64 whitened principal
    components of the training part go into a logistic regression (C = 1).

    Parameters
    ----------
    stored
        Images of the whole manifest, shape (n, c, h, w).
    targets
        Class numbers (n,), or 0/1 of shape (n, k) for ``multi``.
    train, test
        Rows to learn from and to score.
    kind, classes
        As for the network.

    Returns
    -------
    ndarray
        Shape (len(test), classes); a class that the training part lacks has probability 0.

    Raises
    ------
    DataError
        If the training part has fewer than two classes.
    """
    flat = thumbnails(stored[np.sort(np.concatenate([train, test]))])
    rows = {row: place for place, row in enumerate(np.sort(np.concatenate([train, test])))}
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= flat.std(axis=1, keepdims=True) + 1e-6
    learn = flat[[rows[row] for row in train]]
    score = flat[[rows[row] for row in test]]
    known = targets[train]
    if kind == "single" and len(np.unique(known)) < 2:
        raise DataError(
            "the training part has one class only, so there is nothing to tell apart. Check the "
            "column 'label' and the split."
        )
    components = min(COMPONENTS, len(train) - 1, flat.shape[1])
    reduce = PCA(n_components=components, whiten=True, svd_solver="full")
    regression = LogisticRegression(max_iter=5000)
    probability = np.zeros((len(test), classes))
    if kind == "single":
        model: Pipeline = make_pipeline(reduce, regression).fit(learn, known.astype(np.int64))
        probability[:, model[-1].classes_] = model.predict_proba(score)
    else:
        varied = [j for j in range(classes) if 0 < known[:, j].sum() < len(known)]
        constant = [j for j in range(classes) if j not in varied]
        probability[:, constant] = known[:, constant].mean(axis=0)
        if varied:
            model = make_pipeline(reduce, OneVsRestClassifier(regression))
            model.fit(learn, known[:, varied].astype(np.int64))
            found = model.predict_proba(score)
            probability[:, varied] = found
    return probability
