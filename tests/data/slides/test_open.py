from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from medglean.data.phantom.slide import write_slide
from medglean.data.slides import open_slide, slide_of

ramp = np.add.outer(np.arange(300) // 2, np.arange(500) // 4).astype(np.uint8)
colour = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)


def test_svs_opens_as_aperio_with_its_levels_and_mpp(svs):
    with open_slide(svs) as slide:
        assert (slide.backend, slide.vendor, slide.mpp) == ("openslide", "aperio", (0.5, 0.5))
        assert slide.size_px == (1100, 1500)
        assert [level.size_px for level in slide.levels] == [(1100, 1500), (275, 375)]
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        assert slide.levels[0].size_px == slide.size_px
        assert "synthetic image" in slide.properties["openslide.comment"]


def test_regions_are_those_of_the_whole(svs):
    with tifffile.TiffFile(svs) as file:
        assert len(file.pages) == 3
        whole = [page.asarray() for page in file.pages if page.is_tiled]

    with open_slide(svs) as slide:
        for level, x, y, w, h in (
            (0, 0, 0, 1500, 1100),
            (0, 411, 377, 333, 257),
            (1, 7, 90, 60, 9),
        ):
            region = slide.read(level, x, y, w, h)
            expected = whole[level][y : y + h, x : x + w]
            assert region.dtype == np.uint8
            # two decoders of JPEG: they enlarge the colour differences differently
            assert np.abs(region.astype(int) - expected).mean() < 1.0


def test_beyond_the_border_is_white_and_not_covered(svs):
    with open_slide(svs) as slide:
        inside = slide.read(0, 1400, 1000, 100, 100)
        region, covered = slide.read_covered(0, 1400, 1000, 150, 130)
        corner, _ = slide.read_covered(0, -30, -20, 50, 60)
        nothing, none = slide.read_covered(0, 5000, 0, 8, 4)

        np.testing.assert_array_equal(corner[20:, 30:], slide.read(0, 0, 0, 20, 40))
    np.testing.assert_array_equal(region[:100, :100], inside)
    assert (region[100:] == 255).all()
    assert (region[:, 100:] == 255).all()
    assert covered.sum() == 100 * 100
    assert covered[:100, :100].all()
    assert (corner[:20] == 255).all()
    assert (nothing == 255).all()
    assert not none.any()


def test_level_and_size_must_exist(svs):
    with open_slide(svs) as slide:
        with pytest.raises(ValueError, match=r"level 2: .* has levels 0 to 1"):
            slide.read(2, 0, 0, 8, 8)
        with pytest.raises(ValueError, match="a region of 0 x 8 pixels"):
            slide.read(0, 0, 0, 0, 8)


def save_ome(path, *, unit="µm", size=0.25):
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"}
        meta = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
        meta |= {"PhysicalSizeY": 2 * size, "PhysicalSizeYUnit": unit}
        file.write(colour, subifds=1, metadata=meta, **options)
        file.write(colour[::2, ::2], subfiletype=1, **options)
    return path


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.25), ("nm", 250.0), ("mm", 0.00025)])
def test_ome_with_its_pyramid_in_subifds(tmp_path, unit, size):
    with open_slide(save_ome(tmp_path / "a.ome.tif", unit=unit, size=size)) as slide:
        assert (slide.backend, slide.vendor) == ("tifffile", "ome")
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert [level.size_px for level in slide.levels] == [(300, 500), (150, 250)]
        np.testing.assert_array_equal(slide.read(0, 0, 0, 500, 300), colour)
        np.testing.assert_array_equal(slide.read(0, 61, 130, 200, 100), colour[130:230, 61:261])
        np.testing.assert_array_equal(slide.read(1, 100, 50, 77, 99), colour[100:298:2, 200:354:2])


@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 7},
        {"tile": (32, 48)},
        {"tile": (64, 64), "bigtiff": True, "byteorder": ">"},
        {"tile": (64, 64), "compression": "zstd", "predictor": True},
    ],
)
def test_tiff_of_one_level(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", metadata=None, **options)

    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.vendor, slide.mpp, len(slide.levels)) == ("generic-tiff", None, 1)
        np.testing.assert_array_equal(slide.read(0, 40, 33, 300, 111), colour[33:144, 40:340])


def test_cache_of_tiles_is_bounded_and_changes_nothing(tmp_path):
    path = save_ome(tmp_path / "a.ome.tif")

    with open_slide(path, cache_bytes=3 * 64 * 64 * 3) as slide:
        for x in range(0, 400, 50):
            np.testing.assert_array_equal(slide.read(0, x, 5, 100, 200), colour[5:205, x : x + 100])
        assert slide.source._kept_bytes <= 3 * 64 * 64 * 3
        assert sum(tile.nbytes for tile in slide.source._kept.values()) == slide.source._kept_bytes


@pytest.mark.parametrize("kind", [1, 2])
def test_alpha_lies_over_white(tmp_path, kind):
    alpha = np.full((64, 64, 1), 51, np.uint8)
    alpha[:32] = 0
    flat = np.full((64, 64, 3), 40 if kind == 1 else 200, np.uint8)  # 40 = 200 * 0.2
    name = {1: "assocalpha", 2: "unassalpha"}[kind]
    tifffile.imwrite(
        tmp_path / "a.tif", np.concatenate([flat, alpha], 2), photometric="rgb",
        extrasamples=[name], rowsperstrip=16, metadata=None,
    )  # fmt: skip

    with open_slide(tmp_path / "a.tif") as slide:
        pixels, covered = slide.read_covered(0, 0, 0, 64, 64)

    assert (pixels[:32] == 255).all()
    assert np.abs(pixels[32:].astype(int) - 244).max() <= 1  # 200 * 0.2 + 255 * 0.8
    assert not covered[:32].any()
    assert covered[32:].all()


def test_picture_is_a_slide_of_one_level(tmp_path):
    Image.fromarray(colour).save(tmp_path / "a.png")

    with open_slide(tmp_path / "a.png") as slide:
        assert (slide.backend, slide.vendor, slide.mpp) == ("picture", "png", None)
        np.testing.assert_array_equal(slide.read(0, 10, 20, 30, 40), colour[20:60, 10:40])


def test_thumbnail_is_the_mean_over_areas(svs):
    with open_slide(svs) as slide:
        small = slide.thumbnail(100)
        lower = slide.read(1, 0, 0, 375, 275)
        assert slide.thumbnail(9999).shape == (1100, 1500, 3)

    assert small.shape == (73, 100, 3)
    np.testing.assert_allclose(small.mean((0, 1)), lower.mean((0, 1)), atol=1.0)
    blocks = slide_of(np.kron(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)[:, :, None],
                              np.ones((5, 5, 3), np.uint8)))  # fmt: skip
    np.testing.assert_array_equal(blocks.thumbnail(6)[:, :, 0], np.arange(0, 240, 10).reshape(4, 6))


def test_phantom_is_the_same_again_and_another_with_another_seed(tmp_path, svs):
    again = write_slide(tmp_path / "b.svs", (1100, 1500), mpp=0.5)
    other = write_slide(tmp_path / "c.svs", (1100, 1500), mpp=0.5, seed=1)

    assert again.read_bytes() == svs.read_bytes()
    assert other.read_bytes() != svs.read_bytes()


def test_phantom_levels_agree(svs):
    with open_slide(svs) as slide:
        whole = slide.read(0, 0, 0, 1500, 1100)[:1100, :1500]
        lower = slide.read(1, 0, 0, 375, 275)
    means = whole.reshape(275, 4, 375, 4, 3).mean(axis=(1, 3))

    def error(moved):
        return np.abs(means[:, 1:-1] - moved).mean()

    assert error(lower[:, 1:-1]) < 0.5 * min(error(lower[:, 2:]), error(lower[:, :-2]))


def test_phantom_as_a_plain_pyramid(tmp_path):
    path = write_slide(tmp_path / "a.tif", (600, 700), vendor="generic", mpp=0.25)

    assert openslide.OpenSlide.detect_format(path) == "generic-tiff"
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.25), rel=1e-4)
    with open_slide(write_slide(tmp_path / "b.tif", (600, 700), vendor="generic", mpp=None)) as it:
        assert it.mpp is None
