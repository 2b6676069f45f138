"""DICOM files that are no image, lie about themselves or are damaged."""

from __future__ import annotations

import zlib

import numpy as np
import pydicom
import pytest

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

stored = np.arange(6, dtype=np.uint16).reshape(2, 3)
DEFLATED = "1.2.840.10008.1.2.1.99"


@pytest.mark.parametrize(
    ("uid", "found"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", "found Basic Text SR Storage without pixels"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "found Encapsulated PDF Storage without pixels"),
        ("1.2.840.10008.1.3.10", "found Media Storage Directory Storage without pixels"),
        ("1.2.3.4.5", "found an object without pixels"),
        ("1.2.840.10008.5.1.4.1.1.2", r"truncated or damaged .*class CT Image Storage, without"),
    ],
)
def test_objects_without_pixels(dicom, uid, found):
    none = dict.fromkeys(("PixelData", "Rows", "Columns", "BitsAllocated"))
    path = dicom(stored, SOPClassUID=uid, **none)

    with pytest.raises(ReadError, match=found):
        read(path)
    assert probe(path).extra["has_pixels"] is False
    assert probe(path).extra["media_storage"] == uid


def test_pixels_are_described_but_missing(dicom):
    with pytest.raises(ReadError, match="its header describes pixels, but there are none"):
        read(dicom(stored, PixelData=None))


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"Rows": 0}, "Rows"),
        ({"Columns": None}, "Columns"),
        ({"BitsAllocated": 13}, "BitsAllocated"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel"),
        ({"NumberOfFrames": -3}, "NumberOfFrames"),
    ],
)
def test_header_without_sense(dicom, elements, named):
    with pytest.raises(ReadError, match=rf"the header's {named} is missing or makes no sense"):
        read(dicom(stored, **elements))


@pytest.mark.parametrize("length", [200, 400, -1, -9])
def test_truncated_file(dicom, length):
    path = dicom(stored)
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(ReadError, match=r"a\.dcm: .*(truncated|missing|no image|found Sec)"):
        read(path)


def test_fewer_pixels_than_the_header_says(dicom):
    with pytest.raises(ReadError, match="the pixel data is truncated or damaged"):
        read(dicom(stored, Rows=3))


def test_more_pixels_than_the_header_says_are_told(dicom):
    frames = read(dicom(stored, PixelData=stored.tobytes() + bytes(12)))
    odd = read(dicom(stored, PixelData=stored.tobytes() + bytes(6)))

    assert frames.values.tolist() == odd.values.tolist() == [stored.tolist()]
    assert "more pixels than the header's Number of Frames needs" in frames.warnings[0]
    assert "excess padding" in odd.warnings[0]


def test_uncompressed_by_its_header_but_encapsulated(dicom, tmp_path):
    from pydicom.encaps import encapsulate

    dataset = pydicom.dcmread(dicom([b"\xff\xd8\xff\xd9"], syntax="1.2.840.10008.1.2.4.50",
                                    shape=(1, 2, 3, 1), bits=8))  # fmt: skip
    assert dataset.PixelData == encapsulate([b"\xff\xd8\xff\xd9"])
    path = tmp_path / "a.dcm"
    old, new = b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0"
    path.write_bytes(path.read_bytes().replace(old, new))

    with pytest.raises(ReadError, match="says uncompressed, the pixels are encapsulated"):
        read(path)


@pytest.mark.parametrize(
    ("syntax", "remedy"),
    [("1.2.840.10008.1.2.4.102", "Film is cut into frames"), ("1.2.840.10008.1.2.4.94", "Convert")],
)
def test_syntax_without_a_decoder(dicom, tmp_path, syntax, remedy):
    path = dicom([b"\0\0\0\1abcd"], syntax=syntax, shape=(1, 2, 3, 1), bits=8)

    with pytest.raises(ReadError, match=rf"the transfer syntax .*{syntax}.*no decoder\. {remedy}"):
        read(path)


def test_forged_sizes_are_refused_before_anything_is_allocated(dicom):
    wide = dicom(stored, Rows=65535, Columns=65535)
    long = dicom(stored, name="b.dcm", NumberOfFrames=2**31 - 1)

    with pytest.raises(TooLargeError, match=r"1 x 65535 x 65535 x 1 samples, 8,589,672,450 bytes"):
        read(wide)
    with pytest.raises(TooLargeError, match=r"Name one frame \(.*b\.dcm#frame=0\)"):
        read(long)
    assert probe(wide).decoded_bytes == 2 * 65535**2


def test_deflate_bomb_is_refused(dicom):
    path = dicom(stored)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DEFLATED
    dataset.save_as(path)
    data = path.read_bytes()
    meta = 144 + int.from_bytes(data[140:144], "little")
    inflated = zlib.decompress(data[meta:], -15)
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = deflater.compress(inflated)
    for _ in range(8):
        bomb += deflater.compress(bytes(1 << 20))
    path.write_bytes(data[:meta] + bomb + deflater.flush())

    with pytest.raises(TooLargeError, match="bytes once decoded"):
        read(path, budget_bytes=1 << 20)
    path.write_bytes(data[:-8])
    with pytest.raises(ReadError, match="its deflated part ends early"):
        read(path)


def test_without_preamble(dicom):
    path = dicom(stored)
    data = path.read_bytes()
    for start in (132, 144 + int.from_bytes(data[140:144], "little")):  # with file meta, without
        path.write_bytes(data[start:])

        assert read(path).values.tolist() == [stored.tolist()]
        assert probe(path).format == "DICOM"


def test_file_that_is_a_tiff_as_well_is_read_as_dicom(dicom):
    path = dicom(stored)
    path.write_bytes(b"II*\0\x08\0\0\0" + path.read_bytes()[8:])

    assert read(path).values.tolist() == [stored.tolist()]
    assert probe(path).format == "DICOM"


def test_no_message_or_warning_names_the_patient(dicom):
    paths = [
        dicom(stored, name="a.dcm", PatientBirthDate="19700230", PatientAge="019Y",
              PixelPaddingValue=0),
        dicom(stored, name="b.dcm", Rows=3),
        dicom(stored, name="c.dcm", PixelData=None, Rows=None),
    ]  # fmt: skip
    said = []
    paths[0].write_bytes(paths[0].read_bytes().replace(b"019Y", b"Jane"))
    for path in paths:
        try:
            said += read(path).warnings
        except ReadError as error:
            said.append(str(error))

    assert len(said) == 3
    assert not [text for text in said if any(w in text for w in ("Doe", "Jane", "JD-", "1970"))]


def test_probe_gives_the_tags_asked_for_and_no_pixels(dicom):
    header = probe(dicom(stored, BitsStored=12, HighBit=11), dicom_tags=("PatientID",))

    assert (header.height, header.width, header.frames, header.channels) == (2, 3, 1, 1)
    assert (header.bits, header.decoded_bytes) == (12, 12)
    dataset = header.extra["dataset"]
    assert dataset.PatientID == "JD-1970"
    assert "PatientName" not in dataset
    assert "PixelData" not in dataset
    assert header.extra["transfer_syntax"] == "1.2.840.10008.1.2.1"
    assert header.extra["has_pixels"] is True
