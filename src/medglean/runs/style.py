"""One look for all figures: fonts, colours that colour-blind readers can tell apart, and saving.

Colours are those of Okabe and Ito, Color Universal Design, 2008, but for their yellow, which is
too pale on white. Nothing here touches pyplot or any state that outlives a call.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, RED = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)
PALETTE = (BLUE, RED, GREEN, PURPLE, SKY, ORANGE)
DASHES = ("-", "--", "-.", ":")
INK, FAINT, PAPER = "#1d2733", "#8a94a0", "#ffffff"
PNG_DOTS_PER_INCH = 130
_TIGHT: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.1}  # nothing is cut off

_SETTINGS: dict[str, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a class or file may be named "$x$"
    "text.usetex": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",  # looks the same on a machine without these fonts
    "svg.hashsalt": "medglean",  # the same figure is the same bytes
}


def colour(number: int) -> str:
    """Return the colour of the number-th line."""
    return PALETTE[number % len(PALETTE)]


def dash(number: int) -> str:
    """Return the dashes of the number-th line: they change when the colours start again."""
    return DASHES[number // len(PALETTE) % len(DASHES)]


def plain(text: object, *, limit: int = 40) -> str:
    r"""Make any text fit to be drawn: no control characters, shortened in the middle.

    Examples
    --------
    >>> plain("study\n7/a-very-long-file-name.png", limit=16)
    'study?7...me.png'
    """
    clean = "".join(char if char.isprintable() else "?" for char in str(text))
    if len(clean) <= limit:
        return clean
    half = (limit - 3) / 2
    return f"{clean[: int(half + 0.5)]}...{clean[len(clean) - int(half) :]}"


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw in the one style; everything, saving too, happens inside."""
    with mpl.rc_context(rc=_SETTINGS), warnings.catch_warnings():  # type: ignore[arg-type]
        # A class may be named in a script that the font lacks: boxes are drawn, nothing fails.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def new_figure(
    width_in: float = 6.4, height_in: float = 4.4, *, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of inches and its axes, row by row."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG text in UTF-8, without a date."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **_TIGHT)
    return file.getvalue()


def to_png(figure: Figure, *, dots_per_inch: int = PNG_DOTS_PER_INCH) -> bytes:
    """Return the figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dots_per_inch, metadata={"Software": None}, **_TIGHT)
    return file.getvalue()


def percent(share: float) -> str:
    """Write a share of 1 as a percentage.

    Examples
    --------
    >>> percent(0.554)
    '55 %'
    """
    return f"{100 * share:.0f} %"
