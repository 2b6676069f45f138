from __future__ import annotations

import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from medglean.data.slides import open_slide, slide_of
from medglean.errors import ReadError

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
            # equal where both bring the same libjpeg; others may round otherwise
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


@pytest.mark.parametrize(("per_inch", "mpp"), [(50_800, (0.5, 0.5)), (72, None)])
def test_resolution_of_a_scanner_or_of_a_screen(tmp_path, per_inch, mpp):
    tifffile.imwrite(
        tmp_path / "a.tif", colour, photometric="rgb", metadata=None,
        resolution=(per_inch, per_inch), resolutionunit="INCH",
    )  # fmt: skip

    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp))


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


def test_svs_without_openslide(svs, monkeypatch):
    with open_slide(svs) as slide:
        expected = slide.read(0, 300, 200, 100, 90)
    monkeypatch.setitem(sys.modules, "openslide", None)

    with open_slide(svs) as slide:
        assert (slide.backend, slide.vendor, slide.mpp) == ("tifffile", "aperio", (0.5, 0.5))
        assert [level.size_px for level in slide.levels] == [(1100, 1500), (275, 375)]
        # equal where both bring the same libjpeg; others may round otherwise
        assert np.abs(slide.read(0, 300, 200, 100, 90).astype(int) - expected).mean() < 1.0


def test_mirax_and_dicom_need_openslide(tmp_path, monkeypatch):
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    monkeypatch.setitem(sys.modules, "openslide", None)

    with pytest.raises(ReadError, match=r"needs OpenSlide, which is not installed.* pip install"):
        open_slide(tmp_path / "a.mrxs")
