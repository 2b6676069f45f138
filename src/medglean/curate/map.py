"""The map of a curation: where among all images the selected ones lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from medglean.curate.figures import share_text
from medglean.randomness import key_of, numpy_generator
from medglean.runs.style import BLUE, FAINT, INK, colour, house_style, new_figure, plain, to_png

MOST_NEIGHBOURS_MAP = 3_000
"""Up to here the map keeps neighbours together (t-SNE, some 15 s on a core); above it is PCA."""
MOST_POINTS = 20_000
"""Drawn of the images that were not selected; all selected ones are drawn."""
MOST_NAMES = 6
_MARKERS = ("o", "^", "s", "D", "v", "P")
_CHOSEN, _OTHER = 15.0, 60.0  # areas in points: halos of the others are seen around a selected one
_OTHERS, _UNKNOWN = "all others", "not known"


@dataclass(frozen=True)
class Map:
    """Embeddings laid out on a plane.

    Attributes
    ----------
    points
        Shape (n, 2); only neighbourhood has a meaning, not the axes.
    method
        How it was made, for the caption.
    """

    points: Float[np.ndarray, "n 2"]
    method: str


def lay_out(values: Float[np.ndarray, "n d"], *, seed: int = 0) -> Map:
    """Lay embeddings out on a plane: t-SNE for up to 3,000 images, PCA above.

    Parameters
    ----------
    values
        Without zero rows; only directions count, as for the cosine.
    seed
        Of t-SNE.

    References
    ----------
    van der Maaten, Hinton. Visualizing data using t-SNE. JMLR 9, 2008.
    """
    unit = np.asarray(values, dtype=np.float64)
    unit = unit / np.sqrt(np.einsum("ij,ij->i", unit, unit))[:, None]
    centred = unit - unit.mean(axis=0)
    count = len(unit)
    principal, share = _principal(centred)
    if not 10 <= count <= MOST_NEIGHBOURS_MAP or np.ptp(principal) == 0.0:
        told = f"the two directions of largest variation (PCA), {share_text(share)} of it"
        return Map(principal, told)
    from sklearn.manifold import TSNE  # takes a second to import

    start = principal / max(float(principal[:, 0].std()), 1e-12) * 1e-4
    points = TSNE(
        init=start.astype(np.float32),
        perplexity=min(30.0, (count - 1) / 3),
        random_state=key_of(seed, "map") % 2**32,
    ).fit_transform(unit.astype(np.float32))
    return Map(np.asarray(points, dtype=np.float64), "t-SNE, which keeps neighbours together")


def _principal(centred: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n 2"], float]:
    """Return coordinates along the two directions of largest variance, and their share of it."""
    covariance = centred.T @ centred
    values, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :2]
    # of the two directions along one axis, the one whose largest part is positive
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points = centred @ axes
    if points.shape[1] == 1:
        points = np.c_[points, np.zeros(len(points))]
    total = float(values.sum())
    return points, float(values[::-1][:2].sum() / total) if total > 0 else math.nan


def embedding_map(
    laid_out: Map,
    chosen: Int[np.ndarray, " k"],
    *,
    names: Sequence[str] | None = None,
    names_are: str = "label",
    set_aside: Int[np.ndarray, " a"] | None = None,
    seed: int = 0,
) -> bytes:
    """Draw all images as points, the selected ones with a rim on pale others, as PNG.

    Parameters
    ----------
    laid_out
        From `lay_out`.
    chosen
        Positions of the selected images.
    names
        What each image is (label, site, view; ``""`` unknown): colour and marker. The six most
        frequent have their own, the rest are grey.
    names_are
        What the names are, for the legend.
    set_aside
        Positions of outliers that were left out: crosses.
    seed
        Of the choice of points where there are more than can be drawn.
    """
    points = laid_out.points
    taken = np.zeros(len(points), dtype=bool)
    taken[np.asarray(chosen, dtype=np.int64)] = True
    aside = np.zeros(len(points), dtype=bool)
    if set_aside is not None:
        aside[np.asarray(set_aside, dtype=np.int64)] = True
    left = np.flatnonzero(~taken & ~aside)
    shown = left
    if len(left) > MOST_POINTS:
        shown = np.sort(numpy_generator(seed, "map").permutation(left)[:MOST_POINTS])
    with house_style():
        figure, (axes,) = new_figure(6.4, 6.2)
        for name, members, tone, marker in _kinds(names, len(points)):
            _scatter(axes, points[shown[members[shown]]], tone, marker, chosen=False)
            rim = points[members & taken]
            _scatter(axes, rim, tone, marker, chosen=True)
            if names is not None:
                told = f"{plain(name, limit=24)}: {len(rim):,} of {int(members.sum()):,}"
                axes.scatter([], [], s=30, c=tone, marker=marker, ec=INK, lw=0.7, label=told)
        if names is None:
            told = f"selected ({int(taken.sum()):,})"
            axes.scatter([], [], s=_CHOSEN, c=BLUE, ec=INK, lw=0.7, label=told)
            told = f"not selected ({len(left):,})"
            axes.scatter([], [], s=_OTHER, color=[_paler(BLUE)], lw=0, label=told)
        if aside.any():
            crosses = points[aside]
            told = f"set aside as outliers ({len(crosses):,})"
            axes.scatter(
                crosses[:, 0], crosses[:, 1], s=40, c=INK, marker="x", lw=1.4, label=told, zorder=4
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.set_title(
            f"{int(taken.sum()):,} selected among {len(points):,} images (near: look alike)"
        )
        note = "" if len(shown) == len(left) else f"; {len(shown):,} not selected are drawn"
        axes.set_xlabel(plain(f"Layout: {laid_out.method}{note}", limit=90), fontsize=8.5)
        title = None if names is None else f"{plain(names_are)}: selected (rimmed) of all (pale)"
        figure.legend(loc="outside lower center", ncols=2, title=title, title_fontsize=9)
        return to_png(figure)


def _kinds(names: Sequence[str] | None, count: int) -> list[tuple[str, np.ndarray, str, str]]:
    """Return name, members, colour and marker of what is drawn, the grey rest first."""
    if names is None:
        return [("", np.ones(count, dtype=bool), BLUE, "o")]
    name = np.array([text or _UNKNOWN for text in names], dtype=object)
    unique, counts = np.unique(name.astype(str), return_counts=True)
    frequent = unique[np.argsort(-counts, kind="stable")][:MOST_NAMES]
    frequent = np.array([text for text in frequent if text != _UNKNOWN], dtype=object)
    rest = ~np.isin(name.astype(str), frequent.astype(str))
    kinds = []
    if rest.any():
        only_unknown = set(name[rest]) == {_UNKNOWN}
        kinds.append((_UNKNOWN if only_unknown else _OTHERS, rest, FAINT, "o"))
    for number, text in enumerate(sorted(frequent)):
        kinds.append((text, name == text, colour(number), _MARKERS[number]))
    return kinds


def _scatter(axes: Axes, points: np.ndarray, tone: str, marker: str, *, chosen: bool) -> None:
    x, y = points.T
    if chosen:
        axes.scatter(x, y, s=_CHOSEN, c=tone, marker=marker, ec=INK, lw=0.7, zorder=3)
    else:
        axes.scatter(x, y, s=_OTHER, color=[_paler(tone)], marker="o", lw=0, zorder=2)


def _paler(tone: str) -> tuple[float, float, float]:
    """Return a colour mixed with white: pale, and not see-through, since copies lie in piles."""
    red, green, blue = to_rgb(tone)
    return 0.35 * red + 0.65, 0.35 * green + 0.65, 0.35 * blue + 0.65
