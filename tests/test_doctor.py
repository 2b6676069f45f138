import importlib.util
from collections import namedtuple

from medglean import doctor


def test_everything_that_medglean_leans_on_is_looked_at():
    found = {finding.part: finding for finding in doctor.examine()}

    assert found["torch"].state == "ok"
    assert found["CPU"].detail.split()[0].isdigit()
    assert found["DICOM JPEG 2000 Image Compression"].state == "ok"
    assert found["DICOM RLE Lossless"].state == "ok"
    assert found["GPU"].state in ("ok", "absent") if "GPU" in found else "GPU 0" in found
    assert not any(
        finding.state == "fault" for finding in found.values() if "DICOM" in finding.part
    )


def test_an_absent_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    absent = [finding for finding in doctor.examine() if finding.part == "mlflow"]

    assert absent[0].state == "absent"
    assert "pip install 'medglean[mlflow]'" in absent[0].detail


def test_a_nearly_full_disk_is_a_fault(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(10, 9, 1 << 20))

    found = {finding.part: finding for finding in doctor.examine()}

    assert found["this folder"].state == "fault"
    assert "caches and runs need more" in found["this folder"].detail
