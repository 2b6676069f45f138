"""How much of the saliency lies inside the mask of the organ, beside what no knowledge has."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.classify.parts import Judged, Part
from medglean.classify.saliency_maps import saliency_maps
from medglean.data.masks import prepared_mask
from medglean.errors import Problem, ReadError
from medglean.measure.attribution import (
    MaskMass,
    mask_mass,
    mean_area_share,
    mean_enrichment,
    mean_mass_share,
)
from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.nn.ensemble import members_of
from medglean.randomness import numpy_generator
from medglean.runs.report import Metric, Table, group_name
from medglean.runs.tables import format_interval, format_value

CAM, INTEGRATED = "Grad-CAM", "Integrated gradients"
MOST_MEASURED = 200
"""Images with a mask that are measured at most."""
INTEGRATED_PIXELS = 64 * 96 * 96
"""Pixels that integrated gradients are measured on at most: 64 images of 96 x 96, fewer of larger
ones or for several networks; but `LEAST_INTEGRATED` images in any case."""
LEAST_INTEGRATED = 30


def references_of(judged: Judged) -> dict[int, str]:
    """Return the reference of the mask of each judged row that names one."""
    column = judged.classifier.preset.measure.mask
    frame = judged.images.manifest.frame
    if column not in frame:
        return {}
    named = frame[column].tolist()
    return {
        row: named[row]
        for row in judged.scores.rows.tolist()
        if isinstance(named[row], str) and named[row]
    }


def masks_of(
    judged: Judged, rows: Int[np.ndarray, " n"]
) -> tuple[dict[int, Bool[np.ndarray, "h w"]], list[Problem]]:
    """Return the masks of those of some rows that have one, and why some could not be read."""
    references = references_of(judged)
    found: dict[int, np.ndarray] = {}
    problems: list[Problem] = []
    images = judged.images
    for row in rows.tolist():
        if row not in references:
            continue
        try:
            found[row] = prepared_mask(references[row], images.manifest.root, images.recipe)[0]
        except ReadError as error:
            problems.append(error.problem())
    return found, problems


def mass_part(judged: Judged, explained: Int[np.ndarray, " n"]) -> Part:
    """Measure the saliency of judged images that have a mask.

    Parameters
    ----------
    judged
        Of n images.
    explained
        Number of the class that is explained of each.
    """
    named = np.array(sorted(references_of(judged)), dtype=np.int64)
    if len(named) == 0:
        return Part()
    # at random: the first ones are then a fair sample for the costlier method
    drawn = numpy_generator(judged.seed, "saliency-masks").permutation(named)[:MOST_MEASURED]
    masks, problems = masks_of(judged, drawn)
    told = _unreadable(problems, judged.classifier.preset.measure.mask)
    rows = np.array([row for row in drawn.tolist() if row in masks], dtype=np.int64)
    if len(rows) == 0:
        return Part(warnings=told)
    places = np.searchsorted(judged.scores.rows, rows)
    groups = np.asarray(judged.groups)[places]
    stack = np.stack([masks[row] for row in rows.tolist()])
    members = len(members_of(judged.classifier.network))
    few = max(LEAST_INTEGRATED, INTEGRATED_PIXELS // (stack[0].size * members))
    maps = saliency_maps(
        judged.classifier,
        judged.images,
        rows,
        explained=explained[places],
        integrated_count=few,
    )
    found = {
        CAM: _measured(judged, maps.cam, stack, groups),
        INTEGRATED: _measured(judged, maps.integrated[:few], stack[:few], groups[:few]),
    }
    return Part(
        metrics=_metrics(judged, found),
        tables=(_table(found, {CAM: len(rows), INTEGRATED: min(few, len(rows))}, of=len(named)),),
        warnings=(*told, *_warnings(found)),
    )


def _unreadable(problems: list[Problem], column: str) -> tuple[str, ...]:
    if not problems:
        return ()
    return (
        f"{len(problems)} masks of column {column!r} could not be read and are left out of the "
        f"measures of saliency; the first: {problems[0]}",
    )


def _measured(
    judged: Judged,
    maps: Float[np.ndarray, "n h w"],
    masks: Bool[np.ndarray, "n h w"],
    groups: np.ndarray,
) -> Mapping[str, Interval]:
    """Return the numbers of one method, each of the images where they are defined."""
    mass = mask_mass(maps, masks)
    other = mask_mass(maps, masks[_others(groups)])
    defined = np.isfinite(mass.mass_share())
    preset = judged.classifier.preset
    if not defined.any():
        undefined = Interval(math.nan, math.nan, math.nan, 0.95, 0, 0, 0)
        return dict.fromkeys(("inside", "area", "ratio", "elsewhere"), undefined)
    own, moved = _of(mass, defined), _of(other, defined)
    return cluster_bootstrap_many(
        {
            "inside": mean_mass_share(own),
            "area": mean_area_share(own),
            "ratio": mean_enrichment(own),
            "elsewhere": mean_mass_share(moved),
        },
        groups[defined],
        replicates=preset.measure.replicates,
        seed=judged.seed,
    )


def _others(groups: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return for each image another one, of another patient unless one patient has half of them."""
    order = np.argsort(groups.astype(str), kind="stable")
    partner = np.empty(len(groups), dtype=np.int64)
    partner[order] = np.roll(order, len(order) // 2)
    return partner


def _of(mass: MaskMass, which: np.ndarray) -> MaskMass:
    return MaskMass(
        mass.inside[which], mass.total[which], mass.mask_pixels[which], mass.pixels[which]
    )


def _metrics(judged: Judged, found: Mapping[str, Mapping[str, Interval]]) -> tuple[Metric, ...]:
    counted = group_name(judged.images.manifest.grouped_by)
    metrics = []
    for name, numbers in found.items():
        area = numbers["area"].value
        note = (
            f"the mask covers {format_value(area)} of the picture, which is what a map without any "
            "knowledge would have"
        )
        if math.isnan(area):
            note = "every map is zero everywhere, or every mask is empty"
        metric = Metric.of(f"{name}: share inside the mask", numbers["inside"], group_name=counted)
        metrics.append(
            Metric(**{**vars(metric), "note": "; ".join(one for one in (note, metric.note) if one)})
        )
    return tuple(metrics)


def _table(
    found: Mapping[str, Mapping[str, Interval]], drawn: Mapping[str, int], *, of: int
) -> Table:
    rows: list[list[object]] = [
        [
            name,
            numbers["inside"].n,
            drawn[name] - numbers["inside"].n,
            _with_interval(numbers["inside"]),
            format_value(numbers["area"].value),
            _with_interval(numbers["ratio"]),
            format_value(numbers["elsewhere"].value),
        ]
        for name, numbers in found.items()
    ]
    return Table(
        "How much of what the answers come from lies inside the mask",
        [
            "Method",
            "Images",
            "Left out",
            "Share inside",
            "Mask's share of the picture",
            "Ratio",
            "Share inside another image's mask",
        ],
        rows,
        note=f"Of what speaks for the class that is called, mean over images, with 95 % intervals "
        f"from resampled patients. {of:,} judged images name a mask; at most {MOST_MEASURED} are "
        "drawn from them at random, fewer for integrated gradients, which cost more. Left out: "
        "images whose map is zero everywhere or whose mask is empty, which have no share. A ratio "
        "of 1 is what a map without any knowledge has. A map that only knows where the organ "
        "mostly lies has as much inside the mask of another image.",
    )


def _with_interval(interval: Interval) -> str:
    span = format_interval(interval.low, interval.high)
    text = format_value(interval.value)
    return text if span == "n/a" else f"{text} ({span})"


def _warnings(found: Mapping[str, Mapping[str, Interval]]) -> tuple[str, ...]:
    told = []
    for name, numbers in found.items():
        inside, area, ratio = numbers["inside"], numbers["area"], numbers["ratio"]
        if math.isnan(inside.value):
            told.append(f"{name}: no map can be measured, all are zero or their masks are empty.")
        elif not ratio.value > 1.0 or ratio.low <= 1.0:
            told.append(
                f"{name}: {format_value(inside.value)} of what the answers come from lies inside "
                f"the mask, which covers {format_value(area.value)} of the picture (ratio "
                f"{_with_interval(ratio)}): not more than a map without any knowledge would have. "
                "The network may look at something else than the organ."
            )
    return tuple(told)
