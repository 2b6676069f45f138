from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

ramp = np.add.outer(np.arange(40), 2 * np.arange(30)).astype(np.uint8)
deep = (np.add.outer(np.arange(40), np.arange(30)) * 900).astype(np.uint16)
colour = np.stack([ramp, 255 - ramp, ramp // 2], axis=-1)
deep_colour = np.stack([deep, 65535 - deep, deep // 3], axis=-1)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour_type, rows: bytes, *extra: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pillow_png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "a.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pixels", [ramp, colour, deep, deep_colour])
def test_pixels_are_those_that_were_written_and_that_opencv_reads(tmp_path, pixels):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)

    picture = read(path)

    expected = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    np.testing.assert_array_equal(picture.values, expected)
    assert picture.values.dtype == pixels.dtype
    assert picture.unit == ("8-bit" if pixels.dtype == np.uint8 else "16-bit")
    assert picture.full_scale == (0, 255 if pixels.dtype == np.uint8 else 65535)
    assert picture.channels == (("grey",) if pixels.ndim == 2 else ("red", "green", "blue"))
    assert picture.spacing_mm is None
    assert picture.warnings == ()


def test_eight_bits_are_the_same_as_with_pillow(tmp_path):
    path = write(tmp_path, pillow_png(Image.fromarray(colour), dpi=(72, 72)))

    np.testing.assert_array_equal(
        read(path).values.transpose(1, 2, 0), np.asarray(Image.open(path))
    )
    assert read(path).spacing_mm is None  # the resolution of a print is no spacing


def test_one_bit_is_zero_and_one(tmp_path):
    path = write(tmp_path, png(10, 2, 1, 0, b"\0\xaa\x80" + b"\0\x00\x40"))

    picture = read(path)

    assert picture.unit == "1-bit"
    assert picture.full_scale == (0, 1)
    assert picture.values.tolist() == [[[1, 0] * 5, [0] * 9 + [1]]]


def test_two_and_four_bits_are_scaled_to_eight(tmp_path):
    two = write(tmp_path, png(4, 1, 2, 0, b"\0\x1b"))
    four = write(tmp_path, png(2, 1, 4, 0, b"\0\x2f"), "b.png")

    assert read(two).values.tolist() == [[[0, 85, 170, 255]]]
    assert read(four).values.tolist() == [[[0x22, 255]]]


def test_palette_gives_colours_not_indices(tmp_path):
    palette = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    path = write(tmp_path, png(2, 1, 8, 3, b"\0\x01\x00", palette))

    picture = read(path)

    assert picture.values[:, 0].T.tolist() == [[200, 100, 50], [10, 20, 30]]
    assert picture.channels == ("red", "green", "blue")


def test_transparent_palette_entry_is_composited_over_black(tmp_path):
    extra = (chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50])), chunk(b"tRNS", bytes([255, 51])))
    path = write(tmp_path, png(2, 1, 8, 3, b"\0\x01\x00", *extra))

    picture = read(path)

    # 51 / 255 = 0.2 of (200, 100, 50)
    assert picture.values[:, 0].T.tolist() == [[40, 20, 10], [10, 20, 30]]
    assert "1 pixel(s) that are not opaque were composited over black" in picture.warnings[0]


def test_opaque_alpha_is_dropped_and_told(tmp_path):
    grey = write(tmp_path, pillow_png(Image.fromarray(ramp).convert("LA")))
    rgb = write(tmp_path, pillow_png(Image.fromarray(colour).convert("RGBA")), "b.png")

    np.testing.assert_array_equal(read(grey).values[0], ramp)
    np.testing.assert_array_equal(read(rgb).values, colour.transpose(2, 0, 1))
    assert read(rgb).warnings == ("an alpha channel was dropped: every pixel is opaque.",)


def test_sixteen_bit_grey_with_alpha_keeps_sixteen_bits(tmp_path):
    row = b"\0" + struct.pack(">HHHH", 60000, 65535, 60000, 13107)  # 13107 / 65535 = 0.2
    path = write(tmp_path, png(2, 1, 16, 4, row))

    assert read(path).values.tolist() == [[[60000, 12000]]]


def test_interlaced_is_the_same_as_progressive(tmp_path):
    image = Image.fromarray(colour)
    rows = b"".join(_adam7(colour))
    head = struct.pack(">IIBBBBB", 30, 40, 8, 2, 0, 0, 1)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path = write(tmp_path, b"\x89PNG\r\n\x1a\n" + b"".join(parts))

    np.testing.assert_array_equal(read(path).values.transpose(1, 2, 0), np.asarray(image))


def _adam7(pixels):
    for y, x, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                         (0, 1, 2, 2), (1, 0, 2, 1)):  # fmt: skip
        for row in pixels[y::dy, x::dx]:
            yield b"\0" + row.tobytes()


def test_exif_orientation_is_applied_and_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path, pillow_png(Image.fromarray(ramp), exif=exif))

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], np.rot90(ramp, -1))
    assert "orientation tag 6 was applied: turned by 90 degrees clockwise" in picture.warnings[0]


def test_animation_needs_a_frame(tmp_path):
    frames = [Image.fromarray(ramp), Image.fromarray(255 - ramp)]
    path = write(tmp_path, pillow_png(frames[0], save_all=True, append_images=frames[1:]))

    with pytest.raises(ReadError, match=r"animated and has 2 frames.*a\.png#frame=0"):
        read(path)
    np.testing.assert_array_equal(read(f"{path}#frame=1").values[0], 255 - ramp)
    with pytest.raises(ReadError, match="frame=2 is asked for, but the file has 2 frame"):
        read(f"{path}#frame=2")
    assert probe(path).frames == 2


def test_still_image_has_only_frame_0(tmp_path):
    path = write(tmp_path, pillow_png(Image.fromarray(ramp)))

    np.testing.assert_array_equal(read(f"{path}#frame=0").values[0], ramp)
    with pytest.raises(ReadError, match=r"frame=1 is asked for, but the file has 1 frame"):
        read(f"{path}#frame=1")
    with pytest.raises(ReadError, match=r"the fragment says 'page', but a PNG understands only"):
        read(f"{path}#page=0")


@pytest.mark.parametrize("kept", [20, 60, 0.5, -4, -12])
def test_truncated_is_refused(tmp_path, kept):
    data = pillow_png(Image.fromarray(colour))
    length = int(len(data) * kept) if isinstance(kept, float) else kept
    path = write(tmp_path, data[:length])

    with pytest.raises(ReadError, match=r"a\.png: the PNG is truncated or damaged \(.*Copy it"):
        read(path)


@pytest.mark.parametrize("rows", [b"\0" + bytes(30), b"\0" + bytes(29)])
def test_data_that_end_early_behind_a_right_crc_are_refused(tmp_path, rows):
    path = write(tmp_path, png(30, 40, 8, 0, rows))  # Pillow returns a picture filled with zeros

    with pytest.raises(ReadError, match="truncated or damaged"):
        read(path)


def test_flipped_bit_is_refused(tmp_path):
    data = bytearray(pillow_png(Image.fromarray(colour)))
    data[-20] ^= 1
    path = write(tmp_path, bytes(data))

    with pytest.raises(ReadError, match="wrong CRC of the chunk at byte"):
        read(path)


def test_forged_size_is_refused_before_anything_is_allocated(tmp_path):
    path = write(tmp_path, png(100_000, 100_000, 16, 6, b"\0"))

    with pytest.raises(TooLargeError, match=r"100000 x 100000 x 4 samples, 80,000,000,000 bytes"):
        read(path)


def test_budget_can_be_raised_by_argument_and_environment(tmp_path, monkeypatch):
    path = write(tmp_path, pillow_png(Image.fromarray(ramp)))
    monkeypatch.setenv("MEDGLEAN_BUDGET_BYTES", "1000")

    with pytest.raises(TooLargeError, match=r"1,200 bytes .*MEDGLEAN_BUDGET_BYTES=1200"):
        read(path)
    assert read(path, budget_bytes=1200).values.shape == (1, 40, 30)
    monkeypatch.setenv("MEDGLEAN_BUDGET_BYTES", "1200")
    assert read(path).values.shape == (1, 40, 30)
    monkeypatch.setenv("MEDGLEAN_BUDGET_BYTES", "lots")
    with pytest.raises(ReadError, match="is 'lots', expected a whole number"):
        read(path)


def test_probe_tells_the_header_of_a_file_whose_pixels_are_gone(tmp_path):
    path = write(tmp_path, pillow_png(Image.fromarray(colour))[:40])

    header = probe(path)

    assert (header.format, header.height, header.width) == ("PNG", 40, 30)
    assert (header.channels, header.bits, header.frames) == (3, 8, 1)
    assert header.decoded_bytes == 3600
