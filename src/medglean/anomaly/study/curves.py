"""What noise level L and guidance scale s do: figures 4 to 7 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medglean.anomaly import measures as known
from medglean.anomaly.assess import assess_maps
from medglean.anomaly.measured import Rows
from medglean.anomaly.model import Mapper
from medglean.anomaly.prepare import DISEASED
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.study.rows import Cell, Cells, Row
from medglean.measure.intervals import Interval

CURVES = (known.BEST_DICE, known.PIXEL_AP, known.PIXEL_AUROC)
REPLICATES = 500
"""Of the bootstrap of each point of a curve: there are many points."""

Curves = Mapping[str, Mapping[float, Mapping[str, Interval]]]
"""Measures by L (as it is told) and s."""


@dataclass(frozen=True)
class Sweep:
    """Maps of a few images under every L and s.

    Attributes
    ----------
    of
        The images.
    cells
        By (L, s).
    curves
        What they are worth on the diseased images.
    """

    of: Rows
    cells: Mapping[tuple[int, float], Cell]
    curves: Curves


def translating(rows: Sequence[Row]) -> Row | None:
    """Return the first row that translates under guidance, which a sweep is of."""
    for row in rows:
        how = row.preset.translate
        guided = how.guidance in ("classifier", "classifier-free")
        if row.preset.method == "diffusion" and how.sampler == "ddim" and guided:
            return row
    return None


def few(of: Rows, *, count: int) -> np.ndarray:
    """Choose diseased images with a lesion, one of each patient after the other, and a healthy one.

    Returns
    -------
    ndarray
        Positions among the rows, in rising order.
    """
    size = of.truth.masks.sum(axis=(1, 2))
    sick = np.flatnonzero((of.targets == DISEASED) & (size > 0))
    turn = np.zeros(len(of.rows), dtype=np.int64)
    for group in np.unique(of.groups[sick]):
        own = sick[of.groups[sick] == group]
        turn[own[np.argsort(-size[own], kind="stable")]] = np.arange(len(own))
    taken = sick[np.lexsort((sick, turn[sick]))][:count]
    well = np.flatnonzero(of.targets != DISEASED)
    middle = well[len(well) // 2 : len(well) // 2 + 1]
    return np.sort(np.concatenate([taken, middle]))


def part_of(of: Rows, places: np.ndarray) -> Rows:
    """Return some of the rows."""
    truth = of.truth._replace(masks=of.truth.masks[places], known=of.truth.known[places])
    return replace(
        of,
        rows=of.rows[places],
        ids=tuple(of.ids[place] for place in places),
        groups=of.groups[places],
        labels=tuple(of.labels[place] for place in places),
        targets=of.targets[places],
        images=of.images[places],
        truth=truth,
        foreground=of.foreground[places],
        position=None if of.position is None else of.position[places],
    )


def setting_of(preset: AnomalyPreset, level: int, scale: float) -> AnomalyPreset:
    """Return the preset at another noise level and guidance scale.

    Where L is smaller than the number of steps, every level is visited.
    """
    how = preset.translate
    steps = None if how.steps is None else min(how.steps, level)
    changed = how.model_copy(update={"noise_level": level, "scale": scale, "steps": steps})
    plain = preset.map.model_copy(update={"noise_levels": ()})
    return preset.model_copy(update={"translate": changed, "map": plain, "combine": "none"})


def sweep(cells: Cells, mapper: Mapper, of: Rows, preset: AnomalyPreset) -> Sweep:
    """Map a few images under every L and s of the study.

    Parameters
    ----------
    cells
        Of these images.
    mapper
        Of the row that translates.
    of
        From `few` and `part_of`.
    preset
        The study's.
    """
    found: dict[tuple[int, float], Cell] = {}
    curves: dict[str, dict[float, Mapping[str, Interval]]] = {}
    for level in preset.study.noise_levels:
        points: dict[float, Mapping[str, Interval]] = {}
        for scale in preset.study.scales:
            at = setting_of(mapper.preset, level, scale)
            row = Row(f"sweep L {level} s {scale:g}", at)
            cell = cells.of(row, mapper.with_preset(at))
            found[level, scale] = cell
            points[scale] = _worth(cell, of)
        curves[f"L = {level}"] = points
    return Sweep(of, found, curves)


def _worth(cell: Cell, of: Rows) -> Mapping[str, Interval]:
    measured = assess_maps(
        cell.mapped.maps,
        of.truth.masks,
        None,
        of.targets == DISEASED,
        of.groups,
        replicates=REPLICATES,
    )
    return {name: measured.metrics[name] for name in CURVES}
