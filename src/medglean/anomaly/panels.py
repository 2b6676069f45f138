"""Pictures of maps: the image, its healthy counterpart, the map, and where the disease is.

Images are shown as they are, 0 black and 1 white, in one channel. Maps have a colour scale whose
brightness rises evenly and which is the same for all cases of a figure, with a bar that says what
it means. The outline of the true mask is drawn beside the maps and on them. Every figure says
"research use only".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medglean.anomaly.panel_parts import (
    WORDS,
    Case,
    Part,
    Scale,
    colour_bar,
    draw,
    finished,
    head,
    tiles,
)
from medglean.runs.report import Figure, Section
from medglean.runs.style import house_style, plain


def case_panels(
    cases: Sequence[Case],
    *,
    method: str,
    scale: Scale,
    title: str = "From image to map",
    section: Section = "examples",
) -> Figure:
    """Show one method's work, a row per case: image, counterpart, map, overlay, true outline.

    Parameters
    ----------
    cases
        At least one; a column that no case has, such as the outline, is left out.
    method
        Which of the cases' results.
    scale
        Of the map's colours, from `medglean.anomaly.panel_parts.scale_of`.

    Raises
    ------
    ValueError
        If there is no case.
    """
    _check(cases)
    columns: list[Part] = ["image", "rebuilt", "map", "overlay", "truth"]
    if all(case.results[method].rebuilt is None for case in cases):
        columns.remove("rebuilt")
    if all(case.mask is None for case in cases):
        columns.remove("truth")
    with house_style():
        figure, axes = tiles(len(cases), len(columns))
        for row, case in enumerate(cases):
            for column, part in enumerate(columns):
                place = axes[row * len(columns) + column]
                draw(place, part, case, case.results[method], scale)
        colour_bar(figure, axes, scale)
        data = finished(figure)
    return Figure(
        title,
        f"Made by {plain(method)}. {_colours_of(scale, cases)}{_outline_of(cases)}",
        data,
        "png",
        alt=f"{title}: {_listed(cases)}. Columns: {', '.join(WORDS[part] for part in columns)}.",
        section=section,
    )


def method_panels(
    cases: Sequence[Case],
    *,
    scales: Mapping[str, Scale],
    title: str = "The methods side by side",
    section: Section = "examples",
) -> Figure:
    """Show several methods on the same images: counterparts above, maps below.

    Parameters
    ----------
    cases
        At least one; all with a result of each method.
    scales
        Of each method's colours, as methods may differ in unit; their order is that of the
        columns.

    Raises
    ------
    ValueError
        If there is no case.
    """
    _check(cases)
    methods = list(scales)
    rebuilt = any(case.results[name].rebuilt is not None for case in cases for name in methods)
    rows, columns = (2 if rebuilt else 1), 1 + len(methods)
    with house_style():
        figure, axes = tiles(rows * len(cases), columns, bar_in=1.0)
        for number, case in enumerate(cases):
            first = number * rows * columns
            last = first + (rows - 1) * columns
            any_result = case.results[methods[0]]
            outlined = case.mask is not None
            draw(axes[last], "truth" if outlined else "image", case, any_result, scales[methods[0]])
            if rebuilt:
                draw(axes[first], "image", case, any_result, scales[methods[0]])
                axes[last].set_visible(outlined)
            else:
                head(axes[last], case.id, f"true: {plain(case.truth, limit=20)}")
            for column, name in enumerate(methods, start=1):
                result, scale = case.results[name], scales[name]
                if rebuilt:
                    draw(axes[first + column], "rebuilt", case, result, scale)
                    head(axes[first + column], name, WORDS["rebuilt"])
                draw(axes[last + column], "map", case, result, scale)
                if not rebuilt:
                    head(axes[last + column], name, result.told or WORDS["map"])
        for column, wanted in enumerate((None, *scales.values())):
            colour_bar(figure, axes[column::columns], wanted)
        data = finished(figure)
    return Figure(
        title,
        "Each method has its own colour scale, the same in all rows; the unit stands below it."
        + _outline_of(cases),
        data,
        "png",
        alt=f"{title}: {_listed(cases)}. Methods: {', '.join(plain(name) for name in methods)}.",
        section=section,
    )


def strip(
    case: Case,
    *,
    scale: Scale,
    title: str = "One image under several settings",
    section: Section = "examples",
) -> Figure:
    """Show how a setting such as s or L changes counterpart and map of one image.

    Parameters
    ----------
    case
        Its results are the settings, named as they are to be shown, in order.
    scale
        Of the maps' colours.
    """
    names = list(case.results)
    columns = 1 + len(names)
    with house_style():
        figure, axes = tiles(2, columns)
        for column, name in enumerate(names, start=1):
            draw(axes[column], "rebuilt", case, case.results[name], scale)
            head(axes[column], name, WORDS["rebuilt"])
            draw(axes[columns + column], "map", case, case.results[name], scale)
        draw(axes[0], "image", case, case.results[names[0]], scale)
        draw(axes[columns], "truth", case, case.results[names[0]], scale)
        axes[columns].set_visible(case.mask is not None)
        colour_bar(figure, axes, scale)
        data = finished(figure)
    return Figure(
        title,
        f"Above the healthy counterpart, below the map. {_colours_of(scale, [case])}"
        f"{_outline_of([case])}",
        data,
        "png",
        alt=f"{title}: {_listed([case])}, with {', '.join(plain(name) for name in names)}.",
        section=section,
    )


def _colours_of(scale: Scale, cases: Sequence[Case]) -> str:
    meaning = scale.meaning[:1].lower() + scale.meaning[1:]
    told = f"What the colours mean: {meaning}; one scale for all, which ends at {scale.top:.2g}."
    several = any(case.image.shape[0] > 1 for case in cases)
    return told + " The map may be of several channels, of which one is shown." * several


def _outline_of(cases: Sequence[Case]) -> str:
    told = " The blue line is the outline of the true mask, which no method has seen."
    return told if any(case.has_outline for case in cases) else ""


def _listed(cases: Sequence[Case]) -> str:
    return ", ".join(f"{plain(case.id)} ({plain(case.truth)})" for case in cases)


def _check(cases: Sequence[Case]) -> None:
    if not cases:
        raise ValueError("cases: expected at least one image, found none.")
