from __future__ import annotations

import numpy as np
import pytest
from tests.stain.slide.painted import slide_pixels, tissue_like

from medglean.data.slides import slide_of
from medglean.errors import DataError, UsageError
from medglean.stain.slide.legend import (
    NOTICE,
    legend_below,
    patch_with_legend,
    place_legend,
    strip_px,
    words,
)
from medglean.stain.slide.ome import ome_xml, plain_description
from medglean.stain.slide.outputs import needed_bytes, outputs_of
from medglean.stain.slide.plan import Box
from medglean.stain.slide.source import Tissue, find_tissue, mirrored, open_level


@pytest.mark.parametrize("size_px", [(40, 50), (3, 2), (1, 1)])
@pytest.mark.parametrize("box", [Box(0, 3, 0, 2), Box(-5, 60, 30, 70), Box(45, 64, -9, 3)])
def test_beyond_the_border_a_slide_is_mirrored(size_px, box):
    pixels = tissue_like(size_px)
    level = open_level(slide_of(pixels), 0, mpp=0.5)

    found = level.read(box)

    whole = np.pad(pixels, ((200, 200), (200, 200), (0, 0)), mode="reflect") if min(
        size_px
    ) > 1 else np.broadcast_to(pixels[0, 0], (401, 401, 3))  # fmt: skip
    wanted = whole[200 + box.y0 : 200 + box.y1, 200 + box.x0 : 200 + box.x1]
    np.testing.assert_array_equal(found, wanted)
    assert mirrored(0, 3, 1).tolist() == [0, 0, 0]


def test_resolution_is_the_files_or_the_settings():
    slide = slide_of(tissue_like((20, 20)), mpp=(0.25, 0.5))

    assert open_level(slide, 0, mpp=None).mpp == (0.25, 0.5)
    assert open_level(slide, 0, mpp=1.0).mpp == (1.0, 1.0)
    with pytest.raises(DataError, match=r"Set slide\.mpp, such as slide\.mpp=0\.25"):
        open_level(slide_of(tissue_like((20, 20))), 0, mpp=None)


def test_tissue_is_found_and_interpolated_between_cells():
    tissue = Tissue(np.array([[0, 1]], np.float32), (4, 8))

    inside = tissue.inside(Box(0, 4, 0, 8))

    assert inside[0].tolist() == [False] * 4 + [True] * 4
    assert not tissue.inside(Box(4, 6, 0, 8)).any()  # below the slide
    assert not tissue.any_in(Box(0, 4, 0, 4))
    assert tissue.any_in(Box(0, 4, 0, 5))
    assert not tissue.any_in(Box(4, 9, 4, 8))


def test_tissue_of_a_box_is_that_of_the_whole():
    level = open_level(slide_of(slide_pixels()), 0, mpp=0.5)
    tissue = find_tissue(level)
    whole = tissue.inside(Box(0, 300, 0, 450))

    for box in (Box(0, 128, 128, 256), Box(250, 340, 384, 512), Box(7, 8, 0, 450)):
        part = whole[box.y0 : box.y1, box.x0 : box.x1]
        found = tissue.inside(box)
        np.testing.assert_array_equal(found[: part.shape[0], : part.shape[1]], part)
        assert tissue.any_in(box) == found.any()
    stained = (slide_pixels() != 243).any(axis=2)
    assert (whole & stained).sum() / stained.sum() > 0.99
    assert (whole & ~stained).sum() / (~stained).sum() < 0.03
    with pytest.raises(DataError, match="no tissue was found"):
        find_tissue(open_level(slide_of(np.full((50, 50, 3), 240, np.uint8)), 0, mpp=1.0))


def test_a_patch_gets_a_strip_and_stays_as_it_is():
    patch = tissue_like((64, 256))

    shown = patch_with_legend(patch)

    np.testing.assert_array_equal(shown[:64], patch)
    strip = shown[64:]
    assert strip.shape == (strip_px(256), 256, 3)
    assert strip.max() == 255
    assert 0.02 < (strip < 128).mean() < 0.4  # black words on white
    assert patch_with_legend(tissue_like((5, 20))).shape == (17, 20, 3)


def test_words_fit_their_place():
    for width, height in ((300, 30), (1000, 100), (220, 100), (100, 12)):
        dark = words(width, height) < 128
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        assert rows[0] >= 1
        assert rows[-1] < height - 1
        assert columns[0] >= 1
        assert columns[-1] < width - 1
        assert columns[-1] - columns[0] > 0.5 * width or rows[-1] - rows[0] > 0.3 * height


def test_the_legend_lies_on_glass_as_low_and_large_as_fits():
    tissue = np.zeros((100, 200), bool)
    tissue[20:, :] = True
    tissue[60:80, 100:190] = False

    legend = place_legend(tissue, (2000, 4000))

    height, width = legend.grey.shape
    cells = tissue[legend.y // 20 : -(-(legend.y + height) // 20),
                   legend.x // 20 : -(-(legend.x + width) // 20)]  # fmt: skip
    assert not cells.any()
    assert width == 2000  # fits into the upper part alone
    assert legend.y < 400
    tissue[:20, 100:] = True
    legend = place_legend(tissue, (2000, 4000))
    assert legend.grey.shape[1] == 4000 // 3  # half does not fit any more
    assert legend.y >= 1200


def test_without_room_the_legend_lies_below():
    full = np.ones((100, 200), bool)
    assert place_legend(full, (2000, 4000)) is None
    narrow = np.zeros((100, 200), bool)
    assert place_legend(narrow, (200, 400)) is None  # an eighth to a half: too small to read

    legend = legend_below((2000, 4000))

    assert (legend.y, legend.x) == (2000, 0)
    assert legend.grey.shape == (133, 1333)
    block = np.full((64, 64, 3), 9, np.uint8)
    legend.draw_on(block, y=1968, x=1300)
    assert (block[:32] == 9).all()
    assert (block[32:, 33:] == 9).all()
    np.testing.assert_array_equal(block[32:, :33, 1], legend.grey[:32, 1300:])
    legend.draw_on(block[:5], y=0, x=0)
    assert (block[:5] == 9).all()


def test_names_of_files():
    files = outputs_of

    def names(out, formats, regions=False):
        from pathlib import Path

        return [path.name for path in files(Path(out), formats, regions=regions).all]

    assert names("a.ome.tif", ()) == ["a.ome.tif", "a.json"]
    assert names("a.OME.TIFF", ("tiff",), True) == ["a.OME.TIFF", "a.tif", "a.geojson", "a.json"]
    assert names("x/a.dzi", ("ome",)) == ["a.dzi", "a.ome.tif", "a_files", "a.json"]
    for bad in ("a.png", ".tif", "a"):
        with pytest.raises(UsageError, match=r"Choose such a name"):
            names(bad, ())


def test_room_is_for_all_formats_at_their_worst():
    def needed(**changes):
        settings = {"tissue_share": 1.0, "formats": ("ome",), "compression": "none", "quality": 90}
        return needed_bytes((30_000, 10_000), **(settings | changes)) - 16_000_000

    assert needed() == 300_000_000 * 3 * 4 // 3
    assert needed(formats=("ome", "tiff")) == 2 * needed()
    assert needed(compression="jpeg") < needed() / 2
    assert needed(compression="jpeg", tissue_share=0.1) < needed(compression="jpeg") / 5
    assert needed(compression="jpeg", formats=("ome", "dzi")) > 2 * needed(compression="jpeg")


def test_metadata_are_ascii_and_stable():
    facts = {"Slide": "Schnitt ä <1>.svs", "Weights": "ab"}
    settings = {"size_px": (20, 30), "mpp": (0.25, 0.5), "software": "medglean 1"}

    text = ome_xml(name="é.ome.tif", facts=facts, **settings)

    assert text.isascii()
    assert NOTICE in text
    assert 'SizeX="30"' in text
    assert 'PhysicalSizeX="0.5"' in text
    assert "Schnitt &#228; &lt;1&gt;.svs" in text
    assert text == ome_xml(name="é.ome.tif", facts=facts, **settings)
    assert text != ome_xml(name="b.ome.tif", facts=facts, **settings)
    assert plain_description(facts).startswith(NOTICE)
