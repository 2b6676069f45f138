"""Every panel says which image it is, what is true, what colours mean, and what it is not for."""

import io

import matplotlib.text
import numpy as np
import pytest
from PIL import Image

from medglean.anomaly import panel_parts, panels
from medglean.anomaly.panel_parts import Case, Result, Scale
from medglean.data.phantom import brain_slice
from medglean.runs.report import RESEARCH_ONLY

SIDE = 32


def case(volume=1, *, lesion=True, names=("diffusion",), rebuilt=True):
    pixels, mask = brain_slice(0, volume, 0.5, lesion=lesion, size_px=(SIDE, SIDE))
    image = pixels / 255
    healthy = brain_slice(0, volume, 0.5, lesion=False, size_px=(SIDE, SIDE))[0] / 255
    results = {
        name: Result(np.abs(image - healthy).sum(axis=0), healthy if rebuilt else None, "Dice 0.62")
        for name in names
    }
    truth = "tumour" if lesion else "healthy"
    return Case(image, f"case {volume}", truth, results, mask if lesion else None, 3, "flair")


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figure that is about to become a PNG."""
    kept = []
    monkeypatch.setattr(
        panel_parts, "to_png", lambda figure: kept.append(figure) or b"\x89PNG not drawn"
    )
    return kept


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def pictures(figure):
    return [axes.images for axes in figure.axes if axes.images]


def test_case_panels_say_what_they_show(drawn):
    shown = panels.case_panels(
        [case(1), case(2, lesion=False)], method="diffusion", scale=Scale(1.5)
    )
    told = words(drawn[0])

    assert "case 1\ntrue: tumour (flair)" in told
    assert "case 2\ntrue: healthy (flair)" in told
    assert "map\nDice 0.62" in told
    assert panel_parts.MEANING["absolute"] in told
    assert RESEARCH_ONLY in told
    assert "no mask" in told
    assert len(pictures(drawn[0])) == 2 * 5
    assert "outline of the true mask" in shown.caption
    assert "case 1 (tumour), case 2 (healthy)" in shown.alt
    assert shown.kind == "png"


def test_columns_that_no_case_has_are_left_out(drawn):
    panels.case_panels([case(2, lesion=False, rebuilt=False)], method="diffusion", scale=Scale(1.0))

    assert len(pictures(drawn[0])) == 3
    assert not any("outline" in text or "counterpart\n" in text for text in words(drawn[0]))


def test_images_and_maps_are_shown_as_they_are_on_one_scale(drawn):
    one, other = case(1), case(2, lesion=False)
    panels.case_panels([one, other], method="diffusion", scale=Scale(1.5))
    image, rebuilt, shown_map, overlay, _ = pictures(drawn[0])[:5]

    np.testing.assert_allclose(image[0].get_array(), one.image[3])
    np.testing.assert_allclose(rebuilt[0].get_array(), one.results["diffusion"].rebuilt[3])
    np.testing.assert_array_equal(shown_map[0].get_array(), one.results["diffusion"].map)
    assert image[0].get_clim() == (0, 1)
    assert image[0].get_cmap().name == "gray"
    for place in (pictures(drawn[0])[2], pictures(drawn[0])[7]):
        assert place[0].get_clim() == (0, 1.5)
        assert place[0].get_cmap().name == "inferno"
    alpha = overlay[1].get_array()[..., 3]
    high = one.results["diffusion"].map > 1.0
    assert alpha[high].min() > 0.8
    assert alpha[one.results["diffusion"].map == 0].max() == 0


def test_methods_side_by_side(drawn):
    made = case(1, names=("diffusion", "threshold"))
    made.results["threshold"] = Result(np.ones((SIDE, SIDE)))
    scales = {
        "threshold": Scale(1.0, panel_parts.MEANING["threshold"]),
        "diffusion": Scale(1.5, panel_parts.MEANING["positive"]),
    }
    shown = panels.method_panels([made, made], scales=scales)
    told = " ".join(" ".join(words(drawn[0])).split())

    assert told.index("threshold healthy") < told.index("diffusion healthy")
    assert "Brighter than its healthy counterpart by" in told
    assert "Brightness within the head" in told
    assert "none: made without one" in told
    assert RESEARCH_ONLY in told
    assert shown.alt.endswith("Methods: threshold, diffusion.")
    assert len(pictures(drawn[0])) == 2 * 6


def test_methods_without_counterparts_take_one_row(drawn):
    panels.method_panels(
        [case(1, rebuilt=False), case(2, lesion=False, rebuilt=False)],
        scales={"diffusion": Scale(1.0)},
    )

    assert len(pictures(drawn[0])) == 4
    assert "diffusion\nDice 0.62" in words(drawn[0])
    assert "case 1\ntrue: tumour" in words(drawn[0])


def test_strip_over_a_setting(drawn):
    names = ("s = 0", "s = 100")
    shown = panels.strip(case(1, names=names), scale=Scale(1.5), title="Over s")

    assert "s = 0\nhealthy counterpart" in words(drawn[0])
    assert "s = 100\nhealthy counterpart" in words(drawn[0])
    assert shown.alt == "Over s: case 1 (tumour), with s = 0, s = 100."


def test_strip_of_a_healthy_image_has_no_outline(drawn):
    panels.strip(case(2, lesion=False), scale=Scale(1.5))

    outline = [axes for axes in drawn[0].axes if axes.get_title(loc="left").startswith("true out")]
    assert [axes.get_visible() for axes in outline] == [False]


def test_scale_ends_at_the_bright_end_of_the_maps():
    assert panel_parts.scale_of(np.linspace(0, 1, 201)[None]).top == pytest.approx(0.995)
    assert panel_parts.scale_of([np.zeros(4), np.array([np.nan])]).top == 1.0
    assert panel_parts.scale_of([np.ones(2)], kind="negative").meaning.startswith("Darker")


def test_the_picture_is_a_png_and_odd_names_do_no_harm():
    made = case(1)
    odd = Case(made.image, "<b>$x_{$\n\\frac", "日本", made.results, np.zeros((SIDE, SIDE), bool))
    shown = panels.case_panels([odd], method="diffusion", scale=Scale(1.0))

    picture = Image.open(io.BytesIO(shown.data))
    assert picture.format == "PNG"
    assert picture.width > picture.height


def test_without_a_case_it_is_told():
    with pytest.raises(ValueError, match="at least one image"):
        panels.case_panels([], method="diffusion", scale=Scale(1.0))
    with pytest.raises(ValueError, match="at least one image"):
        panels.method_panels([], scales={"diffusion": Scale(1.0)})
