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
MOST_FOR_COMPONENTS = 4000
"""Pictures that `component_features` takes its components from, so that time stays bounded."""


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
    parts = [_standardised(thumbnails(stored[rows], size_px=size_px)) for rows in (train, test)]
    # a quarter of the images at most: whitening blows up components that are noise
    reduce = _components(parts[0], count=max(2, len(train) // 4))
    learn, score = (reduce.transform(part) for part in parts)
    return logistic(learn, known, score, kind=kind, classes=classes)


def pool_components(
    stored: np.ndarray, pool: np.ndarray, *, size_px: int = SIZE_PX
) -> Float[np.ndarray, "n k"]:
    """Return 64 whitened principal components of thumbnails, found without a label.

    Parameters
    ----------
    stored
        Images of the whole manifest, shape (n, c, h, w).
    pool
        Rows that give the components: all that there are to learn from, labelled or not.
    size_px
        Side of a thumbnail.

    Returns
    -------
    ndarray
        Of every row; fewer than 64 columns where the pool has fewer images.
    """
    flat = _standardised(thumbnails(stored, size_px=size_px))
    # n images span n - 1 directions; whitening would blow up the rounding of one more
    features: np.ndarray = _components(flat[pool], count=max(1, len(pool) - 1)).transform(flat)
    return features


def component_features(
    flat: Float[np.ndarray, "n p"], learn: np.ndarray, *, levels: bool = False
) -> Float[np.ndarray, "n k"]:
    """Return what `pca_floor` learns from, of pictures that are flat already.

    Parameters
    ----------
    flat
        One picture, or a part of it, per row; of any scale.
    learn
        Rows that give the components; no label is used.
    levels
        Add mean and standard deviation of each picture as two features more. Components are of
        pictures without them, since exposure says nothing of disease; where the question is what
        gives an image away, they belong to it.

    Returns
    -------
    ndarray
        64 whitened components, or a quarter of the images in ``learn`` where those are fewer than
        256; none where all pictures are alike. Of more than `MOST_FOR_COMPONENTS` images to learn
        from, so many evenly spaced ones give the components.
    """
    scaled = _standardised(flat)
    features = np.zeros((len(flat), 0))
    if (scaled[learn] != scaled[learn[:1]]).any():
        count = max(2, len(learn) // 4)
        some = learn
        if len(learn) > MOST_FOR_COMPONENTS:
            some = learn[np.linspace(0, len(learn) - 1, MOST_FOR_COMPONENTS).astype(np.int64)]
        features = _components(scaled[some], count=count).transform(scaled)
    if not levels:
        return features
    level = np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1).astype(np.float64)
    spread = level[learn].std(axis=0)
    level = (level - level[learn].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    joined: np.ndarray = np.concatenate([features, level], axis=1)
    return joined


def _components(flat: Float[np.ndarray, "n p"], *, count: int) -> PCA:
    components = min(COMPONENTS, count, *flat.shape)
    return PCA(n_components=components, whiten=True, svd_solver="full").fit(flat)


def logistic(
    learn: Float[np.ndarray, "n k"],
    known: np.ndarray,
    score: Float[np.ndarray, "m k"],
    *,
    kind: Kind,
    classes: int,
) -> Float[np.ndarray, "m c"]:
    """Fit a logistic regression (C = 1) and return the probabilities of other images.

    Parameters
    ----------
    learn, score
        Features of the images to learn from and to score.
    known
        Targets of the first, as `pca_floor` takes them.
    kind, classes
        As for `pca_floor`.
    """
    probability = np.zeros((len(score), classes))
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
