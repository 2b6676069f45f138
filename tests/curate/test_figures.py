import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from medglean.curate import figures
from medglean.curate import map as layout
from medglean.curate.beside import curves_beside
from medglean.runs import style

HOSTILE = "<script>$x_{$&\x00\u202e\n\\frac 中文"


@pytest.fixture
def words(monkeypatch):
    """Read a figure's words from its SVG, which otherwise draws them as outlines."""
    monkeypatch.setitem(style._SETTINGS, "svg.fonttype", "none")

    def read(svg):
        root = ET.fromstring(svg)
        return " | ".join(
            text for element in root.iter() if (text := "".join(element.itertext()).strip())
        )

    return read


@pytest.fixture
def clusters():
    rng = np.random.default_rng(0)
    return np.repeat(rng.normal(size=(6, 8)), 10, axis=0) + 0.05 * rng.normal(size=(60, 8))


def test_histogram_tells_shares_and_numbers_of_pairs(words):
    told = words(
        figures.similarity_histogram(
            np.array([0.0, 0.5, 1.0]),
            {"all": np.array([900, 101]), "within": np.array([1, 99]), "between": [899, 2]},
            shares={0.5: 0.101, 0.9: 0.00001},
            group_name="clip",
        )
    )

    for expected in (
        "all pairs (n = 1,001)",
        "two images of one clip (n = 100)",
        "images of two clips (n = 901)",
        "> 0.5:",
        "10.1 %",
        "under 0.1 %",
        "Cosine similarity of two images (1: the same, 0: unrelated)",
    ):
        assert expected in told


def test_histogram_without_groups_has_one_panel(words):
    svg = figures.similarity_histogram(
        np.array([0.0, 0.5, 1.0]), {"all": np.array([3, 1])}, shares={0.5: 0.25}
    )

    assert "two images of one" not in words(svg)
    assert "25.0 %" in words(svg)


def test_coverage_tells_budget_and_draws(words, clusters):
    curves = curves_beside(clusters, np.arange(0, 60)[::-1], budget=12, draws=3)

    told = words(figures.coverage_curves(curves, budget=12, images=60))

    for expected in (
        "budget: 12",
        "stand for all 60",
        "random (mean and range of 3)",
        "fixed interval",
        "Images labelled",
    ):
        assert expected in told


def test_close_budgets_have_an_even_axis(words, clusters):
    curves = curves_beside(clusters, np.arange(60), budget=40, draws=2)

    told = words(figures.coverage_curves(curves, budget=40, images=60))

    assert "| 20 |" in told or "| 30 |" in told


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.5, "50.0 %"), (0.0, "0 %"), (1.0, "100 %"), (1e-6, "under 0.1 %"), (np.nan, "n/a")],
)
def test_shares_are_never_rounded_to_nothing(share, told):
    assert figures.share_text(share) == told


def test_neighbours_stay_neighbours_on_the_map(clusters):
    laid_out = layout.lay_out(clusters)

    distance = np.linalg.norm(laid_out.points[:, None] - laid_out.points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    same = np.arange(60)[:, None] // 10 == np.arange(60)[None] // 10
    assert same[np.arange(60), distance.argmin(axis=1)].all()
    assert "t-SNE" in laid_out.method


def test_the_map_is_the_same_each_time(clusters):
    np.testing.assert_array_equal(layout.lay_out(clusters).points, layout.lay_out(clusters).points)


def test_many_images_are_laid_out_along_their_largest_variation(monkeypatch):
    monkeypatch.setattr(layout, "MOST_NEIGHBOURS_MAP", 0)
    angle = np.linspace(-0.5, 0.5, 50)
    values = (
        np.c_[np.cos(angle), np.sin(angle), 0.01 * np.cos(7 * angle)] * np.arange(1, 51)[:, None]
    )

    laid_out = layout.lay_out(values)

    assert "PCA" in laid_out.method
    assert abs(np.corrcoef(laid_out.points[:, 0], np.sin(angle))[0, 1]) > 0.99
    assert laid_out.points[:, 0].std() > 5 * laid_out.points[:, 1].std()


@pytest.mark.parametrize("values", [np.ones((20, 3)), np.ones((20, 1)), np.eye(3)])
def test_odd_sets_are_laid_out(values):
    laid_out = layout.lay_out(values)

    assert laid_out.points.shape == (len(values), 2)
    assert np.isfinite(laid_out.points).all()


def test_the_map_draws_selected_images_set_aside_and_any_name(clusters):
    laid_out = layout.Map(clusters[:, :2], "made up")
    names = [HOSTILE, "", "b", "c", "d", "e", "f", "g", "h", "i"] * 6

    png = layout.embedding_map(
        laid_out, np.arange(9), names=names, set_aside=np.array([50]), names_are="site"
    )
    plain = layout.embedding_map(laid_out, np.arange(9))

    assert Image.open(io.BytesIO(png)).format == "PNG"
    assert png != plain
    assert plain != layout.embedding_map(laid_out, np.arange(10, 19))


def test_of_very_many_points_some_are_drawn(clusters, monkeypatch):
    laid_out = layout.Map(clusters[:, :2], "made up")
    everything = layout.embedding_map(laid_out, np.arange(9))
    monkeypatch.setattr(layout, "MOST_POINTS", 5)

    some = layout.embedding_map(laid_out, np.arange(9))

    assert some != everything
    assert some == layout.embedding_map(laid_out, np.arange(9))
