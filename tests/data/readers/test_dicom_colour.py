from __future__ import annotations

import numpy as np
import pytest

from medglean.data.readers import read
from medglean.errors import ReadError

pixels = np.array([[[255, 0, 0], [10, 20, 30]], [[0, 255, 0], [1, 2, 3]]], np.uint8)[np.newaxis]


def test_planes_one_after_the_other(dicom):
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    picture = read(dicom(pixels, bits=8, PlanarConfiguration=1, PixelData=planes.tobytes()))

    assert picture.values.tolist() == pixels[0].transpose(2, 0, 1).tolist()
    assert picture.channels == ("red", "green", "blue")
    assert (picture.unit, picture.full_scale) == ("8-bit", (0, 255))


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_ybr_full_becomes_rgb_once(dicom, bits, dtype):
    # PS3.3 C.7.6.3.1.2 for pure red of 8 bits: Y 76.2, Cb 85.0, Cr 255.5
    scale = 257 if bits == 16 else 1
    red = np.array([76, 85, 255]) * scale + (0 if bits == 8 else [70, 0, 0])
    grey = np.array([100 * scale, 1 << (bits - 1), 1 << (bits - 1)])
    path = dicom(np.array([[[red, grey]]], dtype), bits=bits, PhotometricInterpretation="YBR_FULL")

    values = read(path).values[:, 0]

    full = (1 << bits) - 1
    assert np.abs(values[:, 0].astype(int) - [full, 0, 0]).max() <= 2 * scale
    assert values[:, 1].tolist() == [100 * scale] * 3


def test_ybr_full_422_is_filled_up(dicom):
    # two pixels share Cb and Cr: Y1 Y2 Cb Cr
    data = bytes([50, 200, 128, 128])
    path = dicom(np.zeros((1, 1, 2, 3), np.uint8), bits=8, PixelData=data,
                 PhotometricInterpretation="YBR_FULL_422")  # fmt: skip

    assert read(path).values[:, 0].tolist() == [[50, 200]] * 3


def _palette(bits, red, green, blue, *, first=0, vr="OW"):
    dtype = "<u2" if bits == 16 else "u1"
    elements = {}
    for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        data = np.array(entries, dtype).tobytes()
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(entries), first, bits]
        elements[f"{name}PaletteColorLookupTableData"] = data + b"\0" * (len(data) % 2)
    return elements


def test_palette_of_8_bits(dicom):
    table = _palette(8, [0, 10, 255], [0, 20, 255], [0, 30, 255], first=1)
    indices = np.array([[0, 1, 2, 3, 9]], np.uint8)

    picture = read(dicom(indices, bits=8, PhotometricInterpretation="PALETTE COLOR", **table))

    assert picture.values[0].tolist() == [[0, 0, 10, 255, 255]]
    assert picture.values[2].tolist() == [[0, 0, 30, 255, 255]]
    assert picture.unit == "8-bit"


def test_palette_of_16_bits_keeps_them(dicom):
    table = _palette(16, [0, 1234, 65535], [0, 5, 65535], [0, 7, 65535])
    indices = np.array([[1, 2]], np.uint8)

    picture = read(dicom(indices, bits=8, PhotometricInterpretation="PALETTE COLOR", **table))

    assert picture.values[:, 0].T.tolist() == [[1234, 5, 7], [65535, 65535, 65535]]
    assert (picture.unit, picture.full_scale) == ("16-bit", (0, 65535))


def test_palette_of_8_bit_colours_in_the_high_byte(dicom):
    table = _palette(16, [0, 0x1200, 0xFF00], [0, 0x2300, 0xFF00], [0, 0x3400, 0xFF00])

    picture = read(dicom(np.array([[1, 2]], np.uint8), bits=8,
                         PhotometricInterpretation="PALETTE COLOR", **table))  # fmt: skip

    assert picture.values[:, 0].T.tolist() == [[0x12, 0x23, 0x34], [255, 255, 255]]
    assert picture.unit == "8-bit"


def test_segmented_palette(dicom):
    # a discrete segment of one entry (0), then a linear one of four entries up to 65532
    segments = np.array([0, 1, 0, 1, 4, 65532], "<u2").tobytes()
    elements = {}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [5, 0, 16]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = segments
    indices = np.array([[0, 1, 2, 3, 4]], np.uint8)

    picture = read(dicom(indices, bits=8, PhotometricInterpretation="PALETTE COLOR", **elements))

    np.testing.assert_allclose(picture.values[1, 0], [0, 16383, 32766, 49149, 65532], atol=1)


def test_palette_without_a_table_is_refused(dicom):
    with pytest.raises(ReadError, match="its palette"):
        read(dicom(np.zeros((2, 2), np.uint8), bits=8, PhotometricInterpretation="PALETTE COLOR"))


def test_voi_of_a_colour_image_is_refused(dicom):
    with pytest.raises(ReadError, match="a VOI is for grey images, this one is RGB"):
        read(f"{dicom(pixels, bits=8, WindowCenter=1, WindowWidth=2)}#voi=0")


def test_colour_model_without_a_rule_is_refused(dicom):
    with pytest.raises(ReadError, match=r"photometric interpretation HSV"):
        read(dicom(pixels, bits=8, PhotometricInterpretation="HSV"))
