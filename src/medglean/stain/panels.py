"""Pictures of stains: H&E, what was generated from it, the real section, and where DAB lies.

Images are shown as they are; below each whole image stands a close-up at full resolution, around
the place where the real section has most DAB, chosen before anything is looked at. Maps of DAB
density share one colour scale. Whatever is generated says so inside the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from medglean.runs.report import RESEARCH_ONLY, Figure, Section
from medglean.runs.style import INK, SKY, house_style, new_figure, plain, to_png

COLOURS = "inferno"
DENSITY = "Optical density of DAB (none: black; the scale ends at {top:.2g})"
SYNTHETIC = "Synthetic, research use only"
TOP_SHARE = 0.995
"""Quantile of the real densities at which the colour scale ends."""
LEAST_TOP = 0.3
"""Optical density at which it ends at least: in a section without DAB noise must not shine."""
CLOSE_UP_PX = 192
_TILE_IN = 2.3
_HEAD_IN = 0.42
_FOOT_IN = 0.75
_CHARACTERS = 36


@dataclass(frozen=True)
class Shown:
    """One pair with what methods made of it.

    Attributes
    ----------
    image, real
        H&E and the real section, shape (3, h, w), in [0, 1].
    generated
        By the method's name, of the same shape.
    id, level
        As in the manifest; an empty level is not known.
    told
        A few words for each method, such as ``"PSNR 24.1 dB"``.
    density, density_real
        DAB's optical density of each generated image and of the real one, shape (h, w).
    """

    image: Float[np.ndarray, "3 h w"]
    real: Float[np.ndarray, "3 h w"]
    generated: Mapping[str, Float[np.ndarray, "3 h w"]]
    id: str
    level: str = ""
    told: Mapping[str, str] = field(default_factory=dict)
    density: Mapping[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)
    density_real: Float[np.ndarray, "h w"] | None = None


def case_panels(
    cases: Sequence[Shown],
    *,
    method: str,
    title: str = "From H&E to the stain",
    section: Section = "examples",
) -> Figure:
    """Show one method's work: H&E, generated, real, and DAB densities of the last two.

    Parameters
    ----------
    cases
        At least one, with densities.
    method
        Which of the generated images.

    Raises
    ------
    ValueError
        If there is no case.
    """
    _check(cases)
    top = density_top(cases)
    columns = ["H&E", "generated", "real", "DAB of generated", "DAB of real"]
    with house_style():
        figure, places = _grid(cases, len(columns), foot_in=_FOOT_IN)
        density_axes: list[Axes] = []
        for case, rows in zip(cases, places, strict=True):
            pictures = [case.image, case.generated[method], case.real]
            maps = [case.density.get(method), case.density_real]
            words = [case.id, case.told.get(method, ""), _level(case), *map(_amount, maps)]
            for column, (name, word) in enumerate(zip(columns, words, strict=True)):
                below = maps[column - 3] if column > 2 else None
                picture = None if column > 2 else pictures[column]
                generated = column in (1, 3)
                _tile(
                    [row[column] for row in rows],
                    picture,
                    below,
                    close_up_of(case),
                    top=top,
                    head=(name, word),
                    synthetic=generated,
                )
                density_axes += [row[column] for row in rows] if column > 2 else []
        _colour_bar(figure, density_axes, top)
        data = _finished(figure)
    return Figure(
        title,
        f"Made by {plain(method)}; {SYNTHETIC.lower()}. The level is the slide's, not the "
        "patch's. Below: the blue square at full resolution, where the real section has most DAB. "
        "The maps show DAB's optical density after colour deconvolution, on one scale.",
        data,
        "png",
        alt=f"{title}: {_listed(cases)}. Columns: {', '.join(columns)}.",
        section=section,
    )


def method_panels(
    cases: Sequence[Shown],
    *,
    methods: Sequence[str],
    title: str = "The methods side by side",
    section: Section = "examples",
) -> Figure:
    """Show several methods on the same pairs: H&E, each method, real.

    Parameters
    ----------
    cases
        At least one; all with a generated image of each method.
    methods
        In the order of the columns.

    Raises
    ------
    ValueError
        If there is no case.
    """
    _check(cases)
    columns = ["H&E", *methods, "real"]
    with house_style():
        figure, places = _grid(cases, len(columns), foot_in=0.3)
        for case, rows in zip(cases, places, strict=True):
            pictures = [case.image, *(case.generated[name] for name in methods), case.real]
            words = [case.id, *(case.told.get(name, "") for name in methods), _level(case)]
            for column, picture in enumerate(pictures):
                _tile(
                    [row[column] for row in rows],
                    picture,
                    None,
                    close_up_of(case),
                    top=1.0,
                    head=(columns[column], words[column]),
                    synthetic=0 < column < len(columns) - 1,
                )
        data = _finished(figure)
    return Figure(
        title,
        f"Every image but the first and the last of a row is generated: {SYNTHETIC.lower()}. "
        "Below: the blue square at full resolution, where the real section has most DAB. PSNR is "
        "of the whole image, in dB.",
        data,
        "png",
        alt=f"{title}: {_listed(cases)}. Methods: {', '.join(plain(name) for name in methods)}.",
        section=section,
    )


def density_top(cases: Sequence[Shown]) -> float:
    """Return where the colour scale of densities ends: the same for generated and real."""
    real = [case.density_real for case in cases if case.density_real is not None]
    if not real:
        return LEAST_TOP
    return max(LEAST_TOP, max(float(np.quantile(one, TOP_SHARE)) for one in real))


def close_up_of(case: Shown) -> tuple[int, int, int] | None:
    """Return top, left and side of the close-up; none where images are small already.

    The square with most DAB in the real section, of those on a grid of half its side.
    """
    height, width = case.real.shape[-2:]
    side = CLOSE_UP_PX
    if min(height, width) < 2 * side:
        return None
    weight = case.density_real
    if weight is None:
        weight = 1.0 - case.real.mean(axis=0)
    tops = range(0, height - side + 1, side // 2)
    lefts = range(0, width - side + 1, side // 2)
    best = max(
        ((top, left) for top in tops for left in lefts),
        key=lambda at: float(weight[at[0] : at[0] + side, at[1] : at[1] + side].mean()),
    )
    return (*best, side)


def _grid(
    cases: Sequence[Shown], columns: int, *, foot_in: float
) -> tuple[Canvas, list[list[list[Axes]]]]:
    """Return a figure and its axes: for each case one or two rows of them."""
    per_case = [1 if close_up_of(case) is None else 2 for case in cases]
    total = sum(per_case)
    height, width = cases[0].real.shape[-2:]
    tall = _TILE_IN * min(1.5, height / width)
    figure, axes = new_figure(
        _TILE_IN * columns,
        (tall + 0.06) * total + _HEAD_IN * len(cases) + foot_in,
        rows=total,
        columns=columns,
    )
    for place in axes:
        place.grid(visible=False)
        place.set_xticks([])
        place.set_yticks([])
        place.spines[:].set_visible(False)
    rows = [axes[row * columns : (row + 1) * columns] for row in range(total)]
    ends = np.cumsum(per_case)
    return figure, [rows[end - count : end] for end, count in zip(ends, per_case, strict=True)]


def _tile(
    places: Sequence[Axes],
    picture: np.ndarray | None,
    density: np.ndarray | None,
    square: tuple[int, int, int] | None,
    *,
    top: float,
    head: tuple[str, str],
    synthetic: bool,
) -> None:
    """Draw a picture or a map, whole and close up, with its heading."""
    lines = "\n".join(plain(line, limit=_CHARACTERS) for line in head)
    places[0].set_title(lines, fontsize=8, fontweight="normal", loc="left", pad=3)
    for number, place in enumerate(places):
        cut: tuple[slice, slice] = (slice(None), slice(None))
        if number and square is not None:
            cut = (
                slice(square[0], square[0] + square[2]),
                slice(square[1], square[1] + square[2]),
            )
        how = "nearest" if number else "antialiased"
        if density is not None:
            place.imshow(density[cut], cmap=COLOURS, vmin=0, vmax=top, interpolation=how)
        elif picture is not None:
            colours = np.clip(np.moveaxis(picture[:, *cut], 0, -1), 0, 1)
            place.imshow(colours, interpolation=how)
        if synthetic:
            _mark(place)
    if square is not None:
        tone = SKY
        corner = (square[1] - 0.5, square[0] - 0.5)
        places[0].add_patch(
            Rectangle(corner, square[2], square[2], fill=False, edgecolor=tone, linewidth=1.1)
        )
        places[-1].spines[:].set(visible=True, color=tone, linewidth=1.4)


def _mark(place: Axes) -> None:
    """Write into a generated picture that it is one, so that a cutting still says it."""
    place.text(
        0.015,
        0.015,
        SYNTHETIC,
        transform=place.transAxes,
        fontsize=6,
        color=INK,
        ha="left",
        va="bottom",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.2},
    )


def _colour_bar(figure: Canvas, axes: Sequence[Axes], top: float) -> None:
    bar = figure.colorbar(
        ScalarMappable(Normalize(0.0, top), COLOURS),
        ax=list(axes),
        location="bottom",
        extend="max",
        shrink=0.8,
        aspect=36,
        pad=0.02,
        ticks=MaxNLocator(5),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label(DENSITY.format(top=top), fontsize=7.5)


def _finished(figure: Canvas) -> bytes:
    figure.supxlabel(RESEARCH_ONLY, fontsize=8, color=INK)
    return to_png(figure)


def _amount(density: np.ndarray | None) -> str:
    return "" if density is None else f"mean optical density {float(density.mean()):.3f}"


def _level(case: Shown) -> str:
    return f"slide's level {plain(case.level, limit=12)}" if case.level else "level not known"


def _listed(cases: Sequence[Shown]) -> str:
    return ", ".join(f"{plain(case.id)} ({_level(case)})" for case in cases)


def _check(cases: Sequence[Shown]) -> None:
    if not cases:
        raise ValueError("cases: expected at least one pair, found none.")
