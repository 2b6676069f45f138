"""The audit in pictures: all numbers on one line each, and what a baseline is given to see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medglean.classify.parts import Judged
from medglean.classify.shortcuts.compare import Beside
from medglean.classify.shortcuts.hiding import filled, interior
from medglean.classify.shortcuts.result import Audit
from medglean.data.augment import to_float
from medglean.runs.report import Figure
from medglean.runs.style import (
    BLUE,
    FAINT,
    INK,
    RED,
    house_style,
    new_figure,
    percent,
    plain,
    to_svg,
)
from medglean.runs.tables import format_measured
from medglean.runs.tiles import Tile, tile_grid

EXAMPLES = 3
_WORDS = {
    "beaten": "beaten",
    "not shown": "not shown to be beaten",
    "ahead": "better than the network",
    "not measured": "not measured",
}


def beside_figure(audit: Audit, *, measure: str, counted: str) -> Figure:
    """Draw the network and its baselines with their intervals, and chance."""
    shown = [audit.network, *audit.baselines]
    place = np.arange(len(shown))[::-1]
    values = [one.area for one in shown]
    finite = [v.low for v in values if np.isfinite(v.low)]
    left = min([0.45, *finite]) - 0.02
    with house_style():
        figure, (axes,) = new_figure(7.6, 1.3 + 0.46 * len(shown))
        axes.axvline(0.5, color=FAINT, linestyle=":", linewidth=1.6)
        if np.isfinite(audit.network.area.low):
            axes.axvspan(
                audit.network.area.low, audit.network.area.high, color=BLUE, alpha=0.1, linewidth=0
            )
        for y, one, value in zip(place, shown, values, strict=True):
            tone, mark = _look(one)
            if np.isfinite(value.low):
                axes.plot([value.low, value.high], [y, y], color=tone, linewidth=2.4)
            if np.isfinite(value.value):
                axes.plot([value.value], [y], marker=mark, markersize=8, color=tone)
            axes.text(
                1.03,
                y,
                _words(one),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8.5,
                color=tone,
            )
        axes.set_yticks(place, [plain(one.baseline.name, limit=34) for one in shown])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlim(left, 1.01)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{measure} (0.5, dotted: chance; 1: all told apart)")
        axes.set_title(
            f"How well each tells the classes apart ({len(audit.ground.truth):,} images)"
        )
        data = to_svg(figure)
    told = "; ".join(
        f"{one.baseline.name} {format_measured(v.value, v.low, v.high)}"
        for one, v in zip(shown, values, strict=True)
    )
    return Figure(
        "Shortcut audit",
        f"Blue: this network on whole images. Red diamonds cannot see the disease: they should lie "
        f"near 0.5, and the further right, the more the images give away by other means. Black "
        "square: a simple model of the whole image, which the network should beat. Lines: 95 % "
        f"intervals over {counted}; pale blue: the network's. The constant answer is compared by "
        "how often it is right, all others by this measure.",
        data,
        "svg",
        alt=f"{measure}: {told}.",
    )


def _look(one: Beside) -> tuple[str, str]:
    if one.baseline.key == "":
        return BLUE, "o"
    return (RED, "D") if one.baseline.blind else (INK, "s")


def _words(one: Beside) -> str:
    value = one.area
    number = format_measured(value.value, value.low, value.high)
    if value.low == value.high:
        number = f"{value.value:.3f}"
    if one.baseline.key == "":
        return number
    by = " (by how often right)" if one.baseline.by == "right" else ""
    return f"{number}\n{_WORDS[one.verdict]}{by}"


def seen_figure(audit: Audit, judged: Judged) -> Figure:
    """Show a few judged images as the network and the baselines see them."""
    rows, places = judged.scores.rows, _examples(judged.found.truth)
    chosen = rows[places]
    pictures = to_float(np.asarray(judged.images.stored[chosen]))
    height, width = pictures.shape[2:]
    inner = np.broadcast_to(interior(height, width), (len(chosen), height, width))
    views = (
        ("the whole image", pictures),
        ("border alone", filled(pictures, inner)),
        (f"{audit.hidden.name} hidden", filled(pictures, audit.hidden.of(chosen))),
    )
    names = np.array(judged.found.classes, dtype=object)
    tiles = [
        Tile(
            _shown(view[k]),
            judged.images.ids[row],
            above=(
                judged.images.ids[row],
                ";".join(names[judged.found.truth[places[k]]]) or "none",
            ),
            below=title,
            tone=BLUE if number == 0 else RED,
        )
        for k, row in enumerate(chosen)
        for number, (title, view) in enumerate(views)
    ]
    return Figure(
        "What each baseline sees",
        "Left: the image. Middle: its border, the rest filled with the border's mean. Right: with "
        f"the {audit.hidden.name} hidden ({percent(audit.hidden.share)} of the picture), filled "
        "with the mean of the rest.",
        tile_grid(tiles, columns=len(views)),
        "png",
    )


def _examples(truth: np.ndarray) -> list[int]:
    """Return the first image of each of the first classes, and others where those are few."""
    first = [int(np.flatnonzero(column)[0]) for column in truth.T if column.any()]
    order: Sequence[int] = [*first, *range(len(truth))]
    return list(dict.fromkeys(order))[: min(EXAMPLES, max(len(set(first)), 2))]


def _shown(image: np.ndarray) -> np.ndarray:
    return image if image.shape[0] in (1, 3) else image[:1]
