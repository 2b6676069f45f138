"""How the trainings of the 2022 study went, side by side; and what pretrained weights did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medglean.classify.study.gains import auroc_name, main_measure
from medglean.classify.study.rows import Trained
from medglean.measure.intervals import Interval
from medglean.runs.report import Figure
from medglean.runs.style import BLUE, FAINT, INK, RED, house_style, new_figure, plain, to_svg
from medglean.runs.tables import format_value

MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "exact": "Exact match", "auroc": "AUROC"}
"""What a training's log may hold of either part, and what it is called."""
NETWORKS_IN_A_ROW = 4


def by_epoch(history: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return a training's log with one row per epoch: means of the training, last of the rest.

    Returns
    -------
    DataFrame
        Its index is the epoch; columns such as ``train.loss`` and ``val.auroc``, NaN where nothing
        finite was measured.
    """
    table = pd.DataFrame([dict(row) for row in history])
    if table.empty or "epoch" not in table:
        return pd.DataFrame()
    names = [name for name in table if str(name).startswith(("train.", "val."))]
    values = table[names].apply(pd.to_numeric, errors="coerce")
    values = values.where(np.isfinite(values))
    groups = values.groupby(table["epoch"].astype(int))
    means, last = groups.mean(), groups.last()
    return pd.DataFrame(
        {str(n): means[n] if str(n).startswith("train.") else last[n] for n in names}
    )


def epoch_of_step(history: Sequence[Mapping[str, object]], step: int | None) -> int | None:
    """Return the epoch that a step of the log is of; None where the log has no such step."""
    return next((int(str(row["epoch"])) for row in history if row.get("step") == step), None)


def training_figure(trained: Sequence[Trained]) -> Figure | None:
    """Draw loss and watched measures over the epochs, a column of panels for each network.

    None where no log has an epoch.
    """
    logs = [(one, by_epoch(one.history)) for one in trained]
    logs = [(one, log) for one, log in logs if len(log)]
    measures = [
        name
        for name in MEASURES
        if any(f"{part}.{name}" in log for _, log in logs for part in ("train", "val"))
    ]
    if not measures:
        return None
    wide = min(NETWORKS_IN_A_ROW, len(logs))
    bands = math.ceil(len(logs) / wide)
    with house_style():
        figure, axes = new_figure(
            max(4.4, 2.7 * wide),
            2.3 * bands * len(measures) + 0.5,
            rows=bands * len(measures),
            columns=wide,
        )
        for number, (one, log) in enumerate(logs):
            band, column = divmod(number, wide)
            for row, name in enumerate(measures):
                place = axes[(band * len(measures) + row) * wide + column]
                _epochs(place, log, name, epoch_of_step(one.history, one.best_step))
                if row == 0:
                    diverged = " (diverged)" if one.note else ""
                    place.set_title(plain(one.cell.label, limit=24) + diverged)
                if column == 0:
                    place.set_ylabel(MEASURES[name])
                if row == len(measures) - 1:
                    place.set_xlabel("Epoch")
        for empty in range(len(logs), bands * wide):
            band, column = divmod(empty, wide)
            for row in range(len(measures)):
                axes[(band * len(measures) + row) * wide + column].set_visible(False)
        for row in range(len(measures)):
            _same_height(
                [axes[(b * len(measures) + row) * wide + c] for b in range(bands)
                 for c in range(wide) if b * wide + c < len(logs)]
            )  # fmt: skip
        named: dict[str, object] = {}
        for place in axes:
            handles, labels = place.get_legend_handles_labels()
            named.update(
                {label: named.get(label, h) for h, label in zip(handles, labels, strict=True)}
            )
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=len(named)
        )  # type: ignore[call-overload]
        data = to_svg(figure)
    return Figure(
        "How training went",
        "An epoch is one pass over the training images. Where the training loss falls on while the "
        "validation loss rises, the network learns its images by heart. The dashed line marks the "
        "epoch whose weights were kept and tested; without one it is the last. Training images are "
        "augmented and meet dropout, so that their loss may lie above the other.",
        data,
        "svg",
        section="training",
    )


def pretrained_figure(trained: Sequence[Trained], *, counted: str) -> Figure | None:
    """Draw the same network from scratch and from pretrained weights; None without such a pair.

    Parameters
    ----------
    trained
        Of the study's main table.
    counted
        What the intervals are over, such as ``"patients"``.
    """
    pairs = _pairs(trained)
    if not pairs:
        return None
    name = main_measure(trained[0].found.kind)
    measures = (name, auroc_name(trained[0].found), "macro F1")
    with house_style():
        figure, axes = new_figure(9.8, 3.5 * len(pairs), rows=len(pairs), columns=3)
        for row, pair in enumerate(pairs):
            panels = axes[3 * row : 3 * row + 3]
            for place, (column, title) in zip(
                panels, (("loss", "Validation loss"), ("auroc", "Validation AUROC")), strict=False
            ):
                for one, tone, shape in zip(pair, (BLUE, RED), "os", strict=True):
                    _validated(place, one, column, tone, shape)
                place.set_title(title)
                place.set_xlabel("Epoch")
                place.xaxis.set_major_locator(MaxNLocator(integer=True))
                if not place.lines:
                    place.text(0.5, 0.5, "not measured", transform=place.transAxes, ha="center")
            _beside(panels[2], pair, measures)
            panels[0].legend()
        data = to_svg(figure)
    told = "; ".join(
        f"{plain(one.cell.label)} {name} {format_value(one.found.headline[name].value)}"
        for pair in pairs
        for one in pair
    )
    return Figure(
        "From pretrained weights and from scratch",
        "Left and middle: on the validation images over the epochs; the ring marks the epoch that "
        f"was kept. Right: on the test images, with 95 % intervals over {counted}. Whether the "
        "two differ is in the table of differences.",
        data,
        "svg",
        alt=f"From pretrained weights and from scratch, on the test images: {told}.",
    )


def _pairs(trained: Sequence[Trained]) -> list[tuple[Trained, Trained]]:
    """Return, for each architecture that was trained both ways, scratch and pretrained."""
    pairs = []
    for scratch in trained:
        model = scratch.cell.preset.model
        if model.weights != "none":
            continue
        pairs += [
            (scratch, other)
            for other in trained
            if other.cell.preset.model.architecture == model.architecture
            and other.cell.preset.model.weights != "none"
        ]
    return pairs


def _epochs(axes: Axes, log: pd.DataFrame, name: str, kept: int | None) -> None:
    for part, tone, shape, label in (
        ("train", BLUE, "o", "training images"),
        ("val", RED, "s", "validation images"),
    ):
        column = f"{part}.{name}"
        if column not in log:
            continue
        known = log[column].dropna()
        axes.plot(
            known.index.to_numpy(dtype=np.float64),
            known.to_numpy(dtype=np.float64),
            color=tone,
            marker=shape if len(known) <= 25 else "",
            markersize=3.5,
            label=label,
        )
    if kept is not None:
        axes.axvline(kept, color=FAINT, linestyle="--", linewidth=1.2, zorder=1, label="epoch kept")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _same_height(panels: Sequence[Axes]) -> None:
    """Give panels of one measure the same axis, so that they can be compared at a glance."""
    filled = [place for place in panels if place.lines]
    if not filled:
        return
    low = min(place.get_ylim()[0] for place in filled)
    high = max(place.get_ylim()[1] for place in filled)
    for place in filled:
        place.set_ylim(low, high)


def _validated(axes: Axes, one: Trained, name: str, tone: str, shape: str) -> None:
    log = by_epoch(one.history)
    if f"val.{name}" not in log:
        return
    known = log[f"val.{name}"].dropna()
    if known.empty:
        return
    axes.plot(
        known.index.to_numpy(dtype=np.float64),
        known.to_numpy(dtype=np.float64),
        color=tone,
        marker=shape if len(known) <= 25 else "",
        markersize=3.5,
        label=plain(one.cell.label, limit=24),
    )
    kept = epoch_of_step(one.history, one.best_step)
    if kept is not None and kept in known.index:
        axes.plot(
            [kept],
            [float(known.loc[kept])],
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=INK,
            linestyle="none",
        )


def _beside(axes: Axes, pair: tuple[Trained, Trained], measures: Sequence[str]) -> None:
    for place, name in enumerate(measures):
        for one, tone, shape, shift in zip(pair, (BLUE, RED), "os", (-0.12, 0.12), strict=True):
            _upright(axes, place + shift, one.found.headline[name], tone, shape)
    axes.set_xticks(range(len(measures)), [plain(name).replace(" ", "\n") for name in measures])
    axes.set_xlim(-0.75, len(measures) - 0.25)
    axes.grid(visible=False, axis="x")
    axes.set_title("On the test images")


def _upright(axes: Axes, place: float, found: Interval, tone: str, shape: str) -> None:
    if not math.isfinite(found.value):
        return
    if math.isfinite(found.low):
        axes.plot([place, place], [found.low, found.high], color=tone, linewidth=2.2, alpha=0.55)
    axes.plot([place], [found.value], color=tone, marker=shape, markersize=6, linestyle="none")
    axes.annotate(
        format_value(found.value),
        (place, found.value),
        xytext=(6 if shape == "s" else -6, 0),
        textcoords="offset points",
        ha="left" if shape == "s" else "right",
        va="center",
        fontsize=8,
    )
