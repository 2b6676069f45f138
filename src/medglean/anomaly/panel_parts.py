"""Parts of a panel: an image or map with its words, a colour scale, where the disease is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from medglean.runs.report import RESEARCH_ONLY
from medglean.runs.style import FAINT, INK, SKY, new_figure, plain, to_png

COLOURS = "inferno"
MEANING = {
    "absolute": "Differs from its healthy counterpart by (share of the intensity range)",
    "positive": "Brighter than its healthy counterpart by (share of the intensity range)",
    "negative": "Darker than its healthy counterpart by (share of the intensity range)",
    "signed": "Brighter than its healthy counterpart by (share of the intensity range)",
    "contrast": (
        "More like diseased than like healthy tissue by (standard deviations over healthy images)"
    ),
    "threshold": "Brightness within the head, by rank (0: darkest, 1: brightest)",
    "combined": (
        "Mean of the method's map and the brightness, each over its usual size in healthy images"
    ),
}
"""What a map's colours mean, by the kind of difference or the method."""
TOP_SHARE = 0.995
"""Quantile of the maps at which the colour scale ends."""
Part = Literal["image", "rebuilt", "map", "overlay", "truth"]
WORDS: dict[Part, str] = {
    "image": "image",
    "rebuilt": "healthy counterpart",
    "map": "map",
    "overlay": "map over the image",
    "truth": "true outline",
}
_TILE_IN = 1.85
_TITLE_IN = 0.36
_CHARACTERS = 28


@dataclass(frozen=True)
class Result:
    """What one method made of an image.

    Attributes
    ----------
    map
        Shape (h, w).
    rebuilt
        The healthy counterpart, shape (c, h, w); ``None`` where the method makes none.
    told
        A few words below the map's heading, such as ``"Dice 0.62"``.
    """

    map: np.ndarray
    rebuilt: np.ndarray | None = None
    told: str = ""


@dataclass(frozen=True)
class Case:
    """One image with its truth and what methods made of it.

    Attributes
    ----------
    image
        Shape (c, h, w), in [0, 1].
    id, truth
        As in the manifest; the name of the class.
    results
        By the method's name, or what else tells them apart, such as ``"s = 100"``.
    mask
        Where the disease truly is, bool of shape (h, w); ``None`` where it is not known.
    channel, channel_name
        The one that is shown; the map may be of all.
    """

    image: np.ndarray
    id: str
    truth: str
    results: Mapping[str, Result] = field(default_factory=dict)
    mask: np.ndarray | None = None
    channel: int = 0
    channel_name: str = ""

    @property
    def has_outline(self) -> bool:
        """Whether there is a pixel to draw an outline around."""
        return self.mask is not None and bool(self.mask.any())


@dataclass(frozen=True)
class Scale:
    """How a map's values become colours.

    Attributes
    ----------
    top
        The value that is brightest; larger ones look the same.
    meaning
        What stands at the colour bar.
    """

    top: float
    meaning: str = MEANING["absolute"]


def scale_of(maps: Sequence[np.ndarray] | np.ndarray, *, kind: str = "absolute") -> Scale:
    """Return a colour scale that fits maps of diseased images.

    Healthy images must be shown on the same scale: on one of their own, noise would shine.

    Parameters
    ----------
    maps
        Of any shapes; NaN is passed over.
    kind
        A key of `MEANING`.
    """
    values = np.concatenate([np.asarray(one, dtype=np.float64).reshape(-1) for one in maps])
    values = values[np.isfinite(values)]
    top = float(np.quantile(values, TOP_SHARE)) if values.size else 1.0
    return Scale(top if top > 0 else 1.0, MEANING[kind])


def draw(axes: Axes, part: Part, case: Case, result: Result, scale: Scale) -> None:
    """Draw one part of a case, with its heading."""
    if (part == "rebuilt" and result.rebuilt is None) or (part == "truth" and case.mask is None):
        _absent(axes, part, case)
        return
    if part == "map":
        axes.imshow(result.map, cmap=COLOURS, vmin=0, vmax=scale.top, interpolation="nearest")
    else:
        shown = case.image
        if part == "rebuilt" and result.rebuilt is not None:
            shown = result.rebuilt
        grey = np.clip(shown[case.channel], 0, 1)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if part == "overlay":
        axes.imshow(_veil(result.map, scale), interpolation="nearest")
    if part in ("truth", "map") and case.mask is not None and case.has_outline:
        width = 1.3 if part == "truth" else 0.8
        axes.contour(case.mask, levels=[0.5], colors=[SKY], linewidths=width)
    second = result.told if part == "map" else ""
    if part == "truth" and not case.has_outline:
        second = "mask is empty"
    if part == "image":
        shown_channel = f" ({plain(case.channel_name, limit=8)})" if case.channel_name else ""
        head(axes, case.id, f"true: {plain(case.truth, limit=14)}{shown_channel}")
    else:
        head(axes, WORDS[part], second)


def head(axes: Axes, first: str, second: str = "") -> None:
    """Write two lines above a picture."""
    lines = "\n".join(plain(line, limit=_CHARACTERS) for line in (first, second))
    axes.set_title(lines, fontsize=7.5, fontweight="normal", loc="left", pad=3)


def _absent(axes: Axes, part: Part, case: Case) -> None:
    """Keep the place of a picture that there is not, in its shape."""
    height, width = case.image.shape[-2:]
    axes.imshow(np.ones((height, width)), cmap="gray", vmin=0, vmax=1)
    middle = ((width - 1) / 2, (height - 1) / 2)
    word = "no mask" if part == "truth" else "none: made without one"
    axes.text(*middle, word, ha="center", va="center", color=FAINT, fontsize=7.5)
    head(axes, WORDS[part])


def _veil(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return a map's colours, the more see-through the lower it is."""
    share = np.clip(np.nan_to_num(values) / scale.top, 0, 1)
    colours = np.asarray(mpl.colormaps[COLOURS](share))
    colours[..., 3] = 0.85 * np.clip(1.5 * share, 0, 1)
    return colours


def tiles(rows: int, columns: int, *, bar_in: float = 0.8) -> tuple[Canvas, list[Axes]]:
    """Return a figure of pictures, row by row, with room for a colour bar below."""
    figure, axes = new_figure(
        _TILE_IN * columns, (_TILE_IN + _TITLE_IN) * rows + bar_in, rows=rows, columns=columns
    )
    for place in axes:
        place.grid(visible=False)
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    return figure, axes


def colour_bar(figure: Canvas, axes: Sequence[Axes], scale: Scale | None) -> None:
    """Put a colour bar below some pictures: below a column a short one, with its meaning wrapped.

    Without a scale it only keeps the place, so that all columns end at the same height.
    """
    columns = {round(place.get_position().x0, 3) for place in axes}
    short = len(columns) == 1
    shown = scale or Scale(1.0, MEANING["absolute"])
    bar = figure.colorbar(
        ScalarMappable(Normalize(0.0, shown.top), COLOURS),
        ax=list(axes),
        location="bottom",
        extend="max",
        shrink=0.92 if short else 0.6,
        aspect=14 if short else 40,
        pad=0.02,
        ticks=MaxNLocator(4),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
    meaning = textwrap.fill(shown.meaning, 28) if short else shown.meaning
    bar.set_label(meaning, fontsize=7 if short else 8.5)
    bar.ax.set_visible(scale is not None)


def finished(figure: Canvas) -> bytes:
    """Write what every picture says, and return it as PNG."""
    figure.supxlabel(RESEARCH_ONLY, fontsize=8, color=INK)
    return to_png(figure)
