from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile

from medglean.data.index import index
from medglean.data.phantom.slide import write_slide
from medglean.data.readers import probe, read
from medglean.data.slides import open_slide
from medglean.errors import ReadError, TooLargeError


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", (1100, 1500), mpp=0.5)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """A plain pyramid of two levels, without loss, whose file says 0.25 um per pixel."""
    path = tmp_path_factory.mktemp("slides") / "b.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        file.write(pixels, resolution=(40_000, 40_000), resolutionunit="CENTIMETER", **options)
        file.write(pixels[::2, ::2], subfiletype=1, **options)
    return path, pixels


@pytest.mark.parametrize("isolated", [None, False])
def test_region(pyramid, isolated):
    path, pixels = pyramid

    picture = read(f"{path}#level=0,x=30,y=50,w=100,h=70", isolated=isolated)

    np.testing.assert_array_equal(picture.values, pixels[50:120, 30:130].transpose(2, 0, 1))
    assert (picture.unit, picture.full_scale, picture.warnings) == ("8-bit", (0, 255), ())
    assert picture.channels == ("red", "green", "blue")
    assert picture.spacing_mm == pytest.approx((0.00025, 0.00025))


def test_corner_is_in_pixels_of_level_0_and_size_in_those_of_the_level(pyramid):
    path, pixels = pyramid

    picture = read(f"{path}#level=1,x=100,y=60,w=40,h=50")

    np.testing.assert_array_equal(picture.values, pixels[::2, ::2][30:80, 50:90].transpose(2, 0, 1))
    assert picture.spacing_mm == pytest.approx((0.0005, 0.0005))


def test_what_is_left_out_is_the_rest(pyramid):
    path, pixels = pyramid
    whole = pixels.transpose(2, 0, 1)

    np.testing.assert_array_equal(read(path).values, whole)
    np.testing.assert_array_equal(read(f"{path}#level=1").values, whole[:, ::2, ::2])
    np.testing.assert_array_equal(read(f"{path}#x=280,h=9").values, whole[:, :9, 280:])
    np.testing.assert_array_equal(read(f"{path}#page=1").values, whole[:, ::2, ::2])


def test_svs_region_is_what_the_open_slide_reads(svs):
    picture = read(f"{svs}#level=1,x=400,y=200,w=100,h=90")

    with open_slide(svs) as slide:
        expected = slide.read(1, 100, 50, 100, 90)
    np.testing.assert_array_equal(picture.values, expected.transpose(2, 0, 1))
    assert picture.spacing_mm == pytest.approx((0.002, 0.002))


@pytest.mark.parametrize(
    ("fragment", "match"),
    [
        ("level=2", r"level=2 is asked for, but the file has 2 level\(s\), numbered 0 to 1"),
        ("level=0,x=290,w=20", r"x=290, y=0 of level 0 and has 20 x 200 pixels; the level has 300"),
        ("level=1,y=10,h=96", r"y=5 of level 1 and has 150 x 96 .* 150 x 100, shrunk 2 times"),
        ("w=0", "has 0 x 200 pixels"),
        ("x=300", "has 0 x 200 pixels"),
        ("level=0,page=1", "the fragment says 'page', but a slide understands only level, x"),
    ],
)
def test_region_that_is_not_there(pyramid, fragment, match):
    path, _ = pyramid

    with pytest.raises(ReadError, match=match) as caught:
        read(f"{path}#{fragment}")

    assert str(caught.value).startswith(f"{path}#{fragment}: ")


def test_beyond_the_budget_a_region_or_a_smaller_level_is_named(svs):
    with pytest.raises(TooLargeError) as caught:
        read(str(svs), budget_bytes=1 << 20)

    assert "a slide of 1500 x 1100 pixels" in str(caught.value)
    assert f"{svs}#level=0,x=0,y=0,w=1024,h=1024, or a smaller level: {svs}#level=1." in str(
        caught.value
    )
    assert read(f"{svs}#level=1", budget_bytes=1 << 20).values.shape == (3, 275, 375)
    with pytest.raises(TooLargeError, match="a slide of 1500 x 1100 pixels"):
        read(f"{svs}#level=0,w=1200", budget_bytes=1 << 20)


def test_what_was_not_scanned_is_told(tmp_path):
    pixels = np.full((64, 64, 4), 200, np.uint8)
    pixels[:16, :, 3] = 0
    pixels[16:, :, 3] = 255
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None)

    picture = read(f"{path}#level=0")

    assert picture.warnings == ("25 % of the region holds nothing that was scanned; it is white.",)
    assert (picture.values[:, :16] == 255).all()
    assert (picture.values[:, 16:] == 200).all()
    assert read(f"{path}#level=0,y=16").warnings == ()


def test_probe_tells_the_size_of_level_0(svs, pyramid):
    for path, size_px in ((svs, (1100, 1500)), (pyramid[0], (200, 300))):
        header = probe(path)
        assert (header.format, header.height, header.width) == ("TIFF", *size_px)
        assert (header.frames, header.channels, header.bits) == (1, 3, 8)
        assert header.extra["slide"] is True
        assert header.decoded_bytes == 3 * size_px[0] * size_px[1]


def test_index_gives_a_slide_one_row_and_reads_it(tmp_path, svs, pyramid):
    shutil.copy(svs, tmp_path / "a.svs")
    shutil.copy(pyramid[0], tmp_path / "b.tif")

    result = index(tmp_path, out=tmp_path / "m.csv")

    frame = result.manifest.frame
    assert frame["image"].tolist() == ["a.svs", "b.tif"]
    assert frame["height"].tolist() == [1100, 200]
    assert "frames" not in frame
    assert result.problems == []
    assert read("b.tif", root=tmp_path).values.shape == (3, 200, 300)


def test_grey_pyramid_is_refused_as_a_slide_and_its_pages_stay_readable(tmp_path):
    path = tmp_path / "a.tif"
    grey = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
    with tifffile.TiffWriter(path) as file:
        file.write(grey, tile=(64, 64), metadata=None)
        file.write(grey[::2, ::2], tile=(64, 64), subfiletype=1, metadata=None)

    with pytest.raises(ReadError, match=r"2 pages \(the levels of a whole slide\)"):
        read(path)
    with pytest.raises(ReadError, match="level 0 is uint16 MINISBLACK with 1 sample"):
        read(f"{path}#level=0")
    np.testing.assert_array_equal(read(f"{path}#page=0").values[0], grey)


def test_damaged_tile_costs_only_the_regions_it_is_in(tmp_path, svs):
    data = bytearray(svs.read_bytes())
    with tifffile.TiffFile(svs) as file:
        at, count = (file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1])
    data[at + count // 2 : at + count] = bytes(count - count // 2)
    path = tmp_path / "a.svs"
    path.write_bytes(data)

    good = read(f"{path}#x=0,y=0,w=200,h=200").values
    with pytest.raises(ReadError, match=r"x=300, y=0, 100 x 256 pixels, cannot be decoded") as bad:
        read(f"{path}#x=300,y=0,w=100,h=256")
    assert bad.value.file == f"{path}#x=300,y=0,w=100,h=256"
    np.testing.assert_array_equal(read(f"{path}#x=0,y=0,w=200,h=200").values, good)


def test_real_region(real_data):
    path = real_data("wsi_small") / "CMU-1-Small-Region.svs"

    picture = read(f"{path}#level=0,x=500,y=600,w=256,h=128")

    assert picture.values.shape == (3, 128, 256)
    assert picture.spacing_mm == pytest.approx((0.000499, 0.000499))
    page = read(f"{path}#page=0").values[:, 600:728, 500:756]
    assert np.abs(picture.values.astype(int) - page).mean() < 1.5


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("broken.svs", "expected TIFF, found text"),
        ("unopenable.tiff", "its compression cannot be decoded .*52479"),
    ],
)
def test_real_broken_slides(real_data, name, match):
    path = real_data("wsi_small") / name

    for fragment in ("", "#level=0,x=0,y=0,w=1,h=1"):
        with pytest.raises(ReadError, match=match) as caught:
            read(f"{path}{fragment}")
        assert caught.value.file == f"{path}{fragment}"


def test_real_pyramid_and_tiny_slide(real_data):
    folder = real_data("wsi_small")

    assert read(folder / "small.svs").values.shape == (3, 16, 16)
    assert read(f"{folder / 'boxes.tiff'}#level=3").values.shape == (3, 31, 37)
    # 72 dots per inch are a screen's, not a scanner's
    assert read(folder / "boxes.tiff").spacing_mm is None
