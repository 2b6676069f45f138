"""The figure of saliency: each image beside what its answer comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from scipy.ndimage import gaussian_filter

from medglean.runs.report import RESEARCH_ONLY
from medglean.runs.style import FAINT, INK, SKY, house_style, new_figure, plain, to_png
from medglean.runs.tiles import displayable

COLOURS = "inferno"
_TILE_IN = 1.95
_TITLE_IN = 0.42
_CHARACTERS = 32
_FAINTEST = 0.1
"""Share of a map's highest value below which the image is left as it is."""
_DOTS_PER_INCH = 100
_SMOOTHED = 1 / 64
"""Standard deviation, as a share of the longer side, by which integrated gradients are smoothed in
the figure: single pixels cannot be seen."""


@dataclass(frozen=True)
class Explained:
    """One image with its maps.

    Attributes
    ----------
    image
        Shape (1, h, w) or (3, h, w), values in [0, 1].
    id, truth, called
        As in the manifest; names of classes.
    explained, missed
        The class that the first two maps are of, and the true class that was not called; empty
        where there is none.
    cam, integrated, cam_of_missed
        Nowhere below 0, shape (h, w).
    mask
        Of the organ; None where there is none.
    """

    image: Float[np.ndarray, "c h w"]
    id: str
    truth: str
    called: str
    explained: str
    missed: str
    cam: Float[np.ndarray, "h w"]
    integrated: Float[np.ndarray, "h w"]
    cam_of_missed: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"] | None


def saliency_grid(cases: Sequence[Explained]) -> bytes:
    """Draw a row per image: the image, Grad-CAM, integrated gradients, and where the call is wrong
    Grad-CAM of the class that is true. PNG.

    Parameters
    ----------
    cases
        At least one. Each map is coloured up to its own highest value, the image showing through
        where it is low; the outline of the mask lies over all of them.
    """  # noqa: D205 - one sentence
    columns = 4 if any(case.missed for case in cases) else 3
    with house_style():
        figure, axes = new_figure(
            _TILE_IN * columns,
            (_TILE_IN + _TITLE_IN) * len(cases) + 0.7,
            rows=len(cases),
            columns=columns,
        )
        for place in axes:
            place.grid(visible=False)
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(False)
        for number, case in enumerate(cases):
            _draw_row(axes[number * columns : (number + 1) * columns], case)
        bar = figure.colorbar(
            ScalarMappable(Normalize(0.0, 1.0), COLOURS),
            ax=axes,
            location="bottom",
            shrink=0.6,
            aspect=40,
            pad=0.01,
            ticks=[0.0, 0.5, 1.0],
        )
        bar.outline.set_visible(False)
        bar.ax.set_xticklabels(["nothing", "half", "the most in this picture"])
        bar.ax.tick_params(labelsize=7.5)
        bar.set_label(
            "How much a place speaks for the class named above the map (below a tenth: not "
            "coloured)",
            fontsize=8,
        )
        figure.supxlabel(RESEARCH_ONLY, fontsize=8, color=INK)
        return to_png(figure, dots_per_inch=_DOTS_PER_INCH)


def _draw_row(axes: Sequence[Axes], case: Explained) -> None:
    picture = displayable(case.image, case.id)
    _show(axes[0], picture)
    verdict = "right" if case.truth == case.called else "wrong"
    _head(axes[0], case.id, f"true: {case.truth or 'none'}", f"called: {case.called or 'none'}")
    axes[0].set_xlabel(verdict, fontsize=8, fontweight="bold", loc="left", labelpad=2)
    _overlay(axes[1], picture, case.cam, case.mask)
    _head(axes[1], "Grad-CAM", f"for {case.explained}")
    smooth = gaussian_filter(case.integrated, _SMOOTHED * max(case.integrated.shape))
    _overlay(axes[2], picture, smooth, case.mask)
    _head(axes[2], "Integrated gradients", f"for {case.explained}")
    if len(axes) > 3 and case.missed:
        _overlay(axes[3], picture, case.cam_of_missed, case.mask)
        _head(axes[3], "Grad-CAM of what is true", f"for {case.missed}")
    elif len(axes) > 3:
        axes[3].set_axis_off()


def _show(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="antialiased")


def _overlay(axes: Axes, picture: np.ndarray, values: np.ndarray, mask: np.ndarray | None) -> None:
    _show(axes, picture)
    highest = float(values.max())
    if highest > 0:
        share = values / highest
        colours = np.asarray(mpl.colormaps[COLOURS](share))
        colours[..., 3] = 0.8 * np.clip((share - _FAINTEST) / 0.4, 0.0, 1.0)
        axes.imshow(colours, interpolation="nearest")
    else:
        axes.set_xlabel("zero everywhere", fontsize=7.5, color=FAINT, loc="left", labelpad=2)
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=[SKY], linewidths=1.0)


def _head(axes: Axes, *lines: str) -> None:
    told = "\n".join(plain(line, limit=_CHARACTERS) for line in lines)
    axes.set_title(told, fontsize=7.5, fontweight="normal", loc="left", pad=3)
