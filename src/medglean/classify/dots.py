"""Numbers with their intervals as dots on lines: what differs is seen at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medglean.runs.style import FAINT, INK, colour, house_style, new_figure, plain, to_svg
from medglean.runs.tables import format_value

_MARKERS = ("o", "D", "s", "^", "v", "P")


class Ranged(Protocol):
    """A number with limits, as an interval or an estimate gives it; NaN where undefined."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


def dots(
    rows: Mapping[str, Sequence[Ranged]],
    *,
    series: Sequence[str],
    axis: str,
    title: str,
    line: float | None = None,
    line_name: str = "",
) -> bytes:
    """Draw a row of dots with intervals for each name, as SVG.

    Parameters
    ----------
    rows
        From a row's name to its numbers, one for each of ``series``; an undefined one is written
        as n/a.
    series
        Names of the dots that share a row; one name draws no legend for it.
    axis
        What the numbers are.
    title
        Of the figure.
    line, line_name
        A number to compare with, drawn through all rows, such as that of all images.
    """
    count = len(series)
    gap = min(0.3, 0.66 / max(1, count))
    with house_style():
        height = (
            1.5
            + len(rows) * max(0.42, 0.26 * count)
            + (0.3 if count > 1 or line is not None else 0)
        )
        figure, (axes,) = new_figure(6.8, height)
        if line is not None and math.isfinite(line):
            told = f"{line_name}: {format_value(line)}" if line else line_name
            axes.axvline(line, color=FAINT, linestyle="--", label=told)
        for number, name in enumerate(series):
            shift = (number - (count - 1) / 2) * gap
            for row, found in enumerate(rows.values()):
                _dot(axes, row + shift, found[number], number)
            if count > 1:
                mark = _MARKERS[number % len(_MARKERS)]
                axes.plot([], [], color=colour(number), marker=mark, label=plain(name, limit=48))
        axes.set_yticks(range(len(rows)), [plain(name, limit=44) for name in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(axis)
        axes.set_title(title)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=1 if count > 1 else 2)
        return to_svg(figure)


def _dot(axes: Axes, row: float, found: Ranged, number: int) -> None:
    if not math.isfinite(found.value):
        axes.text(
            0.5,
            row,
            "n/a",
            transform=axes.get_yaxis_transform(),
            ha="center",
            va="center",
            color=FAINT,
        )
        return
    tone = colour(number)
    if math.isfinite(found.low) and math.isfinite(found.high):
        axes.plot([found.low, found.high], [row, row], color=tone, linewidth=2.4, alpha=0.5)
    axes.plot([found.value], [row], color=tone, marker=_MARKERS[number % len(_MARKERS)])
    axes.annotate(
        format_value(found.value),
        (1.0, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )
