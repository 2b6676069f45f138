"""Charts of what stains are worth: DAB of generated against real, methods side by side, losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from medglean.measure.intervals import Interval
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
from medglean.runs.tables import format_value
from medglean.stain import assess as known

MARKERS = "os^DvPX*"
MOST_LINES = 8


def dab_figure(
    generated: Float[np.ndarray, " n"],
    real: Float[np.ndarray, " n"],
    levels: Int[np.ndarray, " n"],
    names: Sequence[str],
    *,
    correlation: Interval | None = None,
) -> Figure:
    """Draw the mean DAB density of each generated image against that of the real one.

    Parameters
    ----------
    generated, real
        Mean optical density of DAB of each pair.
    levels
        Of each pair, -1 where it is not known.
    names
        Of the levels.
    correlation
        Pearson's r, for the title.
    """
    told = "" if correlation is None else f" (Pearson r {format_value(correlation.value)})"
    there = np.isfinite(generated) & np.isfinite(real)
    both = np.concatenate([generated[there], real[there], [0.0]])
    low, high = float(both.min()), float(both.max())
    margin = 0.05 * max(high - low, 0.02)
    ends = [low - margin, high + margin]
    with house_style():
        figure, (axes,) = new_figure(5.2, 5.2)
        axes.plot(ends, ends, color=FAINT, linestyle=":", label="equal")
        for number in (*range(len(names)), -1):
            own = there & (levels == number)
            if not own.any():
                continue
            name = f"level {plain(names[number], limit=12)}" if number >= 0 else "level not known"
            axes.plot(
                real[own],
                generated[own],
                linestyle="none",
                marker=MARKERS[number % len(MARKERS)],
                color=colour(number) if number >= 0 else FAINT,
                markersize=5,
                alpha=0.8,
                label=f"{name} (n = {int(own.sum()):,})",
            )
        axes.set_xlim(ends[0], ends[1])
        axes.set_ylim(ends[0], ends[1])
        axes.set_aspect("equal")
        axes.set_title(f"Mean DAB of {int(there.sum()):,} pairs{told}")
        axes.set_xlabel("Real section: mean optical density of DAB")
        axes.set_ylabel("Generated: mean optical density of DAB")
        figure.legend(loc="outside lower center", ncols=2)
        data = to_svg(figure)
    return Figure(
        "How much DAB there is",
        "One mark per pair. Below the dotted line too little stain is generated, above it too "
        "much. The level is the slide's, not the patch's.",
        data,
        "svg",
    )


def methods_figure(
    methods: Mapping[str, Mapping[str, Interval]],
    *,
    measures: Sequence[str] = (known.PSNR, known.SSIM, known.DAB_ABSOLUTE, known.DICE),
    title: str = "The methods compared",
    counted: str = "patients",
) -> Figure:
    """Draw each measure of each method as a dot with its interval.

    Parameters
    ----------
    methods
        From each method's name to its metrics; one that lacks a measure has no dot there.
    measures
        A panel for each.
    counted
        What the intervals are over.
    """
    names = list(methods)
    with house_style():
        figure, axes = new_figure(
            2.1 + 2.2 * len(measures), 1.3 + 0.36 * len(names), columns=len(measures)
        )
        for place, measure in zip(axes, measures, strict=True):
            for row, name in enumerate(names):
                if measure in methods[name]:
                    _dot(place, row, methods[name][measure])
            place.set_title(_heading(measure), fontsize=9)
            place.set_ylim(len(names) - 0.5, -0.7)
            shown = names if place is axes[0] else [""] * len(names)
            place.set_yticks(range(len(names)), [plain(name, limit=30) for name in shown])
            place.tick_params(axis="y", length=0)
            place.grid(visible=False, axis="y")
            place.margins(x=0.18)
            place.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
        data = to_svg(figure)
    told = "; ".join(
        f"{plain(name)} {format_value(methods[name][measures[0]].value)}"
        for name in names
        if measures[0] in methods[name]
    )
    return Figure(
        title,
        f"Dots with 95 % intervals over {counted}; the axes do not begin at 0. Intervals of two "
        "methods may overlap though one is better on the same pairs: see the paired differences.",
        data,
        "svg",
        alt=f"{title}; {measures[0]}: {told}.",
    )


def losses_figure(
    history: Sequence[Mapping[str, object]], *, name: str, pairs: int
) -> Figure | None:
    """Draw what a network's training logged over the epochs; none where nothing was logged."""
    table = pd.DataFrame([dict(row) for row in history])
    columns = [str(column) for column in table if str(column).startswith(("train.", "val."))]
    lines = {}
    for column in columns:
        means = table.groupby("epoch")[column].mean().dropna()
        if len(means) and np.isfinite(means.to_numpy(dtype=np.float64)).all():
            lines[column] = means
    upper = {key: one for key, one in lines.items() if key != "val.psnr"}
    if not upper:
        return None
    panels = [dict(list(upper.items())[:MOST_LINES])]
    if "val.psnr" in lines:
        panels.append({"val.psnr": lines["val.psnr"]})
    with house_style():
        figure, axes = new_figure(6.4, 3.1 * len(panels) + 0.8, rows=len(panels))
        for place, drawn in zip(axes, panels, strict=True):
            for number, (column, means) in enumerate(drawn.items()):
                place.plot(
                    means.index.to_numpy(dtype=np.float64),
                    means.to_numpy(dtype=np.float64),
                    color=colour(number),
                    linestyle=dash(number),
                    marker="." if len(means) < 60 else "",
                    label=plain(column.replace("val.", "validation: ").replace("train.", "")),
                )
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
            of_psnr = "val.psnr" in drawn
            place.set_ylabel("PSNR (dB)" if of_psnr else "Weighted loss")
        if all(one > 0 for means in panels[0].values() for one in means):
            axes[0].set_yscale("log")
            # the house style parses no mathematics, which the usual labels are
            axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes[0].yaxis.set_minor_formatter(NullFormatter())
        axes[0].set_title(f"Training of the {plain(name)} on {pairs:,} pairs")
        axes[-1].set_xlabel("Epoch (passes over the training pairs)")
        axes[0].legend(ncols=2)
        data = to_svg(figure)
    return Figure(
        f"How training of the {name} went",
        "Means over each epoch. In a GAN neither loss alone says whether images get better: look "
        "at the examples.",
        data,
        "svg",
        section="training",
    )


def _dot(axes: Axes, row: int, found: Interval) -> None:
    if not math.isfinite(found.value):
        axes.text(0.5, row, "n/a", transform=axes.get_yaxis_transform(), ha="center", va="center")
        return
    if math.isfinite(found.low):
        axes.plot([found.low, found.high], [row, row], color=PALETTE[0], linewidth=2.2, alpha=0.55)
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


def _heading(measure: str) -> str:
    better = "lower" if measure in known.LESS_IS_BETTER else "higher"
    unit = f" ({known.UNITS[measure]})" if measure in known.UNITS else ""
    words = f"{measure[:1].upper()}{measure[1:]}{unit}".replace(", ", ",\n")
    return f"{words}\n({better} is better)"
