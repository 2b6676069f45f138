"""The 2022 study's pictures of results: networks side by side, confusions, and ablations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from medglean.classify.assess import Assessment
from medglean.classify.study.compared import TITLES, Compared, shared_constant, upper
from medglean.classify.study.gains import auroc_name, has_scores, main_measure
from medglean.classify.study.rows import Theme, Trained
from medglean.classify.study.told import answer_of
from medglean.measure.intervals import Interval
from medglean.runs.report import Figure
from medglean.runs.style import (
    BLUE,
    FAINT,
    INK,
    PAPER,
    RED,
    colour,
    house_style,
    new_figure,
    percent,
    plain,
    to_svg,
)
from medglean.runs.tables import UNDEFINED, format_value

MARKERS = "osD^vP"


def networks_figure(cells: Sequence[Compared], *, counted: str) -> Figure:
    """Draw accuracy, mean AUROC and macro F1 of each network as dots, the constant answer dashed.

    Parameters
    ----------
    cells
        Of one theme, at least one.
    counted
        What the intervals are over, such as ``"patients"``.
    """
    first = cells[0].trained.found
    measures = (main_measure(first.kind), auroc_name(first), "macro F1")
    constant = shared_constant(cells)
    with house_style():
        figure, axes = new_figure(9.0, 1.5 + 0.42 * len(cells), columns=len(measures))
        for place, name in zip(axes, measures, strict=True):
            for row, one in enumerate(cells):
                _across(place, row, one.trained.found.headline[name], bad=bool(one.trained.note))
            if constant is not None:
                always = constant.constant.headline[name].value
                if math.isfinite(always):
                    place.axvline(always, color=INK, linestyle="--", linewidth=1.2)
            place.set_title(upper(name))
            place.set_ylim(len(cells) - 0.4, -0.7)
            labels = [plain(one.trained.cell.label, limit=28) for one in cells]
            place.set_yticks(range(len(cells)), labels if place is axes[0] else [""] * len(cells))
            place.tick_params(axis="y", length=0)
            place.grid(visible=False, axis="y")
            place.margins(x=0.16)
            place.xaxis.set_major_locator(MaxNLocator(4))
        axes[0].plot([], [], color=INK, linestyle="--", linewidth=1.2, label="constant answer")
        if any(one.trained.note and has_scores(one.trained.found) for one in cells):
            axes[0].plot([], [], color=RED, marker="X", linestyle="none", label="diverged")
        figure.legend(loc="outside lower center", ncols=2)
        data = to_svg(figure)
    told = "; ".join(
        f"{plain(one.trained.cell.label)} "
        f"{format_value(one.trained.found.headline[measures[0]].value)}"
        for one in cells
    )
    of = "" if counted == "images" else f" of {first.groups:,} {counted}"
    return Figure(
        "The networks beside the constant answer",
        f"On {first.n:,} test images{of}: dots with 95 % intervals over {counted}; the axes "
        " do not begin at 0. The dashed line is an answer that looks at no image"
        + (f": always {answer_of(constant.constant)}." if constant else "."),
        data,
        "svg",
        alt=f"The networks beside the constant answer; {measures[0]}: {told}.",
    )


def confusions_figure(trained: Sequence[Trained]) -> Figure | None:
    """Draw the confusion matrices of all networks in one figure; None for several findings."""
    shown = [
        (one, one.found.confusion)
        for one in trained
        if one.found.confusion is not None and has_scores(one.found)
    ]
    if not shown:
        return None
    count = max(len(one.found.classes) for one, _ in shown)
    side = 1.5 + 0.72 * min(count, 8) + 0.34 * max(0, count - 8)
    wide = 1 if len(shown) == 1 else 2 if side > 2.6 or len(shown) in (2, 4) else 3
    rows = math.ceil(len(shown) / wide)
    with house_style():
        figure, axes = new_figure(
            (side + 0.6) * wide + 0.9, (side + 0.5) * rows, rows=rows, columns=wide
        )
        for place, (one, matrix) in zip(axes, shown, strict=False):
            picture = _confusion(place, np.asarray(matrix), one.found)
            diverged = " (diverged)" if one.note else ""
            accuracy = format_value(one.found.headline["accuracy"].value)
            place.set_title(f"{plain(one.cell.label, limit=26)}{diverged}\naccuracy {accuracy}")
        for place in axes[len(shown) :]:
            place.set_visible(False)
        bar = figure.colorbar(picture, ax=axes, shrink=0.6, label="Share of the true class (%)")
        bar.outline.set_visible(False)
        data = to_svg(figure)
    without = [plain(one.cell.label) for one in trained if not has_scores(one.found)]
    left_out = f" {', '.join(without)} diverged and has no scores." if without else ""
    return Figure(
        "Confusion matrices: what was called what",
        "Each row is a true class, each column what it was called; bold on the diagonal is right. "
        f"Shares are of the row, so that rare classes can be seen.{left_out}",
        data,
        "svg",
    )


def ablation_figure(theme: Theme, cells: Sequence[Compared], *, counted: str) -> Figure:
    """Draw accuracy and mean AUROC along the axis of a theme, with the constant answer.

    Parameters
    ----------
    theme
        Not ``networks``.
    cells
        At least one; networks that differ in more than the theme are lines of their own.
    counted
        What the intervals are over.
    """
    name = main_measure(cells[0].trained.found.kind)
    ticks = sorted({_place(theme, one.trained) for one in cells})
    series = list(dict.fromkeys(_series(one.trained) for one in cells))
    with house_style():
        figure, axes = new_figure(9.0, 3.9, columns=2)
        for number, which in enumerate(series):
            own = sorted(
                (one.trained for one in cells if _series(one.trained) == which),
                key=lambda one: _place(theme, one),
            )
            shift = 0.16 * (number - (len(series) - 1) / 2)
            places = [ticks.index(_place(theme, one)) + shift for one in own]
            label = which if len(series) > 1 else None
            _along(axes[0], places, [o.found.headline[name] for o in own], own, number, label)
            found = [one.found.headline[auroc_name(one.found)] for one in own]
            _along(axes[1], places, found, own, number, label)
        _constants(
            axes[0],
            [[o.trained for o in cells if _place(theme, o.trained) == t] for t in ticks],
            name,
        )
        axes[1].axhline(0.5, color=INK, linestyle="--", linewidth=1.2)
        areas = {auroc_name(one.trained.found) for one in cells}
        titles = (upper(name), upper(areas.pop()) if len(areas) == 1 else "Mean AUROC")
        for place, title in zip(axes, titles, strict=True):
            place.set_title(f"{title} on the test images")
            labels = [
                _tick(theme, next(o.trained for o in cells if _place(theme, o.trained) == t))
                for t in ticks
            ]
            place.set_xticks(range(len(ticks)), labels)
            place.set_xlim(-0.6, len(ticks) - 0.4)
            place.grid(visible=False, axis="x")
            place.margins(y=0.14)
            place.set_xlabel(_AXES[theme])
        axes[0].plot([], [], color=INK, linestyle="--", linewidth=1.2, label="constant answer")
        if any(one.trained.note and has_scores(one.trained.found) for one in cells):
            axes[0].plot([], [], color=RED, marker="X", linestyle="none", label="diverged")
        figure.legend(loc="outside lower center", ncols=4)
        data = to_svg(figure)
    told = "; ".join(
        f"{plain(one.trained.cell.label)} {format_value(one.trained.found.headline[name].value)}"
        for one in cells
    )
    return Figure(
        f"Ablation: {TITLES[theme].lower()}",
        f"Dots with 95 % intervals over {counted}; the axes do not begin at 0. {_CAPTIONS[theme]}",
        data,
        "svg",
        alt=f"Ablation, {TITLES[theme].lower()}; {name}: {told}.",
    )


_AXES: dict[Theme, str] = {
    "networks": "",
    "learning-rate": "Learning rate",
    "batch-size": "Images per batch",
    "optimizer": "",
    "classes": "Classes to tell apart",
    "images": "Training images",
}
_ALWAYS = "Dashed: an answer that looks at no image."
_CAPTIONS: dict[Theme, str] = {
    "networks": _ALWAYS,
    "learning-rate": f"{_ALWAYS} All else is the same, the number of epochs too.",
    "batch-size": f"{_ALWAYS} All have the same epochs, so that larger batches take fewer steps.",
    "optimizer": f"{_ALWAYS} Each with its own learning rate and decay.",
    "classes": f"{_ALWAYS} It rises as classes become fewer, because guessing becomes easier: what "
    "counts is the distance to it.",
    "images": f"{_ALWAYS} All are tested on the same images.",
}


def _place(theme: Theme, one: Trained) -> tuple[float, str]:
    """Return what orders the cells of a theme along its axis."""
    if theme == "images":
        return float(one.learnt), ""
    if math.isnan(one.cell.at):
        return 0.0, one.cell.label
    return one.cell.at, ""


def _tick(theme: Theme, one: Trained) -> str:
    if theme == "images":
        return f"{one.learnt:,}"
    return plain(one.cell.label, limit=22) if math.isnan(one.cell.at) else f"{one.cell.at:g}"


def _series(one: Trained) -> str:
    """Name the network that a cell trains."""
    model = one.cell.preset.model
    return model.architecture + ("" if model.weights == "none" else ", pretrained")


def _along(
    axes: Axes,
    places: Sequence[float],
    found: Sequence[Interval],
    cells: Sequence[Trained],
    number: int,
    label: str | None,
) -> None:
    tone = colour(2 * number if number < 3 else number)
    known = [(x, one.value) for x, one, c in zip(places, found, cells, strict=True)
             if math.isfinite(one.value) and not c.note]  # fmt: skip
    if len(known) > 1 and not math.isnan(cells[0].cell.at):
        axes.plot(*zip(*known, strict=True), color=tone, linewidth=1.2, alpha=0.5)
    for x, one, cell in zip(places, found, cells, strict=True):
        own, shape = (RED, "X") if cell.note else (tone, MARKERS[number % len(MARKERS)])
        if not math.isfinite(one.value):
            word, tone_of = ("diverged", RED) if cell.note else (UNDEFINED, INK)
            place = axes.get_xaxis_transform()
            axes.text(x, 0.03, word, transform=place, ha="center", color=tone_of, fontsize=9)
            continue
        if math.isfinite(one.low):
            axes.plot([x, x], [one.low, one.high], color=own, linewidth=2.2, alpha=0.55)
        axes.plot([x], [one.value], color=own, marker=shape, markersize=7, linestyle="none")
        axes.annotate(
            format_value(one.value),
            (x, one.value),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )
    if label is not None:
        axes.plot([], [], color=tone, marker=MARKERS[number % len(MARKERS)], label=plain(label))


def _constants(axes: Axes, columns: Sequence[Sequence[Trained]], name: str) -> None:
    """Draw the constant answer's measure at each place; one line where it is the same."""
    values = [column[0].constant.headline[name].value for column in columns]
    if len(set(values)) == 1:
        axes.axhline(values[0], color=INK, linestyle="--", linewidth=1.2)
        return
    axes.plot(range(len(values)), values, color=FAINT, linestyle=":", linewidth=1.0)
    for x, value in enumerate(values):
        axes.plot([x - 0.35, x + 0.35], [value, value], color=INK, linestyle="--", linewidth=1.2)


def _across(axes: Axes, row: int, found: Interval, *, bad: bool) -> None:
    if not math.isfinite(found.value):
        word, tone = ("diverged", RED) if bad else (UNDEFINED, INK)
        place = axes.get_yaxis_transform()
        axes.text(0.5, row, word, transform=place, va="center", ha="center", color=tone)
        return
    tone, shape = (RED, "X") if bad else (BLUE, "o")
    if math.isfinite(found.low):
        axes.plot([found.low, found.high], [row, row], color=tone, linewidth=2.2, alpha=0.55)
    axes.plot([found.value], [row], color=tone, marker=shape, markersize=6, linestyle="none")
    axes.annotate(
        format_value(found.value),
        (found.value, row),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _confusion(axes: Axes, matrix: np.ndarray, found: Assessment) -> AxesImage:
    """Draw one matrix, and return what the bar of colours is made from."""
    count = len(found.classes)
    names = [plain(name, limit=16) for name in found.classes]
    total = matrix.sum(axis=1)
    share = np.divide(matrix, total[:, None], out=np.zeros(matrix.shape), where=total[:, None] > 0)
    picture = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    size = 9.0 if count <= 4 else 7.5 if count <= 8 else 5.5
    for row, column in np.ndindex(count, count):
        told = f"{matrix[row, column]:,}"
        if count <= 8 and total[row]:
            told += f"\n{percent(share[row, column])}"
        axes.text(
            column,
            row,
            told,
            ha="center",
            va="center",
            color="white" if share[row, column] > 0.55 else INK,
            fontsize=size,
            fontweight="bold" if row == column else "normal",
        )
    small = 9.0 if count <= 8 else 7.0
    axes.set_xticks(range(count), names, fontsize=small)
    if count > 2:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(count),
        [
            f"{name}\n(n = {n:,})" if count <= 8 else name
            for name, n in zip(names, total, strict=True)
        ],
        fontsize=small,
    )
    axes.set_xlabel("Called")
    axes.set_ylabel("True class")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return picture
