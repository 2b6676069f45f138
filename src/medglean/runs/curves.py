"""ROC, precision-recall and reliability curves, each an SVG from plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from medglean.runs.style import (
    FAINT,
    INK,
    colour,
    dash,
    house_style,
    new_figure,
    percent,
    plain,
    to_svg,
)
from medglean.runs.tables import UNDEFINED, format_interval, format_measured, format_value

_LEGEND_LIMIT = 28
FEW_CASES = 20
"""Cases below which a point of a reliability diagram is hollow: it scatters by chance."""
_MARKS = ("o", "^", "s", "D", "v")


@dataclass(frozen=True)
class Line:
    """One curve of a ROC or precision-recall figure.

    Attributes
    ----------
    name
        The class that counts as positive.
    x, y
        False-positive rate and sensitivity, or recall and precision; in [0, 1].
    positives, negatives
        How many images the curve rests on.
    area
        AUROC or average precision.
    low, high
        Its confidence interval, where there is one.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    positives: int
    negatives: int
    area: float
    low: float | None = None
    high: float | None = None

    def legend(self, measure: str) -> str:
        """Return name, area with interval, and how many images."""
        text = f"{plain(self.name, limit=_LEGEND_LIMIT)}: {measure} {format_value(self.area)}\n"
        interval = format_interval(self.low, self.high)
        if interval != UNDEFINED:
            text += f"95 % CI {interval}; "
        return text + f"{self.positives:,} of {self.positives + self.negatives:,} images positive"


@dataclass(frozen=True)
class OperatingPoint:
    """Where on a curve decisions are taken: its place and the threshold that leads there."""

    x: float
    y: float
    threshold: float
    name: str = "operating point"


@dataclass(frozen=True)
class Panel:
    """Probabilities in bins, and what came true in each.

    Attributes
    ----------
    name
        Such as ``"before calibration"``.
    edges, count, predicted, observed
        As in `medglean.measure.calibration.Reliability`.
    error
        Expected calibration error.
    low, high
        Its confidence interval, where there is one.
    """

    name: str
    edges: np.ndarray
    count: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray
    error: float
    low: float | None = None
    high: float | None = None

    def heading(self) -> str:
        """Return name and error with its interval, in two lines."""
        told = format_measured(self.error, self.low, self.high)
        return f"{plain(self.name)}\ncalibration error {told}"


def roc(
    lines: Sequence[Line],
    *,
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    points: Sequence[OperatingPoint] = (),
) -> bytes:
    """Draw sensitivity against false-positive rate.

    Parameters
    ----------
    lines
        One per class.
    band
        False-positive rates and the low and high limit of the first line's sensitivity there.
    points
        Each drawn as a mark and told with its threshold.
    """
    with house_style():
        figure, (axes,) = new_figure(6.4, 6.0 + _legend_height(lines, points))
        if band is not None:
            axes.fill_between(*band, color=colour(0), alpha=0.18, linewidth=0, label="95 % band")
        for number, line in enumerate(lines):
            axes.plot(
                line.x, line.y, color=colour(number), ls=dash(number), label=line.legend("AUROC")
            )
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", label="chance: AUROC 0.5")
        _draw_points(axes, points)
        axes.set_title("ROC curve: found against falsely called")
        axes.set_xlabel("False-positive rate = 1 - specificity")
        axes.set_ylabel("Sensitivity: share of positive images found")
        _unit_square(axes)
        _legend_below(axes, lines)
        return to_svg(figure)


def precision_recall(lines: Sequence[Line], *, points: Sequence[OperatingPoint] = ()) -> bytes:
    """Draw precision against recall, with the prevalence that a random order would give."""
    with house_style():
        figure, (axes,) = new_figure(6.4, 6.0 + _legend_height(lines, points))
        for number, line in enumerate(lines):
            # A precision holds from the recall before it up to its own; a point that adds no
            # recall adds no area either, and would only draw a spike.
            gains = np.diff(line.x, prepend=0.0) > 0
            recall, precision = line.x[gains], line.y[gains]
            axes.step(
                np.r_[0.0, recall],
                np.r_[precision[:1], precision],
                where="pre",
                color=colour(number),
                ls=dash(number),
                label=line.legend("average precision"),
            )
            total = line.positives + line.negatives
            prevalence = line.positives / total if total else math.nan
            axes.axhline(
                prevalence,
                color=colour(number),
                linestyle=":",
                linewidth=1.2,
                label=f"chance: {percent(prevalence)} of images positive"
                if len(lines) == 1
                else None,
            )
        if len(lines) > 1:
            axes.plot([], [], color=FAINT, linestyle=":", label="dotted: chance (prevalence)")
        _draw_points(axes, points)
        axes.set_title("Precision-recall curve: right calls against found")
        axes.set_xlabel("Recall = sensitivity: share of positive images found")
        axes.set_ylabel("Precision: share of positive calls that are right")
        _unit_square(axes)
        _legend_below(axes, lines)
        return to_svg(figure)


def reliability(
    panels: Sequence[Panel],
    *,
    predicted_name: str = "Predicted probability",
    observed_name: str = "Share that came true",
) -> bytes:
    """Draw what was predicted against what came true, one panel beside the other.

    Under each panel stands how many cases each of its points rests on; points of fewer than
    `FEW_CASES` are hollow.

    Parameters
    ----------
    panels
        Such as before and after calibration; all with the same limits of bins.
    predicted_name, observed_name
        Of the axes.
    """
    with house_style():
        figure, axes = new_figure(3.9 * len(panels) + 1.0, 6.2, rows=2, columns=len(panels))
        grid = axes[0].get_gridspec()
        if grid is not None:
            grid.set_height_ratios([2.4, 1.0])
        uppers, lowers = axes[: len(panels)], axes[len(panels) :]
        most = max((int(np.max(panel.count)) for panel in panels if len(panel.count)), default=0)
        for number, (upper, lower, panel) in enumerate(zip(uppers, lowers, panels, strict=True)):
            filled = np.asarray(panel.count) > 0
            upper.plot([0, 1], [0, 1], color=FAINT, linestyle=":")
            upper.plot(panel.predicted[filled], panel.observed[filled], color=colour(0))
            few = np.asarray(panel.count) < FEW_CASES
            for chosen, inside in ((filled & ~few, colour(0)), (filled & few, "white")):
                upper.plot(
                    panel.predicted[chosen],
                    panel.observed[chosen],
                    color=colour(0),
                    marker="o",
                    markerfacecolor=inside,
                    linestyle="none",
                )
            upper.set_title(panel.heading())
            middle = (panel.edges[:-1] + panel.edges[1:]) / 2
            lower.bar(middle, panel.count, width=np.diff(panel.edges), color=colour(0), ec="white")
            for place, count in zip(middle[filled], panel.count[filled], strict=True):
                lower.annotate(
                    f"{count:,}",
                    (place, count),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    rotation=90,
                    fontsize=8,
                )
            lower.set_ylim(0, 1.45 * max(1, most))
            lower.set_xlabel(predicted_name)
            if number == 0:
                upper.set_ylabel(observed_name)
                lower.set_ylabel("Cases per bin")
                upper.text(0.92, 0.86, "perfect", rotation=45, ha="right", color=FAINT)
            for one in (upper, lower):
                one.set_xlim(-0.02, 1.02)
            upper.set_ylim(-0.02, 1.02)
        return to_svg(figure)


def _draw_points(axes: Axes, points: Sequence[OperatingPoint]) -> None:
    for number, point in enumerate(points):
        axes.plot(
            [point.x],
            [point.y],
            marker=_MARKS[number % len(_MARKS)],
            markersize=9,
            color=INK,
            markerfacecolor="white",
            markeredgewidth=2,
            linestyle="none",
            zorder=5,
            label=f"{plain(point.name)}: score >= {point.threshold:.3g}",
        )


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")


def _legend_height(lines: Sequence[Line], points: Sequence[OperatingPoint]) -> float:
    return 0.34 * math.ceil(len(lines) / 2) + 0.17 * len(points)


def _legend_below(axes: Axes, lines: Sequence[Line]) -> None:
    axes.figure.legend(loc="outside lower center", ncols=1 if len(lines) == 1 else 2)
