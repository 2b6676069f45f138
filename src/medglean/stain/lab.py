"""Colour as it is seen: CIE Lab of sRGB images [1]_, for daylight (D65, 2 degrees).

References
----------
.. [1] IEC 61966-2-1:1999 (sRGB) and CIE 15:2004 (Lab).
"""

from __future__ import annotations

import numpy as np

from medglean.stain.optics import Images, Planes, as_share, mixed

SRGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
D65 = (0.95047, 1.0, 1.08883)
"""White in XYZ."""


def lab(image: Images) -> Planes:
    """Return L, a and b of images in [0, 1] or of 8 bits, channel before height and width.

    L runs from 0 to 100; a and b, about -100 to 100, are 0 for grey; b above 0 is yellow.

    Examples
    --------
    >>> white, yellow = np.ones((3, 1, 1)), np.array([[[1.0]], [[1.0]], [[0.0]]])
    >>> np.abs(lab(white) - [[[100]], [[0]], [[0]]]).max() < 0.01, lab(yellow)[2].round(1).tolist()
    (np.True_, [[94.5]])
    """
    share = as_share(image)
    linear = np.where(
        share > 0.04045, ((np.maximum(share, 0.04045) + 0.055) / 1.055) ** 2.4, share / 12.92
    )
    xyz = mixed(linear, np.array(SRGB_TO_XYZ) / np.array(D65)[:, None])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -3, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-3)
