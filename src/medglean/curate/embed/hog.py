"""Histograms of oriented gradients: what edges run where, whatever the brightness.

Dalal, Triggs. Histograms of Oriented Gradients for Human Detection. CVPR 2005; cells of
8 x 8 pixels, 9 directions, blocks of 2 x 2 cells normalised by L2 with clipping.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from skimage.feature import hog

from medglean.arrays import UnitBatch
from medglean.errors import UsageError

CELL_PX, DIRECTIONS = 8, 9


def oriented_gradients(images: UnitBatch) -> Float[np.ndarray, "b p"]:
    """Return the histograms of each image, its channels averaged.

    Parameters
    ----------
    images
        In [0, 1]; each side a multiple of 8 pixels and at least 16.

    Returns
    -------
    ndarray
        float64 of shape (b, p): 36 numbers for each block of 16 x 16 pixels, every 8 pixels. A
        constant image gives zeros.

    Raises
    ------
    UsageError
        If a side is not such a multiple.
    """
    height, width = images.shape[2:]
    if height % CELL_PX or width % CELL_PX or min(height, width) < 2 * CELL_PX:
        raise UsageError(
            f"images.size_px is {height} x {width}: histograms of gradients need sides that are "
            f"multiples of {CELL_PX} and at least {2 * CELL_PX}, such as 64 x 64."
        )
    found = [
        hog(
            image.mean(axis=0, dtype=np.float64),
            orientations=DIRECTIONS,
            pixels_per_cell=(CELL_PX, CELL_PX),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
        )
        for image in images
    ]
    return np.stack(found)
