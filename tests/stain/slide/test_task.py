from __future__ import annotations

import json

import numpy as np
import openslide
import pytest
import tifffile
from tests.stain.slide.painted import (
    painted_preset,
    painted_stainer,
    slide_pixels,
    tissue_like,
    with_slide,
    write_png,
)

from medglean.data.phantom.slide import write_slide
from medglean.data.slides import open_slide, slide_of, tissue_mask
from medglean.errors import DataError, ReadError, RunFolderError, UsageError
from medglean.stain.optics import dab_density
from medglean.stain.slide import stain_slide_file
from medglean.stain.slide.painter import OfSlide, Painter
from medglean.stain.slide.plan import Box
from medglean.stain.slide.scene import make_scene, output_white, resolution_warning
from medglean.stain.slide.source import SlideLevel, all_tissue, open_level

LOSSLESS = {"compression": "deflate", "formats": ["ome"]}


@pytest.fixture(scope="module")
def stainer():
    return painted_stainer(painted_preset(slide=LOSSLESS))


@pytest.fixture
def slide(tmp_path):
    return write_png(tmp_path / "slide.png", slide_pixels())


def untiled(stainer, pixels, *, features=None):
    """Return what the generator makes of a whole slide at once."""
    level = SlideLevel(slide_of(pixels), 0, (0.5, 0.5))
    painter = Painter(stainer)
    height, width = (-(-side // painter.stride_px) * painter.stride_px for side in level.size_px)
    window = level.read(Box(0, height, 0, width))
    inside = slice(0, level.size_px[0]), slice(0, level.size_px[1])
    made = painter.paint(window, inside, OfSlide(None, features))
    return (made + 0.5).astype(np.uint8)


def features_over(stainer, pixels, patch_px=128):
    """Return the mean of the level's features over the patches of a slide without glass."""
    level, painter = SlideLevel(slide_of(pixels), 0, (0.5, 0.5)), Painter(stainer)
    total, weight = 0.0, 0.0
    for y in range(0, pixels.shape[0], patch_px):
        for x in range(0, pixels.shape[1], patch_px):
            box = Box(y, y + patch_px, x, x + patch_px)
            covered = min(patch_px, pixels.shape[0] - y) * min(patch_px, pixels.shape[1] - x)
            total = total + covered * painter.seen_in(level.read(box))[0]
            weight += covered
    import torch

    return torch.from_numpy(total / weight)[None].float()


def test_tiles_are_the_slide_at_once_but_for_rounding(tmp_path, stainer):
    pixels = tissue_like((333, 410))
    slide = write_png(tmp_path / "slide.png", pixels)
    whole = untiled(stainer, pixels, features=features_over(stainer, pixels))

    result = stain_slide_file(
        with_slide(stainer, tissue=False, tile_px=64), slide, tmp_path / "out.ome.tif"
    )

    tiled = tifffile.imread(result.paths[0])[:333]
    assert np.ptp(whole) > 150  # a contrast that would show
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert result.attention == "slide"
    assert result.overlap_px == (48, 64)  # 45 seen; behind a core 8 more of the feather


def test_attention_and_level_of_a_tile_alone_make_another_picture(tmp_path, stainer):
    pixels = tissue_like((200, 410))
    pixels[:, 200:] //= 2
    slide = write_png(tmp_path / "slide.png", pixels)
    whole = untiled(stainer, pixels, features=features_over(stainer, pixels))

    result = stain_slide_file(
        with_slide(stainer, tissue=False, tile_px=64, attention="tile"), slide, tmp_path / "o.tif"
    )

    tiled = tifffile.imread(result.paths[0])[:200]
    assert np.abs(tiled.astype(int) - whole).max() > 8
    assert result.attention == "tile"


def test_too_small_an_overlap_shows(tmp_path, stainer):
    pixels = tissue_like((128, 512))
    slide = write_png(tmp_path / "slide.png", pixels)
    whole = untiled(stainer, pixels, features=features_over(stainer, pixels))
    off = {}
    for overlap in (0, 16, None):
        settings = {"tissue": False, "overlap_px": overlap, "feather_px": 0}
        changed = with_slide(stainer, **settings)
        result = stain_slide_file(changed, slide, tmp_path / f"{overlap}.tif")
        made = tifffile.imread(result.paths[0])[:128].astype(int)
        off[overlap] = np.abs(made - whole)[:, [127, 128, 255, 256, 383, 384]]

    assert off[0].mean() > 1.5 * off[16].mean() > 0.01
    assert off[None].max() <= 1


def test_tissue_is_stained_and_glass_is_white(tmp_path, stainer, slide):
    result = stain_slide_file(stainer, slide, tmp_path / "out.ome.tif")

    made = tifffile.imread(result.paths[0])
    pixels = slide_pixels()
    y, x, height, width = result.legend_px
    words = np.zeros(made.shape[:2], bool)
    words[y : y + height, x : x + width] = True
    glass = (pixels == 243).all(axis=2) & ~words
    assert (made[glass] == 255).mean() > 0.97
    assert (made[~glass & ~words] == 255).all(axis=1).mean() < 0.01
    assert made[words].min() < 50
    assert (pixels[words] == 243).all()  # the legend lies on glass
    assert result.size_px == (300, 450)
    assert result.tissue_share == pytest.approx(np.pi * 0.34 * 0.44, abs=0.03)
    assert result.warnings == ()


def test_numbers_are_those_of_the_pixels(tmp_path, stainer, slide):
    changed = with_slide(stainer, mpp=4.0, smallest_region_um2=0)  # a pixel is a cell

    result = stain_slide_file(changed, slide, tmp_path / "out.ome.tif")

    y, x, height, width = result.legend_px
    made = tifffile.imread(result.paths[0]).copy()
    made[y : y + height, x : x + width] = 255
    stained = (made != 255).any(axis=2)
    density = dab_density(made.transpose(2, 0, 1), np.full(3, 0.9))[stained]
    assert result.dab_mean == pytest.approx(density.mean(), abs=2e-3)
    assert result.dab_p90 == pytest.approx(np.quantile(density, 0.9), abs=2e-3)
    assert result.dab_positive == pytest.approx((density >= 0.15).mean(), abs=2e-3)
    area = (density >= 0.15).sum() * 16e-6
    assert result.dab_positive_mm2 == pytest.approx(area, rel=5e-3)
    assert result.level in ("low", "high")
    assert sum(result.level_probabilities.values()) == pytest.approx(1)
    found = json.loads((tmp_path / "out.geojson").read_text())
    assert len(found["features"]) == result.regions > 0
    outlined = sum(f["properties"]["measurements"]["Area um^2"] for f in found["features"])
    assert outlined == pytest.approx(area * 1e6, rel=5e-3)


def test_openslide_and_tifffile_see_the_same_pyramid(tmp_path, stainer, slide):
    changed = with_slide(stainer, formats=["ome", "tiff", "dzi"], compression="jpeg", quality=95)

    result = stain_slide_file(changed, slide, tmp_path / "out.ome.tif")

    sizes = [(300, 450), (150, 225), (75, 113)]
    assert list(result.level_sizes_px) == sizes
    names = ["out.ome.tif", "out.tif", "out.dzi", "out.geojson", "out.json"]
    assert [path.name for path in result.paths] == names
    levels = {}
    for name in ("out.ome.tif", "out.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_bigtiff
            assert file.is_ome == (name == "out.ome.tif")
            assert len(file.series) == 1
            levels[name] = [each.asarray() for each in file.series[0].levels]
        assert [level.shape[:2] for level in levels[name]] == sizes
    with openslide.OpenSlide(tmp_path / "out.tif") as opened:
        assert [(h, w) for w, h in opened.level_dimensions] == sizes
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        assert "Synthetic, not for diagnosis" in opened.properties["openslide.comment"]
        for number, (height, width) in enumerate(sizes):
            seen = opened.read_region((0, 0), number, (width, height)).convert("RGB")
            for name in levels:
                np.testing.assert_array_equal(np.asarray(seen), levels[name][number])
    with openslide.OpenSlide(tmp_path / "out.ome.tif") as opened:
        assert opened.dimensions == (450, 300)
    half = levels["out.tif"][0].reshape(150, 2, 225, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - levels["out.tif"][1]).mean() < 2  # each was encoded for itself


def test_an_svs_keeps_its_resolution_at_any_level(tmp_path, stainer):
    path = write_slide(tmp_path / "a.svs", (640, 900), mpp=0.25, downsamples=(1, 2))
    out = tmp_path / "out.tif"

    result = stain_slide_file(with_slide(stainer, mpp=None, level=1, formats=[]), path, out)

    assert result.size_px == (320, 450)
    assert result.mpp == pytest.approx((0.5, 0.5), rel=0.01)
    with open_slide(path) as before, open_slide(out) as after:
        assert after.mpp == pytest.approx(result.mpp, rel=1e-6)
        stained = (after.read(0, 0, 0, 450, 320) < 250).any(axis=2)
        tissue = tissue_mask(before.read(1, 0, 0, 450, 320))
    y, x, height, width = result.legend_px
    stained[y : y + height, x : x + width] = False
    assert (stained == tissue).mean() > 0.95
    assert 0.1 < result.tissue_share < 0.6


def test_metadata_say_what_it_is_and_how_large_a_pixel_is(tmp_path, stainer, slide):
    result = stain_slide_file(
        with_slide(stainer, mpp=0.25), slide, tmp_path / "a.ome.tif", command=["medglean", "x"]
    )

    with tifffile.TiffFile(result.paths[0]) as file:
        described = tifffile.xml2dict(file.ome_metadata)["OME"]
        resolution = file.pages[0].tags["XResolution"].value
    pixels = described["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.25)
    assert described["Image"]["Description"].startswith("Synthetic, not for diagnosis")
    notes = described["StructuredAnnotations"]
    assert notes["CommentAnnotation"]["Value"] == "Synthetic, not for diagnosis"
    said = {each["K"]: each["value"] for each in notes["MapAnnotation"]["Value"]["M"]}
    assert said["Weights"] == 64 * "0" or said["Weights"] == 0
    assert said["Slide"] == "slide.png"
    assert resolution[0] / resolution[1] == pytest.approx(40_000)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["notice"] == "Synthetic, not for diagnosis"
    assert record["command"] == ["medglean", "x"]
    with open_slide(result.paths[0]) as again:
        assert again.mpp == pytest.approx((0.25, 0.25))


def test_a_slide_without_glass_has_its_legend_below(tmp_path, stainer):
    slide = write_png(tmp_path / "slide.png", tissue_like((300, 400)))

    result = stain_slide_file(with_slide(stainer, tissue=False), slide, tmp_path / "out.ome.tif")

    made = tifffile.imread(result.paths[0])
    assert result.legend_px == (300, 0, 22, 220)
    assert result.size_px == made.shape[:2] == (322, 400)
    assert result.slide_px == (300, 400)
    assert "the image is 22 pixels higher than the slide" in result.warnings[0]
    assert made[300:].min() < 50
    assert (made[300:, 220:] == 255).all()
    changed = stainer.preset.predict.model_copy(update={"legend": False})
    plain = stainer.with_preset(stainer.preset.model_copy(update={"predict": changed}))
    without = stain_slide_file(with_slide(plain, tissue=False), slide, tmp_path / "b.ome.tif")
    assert without.legend_px is None
    np.testing.assert_array_equal(tifffile.imread(without.paths[0]), made[:300])


def test_a_slide_without_resolution_is_refused(tmp_path, stainer, slide):
    with pytest.raises(DataError, match=r"slide\.png: does not say .* Set slide\.mpp"):
        stain_slide_file(with_slide(stainer, mpp=None), slide, tmp_path / "out.ome.tif")


def test_other_bad_input(tmp_path, stainer, slide):
    with pytest.raises(DataError, match=r"levels 0 to 0, and slide\.level is 2"):
        stain_slide_file(with_slide(stainer, level=2), slide, tmp_path / "out.ome.tif")
    with pytest.raises(UsageError, match=r"ends in \.ome\.tif, \.tif or \.dzi"):
        stain_slide_file(stainer, slide, tmp_path / "out.png")
    with pytest.raises(RunFolderError, match="no such folder"):
        stain_slide_file(stainer, slide, tmp_path / "none" / "out.tif")
    wide = with_slide(stainer, feather_px=100, overlap_px=16)
    with pytest.raises(UsageError, match=r"slide\.feather_px is 100, wider than the overlap of 16"):
        stain_slide_file(wide, slide, tmp_path / "o.tif")
    with pytest.raises(ReadError):
        stain_slide_file(stainer, tmp_path / "absent.svs", tmp_path / "out.tif")
    empty = write_png(tmp_path / "empty.png", np.full((200, 200, 3), 240, np.uint8))
    with pytest.raises(DataError, match=r"no tissue was found. Set slide\.tissue=false"):
        stain_slide_file(stainer, empty, tmp_path / "out.tif")


def test_a_resolution_far_from_that_of_training_is_told(stainer):
    level = open_level(slide_of(slide_pixels()), 0, mpp=0.5)

    assert resolution_warning(with_slide(stainer, train_mpp=0.45).preset, level) is None
    told = resolution_warning(with_slide(stainer, train_mpp=0.25).preset, level)
    assert "0.5 x 0.5 micrometres per pixel, and the network was trained at 0.25" in told
    assert "no level of the slide fits" in told


@pytest.mark.parametrize(
    ("normalise", "reapply", "force", "factor", "glass"),
    [
        (True, "none", "preset", None, 1.0),
        (True, "training", "preset", 0.9, 0.9),
        (True, "own", "preset", 0.9, 0.9),
        (True, "input", "preset", 0.95, 0.95),
        (True, "none", "training", 0.9, 0.9),
        (True, "training", "none", None, 1.0),
        (True, "none", "input", 0.95, 0.95),
        (False, "none", "preset", None, 0.9),
    ],
)
def test_white_of_the_result(normalise, reapply, force, factor, glass):
    preset = painted_preset(
        white={"normalise": normalise, "reapply": reapply}, slide={"white": force}
    )
    stainer = painted_stainer(preset)

    found, white = output_white(stainer, np.full(3, 0.95))

    assert (found is None) == (factor is None)
    if found is not None:
        np.testing.assert_allclose(found, factor)
    np.testing.assert_allclose(white, glass)


def test_the_white_of_the_slide_is_taken_out_and_put_back(tmp_path):
    preset = painted_preset(
        white={"inputs": True, "normalise": True}, slide={"white": "input", "tissue": False}
    )
    level = open_level(slide_of(slide_pixels()), 0, mpp=0.5)

    scene, _ = make_scene(painted_stainer(preset), level, all_tissue(level))

    share = 243 / 255
    np.testing.assert_allclose(scene.painter._white_in.ravel(), share, rtol=1e-6)
    light = scene.painter._light(np.full((16, 16, 3), 243, np.uint8))
    np.testing.assert_allclose(light, 1.0, rtol=1e-6)


def test_softmax_attention_is_over_tiles_and_said_so(tmp_path, slide):
    preset = painted_preset(generator={"attention": {"kind": "softmax"}}, slide={"tile_px": 256})

    result = stain_slide_file(painted_stainer(preset), slide, tmp_path / "out.ome.tif")

    assert result.attention == "tile"
    assert "'softmax', which has no sums over a slide" in result.warnings[0]


def test_the_mean_colour_is_a_stain_too(tmp_path, stainer, slide):
    preset = painted_preset(method="mean-colour", slide=LOSSLESS)
    plain = type(stainer)(preset, {}, stainer.white, np.array([0.8, 0.6, 0.4]), "1" * 64)

    result = stain_slide_file(plain, slide, tmp_path / "out.ome.tif")

    made = tifffile.imread(result.paths[0])
    assert made[110, 220].tolist() == [204, 153, 102]
    assert result.level is None
    assert result.attention == "none"
