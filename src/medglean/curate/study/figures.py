"""The three kinds of figure of the paper: what repeats itself, and what subsets teach."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from medglean.curate.study.analysis import Findings, Point
from medglean.runs.style import FAINT, INK, colour, house_style, new_figure, plain, to_svg

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_X_LABEL = "Labelled images in the subset (logarithmic)"
SPREAD = 0.012
"""How far apart the methods of one size are drawn, as a share of the axis, so that none hides."""


def similarity_histogram(
    edges: Float[np.ndarray, " e"],
    counts: dict[str, Float[np.ndarray, " b"]],
    *,
    thresholds: dict[float, float],
    images: int,
) -> bytes:
    """Draw how alike the images of a pool are: the share of pairs at each cosine similarity.

    Parameters
    ----------
    edges
        Of the bins.
    counts
        Pairs in each bin, by what they are, such as pairs within one clip and between clips.
    thresholds
        Similarity, and the share of all pairs above it, which is told in the figure.
    images
        How many there are.
    """
    with house_style():
        figure, (axes,) = new_figure(6.4, 4.2)
        for number, (name, values) in enumerate(counts.items()):
            total = float(values.sum())
            share = 100 * values / total if total else np.zeros(len(values))
            axes.stairs(
                share,
                edges,
                color=colour(number),
                fill=True,
                alpha=0.25,
            )
            axes.stairs(
                share, edges, color=colour(number), linewidth=1.6,
                label=f"{plain(name)} ({int(total):,} pairs)",
            )  # fmt: skip
        told = ", ".join(f"{100 * share:.0f} % above {t:g}" for t, share in thresholds.items())
        for threshold in thresholds:
            axes.axvline(threshold, color=FAINT, linestyle=":", linewidth=1.2)
        axes.set_title(f"How alike {images:,} images are\nOf all pairs, {told}")
        axes.set_xlabel("Cosine similarity of two images (1: alike)")
        axes.set_ylabel("Share of such pairs (%)")
        figure.legend(loc="outside lower center", ncols=max(1, len(counts)))
        return to_svg(figure)


def learning_curves(findings: Findings, *, score_name: str, counted: dict[str, str]) -> bytes:
    """Draw score, patients and groups of each method against the number of labelled images.

    Parameters
    ----------
    findings
        From `analysis.analyse`.
    score_name
        Such as ``"AUROC"``.
    counted
        What is counted below the curve: attribute of a point and its name, such as
        ``{"patients": "Patients", "groups": "Clips"}``.
    """
    with house_style():
        figure, axes = new_figure(7.2, 4.6 + 1.5 * len(counted), rows=1 + len(counted))
        upper = axes[0]
        grid = upper.get_gridspec()
        if grid is not None:
            grid.set_height_ratios([3.0, *(1.0 for _ in counted)])
        _full_line(upper, findings.full)
        for number, method in enumerate(findings.methods):
            _curve(upper, findings, method, number=number)
            for lower, name in zip(axes[1:], counted, strict=True):
                points = findings.of(method)
                lower.plot(
                    [point.images for point in points],
                    [getattr(point, name) for point in points],
                    color=colour(number),
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=4,
                    linewidth=1.2,
                )
        upper.set_title(f"What a subset teaches: {score_name} on other patients")
        upper.set_ylabel(f"{score_name} (higher is better)")
        for lower, (name, shown) in zip(axes[1:], counted.items(), strict=True):
            lower.axhline(getattr(findings.full, name), color=INK, linestyle="--", linewidth=1.0)
            lower.set_ylabel(shown)
            lower.set_ylim(bottom=0)
            lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for one in axes:
            _image_axis(one, findings)
        axes[-1].set_xlabel(_X_LABEL)
        figure.legend(loc="outside lower center", ncols=min(4, len(findings.methods) + 1))
        return to_svg(figure)


def gain_curves(findings: Findings, *, other: str, score_name: str) -> bytes:
    """Draw by how much each method exceeds another one with as many images."""
    with house_style():
        figure, (axes,) = new_figure(7.2, 3.8)
        axes.axhline(0.0, color=INK, linestyle="--", linewidth=1.2, label=f"as {plain(other)}")
        for number, method in enumerate(findings.methods):
            if method == other:
                continue
            points = findings.of(method)
            found = [point.against[other] for point in points]
            axes.errorbar(
                [point.images * _aside(findings, number) for point in points],
                [one.gain for one in found],
                yerr=[one.high - one.gain for one in found],
                color=colour(number),
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                capsize=2,
                elinewidth=1.0,
                label=plain(method, limit=28),
            )
        axes.set_title(f"Gain over {plain(other)} with as many images (95 % interval)")
        axes.set_ylabel(f"Gain in {score_name}")
        _image_axis(axes, findings, with_full=False)
        axes.set_xlabel(_X_LABEL)
        figure.legend(loc="outside lower center", ncols=min(4, len(findings.methods)))
        return to_svg(figure)


def _aside(findings: Findings, number: int) -> float:
    """Return a small step aside on the logarithmic axis, the same for every size."""
    step: float = 10 ** ((number - (len(findings.methods) - 1) / 2) * SPREAD)
    return step


def _full_line(axes: Axes, full: Point) -> None:
    axes.axhline(
        full.mean,
        color=INK,
        linestyle="--",
        linewidth=1.2,
        label=f"all {full.images:,.0f} images: {full.mean:.3f}",
    )
    if not math.isnan(full.sd):
        axes.axhspan(full.mean - full.sd, full.mean + full.sd, color=INK, alpha=0.08, linewidth=0)


def _curve(axes: Axes, findings: Findings, method: str, *, number: int) -> None:
    points = findings.of(method)
    aside = _aside(findings, number)
    axes.errorbar(
        [point.images * aside for point in points],
        [point.mean for point in points],
        yerr=[0.0 if math.isnan(point.sd) else point.sd for point in points],
        color=colour(number),
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        capsize=2,
        elinewidth=1.0,
        label=plain(method, limit=28),
    )


def _image_axis(axes: Axes, findings: Findings, *, with_full: bool = True) -> None:
    images = {round(point.images) for point in findings.points}
    images |= {round(findings.full.images)} if with_full else set()
    places = sorted(images)
    axes.set_xscale("log")
    axes.set_xlim(places[0] / 1.25, places[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{count:,}" for count in places])
