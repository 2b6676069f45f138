from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

ramp = np.add.outer(np.arange(64), 2 * np.arange(48)).astype(np.uint8)
colour = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)


def save(path, pixels, **options):
    options.setdefault("photometric", "rgb" if pixels.ndim == 3 else "minisblack")
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


@pytest.mark.parametrize(
    ("dtype", "unit", "scale"),
    [
        (np.uint8, "8-bit", (0, 255)),
        (np.uint16, "16-bit", (0, 65535)),
        (np.uint32, "32-bit", (0, 2**32 - 1)),
        (np.int16, "16-bit signed", (-32768, 32767)),
        (np.float32, "float", None),
        (bool, "1-bit", (0, 1)),
    ],
)
def test_types(tmp_path, dtype, unit, scale):
    pixels = (ramp > 60) if dtype is bool else (ramp.astype(dtype) - (dtype is np.int16) * 100)

    picture = read(save(tmp_path / "a.tif", pixels))

    np.testing.assert_array_equal(picture.values[0], pixels)
    assert (picture.unit, picture.full_scale) == (unit, scale)
    assert (picture.spacing_mm, picture.warnings) == (None, ())


@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 7},
        {"tile": (16, 32)},
        {"compression": "deflate", "predictor": True},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 10},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"compression": "jpeg2000"},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"planarconfig": "separate"},
    ],
)
def test_layouts_and_compressions_give_the_same_values(tmp_path, options):
    pixels = colour.transpose(2, 0, 1) if "planarconfig" in options else colour
    path = save(tmp_path / "a.tif", pixels, **options)

    for isolated in (None, False):
        picture = read(path, isolated=isolated)
        np.testing.assert_array_equal(picture.values, colour.transpose(2, 0, 1))
        assert picture.channels == ("red", "green", "blue")


def test_jpeg_inside_is_rgb(tmp_path):
    path = save(tmp_path / "a.tif", colour, compression="jpeg", tile=(32, 32))

    picture = read(path, isolated=False)

    assert np.abs(picture.values.transpose(1, 2, 0).astype(int) - colour).mean() < 4


@pytest.mark.parametrize("pixels", [ramp, ramp.astype(np.uint16) * 100, ramp > 60])
def test_white_is_zero(tmp_path, pixels):
    path = save(tmp_path / "a.tif", pixels, photometric="miniswhite")

    picture = read(path)

    full = {"u1": 255, "u2": 65535, "b1": 1}[pixels.dtype.str[1:]]
    np.testing.assert_array_equal(picture.values[0], full - pixels.astype(int))
    assert "0 as white" in picture.warnings[0]


def test_palette_gives_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.tif")

    picture = read(tmp_path / "a.tif")

    assert picture.values[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert (picture.unit, probe(tmp_path / "a.tif").channels) == ("8-bit", 3)


def test_alpha(tmp_path):
    alpha = np.full((64, 48, 1), 51, np.uint8)
    rgba = np.concatenate([colour, alpha], axis=-1)
    plain = read(save(tmp_path / "a.tif", rgba, extrasamples=["unassalpha"]))
    multiplied = read(save(tmp_path / "b.tif", rgba, extrasamples=["assocalpha"]))

    np.testing.assert_array_equal(plain.values[0], np.rint(ramp * 0.2))
    assert "composited over black" in plain.warnings[0]
    np.testing.assert_array_equal(multiplied.values, colour.transpose(2, 0, 1))
    assert "alpha channel was dropped" in multiplied.warnings[0]


def test_cmyk(tmp_path):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 255, 51
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")

    picture = read(tmp_path / "a.tif")

    assert picture.values[:, 0, 0].tolist() == [0, 204, 204]
    assert "without a colour profile" in picture.warnings[0]


def test_orientation(tmp_path):
    path = save(tmp_path / "a.tif", ramp, extratags=[(274, "H", 1, 6, True)])

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], np.rot90(ramp, -1))
    assert "orientation tag 6 was applied" in picture.warnings[0]


def test_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (ramp, 255 - ramp, ramp // 2):
            writer.write(page, photometric="minisblack", metadata=None, contiguous=False)

    with pytest.raises(ReadError, match=r"the TIFF has 3 pages .*a\.tif#page=0"):
        read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(f"{tmp_path / 'a.tif'}#page=1").values[0], 255 - ramp)
    with pytest.raises(ReadError, match=r"page=3 is asked for, but the file has 3 page\(s\)"):
        read(f"{tmp_path / 'a.tif'}#page=3")
    assert probe(tmp_path / "a.tif").frames == 3
    assert probe(tmp_path / "a.tif").decoded_bytes == 3 * ramp.size


def test_region_of_a_plain_tiff(tmp_path):
    path = save(tmp_path / "a.tif", colour)

    picture = read(f"{path}#level=0,x=5,y=7,w=8,h=9")

    np.testing.assert_array_equal(picture.values, colour[7:16, 5:13].transpose(2, 0, 1))
    with pytest.raises(ReadError, match=r"level 0 is uint8 MINISBLACK .* expected 8-bit RGB"):
        read(f"{save(tmp_path / 'b.tif', ramp)}#level=0,x=0,y=0,w=8,h=8")


def test_more_channels_than_colours_stay(tmp_path):
    planes = np.stack([ramp, ramp // 2, ramp // 3, ramp // 4, ramp // 5])
    path = save(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate")

    picture = read(path)

    np.testing.assert_array_equal(picture.values, planes)
    assert picture.channels[0] == "sample 0"


def test_extra_channel_of_a_colour_image_is_dropped_and_told(tmp_path):
    pixels = np.dstack([colour, ramp])
    picture = read(save(tmp_path / "a.tif", pixels, extrasamples=["unspecified"]))

    np.testing.assert_array_equal(picture.values, colour.transpose(2, 0, 1))
    assert "1 extra channel(s) of unknown meaning were dropped" in picture.warnings[0]


@pytest.mark.parametrize(("factor", "unit"), [(257, "8-bit"), (256, "8-bit"), (1, "8-bit")])
def test_palette_entries_of_8_bits_in_16(tmp_path, factor, unit):
    table = np.zeros((3, 256), np.uint16)
    table[:, 1], table[:, 2] = [10, 20, 30], [200, 100, 50]
    indices = np.array([[1, 2]], np.uint8)
    path = save(tmp_path / "a.tif", indices, photometric="palette", colormap=table * factor)

    picture = read(path)

    assert picture.values[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert picture.unit == unit


def test_palette_of_16_bits_keeps_them(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, 1] = [1000, 2001, 60003]
    path = save(
        tmp_path / "a.tif", np.array([[1]], np.uint8), photometric="palette", colormap=table
    )

    picture = read(path)

    assert picture.values[:, 0, 0].tolist() == [1000, 2001, 60003]
    assert (picture.unit, picture.full_scale) == ("16-bit", (0, 65535))


def test_other_colour_models_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", colour, photometric="cielab")

    with pytest.raises(ReadError, match="the colour model CIELAB with uint8 samples, expected"):
        read(path)


def test_imagej_stack_behind_one_page_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([ramp] * 3), imagej=True, contiguous=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        pages = len(file.pages)

    with pytest.raises(ReadError, match="3 pages" if pages == 3 else "an ImageJ stack of 3 images"):
        read(tmp_path / "a.tif")


def test_nan_is_counted(tmp_path):
    pixels = ramp.astype(np.float32)
    pixels[0, :5] = np.nan

    told = read(save(tmp_path / "a.tif", pixels)).warnings

    assert told == ("5 value(s) are NaN or infinite and were left as they are.",)


@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "jpeg", "packbits"])
def test_truncated(tmp_path, compression):
    path = save(tmp_path / "a.tif", ramp, compression=compression, rowsperstrip=16)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ReadError, match=r"a\.tif: the TIFF is truncated or damaged"):
        read(path)


def tiff(data: bytes, width: int, height: int, compression: int, *extra) -> bytes:
    """Return a minimal 8-bit grey TIFF of one strip."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1),
               (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)), *extra]  # fmt: skip
    out = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries))
    for tag, kind, value in sorted(entries):
        out += struct.pack("<HHII", tag, kind, 1, value)
    return out + bytes(4)


@pytest.mark.parametrize(
    ("compression", "encode"),
    [(1, bytes), (8, zlib.compress), (5, imagecodecs.lzw_encode)],
)
def test_strip_that_holds_too_little(tmp_path, compression, encode):
    data = encode(ramp.tobytes()[:1500])
    (tmp_path / "a.tif").write_bytes(tiff(data, 48, 64, compression))

    with pytest.raises(ReadError, match="truncated or damaged"):
        read(tmp_path / "a.tif")


def test_jpeg_strip_that_was_cut_and_closed_is_refused(tmp_path):
    data = imagecodecs.jpeg8_encode(ramp, level=95)
    cut = data[: len(data) * 3 // 4] + b"\xff\xd9"
    (tmp_path / "a.tif").write_bytes(tiff(cut, 48, 64, 7))

    with pytest.raises(ReadError, match="JPEG inside: Corrupt JPEG data"):
        read(tmp_path / "a.tif", isolated=False)


def test_compression_without_a_decoder(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(bytes(100), 48, 64, 52479))

    with pytest.raises(ReadError, match="its compression cannot be decoded"):
        read(tmp_path / "a.tif")


def test_missing_strip(tmp_path):
    path = save(tmp_path / "a.tif", ramp, rowsperstrip=16)
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[279].valueoffset
    data = bytearray(path.read_bytes())
    data[at : at + 2] = bytes(2)
    path.write_bytes(data)

    with pytest.raises(ReadError, match="a strip or tile is missing"):
        read(path)


def test_forged_sizes_are_refused_before_anything_is_allocated(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(bytes(100), 1 << 20, 1 << 20, 8))
    tile = ((322, 4, 1 << 20), (323, 4, 1 << 20), (324, 4, 8), (325, 4, 100))
    (tmp_path / "b.tif").write_bytes(tiff(zlib.compress(ramp.tobytes()), 48, 64, 8, *tile))

    for name in ("a.tif", "b.tif"):
        with pytest.raises(TooLargeError, match="1048576 x 1048576"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_header_without_sense(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)

    for function in (read, probe):
        with pytest.raises(ReadError, match=r"a\.tif: the TIFF is truncated or damaged"):
            function(tmp_path / "a.tif")


def test_page_of_a_slide_over_the_budget_names_the_way_out(real_data):
    path = real_data("wsi_small") / "CMU-1-Small-Region.svs"

    with pytest.raises(TooLargeError, match=r"#page=\.\.\.\), or a region \(#level="):
        read(f"{path}#page=0", budget_bytes=1 << 20)
