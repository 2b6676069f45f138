from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

smooth = np.add.outer(2 * np.arange(64), np.arange(48)).astype(np.uint8)
colour = np.stack([smooth, 255 - smooth, smooth // 2], axis=-1)


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def write(folder: Path, data: bytes, name: str = "a.jpg") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pixels", [smooth, colour])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_same_values_as_pillow_and_opencv(tmp_path, pixels, options):
    path = write(tmp_path, jpeg(Image.fromarray(pixels), **options))

    values = read(path).values

    with_pillow = np.asarray(Image.open(path)).reshape(64, 48, -1)
    with_opencv = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(64, 48, -1)[..., ::-1]
    np.testing.assert_array_equal(values.transpose(1, 2, 0), with_pillow)
    np.testing.assert_array_equal(with_pillow, with_opencv)
    assert read(path).channels == (("grey",) if pixels.ndim == 2 else ("red", "green", "blue"))
    assert (read(path).unit, read(path).full_scale) == ("8-bit", (0, 255))


def test_adobe_cmyk_is_stored_inverted_and_becomes_rgb(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 255, 51  # cyan, and a fifth of black: RGB (0, 204, 204)
    path = write(tmp_path, jpeg(Image.fromarray(inks, "CMYK")))

    picture = read(path)

    assert np.abs(picture.values[:, 8, 8].astype(int) - [0, 204, 204]).max() <= 2
    assert "CMYK colours were turned into RGB" in picture.warnings[0]


def test_cmyk_without_the_adobe_mark_is_not_inverted(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 255, 51
    data = jpeg(Image.fromarray(255 - inks, "CMYK"))  # Pillow inverts when it writes
    at = data.index(b"\xff\xee")
    data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]

    picture = read(write(tmp_path, data))

    assert np.abs(picture.values[:, 8, 8].astype(int) - [0, 204, 204]).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].T),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read(write(tmp_path, jpeg(Image.fromarray(smooth)), "b.jpg")).values[0]
    path = write(tmp_path, jpeg(Image.fromarray(smooth), exif=exif))

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], expected(upright))
    assert len(picture.warnings) == (orientation != 1)


@pytest.mark.parametrize("kept", [3, 30, 0.5, -2])
def test_truncated_is_refused(tmp_path, kept):
    data = jpeg(Image.fromarray(colour))
    path = write(tmp_path, data[: int(len(data) * kept) if isinstance(kept, float) else kept])

    with pytest.raises(ReadError, match=r"a\.jpg: the JPEG is truncated or damaged"):
        read(path)


def test_data_cut_out_before_the_end_mark_are_refused(tmp_path):
    data = jpeg(Image.fromarray(colour))
    path = write(tmp_path, data[: len(data) * 2 // 3] + b"\xff\xd9")  # Pillow fills up with grey

    with pytest.raises(ReadError, match="premature end of data segment"):
        read(path)


def test_skipped_bytes_between_markers_are_told(tmp_path):
    data = jpeg(Image.fromarray(smooth))
    at = data.index(b"\xff\xdb")
    path = write(tmp_path, data[:at] + b"\0\0\0" + data[at:])

    picture = read(path)

    assert "3 extraneous bytes before marker" in picture.warnings[0]
    np.testing.assert_array_equal(picture.values[0], np.asarray(Image.open(io.BytesIO(data))))


def test_twelve_bits_are_refused(tmp_path):
    import imagecodecs

    deep = smooth.astype(np.uint16) * 16
    path = write(tmp_path, imagecodecs.jpeg_encode(deep, bitspersample=12))

    with pytest.raises(ReadError, match="expected a JPEG of 8 bits, found a 12-bit JPEG"):
        read(path)
    assert probe(path).bits == 12


def test_forged_size_is_refused_before_decoding(tmp_path):
    data = bytearray(jpeg(Image.fromarray(colour)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    path = write(tmp_path, bytes(data))

    with pytest.raises(TooLargeError, match="65535 x 65535 x 3 samples"):
        read(path)


def test_probe_finds_the_size_behind_a_large_exif(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "x" * 50_000
    path = write(tmp_path, jpeg(Image.fromarray(colour), exif=exif))

    header = probe(path)

    assert (header.format, header.height, header.width, header.channels) == ("JPEG", 64, 48, 3)
    assert header.decoded_bytes == 64 * 48 * 3
