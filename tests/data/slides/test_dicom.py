from __future__ import annotations

import numpy as np
import pytest
from tests.data.slides.small_dicom import write_dicom_slide

from medglean.data.index import index
from medglean.data.readers import probe, read
from medglean.data.slides import open_slide
from medglean.errors import ReadError

colour = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)


@pytest.fixture
def dicom(tmp_path):
    return write_dicom_slide(tmp_path / "a.dcm", colour)


def test_dicom_slide(dicom):
    with open_slide(dicom) as slide:
        assert (slide.backend, slide.vendor, slide.size_px) == ("openslide", "dicom", (150, 200))
        assert slide.mpp == pytest.approx((0.5, 0.5))
        np.testing.assert_array_equal(slide.read(0, 30, 40, 100, 90), colour[40:130, 30:130])


def test_reference_to_all_of_it_a_region_or_a_tile(dicom):
    whole = colour.transpose(2, 0, 1)

    assert read(dicom).spacing_mm == pytest.approx((0.0005, 0.0005))
    np.testing.assert_array_equal(read(dicom).values, whole)
    region = read(f"{dicom}#x=10,y=20,w=100,h=50")
    np.testing.assert_array_equal(region.values, whole[:, 20:70, 10:110])
    np.testing.assert_array_equal(read(f"{dicom}#frame=1").values, whole[:, :64, 64:128])


def test_index_gives_it_one_row_of_its_whole_size(dicom, tmp_path):
    header = probe(dicom)
    result = index(tmp_path, out=tmp_path / "m.csv", key_file=tmp_path.parent / "key")

    assert (header.height, header.width, header.frames) == (150, 200, 1)
    assert header.extra["slide"] is True
    assert result.manifest.frame["image"].tolist() == ["a.dcm"]


def test_cut_short(dicom):
    dicom.write_bytes(dicom.read_bytes()[:60_000])

    with pytest.raises(ReadError, match=r"a\.dcm: .*(cannot be decoded|could not open it)"):
        read(dicom)
