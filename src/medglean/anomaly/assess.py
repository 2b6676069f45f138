"""From maps and masks to every number of a report, with intervals over patients.

Pixel measures are of diseased images that have a mask; healthy ones say how much a map shows where
nothing is. Slices with disease lie in other places than those without, so an AUROC of whole images
stands beside that of position alone and that of images matched on position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from medglean.anomaly import assess_notes as notes
from medglean.anomaly import measures as known
from medglean.anomaly.measures import IN_FOREGROUND
from medglean.measure.intervals import Interval
from medglean.measure.map_values import finite_maps, top_means
from medglean.measure.maps import MapTally
from medglean.measure.matched import matched_pairs, quantile_bins
from medglean.measure.resting import Measure, difference, intervals_of

POSITION_BINS = 10
COMPARED = (
    known.BEST_DICE,
    known.PIXEL_AP,
    known.PIXEL_AUROC,
    known.OTSU_DICE,
    known.AVERAGE_OTSU_DICE,
    known.FIXED_DICE,
    known.IMAGE_AUROC,
    known.MATCHED_AUROC,
)
"""Measures of which `difference_of` tells differences: those in which more is better."""


@dataclass(frozen=True)
class MapAssessment:
    """What the maps of one method are worth.

    Attributes
    ----------
    metrics
        By the names in `medglean.anomaly.measures`; those that need masks, rebuilt images or
        positions are absent where these are. Undefined ones are NaN, and their note says why.
    by_size, by_position
        Pixel measures for thirds of the measured images: by the lesion's share of the image, and
        by position. Average precision of small lesions is lower by chance alone.
    matched
        Pairs of a diseased and a healthy image alike in position; ``None`` without positions.
    thresholds
        That of the best Dice, the average of Otsu's, and the one given, by the measure's name.
    n, diseased, measured, healthy
        Images with a usable map: all, the diseased, those of them with a mask, the healthy.
    excluded
        Images left out because their map, or rebuilt image, holds NaN.
    scores
        One per image, NaN where excluded.
    tally
        Pixels of the measured images, for curves; ``None`` without masks.
    measures, groups, labels
        What `difference_of` needs: statistics with their images, and the patient and truth of each.
    notes
        What a careful reader should know about these numbers.
    """

    metrics: dict[str, Interval]
    by_size: dict[str, dict[str, Interval]]
    by_position: dict[str, dict[str, Interval]]
    matched: int | None
    thresholds: dict[str, float]
    n: int
    diseased: int
    measured: int
    healthy: int
    excluded: int
    scores: np.ndarray
    notes: tuple[str, ...]
    tally: MapTally | None = field(repr=False)
    measures: dict[str, Measure] = field(repr=False)
    groups: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    @property
    def primary(self) -> tuple[str, Interval]:
        """Name and interval of the measure to quote."""
        name = next(iter(self.metrics))
        return name, self.metrics[name]


def assess_maps(
    maps: np.ndarray,
    masks: np.ndarray | None,
    images: np.ndarray | None,
    diseased: np.ndarray,
    groups: Sequence[object] | np.ndarray,
    *,
    rebuilt: np.ndarray | None = None,
    foreground: np.ndarray | None = None,
    position: np.ndarray | None = None,
    threshold: float | None = None,
    scores: np.ndarray | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> MapAssessment:
    """Measure the maps of one method.

    Parameters
    ----------
    maps
        Shape (n, h, w); larger is more anomalous. Images whose map holds NaN are left out.
    masks
        Where the disease is, bool of shape (n, h, w); only those of diseased images are read, and
        an empty one stands for none. ``None``: measure whole images only.
    images, rebuilt
        x and x0, shape (n, c, h, w), in [0, 1]; both are needed for the mean of ``|x - x0|``.
    diseased
        Truth of each image, bool of shape (n,).
    groups
        The patient of each image: whole groups are resampled.
    foreground
        Bool of shape (n, h, w): pixels are measured in it, beside all of them.
    position
        Such as the slice's place in its volume; NaN where unknown.
    threshold
        Chosen without masks, such as by `medglean.measure.map_values.healthy_threshold` on
        validation images.
    scores
        One per image; by default the mean of the map's highest 1 % of pixels (of the foreground).
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    MapAssessment
        Dice at Otsu's thresholds is the mean over images, best Dice and that at the fixed
        threshold are of all pixels together.
    """
    diseased, groups = np.asarray(diseased, dtype=bool), np.asarray(groups)
    usable = _usable(maps, rebuilt)
    has_mask = np.zeros(len(maps), dtype=bool) if masks is None else masks.any(axis=(1, 2))
    sick, well = np.flatnonzero(usable & diseased & has_mask), np.flatnonzero(usable & ~diseased)
    regions = {"": None} if foreground is None else {"": None, IN_FOREGROUND: foreground}
    found = _Found({}, {}, None)
    if masks is not None:
        found = _on_pixels(maps, masks, sick, regions, threshold)
    change = None if images is None or rebuilt is None else np.abs(images - rebuilt).mean(axis=1)
    for suffix, within in regions.items():
        for name, one in known.on_healthy(maps, well, change=change, within=within).items():
            found.measures[name + suffix] = one
    scores = _scores(maps, usable, foreground, scores)
    scored = np.flatnonzero(np.isfinite(scores))
    strata = None if position is None else _strata(position, scored)
    found.measures.update(known.on_images(diseased, scores, scored, strata))
    draws = _Draws(groups, replicates, seed)
    metrics = draws.intervals(found.measures)
    if masks is None:  # what to quote stands first, and there are no pixels to quote
        metrics = {known.IMAGE_AUROC: metrics[known.IMAGE_AUROC], **metrics}
    pairs = None
    if strata is not None:
        pairs = matched_pairs(diseased[strata >= 0], strata[strata >= 0])
        metrics[known.MATCHED_AUROC] = _with_pairs(metrics[known.MATCHED_AUROC], pairs)
    by_size: dict[str, dict[str, Interval]] = {}
    by_position: dict[str, dict[str, Interval]] = {}
    if masks is not None and found.tally is not None:
        shares = 100 * masks[sick].mean(axis=(1, 2))
        by_size = _thirds(found.tally, maps, masks, sick, shares, _size_name, draws)
        if position is not None:
            places = np.asarray(position, dtype=np.float64)[sick]
            by_position = _thirds(found.tally, maps, masks, sick, places, _place_name, draws)
    return MapAssessment(
        metrics=metrics,
        by_size=by_size,
        by_position=by_position,
        matched=pairs,
        thresholds=found.thresholds,
        n=int(usable.sum()),
        diseased=int((usable & diseased).sum()),
        measured=len(sick),
        healthy=len(well),
        excluded=int((~usable).sum()),
        scores=scores,
        notes=(
            *notes.on_images(usable, diseased, groups),
            *notes.on_masks(masks, usable, diseased, groups, foreground),
            *notes.on_position(metrics, pairs),
        ),
        tally=found.tally,
        measures=found.measures,
        groups=groups,
        labels=diseased,
    )


def difference_of(
    first: MapAssessment, second: MapAssessment, *, replicates: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Return how much better the first method is than the second on the same images.

    Both are measured on the same resamples of patients, so that what makes an image easy or hard
    for both does not blur the comparison. Images that one of them could not map count for neither.

    Parameters
    ----------
    first, second
        Of the same images in the same order.

    Returns
    -------
    dict
        First less second, for the measures of `COMPARED` that both have; an interval that holds 0
        shows no difference.

    Raises
    ------
    ValueError
        If they are not of the same images.
    """
    same = np.array_equal(first.groups, second.groups)
    if not same or not np.array_equal(first.labels, second.labels):
        raise ValueError(
            f"expected two methods on the same images, found {len(first.labels)} and "
            f"{len(second.labels)} images, or other patients or labels. Assess both on one list."
        )
    names = [name + suffix for suffix in ("", IN_FOREGROUND) for name in COMPARED]
    gaps = {
        name: difference(first.measures[name], second.measures[name])
        for name in names
        if name in first.measures and name in second.measures
    }
    return _Draws(first.groups, replicates, seed).intervals(gaps)


class _Found(NamedTuple):
    measures: dict[str, Measure]
    thresholds: dict[str, float]
    tally: MapTally | None


class _Draws(NamedTuple):
    """Whose resamples, how many, and from which seed."""

    groups: np.ndarray
    replicates: int
    seed: int

    def intervals(self, measures: dict[str, Measure]) -> dict[str, Interval]:
        return intervals_of(measures, self.groups, replicates=self.replicates, seed=self.seed)


def _usable(maps: np.ndarray, rebuilt: np.ndarray | None) -> np.ndarray:
    usable = finite_maps(maps)
    if rebuilt is not None:
        usable = usable & np.isfinite(rebuilt).all(axis=(1, 2, 3))
    return usable


def _on_pixels(
    maps: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    regions: Mapping[str, np.ndarray | None],
    threshold: float | None,
) -> _Found:
    """Measure pixels, everywhere and in the foreground; the tally is of all."""
    measures: dict[str, Measure] = {}
    thresholds: dict[str, float] = {}
    tally = None
    for suffix, within in regions.items():
        pixels = known.on_pixels(maps, masks, rows, threshold=threshold, within=within)
        measures |= {name + suffix: one for name, one in pixels.measures.items()}
        thresholds |= {name + suffix: value for name, value in pixels.thresholds.items()}
        tally = tally or pixels.tally
    return _Found(measures, thresholds, tally)


def _scores(
    maps: np.ndarray,
    usable: np.ndarray,
    foreground: np.ndarray | None,
    given: np.ndarray | None,
) -> np.ndarray:
    """Return one score per image, NaN where its map cannot be used."""
    scores = np.full(len(maps), np.nan)
    if given is not None:
        scores[usable] = np.asarray(given, dtype=np.float64)[usable]
        return scores
    within = None if foreground is None else foreground[usable]
    scores[usable] = top_means(maps[usable], within=within)
    return scores


def _strata(position: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the bin of each image's position, -1 where it has none or is not counted."""
    place = np.asarray(position, dtype=np.float64)
    known_rows = rows[np.isfinite(place[rows])]
    strata = np.full(len(place), -1, dtype=np.int64)
    strata[known_rows] = quantile_bins(place[known_rows], bins=POSITION_BINS)
    return strata


def _with_pairs(interval: Interval, pairs: int) -> Interval:
    note = f"{pairs:,} pairs of a diseased and a healthy image alike in position"
    return replace(interval, note="; ".join(part for part in (note, interval.note) if part))


def _thirds(
    tally: MapTally,
    maps: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    name: Callable[[int, float, float], str],
    draws: _Draws,
) -> dict[str, dict[str, Interval]]:
    """Measure thirds of the images, parted by a number; nothing where there are no thirds."""
    there = np.isfinite(values)
    bins = np.full(len(values), -1, dtype=np.int64)
    bins[there] = quantile_bins(values[there], bins=3)
    if bins.max(initial=-1) < 2:
        return {}
    found = {}
    for third in range(3):
        part = bins == third
        label = name(third, float(values[part].min()), float(values[part].max()))
        found[label] = draws.intervals(known.of_part(tally, maps, masks, rows, part))
    return found


def _size_name(third: int, low: float, high: float) -> str:
    word = ("small", "medium", "large")[third]
    return f"{word} ({low:.2g} to {high:.2g} % of the image)"


def _place_name(third: int, low: float, high: float) -> str:
    word = ("low", "middle", "high")[third]
    return f"{word} ({low:.3g} to {high:.3g})"
