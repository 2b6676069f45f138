"""The grey pipeline of a DICOM file; every expected value is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medglean.data.readers import read
from medglean.errors import ReadError

stored = np.array([[0, 1, 2], [100, 1000, 4095]], np.uint16)


def test_stored_values_where_nothing_is_to_be_applied(dicom):
    picture = read(dicom(stored, BitsStored=12, HighBit=11, PixelSpacing=[0.5, 0.25]))

    assert picture.values.tolist() == [stored.tolist()]
    assert picture.values.dtype == np.uint16
    assert (picture.unit, picture.full_scale) == ("US", (0, 4095))
    assert (picture.spacing_mm, picture.axes, picture.channels) == (
        (0.5, 0.25),
        ("y", "x"),
        ("grey",),
    )
    assert picture.warnings == ()


def test_ct_is_in_hounsfield_units(dicom):
    path = dicom(stored, ct=True, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1024)

    picture = read(path)

    assert picture.values.tolist() == [[[-1024, -1022, -1020], [-824, 976, 7166]]]
    assert picture.values.dtype == np.float32
    assert (picture.unit, picture.full_scale) == ("HU", (-1024.0, 7166.0))


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({"RescaleType": "US"}, "US"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "US"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, "HU"),
        ({"RescaleType": "MGML"}, "MGML"),
        ({"Modality": "PT", "Units": "BQML", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "BQML"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "US"),
    ],
)
def test_unit_by_the_rules_of_the_standard(dicom, elements, unit):
    path = dicom(stored, ct=True, RescaleSlope=1, RescaleIntercept=-5, **elements)

    assert read(path).unit == unit


@pytest.mark.parametrize(
    ("bits", "dtype", "values"),
    [
        (8, np.int8, [-128, -1, 0, 127]),
        (16, np.int16, [-32768, -1, 0, 32767]),
        (32, np.int32, [-(2**31), -1, 0, 2**31 - 1]),
        (8, np.uint8, [0, 1, 128, 255]),
        (32, np.uint32, [0, 1, 2**31, 2**32 - 1]),
    ],
)
def test_signed_and_unsigned_of_every_width(dicom, bits, dtype, values):
    pixels = np.array([values], dtype)
    picture = read(dicom(pixels, bits=bits, signed=pixels.dtype.kind == "i"))

    assert picture.values.tolist() == [[values]]
    assert picture.full_scale == (np.iinfo(dtype).min, np.iinfo(dtype).max)


def test_wide_samples_are_rescaled_without_loss(dicom):
    pixels = np.array([[2**31 - 1]], np.int32)

    picture = read(dicom(pixels, bits=32, signed=True, RescaleSlope=1, RescaleIntercept=1))

    assert picture.values.tolist() == [[[2.0**31]]]


def test_bits_beyond_bits_stored_are_no_part_of_the_sample(dicom):
    # an overlay in bit 12 and garbage in bit 15; 12 bits signed: 0x800 is -2048, 0xFFF is -1
    words = np.array([[0x1005, 0x8800, 0x0FFF, 0x07FF]], np.uint16)
    overlay = {"BitsStored": 12, "HighBit": 11}

    unsigned = read(dicom(words, **overlay))
    signed = read(dicom(words.view(np.int16), signed=True, **overlay))

    assert unsigned.values.tolist() == [[[5, 2048, 4095, 2047]]]
    assert signed.values.tolist() == [[[5, -2048, -1, 2047]]]
    assert signed.full_scale == (-2048, 2047)


def test_high_bit_says_where_the_sample_lies(dicom):
    words = np.array([[0x1230, 0xFFF7]], np.uint16)

    assert read(dicom(words, BitsStored=12, HighBit=15)).values.tolist() == [[[0x123, 0xFFF]]]


def test_overlay_planes_are_ignored(dicom, tmp_path):
    import pydicom

    path = dicom(stored)
    dataset = pydicom.dcmread(path)
    for element, vr, value in ((0x0010, "US", 2), (0x0011, "US", 3), (0x0100, "US", 1),
                               (0x0102, "US", 0), (0x3000, "OW", b"\xff\0")):  # fmt: skip
        dataset.add_new((0x6000, element), vr, value)
    dataset.save_as(path)

    assert read(path).values.tolist() == [stored.tolist()]


def test_one_bit_across_bytes(dicom):
    bits = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]], np.uint8)  # two frames of 2 x 3
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    path = dicom(np.zeros((2, 2, 3), np.uint8), bits=8, BitsAllocated=1, BitsStored=1, HighBit=0,
                 PixelData=packed)  # fmt: skip

    both, second = read(path), read(f"{path}#frame=1")

    assert both.values.tolist() == [bits.reshape(2, 2, 3).tolist()]
    assert (both.unit, both.full_scale, both.axes) == ("1-bit", (0, 1), ("frame", "y", "x"))
    assert second.values.tolist() == [bits[2:].tolist()]


@pytest.mark.parametrize(
    ("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")]
)
def test_float_pixels(dicom, keyword, dtype):
    pixels = np.array([[0.5, -1.25], [np.nan, 1e30]], dtype)
    path = dicom(np.zeros((2, 2), np.uint8), bits=8, PixelData=None, BitsStored=None, HighBit=None,
                 PixelRepresentation=None, BitsAllocated=pixels.itemsize * 8,
                 **{keyword: pixels.tobytes()})  # fmt: skip

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], pixels)
    assert (picture.unit, picture.full_scale) == ("float", None)
    assert picture.warnings == ("1 value(s) are NaN or infinite and were left as they are.",)


def test_modality_lut(dicom, sequence_item):
    table = sequence_item(LUTDescriptor=[3, 1, 12], ModalityLUTType="OD", LUTData=[10, 200, 4095])
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"

    picture = read(dicom(stored, ModalityLUTSequence=[table]))

    # the first value mapped is 1: 0 and 1 give the first entry, 3 and more the last
    assert picture.values.tolist() == [[[10, 10, 200], [4095, 4095, 4095]]]
    assert (picture.unit, picture.full_scale) == ("OD", (0, 4095))


def test_modality_lut_of_signed_samples_starts_below_zero(dicom, sequence_item):
    table = sequence_item(LUTDescriptor=[4, -2, 16], LUTData=b"\x01\0\x02\0\x03\0\xff\xff")
    table["LUTDescriptor"].VR, table["LUTData"].VR = "SS", "OW"
    pixels = np.array([[-9, -2, -1, 0, 1, 9]], np.int16)

    picture = read(dicom(pixels, signed=True, ModalityLUTSequence=[table]))

    assert picture.values.tolist() == [[[1, 1, 2, 3, 65535, 65535]]]


def test_modality_lut_that_is_too_short_is_refused(dicom, sequence_item):
    table = sequence_item(LUTDescriptor=[30, 0, 16], LUTData=b"\x01\0\x02\0")
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"

    with pytest.raises(ReadError, match=r"modality table: a table of .* its descriptor says 30"):
        read(dicom(stored, ModalityLUTSequence=[table]))


def test_monochrome1_is_mirrored_and_told(dicom):
    path = dicom(stored, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")

    picture = read(path)

    assert picture.values.tolist() == [[[4095, 4094, 4093], [3995, 3095, 0]]]
    assert (picture.unit, picture.full_scale) == ("US", (0, 4095))
    assert "MONOCHROME1: stored with low as bright" in picture.warnings[0]


def test_signed_monochrome1_with_slope_stays_within_its_full_scale(dicom):
    pixels = np.array([[-128, -1, 127]], np.int8)
    path = dicom(pixels, bits=8, signed=True, PhotometricInterpretation="MONOCHROME1",
                 RescaleSlope=2, RescaleIntercept=10, RescaleType="OD")  # fmt: skip

    picture = read(path)

    # modality: -246, 8, 264; mirrored in the middle of -246..264
    assert picture.values.tolist() == [[[264, 10, -246]]]
    assert (picture.unit, picture.full_scale) == ("inverted OD", (-246, 264))


def test_padding_gets_the_darkest_real_value_and_is_counted(dicom):
    pixels = np.array([[-2000, -2000, 5, 90]], np.int16)
    path = dicom(pixels, signed=True, ct=True, PixelPaddingValue=-2000, RescaleSlope=1,
                 RescaleIntercept=-1000)  # fmt: skip

    picture = read(path)

    assert picture.values.tolist() == [[[-995, -995, -995, -910]]]
    assert "2 pixel(s) of padding were given the darkest real value (-995)" in picture.warnings[0]


def test_padding_range_and_monochrome1(dicom):
    pixels = np.array([[4000, 4050, 4095, 3000, 7]], np.uint16)
    path = dicom(pixels, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1",
                 PixelPaddingValue=4095, PixelPaddingRangeLimit=4000)  # fmt: skip

    # the highest real sample, 3000, is the darkest
    assert read(path).values.tolist() == [[[1095, 1095, 1095, 1095, 4088]]]


def test_padding_outside_of_bits_stored_is_found(dicom):
    words = np.array([[-32768, 0, 100]], np.int16)  # masked to 12 bits the first would read 0
    path = dicom(words, signed=True, BitsStored=12, HighBit=11, PixelPaddingValue=-32768)

    picture = read(path)

    assert picture.values.tolist() == [[[0, 0, 100]]]
    assert picture.warnings[0].startswith("1 pixel(s) of padding")


def test_nothing_but_padding_is_told(dicom):
    picture = read(dicom(np.full((2, 2), 7, np.uint16), PixelPaddingValue=7))

    assert picture.values.tolist() == [[[7, 7], [7, 7]]]
    assert picture.warnings == ("every pixel has the padding value; all were left as they are.",)


def test_slope_0_is_told(dicom):
    picture = read(dicom(stored, RescaleSlope=0, RescaleIntercept=0))

    assert picture.values.tolist() == [stored.tolist()]
    assert "the rescale slope is 0" in picture.warnings[0]


def test_frames_with_their_own_slope(dicom, sequence_item):
    frames = np.array([[[1, 2]], [[1, 2]]], np.uint16)
    groups = [
        sequence_item(
            PixelValueTransformationSequence=[
                sequence_item(RescaleSlope=slope, RescaleIntercept=-1, RescaleType="HU")
            ],
            PixelMeasuresSequence=[sequence_item(PixelSpacing=[slope, 3])],
        )
        for slope in (2, 10)
    ]
    path = dicom(frames, PerFrameFunctionalGroupsSequence=groups)

    both, second = read(path), read(f"{path}#frame=1")

    assert both.values.tolist() == [[[[1, 3]], [[9, 19]]]]
    assert (both.unit, both.axes, both.spacing_mm) == ("HU", ("frame", "y", "x"), None)
    assert both.full_scale == (-1, 655349)
    assert second.values.tolist() == [[[9, 19]]]
    assert (second.axes, second.spacing_mm) == (("y", "x"), (10.0, 3.0))


def test_shared_groups_apply_to_all_frames(dicom, sequence_item):
    frames = np.array([[[1, 2]], [[3, 4]]], np.uint16)
    shared = sequence_item(
        PixelValueTransformationSequence=[sequence_item(RescaleSlope=3, RescaleIntercept=0)]
    )

    picture = read(dicom(frames, SharedFunctionalGroupsSequence=[shared]))

    assert picture.values.tolist() == [[[[3, 6]], [[9, 12]]]]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        # PS3.3 C.11.2.1.2: y = (x - (c - 0.5)) / (w - 1) + 0.5
        ({}, [0.0, 0.5 - 0.5 / 3, 0.5 + 0.5 / 3, 1.0]),
        ({"VOILUTFunction": "LINEAR_EXACT"}, [0.125, 0.375, 0.625, 0.875]),
        (
            {"VOILUTFunction": "SIGMOID"},
            [1 / (1 + np.exp(-4 * d / 4)) for d in (-1.5, -0.5, 0.5, 1.5)],
        ),
    ],
)
def test_window(dicom, elements, expected):
    pixels = np.array([[0, 1, 2, 3]], np.uint16)
    center = 2 if not elements else 1.5
    path = dicom(pixels, WindowCenter=[99, center], WindowWidth=[1, 4], **elements)

    picture = read(f"{path}#voi=1")

    np.testing.assert_allclose(picture.values[0, 0], expected, atol=1e-6)
    assert (picture.unit, picture.full_scale) == ("VOI", (0.0, 1.0))
    assert read(path).unit == "US"


def test_voi_comes_after_slope_and_before_the_inversion(dicom):
    pixels = np.array([[0, 1, 2]], np.uint16)
    path = dicom(pixels, PhotometricInterpretation="MONOCHROME1", WindowCenter=10.5, WindowWidth=11,
                 RescaleSlope=5, RescaleIntercept=5)  # fmt: skip

    # modality: 5, 10, 15; window 5..15 to 0, 0.5, 1; mirrored
    np.testing.assert_allclose(read(f"{path}#voi=0").values[0, 0], [1.0, 0.5, 0.0], atol=1e-6)


def test_voi_tables_come_before_windows(dicom, sequence_item):
    table = sequence_item(LUTDescriptor=[3, 0, 8], LUTData=[0, 51, 255])
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    pixels = np.array([[0, 1, 9]], np.uint16)
    path = dicom(pixels, VOILUTSequence=[table], WindowCenter=1, WindowWidth=1)

    np.testing.assert_allclose(read(f"{path}#voi=0").values[0, 0], [0.0, 0.2, 1.0], atol=1e-6)
    np.testing.assert_allclose(read(f"{path}#voi=1").values[0, 0], [0.0, 1.0, 1.0])
    with pytest.raises(ReadError, match=r"voi=2 is asked for, but the file has 2 VOI table"):
        read(f"{path}#voi=2")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, "a LINEAR window of width 0"),
        (
            {"WindowCenter": 1, "WindowWidth": 2, "VOILUTFunction": "CUBIC"},
            "VOI LUT function CUBIC",
        ),
    ],
)
def test_bad_window_is_refused(dicom, elements, message):
    with pytest.raises(ReadError, match=message):
        read(f"{dicom(stored, **elements)}#voi=0")


@pytest.mark.parametrize(
    ("elements", "spacing", "warning"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "not corrected for magnification"),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacing": [2, 1]}, (2.0, 1.0), None),
        ({"PixelSpacing": [0, 0]}, None, "PixelSpacing is 0 by 0 mm; it was ignored"),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, (0.1, 0.1), "of the scanned film"),
        ({}, None, None),
    ],
)
def test_spacing(dicom, elements, spacing, warning):
    picture = read(dicom(stored, **elements))

    assert picture.spacing_mm == spacing
    assert [warning in told for told in picture.warnings] == ([True] if warning else [])


def test_frames_count_from_0(dicom):
    frames = np.arange(24, dtype=np.uint16).reshape(4, 2, 3)
    path = dicom(frames)

    assert read(path).values.shape == (1, 4, 2, 3)
    assert read(f"{path}#frame=3").values.tolist() == [frames[3].tolist()]
    with pytest.raises(ReadError, match=r"frame=4 is asked for, but the file has 4 frame\(s\)"):
        read(f"{path}#frame=4")
    with pytest.raises(ReadError, match="a DICOM file understands only frame, voi"):
        read(f"{path}#page=0")
