"""How alike two sets of images are by the features of a trained network: FID, inception score.

The features are from `medglean.nn.perceptual`.

References
----------
.. [1] Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter. GANs Trained by a Two Time-Scale Update
   Rule Converge to a Local Nash Equilibrium. NeurIPS 2017. Equation 6.
.. [2] Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen. Improved Techniques for Training GANs.
   NeurIPS 2016. Section 4.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from medglean.errors import DataError


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    r"""Return the squared distance between normal distributions fitted to two sets of features.

    :math:`|\mu_1 - \mu_2|^2 + \mathrm{tr}(S_1 + S_2 - 2 (S_1 S_2)^{1/2})`, equation 6 of [1]_, with
    sample covariances. With fewer images than features it is far too large, the more so the fewer:
    compare only numbers from as many images.

    Raises
    ------
    DataError
        If a set has fewer than 2 images.

    Examples
    --------
    >>> ones = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    >>> round(frechet_distance(ones, 2 * ones + 3), 4)  # means 0 and 3, deviations 1.155 and 2.309
    10.3333
    """
    if min(len(first), len(second)) < 2:
        raise DataError(
            f"FID of {len(first)} and {len(second)} images: expected at least 2 of each, and some "
            "thousands for a number that means much."
        )
    means = [np.asarray(features, dtype=np.float64).mean(axis=0) for features in (first, second)]
    roots = [_root(features, mean) for features, mean in zip((first, second), means, strict=True)]
    # S1 S2 and (r1 r2^T)(r1 r2^T)^T have the same eigenvalues but for zeros
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(root).sum()) for root in roots)
    apart = float(np.square(means[0] - means[1]).sum())
    return max(0.0, apart + spread - 2 * float(shared))


def inception_score(logits: Float[np.ndarray, "n k"], *, splits: int = 1) -> float:
    r"""Return :math:`\exp` of the mean divergence of an image's classes from those of all, of [2]_.

    1 where every image gets the same classes, at most the number of classes.

    Parameters
    ----------
    logits
        Of classes.
    splits
        The mean over so many parts, in the order given; many papers have 10, in random order.

    Raises
    ------
    DataError
        If there are fewer images than splits.
    """
    if not 1 <= splits <= len(logits):
        raise DataError(
            f"an inception score of {len(logits)} images in {splits} splits: expected at least as "
            "many images as splits."
        )
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.max(axis=1, keepdims=True)
    log_shares = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    scores = []
    for part in np.array_split(log_shares, splits):
        shares = np.exp(part)
        # a class that no image has adds 0 x log 0 = 0
        whole = np.log(np.maximum(shares.mean(axis=0), np.finfo(np.float64).tiny))
        scores.append(math.exp(float((shares * (part - whole)).sum(axis=1).mean())))
    return float(np.mean(scores))


def _root(features: Float[np.ndarray, "n d"], mean: Float[np.ndarray, " d"]) -> np.ndarray:
    """Return r with r^T r the sample covariance of features, and no more rows than features."""
    centred: np.ndarray = (features.astype(np.float64) - mean) / math.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))
