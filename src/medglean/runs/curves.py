"""ROC and precision-recall curves, from plain numbers to an SVG that explains itself."""

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
from medglean.runs.tables import UNDEFINED, format_interval, format_value

_LEGEND_LIMIT = 28


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


def roc(
    lines: Sequence[Line],
    *,
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    point: OperatingPoint | None = None,
) -> bytes:
    """Draw sensitivity against false-positive rate.

    Parameters
    ----------
    lines
        One per class.
    band
        False-positive rates and the low and high limit of the first line's sensitivity there.
    point
        Drawn as a dot and told with its threshold.
    """
    with house_style():
        figure, (axes,) = new_figure(6.4, 6.0 + _legend_height(lines))
        if band is not None:
            axes.fill_between(*band, color=colour(0), alpha=0.18, linewidth=0, label="95 % band")
        for number, line in enumerate(lines):
            axes.plot(
                line.x, line.y, color=colour(number), ls=dash(number), label=line.legend("AUROC")
            )
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=":", label="chance: AUROC 0.5")
        _draw_point(axes, point)
        axes.set_title("ROC curve: found against falsely called")
        axes.set_xlabel("False-positive rate = 1 - specificity")
        axes.set_ylabel("Sensitivity: share of positive images found")
        _unit_square(axes)
        _legend_below(axes, lines)
        return to_svg(figure)


def precision_recall(lines: Sequence[Line], *, point: OperatingPoint | None = None) -> bytes:
    """Draw precision against recall, with the prevalence that a random order would give."""
    with house_style():
        figure, (axes,) = new_figure(6.4, 6.0 + _legend_height(lines))
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
        _draw_point(axes, point)
        axes.set_title("Precision-recall curve: right calls against found")
        axes.set_xlabel("Recall = sensitivity: share of positive images found")
        axes.set_ylabel("Precision: share of positive calls that are right")
        _unit_square(axes)
        _legend_below(axes, lines)
        return to_svg(figure)


def _draw_point(axes: Axes, point: OperatingPoint | None) -> None:
    if point is None:
        return
    axes.plot(
        [point.x],
        [point.y],
        marker="o",
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


def _legend_height(lines: Sequence[Line]) -> float:
    return 0.34 * math.ceil(len(lines) / 2)


def _legend_below(axes: Axes, lines: Sequence[Line]) -> None:
    axes.figure.legend(loc="outside lower center", ncols=1 if len(lines) == 1 else 2)
