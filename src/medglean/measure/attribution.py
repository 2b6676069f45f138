"""Whether a map of what a network looked at lies where it should, such as within the lungs.

A share of mass says little by itself: lungs that fill 40 % of an image hold 40 % of the mass of an
even map. So each share stands beside that of the mask's area, and enrichment is their ratio; 1 is
what a map without any knowledge has in the mean. A map that only knows that lungs are in the
middle has more: measure each map on another image's mask, ``masks[permutation]``, for that level.

Numbers are NaN, not 0, where the map or the mask is empty. The statistics at the end average over
the other images, as weights say, so that intervals can come from resamples of patients.

References
----------
.. [1] Wang et al. Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks.
   CVPR Workshops 2020. Section 4.2, energy-based pointing game.
.. [2] Zhang, Bargal, Lin, Brandt, Shen, Sclaroff. Top-Down Neural Attention by Excitation Backprop.
   International Journal of Computer Vision 126, 2018. Pointing game.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt

from medglean.arrays import Scores
from medglean.measure.checks import check_finite, ratio
from medglean.measure.map_values import mean_of_defined
from medglean.measure.maps import check_same_shape
from medglean.measure.weighted import Statistic, share

Maps = Float[np.ndarray, "n h w"]
Masks = Bool[np.ndarray, "n h w"]
Signs = Literal["positive", "absolute"]
"""Which mass counts: what speaks for the class, or what speaks for or against it."""


@dataclass(frozen=True)
class MaskMass:
    """How much of each map lies inside its mask.

    Attributes
    ----------
    inside, total
        Mass of the map inside the mask and everywhere, in the map's unit, at least 0.
    mask_pixels, pixels
        Pixels of the mask and of the image.
    """

    inside: Float[np.ndarray, " n"]
    total: Float[np.ndarray, " n"]
    mask_pixels: Int[np.ndarray, " n"]
    pixels: Int[np.ndarray, " n"]

    def mass_share(self) -> Float[np.ndarray, " n"]:
        """Share of the mass that lies inside, in [0, 1]; NaN where map or mask is empty."""
        return np.where(self.mask_pixels > 0, ratio(self.inside, self.total), np.nan)

    def area_share(self) -> Float[np.ndarray, " n"]:
        """Share of the pixels that are the mask's, in (0, 1]; NaN where the mask is empty."""
        return np.where(self.mask_pixels > 0, ratio(self.mask_pixels, self.pixels), np.nan)

    def enrichment(self) -> Float[np.ndarray, " n"]:
        """Share of mass over share of area: 1 for an even map, at most 1 / area share."""
        return ratio(self.mass_share(), self.area_share())


def mask_mass(
    maps: Maps, masks: Masks, *, signs: Signs = "positive", within: Masks | None = None
) -> MaskMass:
    """Add up each map inside its mask and everywhere.

    Parameters
    ----------
    maps
        Finite, of any scale; a map is only compared with itself.
    masks
        Where the mass should be.
    signs
        ``"positive"``: values below 0 count as 0. ``"absolute"``: their size counts, as fits
        integrated gradients, whose signs change from pixel to pixel.
    within
        Pixels that count, such as those that are not padding; by default all.

    Raises
    ------
    ValueError
        If shapes differ, a map holds NaN or ``signs`` is neither word.

    Examples
    --------
    >>> maps = np.array([[[3.0, 1.0], [-2.0, 0.0]]])
    >>> masks = np.array([[[True, False], [False, False]]])
    >>> found = mask_mass(maps, masks)
    >>> found.mass_share().tolist(), found.area_share().tolist(), found.enrichment().tolist()
    ([0.75], [0.25], [3.0])
    >>> mask_mass(maps, masks, signs="absolute").mass_share().tolist()
    [0.5]
    """
    check_same_shape(maps=maps, masks=masks, within=within)
    check_finite(maps=maps)
    if signs not in ("positive", "absolute"):
        raise ValueError(f"signs is {signs!r}, expected 'positive' or 'absolute'.")
    inside, total = np.zeros(len(maps)), np.zeros(len(maps))
    area, pixels = np.zeros((2, len(maps)), dtype=np.int64)
    for row, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        mass = np.maximum(values, 0.0) if signs == "positive" else np.abs(values)
        counted = np.ones_like(mask) if within is None else within[row]
        inside[row] = mass[mask & counted].sum(dtype=np.float64)
        # added up in two parts, so that a share is never above 1 by rounding
        total[row] = inside[row] + mass[~mask & counted].sum(dtype=np.float64)
        area[row], pixels[row] = np.count_nonzero(mask & counted), np.count_nonzero(counted)
    return MaskMass(inside, total, area, pixels)


def bounding_boxes(masks: Masks) -> Masks:
    """Return the smallest upright rectangle around each mask; empty around an empty one."""
    rows, columns = (_span(np.asarray(masks.any(axis=axis))) for axis in (2, 1))
    return np.asarray(rows[:, :, None] & columns[:, None, :])


def _span(present: Bool[np.ndarray, "n side"]) -> Bool[np.ndarray, "n side"]:
    """Return True from the first True of each row to its last."""
    begun = np.logical_or.accumulate(present, axis=1)
    not_over = np.logical_or.accumulate(present[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(begun & not_over)


def energy_pointing(maps: Maps, masks: Masks, *, within: Masks | None = None) -> MaskMass:
    """Measure the positive mass inside the bounding box of each mask: section 4.2 of [1]_.

    `MaskMass.mass_share` is the paper's proportion. The box holds what lies between two lungs
    too; with masks at hand `mask_mass` is the stricter measure. The paper leaves out images whose
    box fills more than half of the image; here `MaskMass.area_share` says how much it fills.
    """
    return mask_mass(maps, bounding_boxes(masks), within=within)


def pointing_hits(
    maps: Maps, masks: Masks, *, tolerance_px: float = 0.0, within: Masks | None = None
) -> Float[np.ndarray, " n"]:
    """Say whether the highest pixel of each map lies inside its mask: the pointing game [2]_.

    Parameters
    ----------
    maps
        Finite.
    masks
        Where it should lie. By chance it does as often as the mask's area share.
    tolerance_px
        Distance from the mask that still counts, at least 0; the paper has 15.
    within
        Pixels that count; by default all.

    Returns
    -------
    ndarray
        1 or 0; where several pixels are equally high, the share of them inside. NaN where the
        mask is empty or no pixel is above 0: such a map points nowhere.

    Raises
    ------
    ValueError
        If shapes differ, a map holds NaN or the tolerance is below 0.

    Examples
    --------
    >>> maps = np.array([[[0.2, 0.9], [0.1, 0.9]], [[0.0, 0.0], [0.0, 0.0]]])
    >>> masks = np.array([[[True, True], [False, False]]] * 2)
    >>> pointing_hits(maps, masks).tolist()
    [0.5, nan]
    """
    check_same_shape(maps=maps, masks=masks, within=within)
    check_finite(maps=maps)
    if not tolerance_px >= 0.0:
        raise ValueError(f"tolerance_px must be at least 0, got {tolerance_px}.")
    hits = np.full(len(maps), np.nan)
    for row, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        counted = np.ones_like(mask) if within is None else within[row]
        if not (mask & counted).any():
            continue
        highest = values[counted].max()
        if highest <= 0:
            continue
        near = distance_transform_edt(~mask) <= tolerance_px if tolerance_px else mask
        hits[row] = near[counted & (values == highest)].mean()
    return hits


def mean_mass_share(mass: MaskMass) -> Statistic:
    """Mean share of mass inside, over images where it is defined."""
    return mean_of_defined(mass.mass_share())


def mean_area_share(mass: MaskMass) -> Statistic:
    """Mean share of area over the same images as `mean_mass_share`: its level by chance."""
    return mean_of_defined(np.where(np.isnan(mass.mass_share()), np.nan, mass.area_share()))


def mean_enrichment(mass: MaskMass) -> Statistic:
    """Mean share of mass over mean share of area; 1 by chance.

    The ratio of the means and not the mean of the ratios, which a few tiny masks would rule.
    """
    both = mass.mass_share()
    defined = np.isfinite(both)
    return share(np.where(defined, both, 0.0), np.where(defined, mass.area_share(), 0.0))


def hit_rate(hits: Scores) -> Statistic:
    """Share of hits over images where `pointing_hits` is defined."""
    return mean_of_defined(hits)
