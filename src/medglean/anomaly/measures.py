"""The measures of anomaly maps, each with the images that it rests on.

A `Measure` knows which of the images it counts, so that an interval tells the right numbers of
images and patients, and two methods can be compared on the images that both could be measured on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medglean.measure import weighted
from medglean.measure.map_values import (
    mean_of_defined,
    mean_values,
    otsu_thresholds,
    overlap_at,
    pooled_dice,
)
from medglean.measure.maps import (
    MapTally,
    best_dice,
    best_threshold,
    pixel_auroc,
    pixel_average_precision,
    tally,
)
from medglean.measure.matched import matched_auroc, rate_of_stratum
from medglean.measure.resting import Measure

BEST_DICE = "best Dice"
PIXEL_AUROC = "pixel AUROC"
PIXEL_AP = "pixel average precision"
OTSU_DICE = "mean Dice at Otsu"
AVERAGE_OTSU_DICE = "mean Dice at average Otsu"
FIXED_DICE = "Dice at fixed threshold"
HEALTHY_MAP = "mean map of healthy images"
IDENTITY = "mean |x - x0| of healthy images"
IMAGE_AUROC = "image AUROC"
MATCHED_AUROC = "image AUROC, position-matched"
POSITION_AUROC = "AUROC of position alone"
COMMON_DICE = "Dice at the best common threshold"
IN_FOREGROUND = ", in the foreground"
"""What is added to the names of measures that count pixels of the foreground only."""


class PixelMeasures(NamedTuple):
    """What was measured on pixels, the thresholds it took, and the counts behind it."""

    measures: dict[str, Measure]
    thresholds: dict[str, float]
    tally: MapTally


def on_pixels(
    maps: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    *,
    threshold: float | None = None,
    within: np.ndarray | None = None,
) -> PixelMeasures:
    """Measure how well maps find masks.

    Parameters
    ----------
    maps, masks, within
        Of all images, shape (n, h, w); ``rows`` says which count.
    threshold
        One that was chosen beforehand, without masks.

    Returns
    -------
    PixelMeasures
        The average of Otsu's thresholds is over these images and stays as it is in resamples.
    """
    maps, masks = maps[rows], masks[rows]
    within = None if within is None else within[rows]
    counted = tally(maps, masks, within=within)
    # what lies below 0 in a signed map speaks against disease: Otsu parts what speaks for it
    each = otsu_thresholds(np.maximum(maps, 0), within=within)
    average = float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")

    def dice(limit: float | np.ndarray) -> np.ndarray:
        return overlap_at(maps, masks, limit, within=within).dice()[:, 0]

    statistics = {
        BEST_DICE: best_dice(counted),
        PIXEL_AUROC: pixel_auroc(counted),
        PIXEL_AP: pixel_average_precision(counted),
        OTSU_DICE: mean_of_defined(dice(each)),
        AVERAGE_OTSU_DICE: mean_of_defined(dice(average)),
    }
    thresholds = {BEST_DICE: best_threshold(counted), AVERAGE_OTSU_DICE: average}
    if threshold is not None:
        statistics[FIXED_DICE] = pooled_dice(overlap_at(maps, masks, threshold, within=within))
        thresholds[FIXED_DICE] = float(threshold)
    measures = {name: Measure(statistic, rows) for name, statistic in statistics.items()}
    return PixelMeasures(measures, thresholds, counted)


def of_part(
    counted: MapTally, maps: np.ndarray, masks: np.ndarray, rows: np.ndarray, part: np.ndarray
) -> dict[str, Measure]:
    """Measure some of the images, at the threshold that is best for all of them.

    Parameters
    ----------
    counted
        Of the images ``rows``.
    part
        Whether each of ``rows`` belongs to the part.
    """
    found = overlap_at(maps[rows[part]], masks[rows[part]], best_threshold(counted))
    some = counted.rows(part)
    statistics = {
        PIXEL_AUROC: pixel_auroc(some),
        PIXEL_AP: pixel_average_precision(some),
        COMMON_DICE: pooled_dice(found),
    }
    return {name: Measure(statistic, rows[part]) for name, statistic in statistics.items()}


def on_healthy(
    maps: np.ndarray,
    rows: np.ndarray,
    *,
    change: np.ndarray | None = None,
    within: np.ndarray | None = None,
) -> dict[str, Measure]:
    """Measure what is left where nothing should be: the identity error.

    Parameters
    ----------
    change
        Mean of ``|x - x0|`` over the channels, shape (n, h, w), where images were rebuilt.
    """
    inside = None if within is None else within[rows]
    measures = {}
    for name, values in ((HEALTHY_MAP, maps), (IDENTITY, change)):
        if values is not None:
            means = mean_values(np.maximum(values[rows], 0), within=inside)
            measures[name] = Measure(mean_of_defined(means), rows)
    return measures


def on_images(
    diseased: np.ndarray, scores: np.ndarray, rows: np.ndarray, strata: np.ndarray | None = None
) -> dict[str, Measure]:
    """Measure whether one score per image tells diseased from healthy ones.

    Parameters
    ----------
    diseased, scores
        Of all images.
    strata
        Bin of position of each image, -1 where it has none: those are compared with no other.
    """
    measures = {IMAGE_AUROC: Measure(weighted.auroc(diseased[rows], scores[rows]), rows)}
    if strata is not None:
        placed = rows[strata[rows] >= 0]
        truth, bins = diseased[placed], strata[placed]
        rates = rate_of_stratum(truth, bins)
        matched = matched_auroc(truth, scores[placed], bins)
        measures[MATCHED_AUROC] = Measure(matched, placed)
        measures[POSITION_AUROC] = Measure(weighted.auroc(truth, rates), placed)
    return measures
