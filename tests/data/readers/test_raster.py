from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

ramp = np.add.outer(np.arange(40), 2 * np.arange(30)).astype(np.uint8)
colour = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)


@pytest.mark.parametrize(
    ("image", "unit", "expected"),
    [
        (Image.fromarray(colour), "8-bit", colour.transpose(2, 0, 1)),
        (Image.fromarray(ramp), "8-bit", ramp[np.newaxis]),
        (Image.fromarray(ramp > 40), "1-bit", (ramp > 40)[np.newaxis]),
    ],
)
def test_bmp(tmp_path, image, unit, expected):
    image.save(tmp_path / "a.bmp")

    picture = read(tmp_path / "a.bmp")

    np.testing.assert_array_equal(picture.values, expected)
    assert picture.unit == unit
    header = probe(tmp_path / "a.bmp")
    assert (header.format, header.height, header.width) == ("BMP", 40, 30)


def test_palette_bmp_gives_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.bmp")

    assert read(tmp_path / "a.bmp").values[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]


def test_lossless_webp_and_its_alpha(tmp_path):
    Image.fromarray(colour).save(tmp_path / "a.webp", lossless=True)
    rgba = np.dstack([colour, np.full_like(ramp, 51)])
    Image.fromarray(rgba).save(tmp_path / "b.webp", lossless=True, exact=True)

    np.testing.assert_array_equal(read(tmp_path / "a.webp").values, colour.transpose(2, 0, 1))
    dimmed = read(tmp_path / "b.webp")
    np.testing.assert_array_equal(dimmed.values[0], np.rint(ramp * 0.2))
    assert "composited over black" in dimmed.warnings[0]
    assert probe(tmp_path / "b.webp").width == 30


def test_gif_frames(tmp_path):
    frames = [Image.fromarray(ramp), Image.fromarray(255 - ramp)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    with pytest.raises(ReadError, match="the GIF is animated and has 2 frames"):
        read(tmp_path / "a.gif")
    second = read(f"{tmp_path / 'a.gif'}#frame=1")
    np.testing.assert_array_equal(second.values, np.broadcast_to(255 - ramp, (3, 40, 30)))


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp"])
def test_truncated_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}", lossless=True)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(ReadError, match=rf"a\.{suffix}: the \w+ is truncated or damaged"):
        read(path)


def test_forged_sizes_are_refused(tmp_path):
    bmp = b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 1 << 20, -(1 << 20), 1, 24) + bytes(24)
    (tmp_path / "a.bmp").write_bytes(bmp)
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + b"\xff" * 4 + bytes(20))
    webp = b"RIFF" + bytes(4) + b"WEBPVP8X" + bytes(8) + b"\xff" * 6
    (tmp_path / "a.webp").write_bytes(webp)

    for name in ("a.bmp", "a.gif", "a.webp"):
        with pytest.raises(TooLargeError, match="the header claims"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp"])
def test_header_without_sense_is_refused(tmp_path, suffix):
    start = {"bmp": b"BM", "gif": b"GIF89a", "webp": b"RIFF\0\0\0\0WEBP"}[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(start + bytes(60))

    with pytest.raises(ReadError, match="no sensible size in the header"):
        probe(path)
