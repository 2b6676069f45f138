"""The report of a stain: numbers, examples and charts, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medglean.data.augment import to_float
from medglean.fitting import FitResult
from medglean.measure.intervals import Interval
from medglean.runs.report import Figure, Metric, Table
from medglean.runs.tables import format_interval, format_value
from medglean.stain import assess as known
from medglean.stain.figures import dab_figure, losses_figure
from medglean.stain.measured import Kept, Measured, stored_of
from medglean.stain.optics import dab_density
from medglean.stain.pairs import Pairs
from medglean.stain.panels import Shown, case_panels
from medglean.stain.settings import StainPreset

MEANINGS = {
    known.PSNR: "How far pixels are from those of the real image as it is in its file, in decibels "
    "of 8-bit values; more is nearer. It rewards what has no contrast, so read it beside the next.",
    known.FLAT_PSNR: "The same of an image that is everywhere the mean colour of the training "
    "images: what can be had without looking at the H&E.",
    known.GAIN: "How much better than that the method is; below 0 it is worse.",
    known.SSIM: "Likeness of local brightness, contrast and structure, at most 1.",
    known.FLAT_SSIM: "The same of the mean colour.",
    known.PSNR + known.NORMALISED: "PSNR where both images are divided by their white, so that a "
    "slide's own white does not count.",
    known.FLAT_PSNR + known.NORMALISED: "The same of the mean colour.",
    known.SSIM + known.NORMALISED: "SSIM between the images with white glass.",
    known.LPIPS: "Distance in the features of a trained network; less is better.",
    known.FID: "Distance between the generated and the real images as two clouds of features; less "
    "is better. It depends on how many images there are.",
    known.INCEPTION: "How distinct and how varied generated images look to a network that was "
    "trained on photographs.",
    known.DAB_ERROR: "Mean optical density of DAB, generated less real: above 0 there is too much "
    "stain, below 0 too little.",
    known.DAB_ABSOLUTE: "The same without its sign, so that too much here and too little there do "
    "not cancel; less is better.",
    known.DAB_R: "Whether images with more stain are generated with more stain; 1 is best, 0 is "
    "chance.",
    known.DAB_R90: "The same for how strongly the stained part is stained.",
    known.DICE: "Overlap of the stained pixels, 0 to 1; sections that do not lie on one another "
    "limit it.",
    known.BACKGROUND: "Optical density of DAB where the real image is nearly clear, generated less "
    "real: above 0 the background reads as weakly stained.",
    known.BACKGROUND_ABSOLUTE: "The same without its sign; less is better.",
    known.B_SHIFT: "b* of Lab at the same places, generated less real: above 0 it is yellower.",
    known.AGREEMENT: "Share of pairs in which a classifier, trained on real IHC, sees the same "
    "level in the generated and in the real image.",
    known.AGREES_WITH_LABEL: "Share in which it sees the slide's level in the generated image.",
    known.JUDGE: "Share in which it sees the slide's level in the real image: what the two before "
    "can be at most.",
}
"""What each number says, for readers who meet it for the first time."""


def metrics_of(measured: Measured, *, group_name: str) -> list[Metric]:
    """Return the numbers with their intervals, PSNR first and the mean colour's beside it."""
    return [
        Metric.of(name, interval, unit=known.UNITS.get(name, ""), group_name=group_name)
        for name, interval in measured.assessment.metrics.items()
    ]


def quoted(measured: Measured, *, counted: str) -> str:
    """Return the sentence that says what the images are worth."""
    metrics = measured.assessment.metrics
    value, flat = metrics[known.PSNR], metrics[known.FLAT_PSNR]
    told = (
        f"On {measured.assessment.n:,} pairs of {value.groups:,} {counted} PSNR is "
        f"{format_value(value.value, digits=1)} dB and SSIM "
        f"{format_value(metrics[known.SSIM].value)}; an image of the training images' mean colour "
        f"has {format_value(flat.value, digits=1)} dB."
    )
    stain, background = metrics[known.DAB_R], metrics[known.BACKGROUND]
    if np.isfinite(stain.value):
        told += f" Mean DAB follows the real one with r {stain.value:.2f}."
    if np.isfinite(background.value):
        told += f" The background's DAB is off by {background.value:+.3f}."
    return told


def result_tables(measured: Measured) -> list[Table]:
    """Return the tables by level and of words."""
    found = measured.assessment
    tables = []
    if found.by_level:
        names = list(next(iter(found.by_level.values())))
        rows: list[list[object]] = []
        for level, metrics in found.by_level.items():
            count = next(iter(metrics.values())).n
            rows.append([level, count, *(with_interval(metrics.get(name)) for name in names)])
        note = "The level is that of the slide."
        tables.append(Table("By the level", ["Level", "Pairs", *names], rows, note=note))
    told: list[list[object]] = [
        [name, text] for name, text in MEANINGS.items() if name in found.metrics
    ]
    return [*tables, Table("What the measures mean", ["Measure", "Meaning"], told)]


def with_interval(interval: Interval | None) -> str:
    """Write a value and its interval for a cell of a table."""
    if interval is None:
        return "n/a"
    text, span = format_value(interval.value), format_interval(interval.low, interval.high)
    return text if span == "n/a" else f"{text} ({span})"


def result_figures(measured: Measured, pairs: Pairs, preset: StainPreset) -> list[Figure]:
    """Draw examples, and DAB of generated against real."""
    drawn = []
    name = preset.name
    cases = [shown_of(pairs, preset, row, {name: (measured, one)})
             for row, one in measured.made.kept.items()]  # fmt: skip
    if cases:
        drawn.append(case_panels(cases, method=name))
    return [*drawn, dab_of(measured, preset)]


def dab_of(measured: Measured, preset: StainPreset) -> Figure:
    """Draw the mean DAB of generated against real images."""
    table = measured.made.table
    return dab_figure(
        table["dab.mean.generated"],
        table["dab.mean.real"],
        table["level"].astype(np.int64),
        preset.level.names,
        correlation=measured.assessment.metrics[known.DAB_R],
    )


def shown_of(
    pairs: Pairs,
    preset: StainPreset,
    row: int,
    made: Mapping[str, tuple[Measured, Kept]],
    *,
    densities: bool = True,
) -> Shown:
    """Return a pair with what methods made of it, as it is drawn.

    Parameters
    ----------
    made
        By the method's name: its numbers, and its image of this row.
    densities
        Whether DAB of generated images is shown, too.
    """
    level = int(pairs.levels[row])
    generated, told, density = {}, {}, {}
    for name, (measured, one) in made.items():
        picture = np.moveaxis(to_float(one.generated), -1, 0)
        generated[name] = picture
        told[name] = _told(measured, preset, row)
        if densities:
            density[name] = dab_density(picture, one.white)
    real = stored_of(pairs, row)
    return Shown(
        image=to_float(pairs.images.stored[row]),
        real=real,
        generated=generated,
        id=pairs.images.ids[row],
        level=preset.level.names[level] if level >= 0 else "",
        told=told,
        density=density,
        density_real=dab_density(real, pairs.white_targets[row]),
    )


def _told(measured: Measured, preset: StainPreset, row: int) -> str:
    """Return a few words on one generated image."""
    table = measured.made.table
    place = int(np.flatnonzero(measured.made.rows == row)[0])
    told = f"PSNR {format_value(float(table['psnr'][place]), digits=1)} dB"
    if "judged.generated" in table:
        told += f", judged {preset.level.names[int(table['judged.generated'][place])]}"
    return told


def learning_figures(results: Mapping[str, FitResult], sizes: Mapping[str, int]) -> list[Figure]:
    """Draw the losses of each network over its training."""
    pairs = sizes.get("train", 0)
    drawn = (
        losses_figure([dict(row) for row in result.history], name=name, pairs=pairs)
        for name, result in results.items()
    )
    return [figure for figure in drawn if figure is not None]
