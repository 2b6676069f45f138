"""Charts of what maps are worth: curves over a setting, over thresholds, and methods side by side.

Each function takes measured intervals and returns a figure with its caption and its words for
those who cannot see it. Pictures of maps are in `medglean.anomaly.panels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from medglean.anomaly.assess import MapAssessment
from medglean.anomaly.measures import BEST_DICE, PIXEL_AP, PIXEL_AUROC
from medglean.measure.intervals import Interval
from medglean.measure.maps import pixel_precision_recall, pixel_roc
from medglean.runs.report import Figure
from medglean.runs.style import (
    BLUE,
    FAINT,
    INK,
    PALETTE,
    colour,
    dash,
    house_style,
    new_figure,
    plain,
    to_svg,
)
from medglean.runs.tables import format_measured, format_value

MARKERS = "o^sDvPX*"
CURVE_POINTS = 400
"""Most points that a curve is drawn with."""
_DASHES = ("-", "--", "-.")  # dotted is chance


def over_scale(
    curves: Mapping[str, Mapping[float, Mapping[str, Interval]]],
    *,
    measures: Sequence[str] = (BEST_DICE, PIXEL_AUROC),
    setting: str = "Guidance scale s",
    title: str = "How far guidance should pull",
) -> Figure:
    """Draw measures over a setting, one line per value of another, each with its interval.

    Parameters
    ----------
    curves
        For each line, such as ``"L = 500"``, the metrics of `MapAssessment` at each scale.
    measures
        A panel for each.
    setting
        What the horizontal axis counts.
    """
    values = sorted({value for points in curves.values() for value in points})
    with house_style():
        figure, axes = new_figure(6.4, 2.9 * len(measures) + 0.6, rows=len(measures))
        for place, measure in zip(axes, measures, strict=True):
            for number, (name, points) in enumerate(curves.items()):
                _draw_points(place, name, points, measure, number)
            place.set_title(f"{_capital(measure)} (higher is better)")
            place.set_ylabel(_capital(measure))
            _setting_axis(place, values)
        axes[-1].set_xlabel(setting)
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=max(1, min(4, len(curves))),
        )
        data = to_svg(figure)
    told = "; ".join(
        f"{name}: {_best_point(points, measures[0])}" for name, points in curves.items()
    )
    rests = next((points[v][measures[0]] for points in curves.values() for v in points), None)
    return Figure(
        title,
        f"Bars and bands: 95 % intervals over patients{_counts(rests)}. Chosen on the images it is "
        "measured on, the best setting flatters: choose it on validation images.",
        data,
        "svg",
        alt=f"{title}. {_capital(measures[0])} is highest at {told}.",
    )


def _draw_points(
    axes: Axes,
    name: str,
    points: Mapping[float, Mapping[str, Interval]],
    measure: str,
    number: int,
) -> None:
    x = sorted(points)
    found = [points[value][measure] for value in x]
    tone = colour(number)
    axes.plot(
        x,
        [one.value for one in found],
        color=tone,
        linestyle=dash(number),
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        label=plain(name, limit=24),
    )
    low, high = [one.low for one in found], [one.high for one in found]
    if np.isfinite(low).all() and np.isfinite(high).all():
        axes.fill_between(x, low, high, color=tone, alpha=0.13, linewidth=0)


def _setting_axis(axes: Axes, values: Sequence[float]) -> None:
    """Mark the values that were tried; logarithmic but for 0 where they span much."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > 10 * min(positive):
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def pixel_roc_figure(methods: Mapping[str, MapAssessment]) -> Figure:
    """Draw sensitivity against false-positive rate over pixels, one line per method.

    Methods without masks are left out.
    """
    lines = {}
    for name, found in methods.items():
        if found.tally is not None:
            curve = pixel_roc(found.tally)
            lines[name] = (curve.false_positive_rate, curve.sensitivity)
    return _curves(
        lines,
        {name: methods[name].metrics[PIXEL_AUROC] for name in lines},
        measure="AUROC",
        title="ROC curves over pixels",
        labels=("False-positive rate: share of healthy pixels called", "Sensitivity"),
        chance=None,
        caption="Towards the upper left is better. Healthy pixels are many more than diseased "
        "ones, so even the left end of this figure may hold more false calls than true ones",
    )


def pixel_precision_recall_figure(methods: Mapping[str, MapAssessment]) -> Figure:
    """Draw precision against recall over pixels, one line per method, with the prevalence."""
    lines, shares = {}, []
    for name, found in methods.items():
        if found.tally is not None:
            curve = pixel_precision_recall(found.tally)
            gains = np.diff(curve.recall, prepend=0.0) > 0
            lines[name] = (curve.recall[gains], curve.precision[gains])
            shares.append(curve.prevalence)
    return _curves(
        lines,
        {name: methods[name].metrics[PIXEL_AP] for name in lines},
        measure="average precision",
        title="Precision and recall over pixels",
        labels=("Recall: share of diseased pixels found", "Precision: share of calls right"),
        chance=shares[0] if shares else math.nan,
        caption="Towards the upper right is better",
    )


def _curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    areas: Mapping[str, Interval],
    *,
    measure: str,
    title: str,
    labels: tuple[str, str],
    chance: float | None,
    caption: str,
) -> Figure:
    with house_style():
        figure, (axes,) = new_figure(6.4, 5.6 + 0.24 * len(lines))
        for number, (name, (x, y)) in enumerate(lines.items()):
            some = np.unique(np.linspace(0, max(len(x) - 1, 0), CURVE_POINTS).astype(np.int64))
            some = some[: len(x)]
            one = areas[name]
            axes.plot(
                x[some],
                y[some],
                color=colour(number),
                linestyle=_DASHES[number % len(_DASHES)],
                label=f"{plain(name, limit=28)}: {measure} "
                f"{format_measured(one.value, one.low, one.high)}",
            )
        if chance is None:
            axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", label="chance: AUROC 0.5")
        elif math.isfinite(chance):
            told = f"chance: {100 * chance:.2g} % of pixels diseased"
            axes.axhline(chance, color=FAINT, linestyle=":", label=told)
        axes.set_title(title)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=1)
        data = to_svg(figure)
    told = "; ".join(f"{plain(name)} {format_value(one.value)}" for name, one in areas.items())
    return Figure(
        title,
        f"{caption}{_counts(next(iter(areas.values()), None))}.",
        data,
        "svg",
        alt=f"{title}; {measure}: {told}.",
    )


def methods_figure(
    methods: Mapping[str, Mapping[str, Interval]],
    *,
    measures: Sequence[str] = (BEST_DICE, PIXEL_AP, PIXEL_AUROC),
    title: str = "The methods compared",
) -> Figure:
    """Draw each measure of each method as a dot with its interval.

    Parameters
    ----------
    methods
        From each method's name to its metrics; one that lacks a measure has no dot there.
    measures
        A panel for each.
    """
    names = list(methods)
    with house_style():
        figure, axes = new_figure(
            2.1 + 2.35 * len(measures), 1.2 + 0.36 * len(names), columns=len(measures)
        )
        for place, measure in zip(axes, measures, strict=True):
            for row, name in enumerate(names):
                if measure in methods[name]:
                    _draw_dot(place, row, methods[name][measure], PALETTE[0])
            place.set_title(_capital(measure), fontsize=9.5)
            place.set_ylim(len(names) - 0.5, -0.7)
            shown = names if place is axes[0] else [""] * len(names)
            place.set_yticks(range(len(names)), [plain(name, limit=30) for name in shown])
            place.tick_params(axis="y", length=0)
            place.grid(visible=False, axis="y")
            place.margins(x=0.16)
            place.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
        data = to_svg(figure)
    first = next((methods[n][measures[0]] for n in names if measures[0] in methods[n]), None)
    told = "; ".join(
        f"{plain(name)} {format_value(methods[name][measures[0]].value)}"
        for name in names
        if measures[0] in methods[name]
    )
    return Figure(
        title,
        f"Dots with 95 % intervals over patients{_counts(first)}; the axes do not begin at 0. "
        "Intervals of two methods may overlap though one is better on the same images: see the "
        "paired differences.",
        data,
        "svg",
        alt=f"{title}; {measures[0]}: {told}.",
    )


def _draw_dot(axes: Axes, row: int, found: Interval, tone: str) -> None:
    if not math.isfinite(found.value):
        axes.text(0.5, row, "n/a", transform=axes.get_yaxis_transform(), ha="center", va="center")
        return
    if math.isfinite(found.low):
        axes.plot([found.low, found.high], [row, row], color=tone, linewidth=2.2, alpha=0.55)
    axes.plot([found.value], [row], color=BLUE, marker="o", markersize=6, linestyle="none")
    axes.annotate(
        format_value(found.value),
        (found.value, row),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=INK,
    )


def _best_point(points: Mapping[float, Mapping[str, Interval]], measure: str) -> str:
    defined = [value for value in points if math.isfinite(points[value][measure].value)]
    if not defined:
        return "n/a"
    best = max(defined, key=lambda value: points[value][measure].value)
    return f"{best:g} ({format_value(points[best][measure].value)})"


def _counts(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f" ({interval.n:,} diseased images of {interval.groups:,} patients)"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
