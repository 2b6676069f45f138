"""The figures of a report, each from plain numbers to an SVG that explains itself.

Every function takes arrays and names and returns SVG as bytes; `image_grid`, in
`medglean.runs.grids`, returns PNG. Numbers of images stand in every figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from medglean.runs.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    RED,
    colour,
    dash,
    house_style,
    new_figure,
    percent,
    plain,
    to_svg,
)
from medglean.runs.tables import format_value

_LEGEND_LIMIT = 28


def learning_curves(
    epoch: Sequence[float],
    train_loss: Sequence[float],
    validation: Sequence[float],
    *,
    validation_name: str,
    validation_loss: Sequence[float] | None = None,
    best_epoch: float | None = None,
    images: Mapping[str, int] | None = None,
) -> bytes:
    """Draw loss and the watched measure over the epochs, the kept epoch marked.

    Parameters
    ----------
    epoch
        Counted from 1.
    train_loss, validation, validation_loss
        One value per epoch; NaN where it was not measured.
    validation_name
        Such as ``"AUROC"``.
    best_epoch
        Whose weights were kept.
    images
        How many images each part has, such as ``{"train": 4000, "validation": 500}``.
    """
    told = ", ".join(f"{count:,} {part}" for part, count in (images or {}).items())
    with house_style():
        figure, (upper, lower) = new_figure(6.4, 5.2, rows=2)
        upper.plot(epoch, train_loss, color=colour(0), marker=".", label="training")
        if validation_loss is not None:
            _joined(upper, epoch, validation_loss, number=1, label="validation")
        upper.set_title("Loss" + (f" ({told} images)" if told else ""))
        upper.set_ylabel("Loss (lower is better)")
        upper.legend()
        _joined(lower, epoch, validation, number=1, label=None)
        lower.set_title(f"{plain(validation_name)} on validation images")
        lower.set_ylabel(plain(validation_name))
        lower.set_xlabel("Epoch (passes over the training images)")
        if best_epoch is not None and best_epoch in list(epoch):
            _mark_best(upper, lower, best_epoch, validation[list(epoch).index(best_epoch)])
        for axes in (upper, lower):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return to_svg(figure)


def _joined(
    axes: Axes, x: Sequence[float], y: Sequence[float], *, number: int, label: str | None
) -> None:
    """Draw a line through what was measured, passing over what was not."""
    measured = ~np.isnan(np.asarray(y, dtype=np.float64))
    axes.plot(
        np.asarray(x)[measured],
        np.asarray(y, dtype=np.float64)[measured],
        color=colour(number),
        marker=".",
        label=label,
    )


def _mark_best(upper: Axes, lower: Axes, epoch: float, value: float) -> None:
    for axes in (upper, lower):
        axes.axvline(epoch, color=FAINT, linestyle="--", linewidth=1.2, zorder=1)
    lower.plot(
        [epoch],
        [value],
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=INK,
        linestyle="none",
        label=f"kept: epoch {epoch:g}, {format_value(float(value))}",
    )
    lower.legend()


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw how many images of each true class were called what, as count and share of the row.

    Parameters
    ----------
    matrix
        Whole numbers of shape (k, k): rows are true classes, columns predicted ones.
    classes
        Their names.
    """
    count = len(classes)
    names = [plain(name, limit=24) for name in classes]
    total = matrix.sum(axis=1)
    share = np.divide(matrix, total[:, None], out=np.zeros(matrix.shape), where=total[:, None] > 0)
    side = max(3.4, (0.86 if count <= 8 else 0.56) * count)
    size = 10.0 if count <= 8 else 6.5
    with house_style():
        figure, (axes,) = new_figure(side + 2.4, side + 1.2)
        picture = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(count, count):
            axes.text(
                column,
                row,
                f"{matrix[row, column]:,}\n{percent(share[row, column])}"
                if total[row]
                else f"{matrix[row, column]:,}",
                ha="center",
                va="center",
                color="white" if share[row, column] > 0.55 else INK,
                fontsize=size,
                fontweight="bold" if row == column else "normal",
            )
        axes.set_xticks(range(count), names)
        if count > 3:
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            range(count), [f"{name}\n(n = {n:,})" for name, n in zip(names, total, strict=True)]
        )
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(f"Confusion matrix of {int(matrix.sum()):,} images (bold: right)")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(picture, ax=axes, shrink=0.8, label="Share of the true class (%)")
        bar.outline.set_visible(False)
        return to_svg(figure)


def score_histogram(
    scores: Mapping[str, np.ndarray],
    *,
    score_name: str,
    threshold: float | None = None,
    bins: int = 40,
) -> bytes:
    """Draw how scores spread within each true class: the less overlap, the better told apart.

    Parameters
    ----------
    scores
        For each true class the scores of its images.
    score_name
        Such as ``"Predicted probability of pneumonia"``.
    threshold
        Drawn as a line: images at or above it are called positive.
    """
    everything = np.concatenate([np.asarray(values) for values in scores.values()])
    low, high = (everything.min(), everything.max()) if everything.size else (0.0, 1.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    with house_style():
        figure, (axes,) = new_figure(6.4, 4.0)
        for number, (name, values) in enumerate(scores.items()):
            count = len(values)
            axes.hist(
                values,
                bins=edges.tolist(),
                weights=np.full(count, 100 / count) if count else None,
                histtype="stepfilled",
                facecolor=colour(number) + "40",
                edgecolor=colour(number),
                linestyle=dash(number),
                linewidth=1.6,
                label=f"{plain(name, limit=_LEGEND_LIMIT)} (n = {count:,})",
            )
        if threshold is not None:
            axes.axvline(threshold, color=INK, linestyle="--", label=f"threshold {threshold:.3g}")
        axes.set_title("Scores by true class")
        axes.set_xlabel(plain(score_name, limit=60))
        axes.set_ylabel("Share of the class's images (%)")
        figure.legend(loc="outside lower center", ncols=2)
        return to_svg(figure)


def reliability_diagram(
    edges: np.ndarray,
    count: np.ndarray,
    predicted: np.ndarray,
    observed: np.ndarray,
    *,
    calibration_error: float | None = None,
) -> bytes:
    """Draw what was predicted against what came true, with how many images each point rests on.

    Parameters are those of `medglean.measure.calibration.Reliability`.
    """
    filled = np.asarray(count) > 0
    with house_style():
        figure, (upper, lower) = new_figure(6.0, 6.4, rows=2)
        upper.plot([0, 1], [0, 1], color=FAINT, linestyle=":", label="perfect")
        upper.plot(predicted[filled], observed[filled], color=BLUE, marker="o", label="observed")
        told = "" if calibration_error is None else f" (error {calibration_error:.3f})"
        upper.set_title(f"Calibration on {int(np.sum(count)):,} images{told}")
        upper.set_ylabel("Observed share of positives")
        upper.set_ylim(-0.02, 1.02)
        upper.legend()
        lower.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=BLUE, ec="white")
        lower.set_ylabel("Images")
        lower.set_xlabel("Predicted probability")
        for axes in (upper, lower):
            axes.set_xlim(-0.02, 1.02)
        return to_svg(figure)


def class_counts(counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """Draw how many images each class has in each part of the split.

    Parameters
    ----------
    counts
        For each part, such as ``"train"``, the images of each class.
    """
    classes = list(dict.fromkeys(name for part in counts.values() for name in part))
    place = np.arange(len(classes))
    thickness = 0.8 / max(1, len(counts))
    with house_style():
        figure, (axes,) = new_figure(
            6.4, 1.5 + 0.32 * len(classes) * max(1, len(counts)) + 0.1 * len(classes)
        )
        for number, (part, table) in enumerate(counts.items()):
            values = [int(table.get(name, 0)) for name in classes]
            bars = axes.barh(
                place + (number - (len(counts) - 1) / 2) * thickness,
                values,
                height=thickness * 0.92,
                color=(BLUE, GREEN, RED)[number] if len(counts) <= 3 else colour(number),
                label=f"{plain(part)} (n = {sum(values):,})",
            )
            axes.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=9)
        axes.set_yticks(place, [plain(name, limit=24) for name in classes])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Images")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(x=0.12)
        axes.set_title("Images per class")
        figure.legend(loc="outside lower center", ncols=max(1, min(4, len(counts))))
        return to_svg(figure)
