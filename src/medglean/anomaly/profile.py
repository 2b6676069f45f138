"""What maps of healthy images look like position by position, and how far a map is above it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from medglean.anomaly.inside import Maps, pixels_inside
from medglean.data.foreground import Inside, check_share

PRIOR = 0.1
"""How many images' worth of the mean over all positions is mixed into each position."""


class Profile(NamedTuple):
    """What a map looks like on healthy images, position by position.

    Attributes
    ----------
    mean, sd
        Shape (h, w), in the unit of the maps; ``sd`` is above 0 unless all maps were alike.
    """

    mean: Float[np.ndarray, "h w"]
    sd: Float[np.ndarray, "h w"]


def residual_profile(maps: Maps, inside: Inside | None = None, *, share: float = 0.03) -> Profile:
    """Return mean and standard deviation per position over maps of healthy images.

    A translation errs where anatomy is hard to rebuild, on healthy images too: at the skull, the
    cortex, the ventricles' rim. Images must lie alike; where they are not registered, the Gaussian
    filter over first and second moments says how finely positions may be told apart.

    Parameters
    ----------
    maps
        Of healthy validation images, shape (n, h, w).
    inside
        Pixels that count; by default all. A position that no image covers takes what is around,
        and far from all of them the mean over all positions.
    share
        Standard deviation of the filter, as a share of the longer side; 0: none.

    Raises
    ------
    ValueError
        If no pixel is inside, the shapes differ, or a value inside is NaN or infinite.
    """
    check_share("share", share)
    where = pixels_inside(maps, inside)
    values = np.where(where, maps, 0).astype(np.float64)
    sums = np.stack([where.sum(axis=0), values.sum(axis=0), np.square(values).sum(axis=0)])
    sigma_px = share * max(maps.shape[1:])
    count, first, second = ndimage.gaussian_filter(
        sums.astype(np.float64), (0.0, sigma_px, sigma_px), mode="nearest"
    )
    total = sums.sum(axis=(1, 2))
    if total[0] == 0:
        raise ValueError(
            f"no pixel of {len(maps)} maps is inside the mask: expected healthy images with a "
            "foreground. Erode less, or look at the images."
        )
    prior = PRIOR * total / total[0]
    mean = (first + prior[1]) / (count + prior[0])
    square = (second + prior[2]) / (count + prior[0])
    sd = np.sqrt(np.maximum(square - np.square(mean), 0))
    return Profile(mean.astype(np.float32), sd.astype(np.float32))


def standardised(maps: Maps, profile: Profile, *, floor: float = 0.1) -> Maps:
    """Return by how many standard deviations maps exceed the healthy mean at each position.

    Parameters
    ----------
    maps
        Shape (n, h, w).
    profile
        From :func:`residual_profile`, of the same map.
    floor
        Least standard deviation, as a share of the profile's largest: where healthy maps are all
        alike, a small difference is not yet an anomaly.

    Returns
    -------
    ndarray
        float32, at least 0: what is below the mean is as healthy as the mean.
    """
    if maps.shape[1:] != profile.mean.shape:
        raise ValueError(
            f"maps have {maps.shape[1:]} pixels, the profile {profile.mean.shape}: expected one."
        )
    sd = np.maximum(profile.sd, max(floor * float(profile.sd.max()), 1e-12))
    above: np.ndarray = np.maximum((maps - profile.mean) / sd, 0).astype(np.float32)
    return above
