"""The page of the study: the table of methods, their differences, and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medglean.anomaly import measures as known
from medglean.anomaly.assess import MapAssessment, difference_of
from medglean.anomaly.described import meaning_of
from medglean.anomaly.figures import (
    methods_figure,
    over_scale,
    pixel_precision_recall_figure,
    pixel_roc_figure,
)
from medglean.anomaly.mapping import Mapped
from medglean.anomaly.measured import Measured, chosen_cases
from medglean.anomaly.measures import IN_FOREGROUND
from medglean.anomaly.model import Mapper
from medglean.anomaly.page import case_of, result_of
from medglean.anomaly.panel_parts import Case, Result, Scale, scale_of
from medglean.anomaly.panels import method_panels, strip
from medglean.anomaly.prepare import DISEASED, Chosen
from medglean.anomaly.reporting import part_sizes
from medglean.anomaly.settings import AnomalyPreset
from medglean.anomaly.study.curves import Sweep
from medglean.anomaly.study.rows import Networks
from medglean.data.imageset import ImageSet
from medglean.measure.intervals import Interval
from medglean.runs.environment import describe_environment
from medglean.runs.records import records
from medglean.runs.report import Figure, Metric, Report, Table, group_name
from medglean.runs.rundir import RunFolder
from medglean.runs.tables import format_interval, format_value

Found = Mapping[str, tuple[Mapper, Measured]]
"""What makes a method's maps, and what they are worth, by the method's name."""

OF_PIXELS = (
    known.PIXEL_AP,
    known.PIXEL_AUROC,
    known.PIXEL_AUROC + IN_FOREGROUND,
    known.BEST_DICE,
    known.FIXED_DICE,
    known.OTSU_DICE,
    known.AVERAGE_OTSU_DICE,
)
"""Measures of the first table, in its order."""
OF_IMAGES = (known.IMAGE_AUROC, known.MATCHED_AUROC, known.HEALTHY_MAP, known.IDENTITY)
"""Measures of the second."""
QUOTED = (known.PIXEL_AP + IN_FOREGROUND, *OF_PIXELS, *OF_IMAGES)
SIDE_BY_SIDE = 6
"""Methods in a panel at most, so that each can be seen."""


def study_report(
    run: RunFolder,
    preset: AnomalyPreset,
    chosen: Chosen,
    images: ImageSet,
    found: Found,
    swept: Sweep | None,
    networks: Networks,
    command: Sequence[str],
) -> Report:
    """Make the report of the study, and write its numbers for the documentation."""
    counted = group_name(chosen.manifest.grouped_by)
    environment = describe_environment(command)
    metrics = _metrics(found, counted)
    run.write_json("results.json", records(metrics, command, cores=environment["cpu"]["count"]))
    first = next(iter(found))
    _, lead = found[first]
    return Report(
        title=f"{preset.name}: methods that map where the disease is",
        sentence=_sentence(found, counted),
        metrics=metrics[:4],
        tables=[
            *_methods_tables(found),
            *_difference_tables(found),
            _size_table(found),
            _networks_table(networks),
        ],
        figures=[
            methods_figure(
                {name: one.assessment.metrics for name, (_, one) in found.items()},
                measures=(
                    known.BEST_DICE,
                    known.PIXEL_AP,
                    known.PIXEL_AUROC + IN_FOREGROUND,
                ),
            ),
            *_panels(preset, found),
            *([] if swept is None else _sweep_figures(swept, found, preset)),
            pixel_precision_recall_figure(_assessments(found)),
            pixel_roc_figure(_assessments(found)),
        ],
        problems=[problem for _, one in found.values() for problem in one.problems],
        warnings=lead.assessment.notes,
        done={
            "preset": preset.name,
            "rows": dict(preset.study.methods),
            "source": preset.source.paper,
            "deviations": " ".join(preset.source.deviations) or "none",
        },
        data={
            "images": part_sizes(images, chosen.targets),
            "healthy": chosen.healthy,
            "diseased": ", ".join(chosen.diseased),
            "kept together": chosen.manifest.grouped_by,
            "manifest SHA-256": run.record["manifest_hash"],
            "split SHA-256": run.record["split_hash"],
        },
        provenance={**environment, "seed": preset.fit.seed},
    )


def _assessments(found: Found) -> dict[str, MapAssessment]:
    return {name: one.assessment for name, (_, one) in found.items()}


def _sentence(found: Found, counted: str) -> str:
    first = next(iter(found))
    assessed = found[first][1].assessment
    area = assessed.metrics[known.PIXEL_AP]
    by_method = {
        name: one.assessment.metrics[known.PIXEL_AP].value for name, (_, one) in found.items()
    }
    best = max(by_method, key=lambda name: by_method[name])
    more = "" if best == first else f" The highest is {best}'s, {by_method[best]:.3f}."
    return (
        f"On {assessed.measured:,} diseased images of {area.groups:,} {counted} kept aside, "
        f"{first} has a pixel average precision of {area.value:.3f}.{more}"
    )


def _metrics(found: Found, counted: str) -> list[Metric]:
    """Return every method's quoted measures, method by method."""
    return [
        Metric.of(f"{name}: {measure}", one.assessment.metrics[measure], group_name=counted)
        for name, (_, one) in found.items()
        for measure in QUOTED
        if measure in one.assessment.metrics
    ] + [
        Metric(f"{name}: CPU time per image", one.cpu_seconds, "s", n=len(one.of.rows))
        for name, (_, one) in found.items()
    ]


def _with_interval(interval: Interval | None) -> str:
    if interval is None:
        return "n/a"
    text, span = format_value(interval.value), format_interval(interval.low, interval.high)
    return text if span == "n/a" else f"{text} ({span})"


def _methods_tables(found: Found) -> list[Table]:
    def measured(one: Measured, names: Sequence[str]) -> list[str]:
        return [_with_interval(one.assessment.metrics.get(name)) for name in names]

    pixels: list[list[object]] = [
        [name, *measured(one, OF_PIXELS)] for name, (_, one) in found.items()
    ]
    whole: list[list[object]] = [
        [
            name,
            *measured(one, OF_IMAGES),
            one.mapped.evaluations,
            round(one.cpu_seconds, 3),
        ]
        for name, (_, one) in found.items()
    ]
    of_pixels = (
        "The same test images for every row. Pixels of diseased images together, with 95 % "
        "intervals over patients; Dice at Otsu is the mean over images. In the foreground: "
        "background and rim are left out, in which no method has anything to get wrong. Best Dice "
        "takes the threshold that is best on these very images; the fixed one was set on healthy "
        "validation images."
    )
    of_images = (
        "The score of an image is the mean of its map's highest 1 %; matched compares only images "
        "alike in position. The mean map and |x - x0| of healthy images should be small; the units "
        "of the maps differ between methods."
    )
    cost = ("Network evaluations per image", "CPU seconds per image")
    return [
        Table("Methods", ["Method", *OF_PIXELS], pixels, note=of_pixels),
        Table("Whole images, and cost", ["Method", *OF_IMAGES, *cost], whole, note=of_images),
    ]


def _difference_tables(found: Found) -> list[Table]:
    (first, (_, lead)), *others = found.items()
    if not others:
        return []
    rows: list[list[object]] = []
    measures = [known.PIXEL_AP, known.PIXEL_AUROC + IN_FOREGROUND, known.BEST_DICE]
    for name, (_, one) in others:
        gaps = difference_of(lead.assessment, one.assessment)
        rows.append([name, *(_with_interval(gaps.get(measure)) for measure in measures)])
    note = (
        f"{first} less the method of the row, on the same resampled patients. An interval that "
        "holds 0 shows no difference."
    )
    return [Table(f"What {first} gains", ["Over", *measures], rows, note=note)]


def _size_table(found: Found) -> Table:
    rows: list[list[object]] = []
    parts: list[str] = []
    for name, (_, one) in found.items():
        by_size = one.assessment.by_size
        parts = parts or list(by_size)
        rows.append([name, *(_with_interval(by_size[p].get(known.PIXEL_AP)) for p in by_size)])
    note = (
        "Pixel average precision for thirds of the diseased images. That of small lesions is lower "
        "by chance alone, for fewer pixels are there to be found: compare within a column."
    )
    return Table("By the size of the lesion", ["Method", *parts], rows, note=note)


def _networks_table(networks: Networks) -> Table:
    rows: list[list[object]] = [
        [
            key,
            sum(weight.numel() for weight in network.parameters()),
            result.steps,
            round(result.seconds),
        ]
        for key, (network, result) in networks.items()
    ]
    return Table("Networks", ["Network", "Weights", "Steps", "Seconds"], rows, section="training")


def _panels(preset: AnomalyPreset, found: Found) -> list[Figure]:
    """Show the methods side by side on diseased images and a healthy one (figures 2, 3 and 7)."""
    first_mapper, lead = next(iter(found.values()))
    places = chosen_cases(lead.of, lead.assessment.scores, count=preset.study.shown)
    names = list(found)[:SIDE_BY_SIDE]
    cases = []
    for place in places:
        base = case_of(first_mapper, lead, place, names[0])
        results = {name: result_of(found[name][1], place) for name in names}
        cases.append(_with_results(base, results))
    if not cases:
        return []
    scales = {name: _scale(*found[name]) for name in names}
    return [
        method_panels(
            cases,
            scales=scales,
            title="The same images by each method",
            section="results",
        )
    ]


def _with_results(case: Case, results: Mapping[str, Result]) -> Case:
    return Case(
        case.image,
        case.id,
        case.truth,
        results,
        mask=case.mask,
        channel=case.channel,
        channel_name=case.channel_name,
    )


def _scale(mapper: Mapper, measured: Measured) -> Scale:
    sick = measured.mapped.maps[measured.of.targets == DISEASED]
    return scale_of(sick, kind=meaning_of(mapper.preset))


def _sweep_figures(swept: Sweep, found: Found, preset: AnomalyPreset) -> list[Figure]:
    """Draw measures over s and L, and strips of a diseased and a healthy image."""
    drawn = [
        over_scale(
            swept.curves,
            measures=(known.BEST_DICE, known.PIXEL_AP, known.PIXEL_AUROC),
            title="What guidance and noise level do to translation",
        )
    ]
    levels, scales = preset.study.noise_levels, preset.study.scales
    middle_level, middle_scale = levels[len(levels) // 2], scales[len(scales) // 2]
    sick = np.flatnonzero(swept.of.targets == DISEASED)
    well = np.flatnonzero(swept.of.targets != DISEASED)
    size = swept.of.truth.masks.sum(axis=(1, 2))
    shown = [int(sick[np.argsort(size[sick], kind="stable")[len(sick) // 2]])] if len(sick) else []
    shown += well[:1].tolist()
    top = scale_of([cell.mapped.maps[sick] for cell in swept.cells.values()], kind="absolute")
    for place in shown:
        truth = swept.of.labels[place]
        over_s = {f"s = {s:g}": swept.cells[middle_level, s] for s in scales}
        over_l = {f"L = {level}": swept.cells[level, middle_scale] for level in levels}
        for told, cells in (
            (f"Guidance s at L = {middle_level}, an image of class {truth}", over_s),
            (f"Noise level L at s = {middle_scale:g}, an image of class {truth}", over_l),
        ):
            results = {name: _result(cell.mapped, place) for name, cell in cells.items()}
            case = Case(
                swept.of.images[place],
                swept.of.ids[place],
                truth,
                results,
                mask=swept.of.truth.masks[place],
            )
            drawn.append(strip(case, scale=top, title=told, section="results"))
    return drawn


def _result(mapped: Mapped, place: int) -> Result:
    rebuilt = None if mapped.rebuilt is None else mapped.rebuilt[place]
    return Result(mapped.maps[place], rebuilt)
