"""The report of anomaly maps: numbers, curves and examples, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medglean.anomaly import measures as known
from medglean.anomaly.described import meaning_of
from medglean.anomaly.measured import Measured, chosen_cases
from medglean.anomaly.model import Mapper
from medglean.anomaly.panel_parts import Case, Result, scale_of
from medglean.anomaly.panels import case_panels
from medglean.anomaly.prepare import DISEASED
from medglean.fitting import FitResult
from medglean.measure.intervals import Interval
from medglean.measure.map_values import otsu_thresholds, overlap_at
from medglean.runs import figures
from medglean.runs.report import Figure, Metric, Table
from medglean.runs.tables import format_interval, format_value

SHOWN = 5
MEANINGS = {
    known.BEST_DICE: "Overlap of called pixels and true outline, 0 to 1, over the pixels of all "
    "images together, at the one threshold that suits best; chosen with the masks, so the most "
    "that can be reached.",
    known.PIXEL_AUROC: "Chance that a pixel of a lesion has a higher value than another pixel; "
    "guessing gives 0.5.",
    known.PIXEL_AP: "Share of true lesion among the called pixels, averaged over thresholds; "
    "guessing gives the lesions' share of all pixels.",
    known.OTSU_DICE: "Mean overlap of single images, each cut at the threshold that parts its own "
    "values best (Otsu's); needs no mask.",
    known.AVERAGE_OTSU_DICE: "The same, all images cut at the mean of those thresholds.",
    known.FIXED_DICE: "Overlap over all pixels together, cut where 99 % of the pixels of healthy "
    "validation images stay below; needs no mask.",
    known.HEALTHY_MAP: "What the map shows where there is nothing; less is better.",
    known.IDENTITY: "How much the healthy counterpart of a healthy image differs from it, as a "
    "share of the intensity range; less is better.",
    known.IMAGE_AUROC: "Chance that a diseased image has a higher score than a healthy one.",
    known.MATCHED_AUROC: "The same among images from the same height of the volume.",
    known.POSITION_AUROC: "The same by the height in the volume alone, without looking at images.",
}
"""What each number says, for readers who meet it for the first time."""


def metrics_of(measured: Measured, *, group_name: str) -> list[Metric]:
    """Return the numbers with their intervals, the one to quote first.

    Those that count pixels of the foreground alone stand in a table.
    """
    return [
        Metric.of(name, interval, group_name=group_name)
        for name, interval in measured.assessment.metrics.items()
        if not name.endswith(known.IN_FOREGROUND)
    ]


def quoted(measured: Measured, *, counted: str) -> str:
    """Return the sentence that says what the maps are worth."""
    found = measured.assessment
    if found.measured and known.PIXEL_AUROC in found.metrics:
        dice, area = found.metrics[known.BEST_DICE], found.metrics[known.PIXEL_AUROC]
        return (
            f"On {found.measured:,} diseased images of {area.groups:,} other {counted} the best "
            f"Dice at one threshold is {dice.value:.3f}, the pixel AUROC {area.value:.3f}."
        )
    if known.IMAGE_AUROC not in found.metrics:
        return "There was nothing to measure the maps against."
    area = found.metrics[known.IMAGE_AUROC]
    if np.isnan(area.value):
        return "Images of one class alone: there was nothing to measure the maps against."
    return (
        f"On {found.n:,} images of {area.groups:,} other {counted} the image AUROC is "
        f"{area.value:.3f}; no masks were there to measure pixels against."
    )


def result_tables(measured: Measured) -> list[Table]:
    """Return the tables of the foreground, by size of lesion and position, of thresholds, words."""
    found = measured.assessment
    tables = _foreground_table(found.metrics)
    for title, parts, note in (
        (
            "By the size of the lesion",
            found.by_size,
            "Thirds of the measured images. The average precision of small lesions is lower by "
            "chance alone: fewer pixels are there to be found.",
        ),
        ("By the place in the volume", found.by_position, "Thirds of the measured images."),
    ):
        if parts:
            tables.append(_parts_table(title, parts, note))
    if found.thresholds:
        rows: list[list[object]] = [[name, value] for name, value in found.thresholds.items()]
        note = (
            "Values of the map. Only the fixed one was chosen without masks: 99 % of the pixels of "
            "healthy validation images lie below it."
        )
        tables.append(Table("Thresholds", ["Of", "Value"], rows, note=note))
    told: list[list[object]] = [
        [name, text] for name, text in MEANINGS.items() if name in found.metrics
    ]
    return [*tables, Table("What the measures mean", ["Measure", "Meaning"], told)]


def _foreground_table(metrics: Mapping[str, Interval]) -> list[Table]:
    rows: list[list[object]] = [
        [name.removesuffix(known.IN_FOREGROUND), _with_interval(interval), interval.n]
        for name, interval in metrics.items()
        if name.endswith(known.IN_FOREGROUND)
    ]
    if not rows:
        return []
    note = (
        "The same measures, counting only pixels that are neither background nor rim. Background "
        "is easily told from disease, so that an AUROC over all pixels flatters every method."
    )
    columns = ["In the foreground", "With 95 % interval", "Images"]
    return [Table("Counting the foreground alone", columns, rows, note=note)]


def _parts_table(title: str, parts: Mapping[str, Mapping[str, Interval]], note: str) -> Table:
    names = list(next(iter(parts.values())))
    rows: list[list[object]] = []
    for part, measured in parts.items():
        count = next(iter(measured.values())).n
        rows.append([part, count, *(_with_interval(measured[name]) for name in names)])
    return Table(title, ["Part", "Images", *names], rows, note=note)


def _with_interval(interval: Interval) -> str:
    text = format_value(interval.value)
    span = format_interval(interval.low, interval.high)
    return text if span == "n/a" else f"{text} ({span})"


def result_figures(mapper: Mapper, measured: Measured) -> list[Figure]:
    """Draw examples and the distribution of scores."""
    places = chosen_cases(measured.of, measured.assessment.scores, count=SHOWN)
    drawn = []
    if places:
        maps = measured.mapped.maps
        sick = maps[measured.of.targets == DISEASED]
        scale = scale_of(sick if len(sick) else maps, kind=meaning_of(mapper.preset))
        name = mapper.preset.name
        cases = [case_of(mapper, measured, place, name) for place in places]
        drawn.append(case_panels(cases, method=name, scale=scale))
    return [*drawn, *_score_figure(measured)]


def case_of(mapper: Mapper, measured: Measured, place: int, name: str) -> Case:
    """Return one image with what a method made of it."""
    of, names = measured.of, mapper.preset.channel_names
    channel = names.index("flair") if "flair" in names else 0
    is_known = bool(of.truth.known[place]) and (of.has_masks or of.targets[place] != DISEASED)
    return Case(
        of.images[place],
        of.ids[place],
        of.labels[place],
        {name: result_of(measured, place)},
        mask=of.truth.masks[place] if is_known else None,
        channel=channel,
        channel_name=names[channel] if len(names) > 1 else "",
    )


def result_of(measured: Measured, place: int) -> Result:
    """Return what a method made of one image, with its Dice at Otsu's threshold."""
    of, mapped = measured.of, measured.mapped
    told = ""
    if of.truth.masks[place].any():
        one = mapped.maps[place : place + 1]
        if np.isfinite(one).all():
            found = overlap_at(
                one, of.truth.masks[place : place + 1], otsu_thresholds(np.maximum(one, 0))
            )
            told = f"Dice at Otsu {float(found.dice()[0, 0]):.2f}"
    rebuilt = None if mapped.rebuilt is None else mapped.rebuilt[place]
    return Result(mapped.maps[place], rebuilt, told)


def _score_figure(measured: Measured) -> list[Figure]:
    scores, targets = measured.assessment.scores, measured.of.targets
    there = np.isfinite(scores)
    groups = {
        "diseased": scores[there & (targets == DISEASED)],
        "healthy": scores[there & (targets != DISEASED)],
    }
    groups = {name: values for name, values in groups.items() if len(values)}
    if len(groups) < 2:
        return []
    data = figures.score_histogram(groups, score_name="mean of the map's highest 1 %")
    caption = "One score per image: the mean of the highest hundredth of its map."
    if known.MATCHED_AUROC in measured.assessment.metrics:
        caption += (
            " Healthy and diseased slices also differ in where they lie: the position-matched "
            "AUROC above leaves that out."
        )
    return [Figure("Scores of whole images", caption, data, "svg")]


def learning_figures(results: Mapping[str, FitResult], sizes: Mapping[str, int]) -> list[Figure]:
    """Draw the losses of each network over its training."""
    drawn = []
    for name, result in results.items():
        table = pd.DataFrame([dict(row) for row in result.history])
        if table.empty:
            continue
        losses = [str(column) for column in table if str(column).startswith("train.")]
        loss = "train.loss" if "train.loss" in table else next(iter(losses), None)
        if loss is None or "val.loss" not in table:
            continue
        by_epoch = table.groupby("epoch")
        train = by_epoch[loss].mean()
        judged = by_epoch["val.loss"].last().reindex(train.index).to_numpy(dtype=np.float64)
        if np.isnan(judged).all():
            continue
        data = figures.learning_curves(
            [float(epoch) for epoch in train.index],
            train.tolist(),
            judged.tolist(),
            validation_name="loss",
            images={
                part: sum(count for key, count in sizes.items() if key.startswith(prefix))
                for part, prefix in (("training", "train"), ("validation", "val"))
            },
        )
        caption = (
            "Losses of training and of a few validation images, whose noise is always the same."
        )
        drawn.append(
            Figure(f"How training of the {name} went", caption, data, "svg", section="training")
        )
    return drawn
