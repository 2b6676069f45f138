from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from openslide import OpenSlideError
from PIL import Image
from simplejpeg import encode_jpeg

from medglean.data.slides import open_slide
from medglean.errors import ReadError, TooLargeError

ramp = np.add.outer(np.arange(128), np.arange(160) // 2).astype(np.uint8)
colour = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_slide_cut_short_is_refused_when_it_is_opened(tmp_path, svs, share):
    data = svs.read_bytes()
    (tmp_path / "a.svs").write_bytes(data[: int(share * len(data))])

    with pytest.raises(ReadError, match=r"a\.svs: the (slide|TIFF) is truncated or damaged"):
        open_slide(tmp_path / "a.svs")


def altered(svs, path, tag, value):
    """Copy a slide with another offset or byte count of the tile at x=256, y=0 of level 0."""
    data = bytearray(svs.read_bytes())
    with tifffile.TiffFile(svs) as file:
        at = file.pages[0].tags[tag].valueoffset
    data[at + 4 : at + 8] = struct.pack("<I", value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("tag", "value", "match"),
    [
        ("TileByteCounts", 0, "the tile of level 0 at x=256, y=0 is missing"),
        ("TileOffsets", 0xFFFFFF00, "the tile of level 0 at x=256, y=0 lies beyond the end"),
    ],
)
def test_missing_tile_is_refused_when_the_slide_is_opened(tmp_path, svs, tag, value, match):
    with pytest.raises(ReadError, match=match):
        open_slide(altered(svs, tmp_path / "a.svs", tag, value))


@pytest.mark.parametrize("noise", [False, True])
def test_damaged_tile_raises_and_the_others_stay_readable(tmp_path, svs, noise):
    data = bytearray(svs.read_bytes())
    with tifffile.TiffFile(svs) as file:
        at, count = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    fill = np.random.default_rng(0).integers(0, 256, count // 2, np.uint8).tobytes()
    data[at + count // 4 : at + count // 4 + count // 2] = fill if noise else bytes(count // 2)
    (tmp_path / "a.svs").write_bytes(data)

    with open_slide(svs) as slide:
        good = slide.read(0, 0, 0, 256, 256)
    with open_slide(tmp_path / "a.svs") as slide:
        for _ in range(2):
            with pytest.raises(ReadError, match=r"a\.svs: the region .* x=200, y=0.* cannot be"):
                slide.read(0, 200, 0, 100, 100)
            np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), good)
        # as if another thread had met the damage while this one reads elsewhere
        with pytest.raises(OpenSlideError):
            slide.source._handle.read_region((200, 0), 0, (100, 100))
        np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), good)


@pytest.mark.parametrize("stored", ["ycbcr", "rgb"])
def test_damaged_jpeg_in_ome_is_refused(tmp_path, stored):
    path = tmp_path / "a.ome.tif"
    options = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb"}
    options["compressionargs"] = {"outcolorspace": stored}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(colour, subifds=1, metadata={"axes": "YXS"}, **options)
        file.write(colour[::2, ::2], subfiletype=1, **options)
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 0, 160, 128).astype(int) - colour).mean() < 4
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name.lower() == stored
        at, count = file.pages[0].dataoffsets[4], file.pages[0].databytecounts[4]
    data = bytearray(path.read_bytes())
    data[at + count // 2 : at + count] = bytes(count - count // 2)
    path.write_bytes(data)

    with open_slide(path) as slide:
        slide.read(0, 0, 0, 64, 64)
        with pytest.raises(ReadError, match=r"strip or tile 4 of level 0: .* JPEG"):
            slide.read(0, 0, 0, 160, 128)


def test_tile_that_decodes_to_another_size(tmp_path):
    tiles = [encode_jpeg(np.ascontiguousarray(colour[:64, :64]), 90) for _ in range(6)]
    tiles[3] = encode_jpeg(np.ascontiguousarray(colour[:64, :32]), 90)
    tifffile.imwrite(
        tmp_path / "a.tif", iter(tiles), shape=(128, 160, 3), dtype=np.uint8, tile=(64, 64),
        photometric="ycbcr", subsampling=(1, 1), compression="jpeg", metadata=None,
    )  # fmt: skip

    with open_slide(tmp_path / "a.tif") as slide:
        slide.read(0, 0, 0, 160, 64)
        with pytest.raises(ReadError, match=r"tile 3 of level 0: decoded to \(64, 32, 3\), exp"):
            slide.read(0, 0, 0, 160, 65)


@pytest.mark.parametrize(
    ("pixels", "options", "match"),
    [
        (colour[:, :, 0], {"photometric": "minisblack"}, "uint8 MINISBLACK with 1 sample"),
        (colour.astype(np.uint16), {"photometric": "rgb"}, "uint16 RGB with 3 sample"),
        (
            colour.transpose(2, 0, 1),
            {"photometric": "rgb", "planarconfig": "separate"},
            "axes SYX; expected 8-bit RGB, interleaved",
        ),
        (np.stack([colour[:, :, 0]] * 2, 2), {"photometric": "minisblack"}, "with 2 sample|axes"),
    ],
)
def test_other_pixels_than_8_bit_rgb(tmp_path, pixels, options, match):
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), metadata=None, **options)

    with pytest.raises(ReadError, match=match) as caught:
        open_slide(tmp_path / "a.tif")

    assert "Export" in caught.value.remedy


def test_what_is_no_slide_file(tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("not a slide")
    (tmp_path / "half.svs").write_bytes(b"II*\0\x08\0\0\0\xff\xff")
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0 a preview without its folder")
    Image.fromarray(colour[:, :, 0]).save(tmp_path / "grey.png")
    Image.fromarray(colour).save(tmp_path / "a.bmp")
    for name, match in (
        (".", "it is a folder, expected an image file"),
        ("none.svs", "no such file"),
        ("empty.svs", "the file is empty"),
        ("text.svs", "expected TIFF, found text"),
        ("half.svs", "the TIFF is truncated or damaged"),
        ("a.mrxs", "it is no whole slide that OpenSlide knows"),
        ("grey.png", "a PNG of 8-bit with the channels grey; expected 8-bit red, green, blue"),
        ("a.bmp", "a BMP file, expected a slide"),
    ):
        with pytest.raises(ReadError, match=match) as caught:
            open_slide(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)
        assert caught.value.remedy


def test_picture_beyond_the_budget(tmp_path, monkeypatch):
    Image.fromarray(colour).save(tmp_path / "a.png")
    monkeypatch.setenv("MEDGLEAN_BUDGET_BYTES", "1000")

    with pytest.raises(TooLargeError, match="the budget is 1,000"):
        open_slide(tmp_path / "a.png")


def test_one_strip_that_is_too_large_is_refused(tmp_path, monkeypatch):
    from medglean.data.slides import by_tifffile

    monkeypatch.setattr(by_tifffile, "LARGEST_SEGMENT_BYTES", 10_000)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb", rowsperstrip=128, metadata=None)

    with pytest.raises(ReadError, match=r"strips or tiles of 128 x 160 pixels, 61,440 bytes each"):
        open_slide(tmp_path / "a.tif")


def test_unknown_mpp_is_none(tmp_path, svs):
    for text in (b"MPP = 0.0", b"MPP = nan", b"MPP = -.5", b"XPP = 0.5"):
        (tmp_path / "a.svs").write_bytes(svs.read_bytes().replace(b"MPP = 0.5", text))
        with open_slide(tmp_path / "a.svs") as slide:
            assert slide.mpp is None
