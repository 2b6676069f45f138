"""How close a generated image is to the real one, pixel by pixel.

Both measures are those of the BCI challenge [1]_: per image, 8-bit red green blue, the range 255;
means over images are the caller's. PSNR rewards what is blurred or of one colour, so that neither
alone says that a stain is right.

References
----------
.. [1] Liu, Zhu, Xu, et al. BCI: Breast Cancer Immunohistochemical Image Generation through
   Pyramid Pix2pix. CVPR Workshops 2022.
.. [2] Wang, Bovik, Sheikh, Simoncelli. Image quality assessment: from error visibility to
   structural similarity. IEEE TIP 2004; 13: 600-612.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8
from skimage.metrics import structural_similarity

RANGE = 255
WINDOW_PX = 7

Colours = UInt8[np.ndarray, "h w 3"]
OtherColours = UInt8[np.ndarray, "h2 w2 3"]


def psnr(first: Colours, second: OtherColours) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinite where images are equal.

    Raises
    ------
    ValueError
        If the images differ in size.

    Examples
    --------
    >>> black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    >>> psnr(black, white), psnr(white, white)
    (0.0, inf)
    """
    _check(first, second)
    difference = first.astype(np.float64) - second
    error = float(np.mean(difference * difference))
    return math.inf if error == 0 else 10 * math.log10(RANGE**2 / error)


def ssim(first: Colours, second: OtherColours) -> float:
    """Return the structural similarity of [2]_, the mean over pixels and channels; at most 1.

    With a uniform window of 7 x 7 pixels and sample covariances, as scikit-image has them by
    default; pixels whose window leaves the image do not count.

    Raises
    ------
    ValueError
        If the images differ in size, or are smaller than the window.
    """
    _check(first, second)
    # scikit-image has no types here
    similarity = structural_similarity(  # type: ignore[no-untyped-call]
        first, second, win_size=WINDOW_PX, data_range=RANGE, channel_axis=2, gaussian_weights=False
    )
    return float(similarity)


def _check(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"images of {first.shape[:2]} and {second.shape[:2]} pixels: expected one size. Bring "
            "the generated image to the size of the real one before measuring."
        )
    if min(first.shape[:2]) < WINDOW_PX:
        raise ValueError(
            f"images of {first.shape[:2]} pixels: expected at least {WINDOW_PX} x {WINDOW_PX}, the "
            "window of structural similarity."
        )
