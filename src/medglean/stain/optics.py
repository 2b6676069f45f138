r"""Light through a stained section: optical density, its parts by stain, and the white of a slide.

The law of Beer and Lambert: a stain of amount :math:`a_s` along its vector :math:`v_s` lets
:math:`I = W \cdot 10^{-\sum_s a_s v_s}` of the light W through, per colour channel. So the decadic
optical density :math:`-\log_{10}(I / W)` is linear in the amounts, and three stains are found from
three channels [1]_. W is what the scanner shows where there is nothing: the *white point*.

Images have their channel before height and width, values in [0, 1] or 8-bit ones. The same
formulas on tensors, for losses, are in `medglean.stain.optics_torch`.

References
----------
.. [1] Ruifrok, Johnston. Quantification of histochemical staining by color deconvolution.
   Anal Quant Cytol Histol 2001; 23: 291-299.
.. [2] Tellez et al. Whole-slide mitosis detection in H&E breast histology using PHH3 as a
   reference to train distilled stain-invariant convolutional networks. IEEE TMI 2018; 37.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from medglean.errors import DataError

HAEMATOXYLIN = (0.65, 0.70, 0.29)
DAB = (0.27, 0.57, 0.78)
EOSIN = (0.07, 0.99, 0.11)
"""Optical density of red, green and blue, as [1]_ measured them; used at length 1."""

SMALLEST_LIGHT = 1 / 255
"""Less light is taken for this much: one step of 8 bits, an optical density of about 2.4."""

WHITE_BINS = 65535
"""Values between 0 and 1 that a white point tells apart; those of 8 bits are among them."""

Basis = Literal["h-dab", "h-e"]
"""Haematoxylin, DAB and rest; or haematoxylin, eosin and rest."""

Images = Num[np.ndarray, "*n 3 h w"]
"""Red, green, blue: floats in [0, 1], or 8-bit."""

Planes = Float[np.ndarray, "*n 3 h w"]
White = Float[np.ndarray, "*m 3"]
"""One per image, or one for all; a share of full scale in (0, 1]."""


@cache
def stain_vectors(basis: Basis = "h-dab") -> Float[np.ndarray, "3 3"]:
    """Return the vectors of three stains as rows of length 1; the third is at right angles.

    Raises
    ------
    ValueError
        If the basis has another name.

    Examples
    --------
    >>> stain_vectors("h-dab").round(3).tolist()[1]
    [0.269, 0.568, 0.778]
    """
    if basis not in ("h-dab", "h-e"):
        raise ValueError(f"basis must be 'h-dab' or 'h-e', got {basis!r}.")
    first, second = (
        np.array(vector) / np.linalg.norm(vector)
        for vector in (HAEMATOXYLIN, DAB if basis == "h-dab" else EOSIN)
    )
    rest = np.cross(first, second)
    vectors = np.stack([first, second, rest / np.linalg.norm(rest)])
    vectors.setflags(write=False)  # one array for all callers
    return vectors


def as_share(image: Images) -> Planes:
    """Return values in [0, 1]: 8-bit ones divided by 255, floats as they are.

    Raises
    ------
    DataError
        If values are whole numbers of more than 8 bits: their scale is not known.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    if image.dtype.kind != "f":
        raise DataError(
            f"an image of {image.dtype}: expected 8 bits, or floats in [0, 1]. Divide it by the "
            "largest value that its encoding allows."
        )
    return image


def optical_density(image: Images, white: White) -> Planes:
    """Return the decadic optical density of each channel, -log10(image / white).

    Parameters
    ----------
    image
        Light that came through.
    white
        Light that went in, on the scale of [0, 1].

    Returns
    -------
    ndarray
        0 where the image is as the white point, at most -log10 of `SMALLEST_LIGHT`, and below 0
        where it is brighter: not cut off there, so that noise around white has the mean 0.

    Raises
    ------
    DataError
        If a white point is not above 0.

    Examples
    --------
    >>> grey = np.full((3, 1, 1), 0.08)
    >>> optical_density(grey, np.array([0.8, 0.8, 0.08])).ravel().tolist()
    [1.0, 1.0, 0.0]
    """
    light = as_share(image)
    od: np.ndarray = light / _checked(white, light)
    np.maximum(od, SMALLEST_LIGHT, out=od)
    np.log10(od, out=od)
    np.negative(od, out=od)
    return od


def unmix(od: Planes, basis: Basis = "h-dab") -> Planes:
    """Return how much there is of each stain of a basis, from optical densities.

    Returns
    -------
    ndarray
        Haematoxylin, DAB (or eosin) and rest in place of red, green and blue: the length of each
        one's part of the optical density. Below 0 where the colour lies outside of the stains'.
    """
    # od = amounts @ vectors, per pixel
    return mixed(od, np.linalg.inv(stain_vectors(basis)).T)


def remix(amounts: Planes, basis: Basis = "h-dab") -> Planes:
    """Return the optical densities of red, green and blue from amounts of stain."""
    return mixed(amounts, stain_vectors(basis).T)


def transmitted(od: Planes, white: White) -> Planes:
    """Return the light that comes through, white x 10^-od; not limited to 1."""
    return np.asarray(_over_pixels(white, od) * np.power(od.dtype.type(10), -od))


def dab_density(image: Images, white: White) -> Float[np.ndarray, "*n h w"]:
    """Return the optical density of DAB, of an image in haematoxylin and DAB.

    Examples
    --------
    >>> amounts = np.zeros((3, 1, 1))
    >>> amounts[1] = 0.4
    >>> white = np.array([0.9, 0.85, 0.7])
    >>> brown = transmitted(remix(amounts), white)
    >>> dab_density(brown, white).round(6).tolist()
    [[0.4]]
    """
    od = optical_density(image, white)
    weights = np.linalg.inv(stain_vectors("h-dab"))[:, 1].astype(od.dtype)
    return np.asarray(np.einsum("c,...chw->...hw", weights, od))


def white_point(
    images: Iterable[Num[np.ndarray, "3 h w"]], *, percentile: float
) -> Float[np.ndarray, " 3"]:
    """Return the white point of a slide: a percentile of each channel over all of its images.

    Parameters
    ----------
    images
        Looked at one by one; none is kept.
    percentile
        Such as 99: brighter pixels are taken for noise and dirt. Where an image shows hardly any
        glass this is the brightest tissue, which is darker than white.

    Returns
    -------
    ndarray
        Share of full scale, interpolated as numpy does. Exact for 8-bit images; floats are
        rounded to whole multiples of 1 / `WHITE_BINS`.

    Raises
    ------
    DataError
        If there is no image, or a channel has no light at that percentile.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percentile}.")
    counts = np.zeros((3, WHITE_BINS + 1), dtype=np.int64)
    for image in images:
        for channel, plane in enumerate(image):
            if plane.dtype == np.uint8:
                counts[channel, :: WHITE_BINS // 255] += np.bincount(plane.ravel(), minlength=256)
            else:
                bins = np.rint(np.clip(as_share(plane), 0, 1) * WHITE_BINS).astype(np.int64)
                counts[channel] += np.bincount(bins.ravel(), minlength=WHITE_BINS + 1)
    if not counts.any():
        raise DataError("a white point of no pixels: expected at least one image of the slide.")
    white = np.array([_percentile(one, percentile) for one in counts]) / WHITE_BINS
    if not (white > 0).all():
        raise DataError(
            f"the {percentile:g}th percentile of red, green and blue is {white.round(3).tolist()}: "
            "expected light in each channel. Leave images out that are black or single-coloured, "
            "or set white.normalise=false."
        )
    return white


def normalise_white(image: Images, white: White) -> Planes:
    """Divide by the white point, so that glass is 1; brighter pixels become 1 too.

    Raises
    ------
    DataError
        If a white point is not above 0.
    """
    light = as_share(image)
    return np.asarray(np.clip(light / _checked(white, light), 0, 1))


def apply_white(image: Images, white: White) -> Planes:
    """Multiply by a white point: what `normalise_white` divided by."""
    light = as_share(image)
    return np.asarray(light * _over_pixels(white, light))


def perturb_stains(
    image: Images, multipliers: Float[np.ndarray, "*n 3"], shifts: Float[np.ndarray, "*n 3"]
) -> Planes:
    """Change the amounts of haematoxylin, eosin and rest of H&E images: augmentation of [2]_.

    Parameters
    ----------
    image
        H&E.
    multipliers, shifts
        Of each stain, one set per image or one for all: amount x multiplier + shift.

    Returns
    -------
    ndarray
        In [0, 1]. With multipliers of 1 and shifts of 0 the image itself, but for light below
        `SMALLEST_LIGHT`.
    """
    share = as_share(image)
    amounts = unmix(optical_density(share, np.ones(3)), "h-e")
    amounts = amounts * _over_pixels(multipliers, amounts) + _over_pixels(shifts, amounts)
    return np.asarray(np.clip(transmitted(remix(amounts, "h-e"), np.ones(3)), 0, 1))


def mixed(planes: Planes, weights: Float[np.ndarray, "3 3"]) -> Planes:
    """Multiply each pixel's three values by a matrix."""
    *leading, channels, height, width = planes.shape
    flat = planes.reshape(*leading, channels, height * width)
    return np.asarray(weights.astype(planes.dtype) @ flat).reshape(planes.shape)


def _over_pixels(values: Float[np.ndarray, "*n 3"], like: np.ndarray) -> np.ndarray:
    """Return one number per image and channel, ready to be spread over pixels."""
    return np.asarray(values, dtype=like.dtype)[..., None, None]


def _checked(white: White, like: np.ndarray) -> np.ndarray:
    """Return white points ready to divide pixels by."""
    if not (np.asarray(white) > 0).all():
        raise DataError(
            f"a white point of {np.asarray(white).round(3).tolist()}: expected shares of full "
            "scale above 0. Measure it on images that show glass."
        )
    return _over_pixels(white, like)


def _percentile(counts: np.ndarray, percentile: float) -> float:
    """Return a percentile of whole numbers that occur so often each, between ranks linearly."""
    until = np.cumsum(counts)
    rank = percentile / 100 * (until[-1] - 1)
    low, high = np.searchsorted(until, [np.floor(rank), np.ceil(rank)], side="right")
    return float(low + (high - low) * (rank - np.floor(rank)))
