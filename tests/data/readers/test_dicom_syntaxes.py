"""Transfer syntaxes: files made here, and the odd ones of the public collection where present."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames

from medglean.data import readers
from medglean.errors import ReadError

read = functools.partial(readers.read, isolated=False)  # in this process, so that it is measured

noise = np.random.default_rng(0).integers(0, 16, (64, 48))
deep = (np.add.outer(np.arange(64), np.arange(48)) * 16 + noise).astype(np.uint16)
flat = (np.add.outer(2 * np.arange(64), np.arange(48)) % 256).astype(np.uint8)
colour = np.stack([flat, 255 - flat, flat // 2], axis=-1)

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
HTJ2K = "1.2.840.10008.1.2.4.201"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


LOSSLESS = {
    JPEG_LOSSLESS: lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16),
    JPEG_LS: imagecodecs.jpegls_encode,
    JPEG_2000: lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True),
    HTJ2K: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    DEFLATED_FRAMES: lambda a: deflate(a.tobytes()),
}


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_frames(dicom, syntax):
    frames = [LOSSLESS[syntax](deep), LOSSLESS[syntax](deep[::-1].copy())]
    path = dicom(frames, syntax=syntax, shape=(2, 64, 48, 1))

    np.testing.assert_array_equal(read(path).values[0], [deep, deep[::-1]])
    np.testing.assert_array_equal(read(f"{path}#frame=1").values[0], deep[::-1])


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_frame_that_ends_early_is_refused(dicom, syntax):
    whole = LOSSLESS[syntax](deep)
    for end in (b"", whole[-2:]):  # cut, and cut with the end mark put back
        path = dicom([whole[: len(whole) // 2] + end], syntax=syntax, shape=(1, 64, 48, 1))
        with pytest.raises(ReadError, match="the pixel data is truncated or damaged"):
            read(path)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_missing_frames_are_refused(dicom, syntax):
    path = dicom([LOSSLESS[syntax](deep)], syntax=syntax, shape=(3, 64, 48, 1))

    with pytest.raises(ReadError, match="truncated or damaged"):
        read(path)


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if s != DEFLATED_FRAMES])
def test_rows_and_columns_exchanged_in_the_header_are_refused(dicom, syntax):
    path = dicom([LOSSLESS[syntax](deep)], syntax=syntax, shape=(1, 48, 64, 1))

    with pytest.raises(ReadError, match="48 rows and 64 columns, the compressed frame has 64 and"):
        read(path)


def test_jpeg_baseline_grey(dicom):
    path = dicom([jpeg(flat)], syntax=JPEG_BASELINE, shape=(1, 64, 48, 1), bits=8)

    np.testing.assert_array_equal(
        read(path).values[0], np.asarray(Image.open(io.BytesIO(jpeg(flat))))
    )


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_jpeg_colours_become_rgb_once_whatever_the_header_says(dicom, photometric):
    path = dicom([jpeg(colour)], syntax=JPEG_BASELINE, shape=(1, 64, 48, 3), bits=8,
                 PhotometricInterpretation=photometric)  # fmt: skip

    picture = read(path)

    assert np.abs(picture.values.transpose(1, 2, 0).astype(int) - colour).max() <= 4
    assert any("Photometric" in told for told in picture.warnings) == (photometric == "RGB")


def test_jpeg_of_true_rgb_is_not_turned(dicom):
    data = imagecodecs.jpeg8_encode(colour, level=95, colorspace="RGB", outcolorspace="RGB")
    path = dicom([data], syntax=JPEG_BASELINE, shape=(1, 64, 48, 3), bits=8)

    assert np.abs(read(path).values.transpose(1, 2, 0).astype(int) - colour).max() <= 4


def test_jpeg_extended_of_12_bits(dicom):
    pixels = deep // 2
    data = imagecodecs.jpeg_encode(pixels, bitspersample=12, level=98)
    path = dicom([data], syntax=JPEG_EXTENDED, shape=(1, 64, 48, 1), BitsStored=12, HighBit=11)

    values = read(path).values[0].astype(int)

    assert np.abs(values - pixels).max() <= 16
    assert values.max() > 800


def test_signed_lossless_jpeg_has_its_sign(dicom):
    # 12 bits in two's complement, as the codestream holds them: 0xFFF is -1, 0x800 is -2048
    words = np.array([[0, 1, 0x7FF], [0x800, 0x801, 0xFFF]], np.uint16)
    data = imagecodecs.ljpeg_encode(words, bitspersample=12)
    path = dicom([data], syntax=JPEG_LOSSLESS, shape=(1, 2, 3, 1), signed=True, BitsStored=12,
                 HighBit=11)  # fmt: skip

    picture = read(path)

    assert picture.values.tolist() == [[[0, 1, 2047], [-2048, -2047, -1]]]
    assert picture.full_scale == (-2048, 2047)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_jpeg_baseline_that_ends_early_is_refused(dicom, end):
    data = jpeg(flat)
    path = dicom([data[: len(data) // 2] + end], syntax=JPEG_BASELINE, shape=(1, 64, 48, 1), bits=8)

    with pytest.raises(ReadError, match="truncated or damaged"):
        read(path)


def test_rle_that_ends_early_is_refused(dicom):
    path = dicom(deep[np.newaxis])
    dataset = pydicom.dcmread(path)
    dataset.compress("1.2.840.10008.1.2.5")
    dataset.save_as(path)
    np.testing.assert_array_equal(read(path).values[0], deep)

    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)

    with pytest.raises(ReadError, match="truncated or damaged"):
        read(path)


@pytest.mark.parametrize("isolated", [True, False])
def test_rle_segment_that_is_too_long_is_refused(dicom, isolated):
    # the decoder panics, which is no Exception: a run has 128 bytes, a segment 3,072, this 10,240
    frame = struct.pack("<16I", 2, 64, 64 + 160, *[0] * 13) + b"\x81\x01" * (80 + 24)
    path = dicom([frame], syntax="1.2.840.10008.1.2.5", shape=(1, 64, 48, 1))

    with pytest.raises(ReadError, match="the pixel data is truncated or damaged"):
        read(path, isolated=isolated)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_implicit_big_endian_and_deflated(dicom, tmp_path, syntax):
    big = syntax.endswith(".2.2")
    dataset = pydicom.dcmread(dicom(deep.byteswap() if big else deep))
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "b.dcm", dataset, enforce_file_format=True)

    np.testing.assert_array_equal(read(tmp_path / "b.dcm").values[0], deep)


def test_j2k_of_other_precision_than_bits_stored_is_told(dicom):
    data = imagecodecs.jpeg2k_encode(deep * 8, codecformat="j2k", reversible=True)
    path = dicom([data], syntax=JPEG_2000, shape=(1, 64, 48, 1), BitsStored=12, HighBit=11)

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], deep * 8)
    assert any("more than the header's 12 bits" in told for told in picture.warnings)


ODD = {
    "693_J2KR": ((1, 512, 512), "HU", -1024, 1468),
    "HTJ2K_08_RGB": ((3, 480, 640), "8-bit", 0, 255),
    "JLSL_16_15_1_1F": ((1, 128, 128), "US", -16384, 16383),
    "JLSL_RGB_ILV0": ((3, 256, 256), "8-bit", None, None),
    "JLSN_RGB_ILV0": ((3, 256, 256), "8-bit", None, None),
    "JPEG-LL": ((1, 1024, 256), "US", 0, 278),
    "JPGLosslessP14SV1_1s_1f_8b": ((1, 768, 1024), "US", 0, 255),
    "MR-SIEMENS-DICOM-WithOverlays": ((1, 484, 484), "US", 0, 1123),
    "MR2_J2KI": ((1, 1024, 1024), "US", 0.000061, 600 * 3.774114 + 0.000061),
    "OBXXXX1A_rle_2frame": ((3, 2, 600, 800), "8-bit", 0, 255),
    "RG1_J2KI": ((1, 1955, 1841), "US", 32767 - 26512, 32767 - 803),
    "SC_rgb_16bit_2frame": ((3, 2, 100, 100), "16-bit", 0, 65535),
    "SC_rgb_expb": ((3, 100, 100), "8-bit", 0, 255),
    "SC_ybr_full_uncompressed": ((3, 100, 100), "8-bit", 0, 255),
    "SC_rgb_32bit": ((3, 100, 100), "32-bit", 0, 2**32 - 1),
    "US1_J2KR": ((3, 480, 640), "8-bit", 0, 255),
    "bad_sequence": ((1, 512, 512), "HU", 13 - 1024, 2267 - 1024),
    "color-pl": ((3, 120, 256), "8-bit", 16, 248),
    "emri_small": ((1, 10, 64, 64), "US", 0, 467),
    "emri_small_RLE": ((1, 10, 64, 64), "US", 0, 467),
    "emri_small_jpeg_ls_lossless": ((1, 10, 64, 64), "US", 0, 467),
    "liver_j2k": ((1, 3, 512, 512), "1-bit", 0, 1),
    "liver_nonbyte_aligned": ((1, 3, 510, 510), "1-bit", 0, 1),
    "mlut_18": ((1, 512, 512), "US", 0, 65535),
    "parametric_map_float": ((1, 128, 128), "US", 0, 0.94157916),
    "explicit_VR-UN": ((1, 512, 512), "HU", -1024, 1186),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files(real_data, name):
    shape, unit, low, high = ODD[name]

    picture = readers.read(real_data("dicom_odd") / "files" / f"{name}.dcm")

    assert picture.values.shape == shape
    assert picture.unit == unit
    if low is not None:
        assert picture.values.min() == pytest.approx(low)
        assert picture.values.max() == pytest.approx(high)


def test_jpeg_ls_colours_are_in_their_places(real_data):
    path = real_data("dicom_odd") / "files" / "JLSL_RGB_ILV0.dcm"
    frame = next(generate_frames(pydicom.dcmread(path, force=True).PixelData, number_of_frames=1))

    expected = imagecodecs.jpegls_decode(frame)

    np.testing.assert_array_equal(readers.read(path).values.transpose(1, 2, 0), expected)


def test_the_same_picture_in_several_syntaxes(real_data):
    folder = real_data("dicom_odd") / "files"
    plain = readers.read(folder / "emri_small.dcm").values

    for other in ("emri_small_RLE.dcm", "emri_small_jpeg_ls_lossless.dcm"):
        np.testing.assert_array_equal(readers.read(folder / other).values, plain)
    lossless = readers.read(folder / "JLSL_RGB_ILV0.dcm").values.astype(int)
    near = readers.read(folder / "JLSN_RGB_ILV0.dcm").values.astype(int)
    assert 0 < np.abs(lossless - near).max() <= 10
    rgb = readers.read(folder / "SC_rgb_expb.dcm").values.astype(int)
    ybr = readers.read(folder / "SC_ybr_full_uncompressed.dcm").values.astype(int)
    assert np.abs(rgb - ybr).max() <= 6


def test_truncated_odd_file_is_refused(real_data):
    path = real_data("dicom_odd") / "files" / "emri_small_jpeg_2k_lossless_too_short.dcm"

    with pytest.raises(ReadError, match=r"truncated or damaged .*Enhanced MR Image Storage"):
        readers.read(path)
