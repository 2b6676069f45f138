"""Every panel says which pair it is, what is generated, and what it is not for."""

import matplotlib.text
import numpy as np
import pytest

from medglean.runs.report import RESEARCH_ONLY
from medglean.stain import panels
from medglean.stain.panels import CLOSE_UP_PX, SYNTHETIC, Shown, close_up_of, density_top


def case(side=32, *, level="2+", names=("GAN",)):
    rng = np.random.default_rng(0)
    image, real = rng.uniform(size=(2, 3, side, side))
    made = dict.fromkeys(names, real * 0.9)
    density = np.zeros((side, side))
    density[-side // 4 :, -side // 4 :] = 0.6
    told = {name: f"PSNR of {name}" for name in names}
    return Shown(image, real, made, "pair 7", level, told, dict.fromkeys(names, density), density)


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figure that is about to become a PNG."""
    kept = []
    monkeypatch.setattr(panels, "to_png", lambda figure: kept.append(figure) or b"\x89PNG no")
    return kept


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_case_panels_show_both_stains_and_their_density(drawn):
    figure = panels.case_panels([case(), case(level="")], method="GAN")
    told = words(drawn[0])

    assert "H&E\npair 7" in told
    assert "generated\nPSNR of GAN" in told
    assert "real\nslide's level 2+" in told
    assert "real\nlevel not known" in told
    assert "DAB of real\nmean optical density 0.037" in told  # 0.6 in a quarter of each side
    assert told.count(SYNTHETIC) == 2 * 2  # the image and its density, of each pair
    assert RESEARCH_ONLY in told
    assert sum(bool(axes.images) for axes in drawn[0].axes) == 2 * 5
    assert figure.section == "examples"
    assert "pair 7" in figure.alt


def test_densities_of_generated_and_real_share_a_scale(drawn):
    panels.case_panels([case()], method="GAN")

    maps = [axes.images[0] for axes in drawn[0].axes if axes.images and axes.images[0].cmap.name
            == panels.COLOURS]  # fmt: skip
    assert len(maps) == 2
    assert maps[0].get_clim() == maps[1].get_clim() == (0.0, density_top([case()]))


def test_a_section_without_dab_is_not_stretched_until_noise_shines():
    bare = case()
    object.__setattr__(bare, "density_real", np.full((32, 32), 0.01))

    assert density_top([bare]) == panels.LEAST_TOP
    assert density_top([]) == panels.LEAST_TOP
    assert density_top([bare, case()]) == pytest.approx(0.6)


def test_the_close_up_is_where_the_real_section_has_most_dab():
    side = 2 * CLOSE_UP_PX

    top, left, size = close_up_of(case(side))

    assert size == CLOSE_UP_PX
    assert (top, left) == (side - size, side - size)  # the stained corner
    assert close_up_of(case(side - 1)) is None


def test_large_images_get_a_second_row(drawn):
    panels.method_panels([case(2 * CLOSE_UP_PX, names=("GAN", "U-Net"))], methods=["GAN", "U-Net"])
    told = words(drawn[0])

    pictures = [axes.images[0].get_array().shape for axes in drawn[0].axes if axes.images]
    assert len(pictures) == 2 * 4
    assert pictures[4][:2] == (CLOSE_UP_PX, CLOSE_UP_PX)
    assert "U-Net\nPSNR of U-Net" in told
    assert told.count(SYNTHETIC) == 2 * 2  # both methods, whole and close up


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        panels.case_panels([], method="GAN")
    with pytest.raises(ValueError, match="at least one pair"):
        panels.method_panels([], methods=[])


def test_a_picture_is_made():
    assert panels.case_panels([case(16)], method="GAN").data.startswith(b"\x89PNG")
