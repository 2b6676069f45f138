"""Loops of `medglean.curate.ssim` in machine code."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def weighted_means(image: np.ndarray, taps: np.ndarray, out: np.ndarray) -> None:
    """Write the mean around each pixel that has a whole window, weighted by ``taps`` twice.

    ``image`` is (h, w), ``taps`` (k,), ``out`` (h - k + 1, w - k + 1).
    """
    height, width = image.shape
    size = len(taps)
    row = np.empty(width)
    for y in range(height - size + 1):
        row[:] = 0.0
        for k in range(size):
            weight = taps[k]
            for x in range(width):
                row[x] += weight * image[y + k, x]
        out[y, :] = 0.0
        for k in range(size):
            weight = taps[k]
            for x in range(width - size + 1):
                out[y, x] += weight * row[x + k]


@njit(cache=True)
def local_moments(
    images: np.ndarray, taps: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> None:
    """Write the mean and the variance around each pixel of each image."""
    squared = np.empty(images.shape[1:])
    for number in range(len(images)):
        squared[:] = images[number] * images[number]
        weighted_means(images[number], taps, mean[number])
        weighted_means(squared, taps, variance[number])
        variance[number] -= mean[number] * mean[number]


@njit(cache=True)
def pair_similarities(
    images: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    taps: np.ndarray,
    constants: tuple[float, float],
    first: np.ndarray,
    second: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the mean structural similarity of each pair of images."""
    c1, c2 = constants
    product = np.empty(images.shape[1:])
    joint = np.empty(mean.shape[1:])
    height, width = mean.shape[1], mean.shape[2]
    for pair in range(len(first)):
        # the lower position first: the sums of (i, j) and of (j, i) are then the same sums
        i, j = min(first[pair], second[pair]), max(first[pair], second[pair])
        product[:] = images[i] * images[j]
        weighted_means(product, taps, joint)
        total = 0.0
        for y in range(height):
            for x in range(width):
                a, b = mean[i, y, x], mean[j, y, x]
                both = a * b
                covariance = joint[y, x] - both
                likeness = (2.0 * both + c1) * (2.0 * covariance + c2)
                total += likeness / (
                    (a * a + b * b + c1) * (variance[i, y, x] + variance[j, y, x] + c2)
                )
        out[pair] = total / (height * width)


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
    """Return the weights of a Gaussian at the whole numbers from -radius to radius; sum 1."""
    weights = np.array([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)])
    taps: np.ndarray = weights / weights.sum()
    return taps
