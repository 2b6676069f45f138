"""Structural similarity of thumbnails: whether two pictures look alike, pixel for pixel.

The cosine of two embeddings says that two images mean about the same to an encoder; the
structural similarity says that they are the same picture. It costs a filter per pair and needs
the images, so it is for small sets and for putting candidate pairs in order.

References
----------
Wang, Bovik, Sheikh, Simoncelli. Image quality assessment: from error visibility to structural
similarity. IEEE Transactions on Image Processing 13, 2004.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from medglean.curate import ssim_kernels
from medglean.errors import DataError, UsageError

MOST_IMAGES = 2_000
"""Of a whole matrix: 2 million pairs of 64 px, which is about a minute on one core."""
SIGMA_PX, RADIUS_PX = 1.5, 5
K1, K2 = 0.01, 0.03


def ssim_pairs(
    thumbnails: Float[np.ndarray, "n h w"],
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
    """Return the mean structural similarity of pairs of thumbnails.

    With the paper's Gaussian window of 11 pixels (standard deviation 1.5), K1 = 0.01, K2 = 0.03,
    over the pixels that have a whole window.

    Parameters
    ----------
    thumbnails
        Grey values in [0, 1], at least 11 pixels high and wide.
    first, second
        Positions of the two images of each pair.

    Returns
    -------
    ndarray
        In [-1, 1], float64; 1 for equal images. The same for (i, j) and (j, i), bit for bit.

    Raises
    ------
    DataError
        If values lie outside [0, 1] or images are too small.
    IndexError
        If a position is not one of the thumbnails.

    Examples
    --------
    >>> import numpy as np
    >>> grey = np.zeros((2, 11, 11))
    >>> grey[1] = 1.0  # black and white: only the constant is left, 0.0001 / 1.0001
    >>> ssim_pairs(grey, np.array([0, 0]), np.array([0, 1])).round(6).tolist()
    [1.0, 0.0001]
    """
    images = _checked(thumbnails)
    left, right = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    _check_positions(left, right, count=len(images))
    used, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    images = images[used]  # statistics of images that are in no pair would be for nothing
    out = np.empty(len(left))
    _similarities(images, places[: len(left)], places[len(left) :], out)
    return out


def ssim_matrix(thumbnails: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n n"]:
    """Return the structural similarity of all pairs of a small set.

    Symmetric, with ones on the diagonal, as `medglean.curate.ranking.rank_matrix` takes it.

    Parameters
    ----------
    thumbnails
        At most 2,000, as for `ssim_pairs`.

    Raises
    ------
    UsageError
        If there are more.
    """
    count = len(thumbnails)
    if count > MOST_IMAGES:
        raise UsageError(
            f"structural similarity of all pairs is for at most {MOST_IMAGES:,} images, found "
            f"{count:,}. Compare embeddings instead, or only candidate pairs with ssim_pairs."
        )
    images = _checked(thumbnails)
    first, second = np.triu_indices(count, k=1)
    out = np.empty(len(first))
    _similarities(images, first, second, out)
    matrix = np.eye(count)
    matrix[first, second] = out
    matrix[second, first] = out
    return matrix


def _similarities(
    images: np.ndarray, first: np.ndarray, second: np.ndarray, out: np.ndarray
) -> None:
    taps = ssim_kernels.gaussian_taps(SIGMA_PX, RADIUS_PX)
    count, height, width = images.shape
    mean = np.empty((count, height - 2 * RADIUS_PX, width - 2 * RADIUS_PX))
    variance = np.empty_like(mean)
    ssim_kernels.local_moments(images, taps, mean, variance)
    constants = (K1 * K1, K2 * K2)  # times the square of the range of values, which is 1
    ssim_kernels.pair_similarities(images, mean, variance, taps, constants, first, second, out)
    np.clip(out, -1.0, 1.0, out=out)  # equal images may come out as 1 + 2e-16


def _checked(thumbnails: np.ndarray) -> np.ndarray:
    window = 2 * RADIUS_PX + 1
    values = np.asarray(thumbnails)
    if values.ndim != 3 or min(values.shape[1:]) < window:
        raise DataError(
            f"thumbnails: expected grey images of shape (n, h, w), at least {window} x {window} "
            f"pixels, found shape {values.shape}."
        )
    if values.dtype.kind != "f":
        raise DataError(
            f"thumbnails: expected floating-point values in [0, 1], found {values.dtype}. Divide "
            "8-bit values by 255."
        )
    # "not (inside)" also catches NaN
    if values.size and not (values.min() >= 0.0 and values.max() <= 1.0):
        raise DataError(
            f"thumbnails: expected values in [0, 1], found {values.min():g} to {values.max():g}. "
            "Scale them by the range of the encoding."
        )
    return np.ascontiguousarray(values, dtype=np.float64)


def _check_positions(first: np.ndarray, second: np.ndarray, *, count: int) -> None:
    for positions in (first, second):
        if positions.size and not (positions.min() >= 0 and positions.max() < count):
            raise IndexError(
                f"pairs name images {positions.min()} to {positions.max()}, and there are "
                f"{count:,} thumbnails, 0 to {count - 1:,}."
            )
