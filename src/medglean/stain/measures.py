"""What one generated image is worth beside the real one, in terms that a pathologist reads.

HER2 is read from the brown of DAB, so generated and real images are compared in the optical
density of DAB after colour deconvolution. *Background* is where the real image has hardly any
density: a generated image that is yellow there reads like a weak stain. A measure that a pair
does not define, such as that of a background it does not have, is NaN and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from medglean.measure.checks import check_same_length
from medglean.measure.images import psnr, ssim
from medglean.stain.lab import lab
from medglean.stain.optics import apply_white, dab_density, optical_density

HIGH_PERCENTILE = 90
FEWEST_PAIRS = 3
"""Two pairs are always on one line."""

Colours = UInt8[np.ndarray, "h w 3"]
WhitePoint = Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class PairMeasures:
    """One generated image beside the real one.

    Attributes
    ----------
    psnr, ssim
        As `medglean.measure.images` has them, in decibels and as a share; PSNR is infinite where
        the images are equal.
    dab_mean_fake, dab_mean_real
        Mean optical density of DAB.
    dab_p90_fake, dab_p90_real
        Its 90th percentile: how strongly the stained part is stained.
    dab_error
        ``dab_mean_fake`` less ``dab_mean_real``: above 0 there is too much stain.
    positive_fake, positive_real
        Share of pixels that count as stained.
    dice_positive
        Dice of these pixels, in [0, 1]; NaN where neither image has any.
    background_share
        Share of pixels that are background in the real image.
    background_bias
        Mean over them of the generated less the real optical density of DAB: above 0 the
        background reads as stained. NaN without background.
    b_shift
        Mean over them of generated less real b of Lab, both after division by their white points:
        above 0 it is yellower. NaN without background.
    """

    psnr: float
    ssim: float
    dab_mean_fake: float
    dab_mean_real: float
    dab_p90_fake: float
    dab_p90_real: float
    dab_error: float
    positive_fake: float
    positive_real: float
    dice_positive: float
    background_share: float
    background_bias: float
    b_shift: float


class Correlations(NamedTuple):
    """Pearson's r over pairs between generated and real, of DAB's mean and 90th percentile."""

    mean: float
    p90: float


def pair_measures(
    fake: Colours,
    real: Colours,
    *,
    white_fake: WhitePoint,
    white_real: WhitePoint,
    positive_od: float = 0.15,
    background_od: float = 0.05,
) -> PairMeasures:
    """Measure one generated image.

    Parameters
    ----------
    fake, real
        Generated and real, as they would be shown.
    white_fake, white_real
        What white is in each image, a share of full scale. For the real one: the white point of
        its slide. For the generated one: that of the images it is made like, such as the real one's
        or ones where targets were normalised. Never one measured on the generated image: a yellow
        background would be its white, and be divided away.
    positive_od
        Optical density of DAB from which a pixel counts as stained.
    background_od
        Mean optical density of the real image's channels below which a pixel is background.

    Raises
    ------
    ValueError
        If the images differ in size.

    Examples
    --------
    >>> real = np.full((8, 8, 3), 250, np.uint8)
    >>> yellow = real - np.array([0, 5, 30], np.uint8)
    >>> white = np.full(3, 250 / 255)
    >>> found = pair_measures(yellow, real, white_fake=white, white_real=white)
    >>> found.background_share, found.background_bias > 0, found.b_shift > 0
    (1.0, True, True)
    """
    similar = psnr(fake, real), ssim(fake, real)
    light_fake, light_real = _channels_first(fake), _channels_first(real)
    dab_fake, dab_real = dab_density(light_fake, white_fake), dab_density(light_real, white_real)
    p90_fake, p90_real = (
        float(np.percentile(dab, HIGH_PERCENTILE)) for dab in (dab_fake, dab_real)
    )
    mean_fake, mean_real = _mean(dab_fake), _mean(dab_real)
    positive_fake, positive_real = dab_fake >= positive_od, dab_real >= positive_od
    background = background_mask(light_real, white_real, background_od=background_od)
    return PairMeasures(
        psnr=similar[0],
        ssim=similar[1],
        dab_mean_fake=mean_fake,
        dab_mean_real=mean_real,
        dab_p90_fake=p90_fake,
        dab_p90_real=p90_real,
        dab_error=mean_fake - mean_real,
        positive_fake=_mean(positive_fake),
        positive_real=_mean(positive_real),
        dice_positive=_dice(positive_fake, positive_real),
        background_share=_mean(background),
        background_bias=_mean((dab_fake - dab_real)[background]),
        b_shift=_mean(
            _b_of(light_fake, background, white_fake) - _b_of(light_real, background, white_real)
        ),
    )


def background_mask(
    real: UInt8[np.ndarray, "3 h w"], white: WhitePoint, *, background_od: float
) -> Bool[np.ndarray, "h w"]:
    """Return where the mean optical density of an image's channels lies below a limit."""
    return np.asarray(optical_density(real, white).mean(axis=0) < background_od)


def correlations(
    mean_fake: Float[np.ndarray, " n"],
    mean_real: Float[np.ndarray, " n"],
    p90_fake: Float[np.ndarray, " n"],
    p90_real: Float[np.ndarray, " n"],
) -> Correlations:
    """Return how well generated images order the real ones by how much stain there is.

    Returns
    -------
    Correlations
        NaN with fewer than 3 pairs, or where all are alike.
    """
    check_same_length(
        mean_fake=mean_fake, mean_real=mean_real, p90_fake=p90_fake, p90_real=p90_real
    )
    return Correlations(pearson(mean_fake, mean_real), pearson(p90_fake, p90_real))


def pearson(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Return Pearson's r; NaN with fewer than 3 pairs, or where one side is constant.

    Examples
    --------
    >>> pearson(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    -1.0
    """
    if len(first) < FEWEST_PAIRS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1, 1))


def _channels_first(image: Colours) -> UInt8[np.ndarray, "3 h w"]:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def _mean(values: np.ndarray) -> float:
    """Return the mean, summed in double precision; NaN of nothing."""
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _dice(first: Bool[np.ndarray, "h w"], second: Bool[np.ndarray, "h w"]) -> float:
    both = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / both if both else float("nan")


def _b_of(
    image: UInt8[np.ndarray, "3 h w"], where: Bool[np.ndarray, "h w"], white: WhitePoint
) -> Float[np.ndarray, " k"]:
    """Return b of some pixels, beside a white of their own."""
    # not cut off at 1: red and green above white are yellow too
    return np.asarray(lab(apply_white(image[:, where][:, None], 1 / white))[2, 0])
