"""The section on subgroups: what the numbers are for each source, view, sex and age band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from medglean.classify.assess import Assessment
from medglean.classify.parts import Judged, Part, joined
from medglean.classify.subgroups_page import (
    capital,
    cell,
    figures_of,
    gap_warnings,
    note_of,
    numbers_of,
    one_sided,
    too_few,
    what_of,
)
from medglean.measure import weighted
from medglean.measure.intervals import cluster_bootstrap
from medglean.measure.subgroups import (
    FEW_GROUPS,
    FEW_IMAGES,
    FEW_OF_A_KIND,
    UNKNOWN,
    SubgroupTable,
    age_band_names,
    age_bands,
    few,
    subgroup_positions,
    subgroup_table,
)
from medglean.measure.weighted import Statistic
from medglean.runs.report import Table, group_name

MOST_SUBGROUPS = 12
"""More values than these are pooled, the rarest first."""


@dataclass(frozen=True)
class _Column:
    """A column of the manifest as subgroups of the judged images."""

    name: str
    values: np.ndarray
    order: tuple[str, ...]
    notes: tuple[str, ...]


def subgroups_part(judged: Judged) -> Part:
    """Measure each subgroup of the judged images on its own.

    Parameters
    ----------
    judged
        The columns are those of ``preset.measure.subgroups`` that its manifest has.

    Returns
    -------
    Part
        For each column with at least two values a table and a figure, and warnings: of subgroups
        too small to say anything, of a gap that chance does not explain, and of classes that occur
        in one subgroup only. Averages are over the classes that every large subgroup has, so that
        they mean the same in each; undefined measures are NaN.
    """
    frame = judged.images.manifest.frame.iloc[judged.scores.rows]
    columns = [
        _column(name, frame[name])
        for name in judged.classifier.preset.measure.subgroups
        if name in frame
    ]
    return joined(
        _part(judged, column)
        for column in columns
        if len(subgroup_positions(column.values)) > 1 and judged.found.n
    )


def _column(name: str, series: pd.Series) -> _Column:
    if name == "age":
        return _ages(name, series)
    texts = np.array(
        [
            None if gone else str(value).strip()
            for value, gone in zip(series, series.isna(), strict=True)
        ],
        dtype=object,
    )
    sizes = {group: len(rows) for group, rows in subgroup_positions(texts).items()}
    sizes.pop(UNKNOWN, None)
    if len(sizes) <= MOST_SUBGROUPS:
        return _Column(name, texts, (), ())
    kept = sorted(sizes, key=lambda group: (-sizes[group], group))[: MOST_SUBGROUPS - 1]
    other = f"{len(sizes) - len(kept)} other values"
    pooled = np.array(
        [text if text in kept else other if text else None for text in texts], dtype=object
    )
    note = f"{other}, which have the fewest images, are put together."
    return _Column(name, pooled, (*sorted(kept), other), (note,))


def _ages(name: str, series: pd.Series) -> _Column:
    years = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    years = np.where(np.isfinite(years) & (years >= 0.0), years, np.nan)
    unread = int((np.isnan(years) & series.notna().to_numpy()).sum())
    notes: tuple[str, ...] = ()
    if unread:
        notes = (f"{unread:,} entries of age are no number of years and count as {UNKNOWN}.",)
    return _Column(name, age_bands(years), tuple(age_band_names()), notes)


def _part(judged: Judged, column: _Column) -> Part:
    found, groups = judged.found, judged.groups
    positions = subgroup_positions(column.values, order=column.order)
    classes = _classes(found, groups, positions)
    one = found.kind == "single" and len(found.classes) == 2
    truth = found.truth[:, classes[0]] if one else None

    def table(measure: Callable[[np.ndarray], Statistic]) -> SubgroupTable:
        return subgroup_table(
            measure,
            column.values,
            groups,
            truth=truth,
            order=column.order,
            replicates=judged.classifier.preset.measure.replicates,
            seed=judged.seed,
        )

    areas = table(lambda rows: _area(found, classes, rows))
    sensitive = table(lambda rows: _rate(weighted.sensitivity, found, classes, rows))
    specific = table(lambda rows: _rate(weighted.specificity, found, classes, rows))
    overall = cluster_bootstrap(
        _area(found, classes, np.arange(found.n)),
        groups,
        replicates=judged.classifier.preset.measure.replicates,
        seed=judged.seed,
    )
    counted = group_name(judged.images.manifest.grouped_by)
    alone = counted == "images"  # each stands for itself: one count says both
    reasons = {
        row.name: _why_few(
            found, classes, positions[row.name], FEW_GROUPS if alone else row.interval.groups
        )
        for row in areas.rows
    }
    areas = _without_few(areas, reasons)
    rows = [
        [
            row.name,
            row.interval.n,
            *([] if alone else [row.interval.groups]),
            numbers_of(found, classes, positions[row.name], one=one),
            *(cell(all_of.rows[place].interval) for all_of in (areas, sensitive, specific)),
            reasons[row.name] or "-",
        ]
        for place, row in enumerate(areas.rows)
    ]
    what = what_of(found, classes)
    shown = Table(
        f"By {column.name}",
        [
            capital(column.name),
            "Images",
            *([] if alone else [capital(counted)]),
            f"{found.classes[classes[0]]}" if one else "Positive images",
            "AUROC",
            "Sensitivity",
            "Specificity",
            "Too few?",
        ],
        rows,
        note=" ".join([note_of(what, areas), *column.notes]),
    )
    return Part(
        tables=(shown,),
        figures=figures_of(column.name, areas, overall, what),
        warnings=(
            *too_few(column.name, reasons),
            *gap_warnings(column.name, areas, what),
            *one_sided(column.name, found, positions),
        ),
    )


def _classes(found: Assessment, groups: np.ndarray, positions: dict[str, np.ndarray]) -> list[int]:
    """Return the classes that averages are over: those that all large subgroups can measure.

    Empty where there is no such class; then every average is NaN.
    """
    if found.kind == "single" and len(found.classes) == 2:
        return [1]
    large = [
        rows
        for name, rows in positions.items()
        if name != UNKNOWN
        and len(rows) >= FEW_IMAGES
        and len(np.unique(groups[rows].astype(str))) >= FEW_GROUPS
    ]
    if len(large) < 2:
        large = [np.arange(found.n)]
    for least in (FEW_OF_A_KIND, 1):
        chosen = [
            j
            for j in range(len(found.classes))
            if all(_rarer(found.truth[rows, j]) >= least for rows in large)
        ]
        if chosen:
            return chosen
    return []


def _rarer(truth: np.ndarray) -> int:
    positives = int(truth.sum())
    return min(positives, len(truth) - positives)


def _undefined(weights: np.ndarray) -> np.ndarray:
    return np.full(weights.shape[1], np.nan)


def _area(found: Assessment, classes: Sequence[int], rows: np.ndarray) -> Statistic:
    if not classes:
        return _undefined
    truth, scores = found.truth[rows], found.probability[rows]
    if any(_rarer(truth[:, j]) == 0 for j in classes):
        return _undefined
    return weighted.macro([weighted.auroc(truth[:, j], scores[:, j]) for j in classes])


def _rate(
    rate: Callable[[np.ndarray, np.ndarray], Statistic],
    found: Assessment,
    classes: Sequence[int],
    rows: np.ndarray,
) -> Statistic:
    if not classes:
        return _undefined
    return weighted.macro([rate(found.truth[rows, j], found.called[rows, j]) for j in classes])


def _why_few(found: Assessment, classes: Sequence[int], rows: np.ndarray, groups: int) -> str:
    """Say why a subgroup is few, by its rarest class."""
    counts = [int(found.truth[rows, j].sum()) for j in classes]
    rarest = min(counts, key=lambda count: min(count, len(rows) - count)) if counts else None
    return few(images=len(rows), groups=groups, positives=rarest)


def _without_few(areas: SubgroupTable, reasons: dict[str, str]) -> SubgroupTable:
    """Take back a gap that rests on a subgroup with few images of one of several classes."""
    gap = areas.gap
    if gap is None or not (reasons[gap.higher] or reasons[gap.lower]):
        return areas
    told = f"no gap: {gap.higher if reasons[gap.higher] else gap.lower} has few images of a class"
    return replace(areas, gap=None, note=told)
