"""Map rows of an image set and measure what came out: between the maps and the reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from medglean.anomaly.assess import MapAssessment, assess_maps
from medglean.anomaly.mapping import Mapped, map_images
from medglean.anomaly.masks import Masks, open_masks
from medglean.anomaly.model import Mapper
from medglean.anomaly.position import relative_position
from medglean.anomaly.prepare import DISEASED, HEALTHY
from medglean.data.augment import to_float
from medglean.data.cache import Progress
from medglean.data.foreground import eroded, foreground_mask
from medglean.data.imageset import ImageSet
from medglean.errors import Problem
from medglean.measure.map_values import healthy_threshold

FIXED = "healthy 99 %"
"""Name of the threshold below which 99 % of the pixels of healthy validation images lie."""


@dataclass(frozen=True)
class Rows:
    """Some rows of an image set, with all that measuring needs but the maps.

    Attributes
    ----------
    rows
        Positions in the manifest, shape (n,).
    ids, groups
        Of these rows.
    labels
        As the manifest names them.
    targets
        HEALTHY or DISEASED of each.
    images
        Shape (n, c, h, w), in [0, 1].
    truth
        Masks, and which are known.
    foreground
        Pixels that are neither background nor rim, shape (n, h, w).
    position
        Relative place in the volume, NaN where unknown; None without such a column.
    """

    rows: np.ndarray
    ids: tuple[str, ...]
    groups: np.ndarray
    labels: tuple[str, ...]
    targets: np.ndarray
    images: np.ndarray
    truth: Masks
    foreground: np.ndarray
    position: np.ndarray | None

    @property
    def has_masks(self) -> bool:
        """Whether any lesion is outlined."""
        return bool(self.truth.masks.any())


@dataclass(frozen=True)
class Measured:
    """Maps of some rows, and what they are worth.

    Attributes
    ----------
    of
        The rows.
    mapped
        Maps, healthy counterparts, evaluations.
    assessment
        Every number, with intervals over patients.
    cpu_seconds
        Of this process while mapping, per image.
    """

    of: Rows
    mapped: Mapped
    assessment: MapAssessment
    cpu_seconds: float = field(default=float("nan"))

    @property
    def problems(self) -> list[Problem]:
        """What was wrong with maps and masks."""
        return [*self.mapped.problems, *self.of.truth.problems]


def rows_of(
    images: ImageSet, rows: np.ndarray, targets: np.ndarray, mapper: Mapper, column: str
) -> Rows:
    """Gather what measuring needs.

    Parameters
    ----------
    images
        Open.
    rows
        Positions that have an image.
    targets
        The class of every row of the manifest, in its order.
    mapper
        Its settings say how images are prepared and what is foreground.
    column
        Of the manifest, with the labels.
    """
    preset = mapper.preset
    pictures = to_float(np.ascontiguousarray(images.stored[rows]))
    inside = eroded(foreground_mask(pictures), share=max(preset.map.erode, preset.threshold.erode))
    position = relative_position(images.manifest, preset.position)
    names = images.manifest.frame[column].astype(str)
    return Rows(
        rows=rows,
        ids=tuple(images.ids[row] for row in rows),
        groups=images.groups[rows],
        labels=tuple(names.iloc[row] for row in rows),
        targets=targets[rows],
        images=pictures,
        truth=open_masks(images.manifest, preset.images, rows, targets[rows]),
        foreground=inside,
        position=None if position is None else position[rows],
    )


def measure(mapper: Mapper, of: Rows, *, progress: Progress | None = None) -> Measured:
    """Map images and measure the maps."""
    before = time.process_time()
    mapped = map_images(
        mapper, of.images, ids=of.ids, seed=mapper.preset.fit.seed, progress=progress
    )
    spent = (time.process_time() - before) / max(1, len(of.rows))
    return Measured(of, mapped, assess(mapper, of, mapped), spent)


def assess(mapper: Mapper, of: Rows, mapped: Mapped) -> MapAssessment:
    """Measure maps that were made already."""
    measured = of.truth.known
    return assess_maps(
        mapped.maps,
        of.truth.masks & measured[:, None, None] if of.has_masks else None,
        of.images,
        of.targets == DISEASED,
        of.groups,
        rebuilt=mapped.rebuilt,
        foreground=of.foreground,
        position=of.position,
        threshold=mapper.thresholds.get(FIXED),
        seed=mapper.preset.fit.seed,
    )


def fixed_thresholds(maps: np.ndarray, of: Rows) -> dict[str, float]:
    """Return thresholds that need no masks, from healthy images that are not measured later.

    None where no healthy image has a map, or a pixel that is foreground.
    """
    healthy = (of.targets == HEALTHY) & np.isfinite(maps).all(axis=(1, 2))
    if not healthy.any():
        return {}
    value = healthy_threshold(maps[healthy], within=of.foreground[healthy])
    return {FIXED: value} if np.isfinite(value) else {}


def result_frame(measured: Measured) -> pd.DataFrame:
    """Return the table that is written: one row per image."""
    of, maps = measured.of, measured.mapped.maps
    lesion = of.truth.masks.sum(axis=(1, 2))
    table = {
        "id": of.ids,
        "label": of.labels,
        "diseased": of.targets == DISEASED,
        "group": of.groups,
        "score": measured.assessment.scores,
        "map.mean": maps.mean(axis=(1, 2)),
        "map.max": maps.max(axis=(1, 2)),
        "mask.pixels": np.where(of.truth.known, lesion, -1),
    }
    if measured.mapped.rebuilt is not None:
        change = np.abs(of.images - measured.mapped.rebuilt)
        table["change.mean"] = change.mean(axis=(1, 2, 3))
    frame = pd.DataFrame(table)
    frame["mask.pixels"] = frame["mask.pixels"].astype("Int64").where(frame["mask.pixels"] >= 0)
    return frame


def chosen_cases(of: Rows, scores: Sequence[float] | np.ndarray, *, count: int) -> list[int]:
    """Choose what to show: diseased images from large to small lesions, then a healthy one.

    Not the best ones: of each patient the largest lesion, and of these the ones at even steps of
    size, or without masks at even steps of the score. The healthy one has the middle score.
    """
    size = of.truth.masks.sum(axis=(1, 2))
    by = size if of.has_masks else np.asarray(scores, dtype=np.float64)
    usable = np.isfinite(np.asarray(scores, dtype=np.float64))
    sick = np.flatnonzero((of.targets == DISEASED) & usable & ((size > 0) | (not of.has_masks)))
    largest = {}
    for place in sick[np.argsort(by[sick], kind="stable")]:
        largest[of.groups[place]] = int(place)  # one of each patient: its largest
    order = sorted(largest.values(), key=lambda place: -by[place])
    steps = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    taken = [order[step] for step in dict.fromkeys(steps.tolist())]
    well = np.flatnonzero((of.targets == HEALTHY) & usable)
    if len(well):
        values = np.asarray(scores, dtype=np.float64)[well]
        taken.append(int(well[np.argsort(values, kind="stable")[len(well) // 2]]))
    return taken
