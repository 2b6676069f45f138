"""The charts of a curation: how alike the images are, and what a budget covers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from medglean.curate.comparison import CoverageCurve
from medglean.runs.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    PURPLE,
    RED,
    house_style,
    new_figure,
    plain,
    to_svg,
)

_HISTOGRAM = {  # colour, dashes, width, fill: apart in greyscale, too
    "all": (FAINT, "-", 1.4, "#dde3e9"),
    "within": (RED, "-", 1.6, "#f6d9c9"),
    "between": (BLUE, "--", 1.8, "none"),
}


def similarity_histogram(
    edges: Float[np.ndarray, " b1"],
    counts: Mapping[str, np.ndarray],
    *,
    shares: Mapping[float, float],
    group_name: str = "group",
) -> bytes:
    """Draw how similar the images are to one another, as SVG.

    Parameters
    ----------
    edges
        Of the bins, rising, shape (b + 1,).
    counts
        Pairs in each bin, shape (b,): ``all`` and, where groups are known, ``within`` and
        ``between`` them. Each is drawn as shares of its own pairs.
    shares
        Share of all pairs above each similarity, which are marked with dotted lines.
    group_name
        What images belong to, such as ``"patient"``.
    """
    drawn = {name: values for name, values in counts.items() if np.sum(values) > 0}
    split = "within" in drawn
    with house_style():
        figure, axes = new_figure(6.4, 5.6 if split else 3.8, rows=2 if split else 1)
        for name, values in drawn.items():
            # within a group nearly all pairs may be alike: on one axis they would hide the rest
            place = axes[-1] if name == "within" else axes[0]
            _draw_pairs(place, name, values, edges, group_name)
        axes[0].set_title("How similar are two images of this set?")
        _mark_thresholds(axes[0], shares)
        axes[0].margins(y=0.28)  # room for the shares
        if split:
            axes[1].set_title(f"How similar are two images of one {group_name}?")
        for place in axes:
            place.set_xlim(*_range_of(edges, drawn, marks=list(shares)))
            place.set_ylabel("Share of the pairs\n(% per bin)")
            place.yaxis.set_major_locator(MaxNLocator(5))
            place.legend(loc="upper left")
        axes[-1].set_xlabel("Cosine similarity of two images (1: the same, 0: unrelated)")
        return to_svg(figure)


def _draw_pairs(
    axes: Axes, name: str, values: np.ndarray, edges: np.ndarray, group_name: str
) -> None:
    told = {
        "all": "all pairs",
        "within": f"two images of one {group_name}",
        "between": f"images of two {group_name}s",
    }[name]
    total = int(np.sum(values))
    tone, dashes, width, face = _HISTOGRAM[name]
    axes.stairs(
        100 * np.asarray(values, dtype=np.float64) / total,
        edges,
        fill=name != "between",
        facecolor=face,
        edgecolor=tone,
        linestyle=dashes,
        linewidth=width,
        label=f"{told} (n = {total:,})",
    )


def _range_of(
    edges: np.ndarray, counts: Mapping[str, np.ndarray], *, marks: Sequence[float]
) -> tuple[float, float]:
    """Return the part of the axis that holds pairs or a threshold."""
    filled = np.zeros(len(edges) - 1, dtype=bool)
    for values in counts.values():
        filled |= np.asarray(values) > 0
    places = np.flatnonzero(filled)
    low = float(edges[places[0]]) if len(places) else float(edges[0])
    return min([low, *marks]) - 0.02, 1.02


def _mark_thresholds(axes: Axes, shares: Mapping[float, float]) -> None:
    for threshold, share in shares.items():
        axes.axvline(threshold, color=INK, linestyle=":", linewidth=1.3)
        axes.annotate(
            f"> {threshold:g}:\n{share_text(share)}",
            (threshold, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=8.5,
        )


def share_text(share: float) -> str:
    """Write a share as a percentage that is never rounded to nothing, or to everything.

    Examples
    --------
    >>> share_text(0.1234), share_text(0.00002), share_text(0.99996), share_text(0.0)
    ('12.3 %', 'under 0.1 %', 'over 99.9 %', '0 %')
    """
    if math.isnan(share):
        return "n/a"
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    if share < 0.0005:
        return "under 0.1 %"
    return "over 99.9 %" if share > 0.9995 else f"{100 * share:.1f} %"


def coverage_curves(
    curves: Mapping[str, Sequence[CoverageCurve]], *, budget: int, images: int
) -> bytes:
    """Draw how well the first k images stand for all, beside what costs nothing, as SVG.

    Parameters
    ----------
    curves
        By name; several of one name (random draws) are drawn as their mean with a band from the
        lowest to the highest.
    budget
        The number of images that was chosen; marked.
    images
        How many there are in all.
    """
    with house_style():
        figure, axes = new_figure(6.4, 6.4, rows=2)
        for place, measure in zip(axes, ("mean", "low"), strict=True):
            for number, (name, several) in enumerate(curves.items()):
                _draw_curve(place, name, several, measure=measure, number=number)
            place.axvline(budget, color=INK, linestyle=":", linewidth=1.3)
            _budget_axis(place, curves, budget)
        axes[0].annotate(
            f"budget: {budget:,}",
            (budget, 0.02),
            xycoords=("data", "axes fraction"),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=8.5,
        )
        axes[0].set_title(f"How well the labelled images stand for all {images:,}")
        axes[0].set_ylabel("Average image: similarity\nto the nearest labelled one")
        axes[1].set_title("The images that are represented worst")
        axes[1].set_ylabel("5th percentile: similarity\nto the nearest labelled one")
        axes[1].set_xlabel("Images labelled")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return to_svg(figure)


_LINES = (("-", "o", BLUE), ("--", "^", RED), ("-.", "s", GREEN), (":", "D", PURPLE))


def _draw_curve(
    axes: Axes, name: str, several: Sequence[CoverageCurve], *, measure: str, number: int
) -> None:
    dashes, marker, tone = _LINES[number % len(_LINES)]
    budgets = several[0].budgets
    values = np.array([getattr(curve, measure) for curve in several])
    draws = f" (mean and range of {len(several)})" if len(several) > 1 else ""
    axes.plot(
        budgets,
        values.mean(axis=0),
        color=tone,
        linestyle=dashes,
        marker=marker,
        markersize=4,
        label=plain(name, limit=28) + draws,
    )
    if len(several) > 1:
        axes.fill_between(
            budgets, values.min(axis=0), values.max(axis=0), color=tone, alpha=0.18, linewidth=0
        )


def _budget_axis(axes: Axes, curves: Mapping[str, Sequence[CoverageCurve]], budget: int) -> None:
    """Give the axis whole numbers; logarithmic where budgets span more than a factor of ten."""
    budgets = np.concatenate([several[0].budgets for several in curves.values()])
    low, high = int(budgets.min(initial=budget)), int(budgets.max(initial=budget))
    if high <= 10 * low:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        return
    axes.set_xscale("log")
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10**power for power in powers for step in (1, 2, 5)]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _thousands(value: float, _place: int | None = None) -> str:
    return f"{value:,.0f}"
