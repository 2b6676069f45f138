from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest
from tests.data.small_files import png

from medglean.data.index import index

URLS = {
    "COVID": "https://sirm.org/category/senza-categoria/covid-19/",
    "Lung_Opacity": "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data",
    "Normal": "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data",
    "Viral Pneumonia": "https://www.kaggle.com/paultimothymooney/chest-xray-pneumonia",
}


def workbook(path: Path, name: str, url: str, count: int) -> None:
    book = openpyxl.Workbook()
    book.active.append(["FILE NAME", "FORMAT", "SIZE", "URL"])
    for number in range(1, count + 1):
        # the tables write NORMAL-1 where the file is Normal-1.png
        book.active.append([f"{name.upper()}-{number}", "PNG", "256*256", url])
    book.save(path)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "in" / "COVID-19_Radiography_Dataset"
    for name, url in URLS.items():
        for number in (1, 2):
            png(root / name / "images" / f"{name}-{number}.png", value=number)
            png(root / name / "masks" / f"{name}-{number}.png", value=255)
        workbook(root / f"{name}.metadata.xlsx", name, url, 2)
    (root / "README.md.txt").write_text("about")
    return tmp_path / "in"


def test_label_mask_and_source_of_each_image(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv")

    assert result.layout == "covid19-radiography"
    assert result.manifest.classes() == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert len(result.manifest) == 8
    frame = result.manifest.frame.set_index("id")
    row = frame.loc["COVID-19_Radiography_Dataset/Viral Pneumonia/images/Viral Pneumonia-2.png"]
    assert row["label"] == "Viral Pneumonia"
    assert row["mask"].endswith("Viral Pneumonia/masks/Viral Pneumonia-2.png")
    assert row["source"] == "kaggle.com/paultimothymooney/chest-xray-pneumonia"
    assert frame[frame["label"] == "COVID"]["source"].unique().tolist() == ["sirm.org"]
    assert result.manifest.missing_files() == []
    assert result.problems == []


def test_the_first_version_without_images_and_masks_folders(tmp_path):
    for name in URLS:
        png(tmp_path / "in" / name / f"{name} (1).png")
    workbook(tmp_path / "in" / "COVID.metadata.xlsx", "covid", URLS["COVID"], 1)

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert result.layout == "covid19-radiography"
    frame = result.manifest.frame.set_index("label")
    assert frame.loc["COVID", "source"] == "sirm.org"
    assert "mask" not in frame


def test_what_is_missing_is_told(source, tmp_path):
    root = source / "COVID-19_Radiography_Dataset"
    (root / "COVID" / "images" / "COVID-2.png").unlink()
    (root / "Normal.metadata.xlsx").write_bytes(b"PK not a workbook")
    for path in sorted((root / "Lung_Opacity").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()

    result = index(source, out=tmp_path / "m.csv")

    told = "\n".join(map(str, result.problems))
    assert "masks/COVID-2.png: 1 masks have no image" in told
    assert "3 images of the metadata are not in the folder, such as 'covid2'" in told
    assert "Normal.metadata.xlsx: cannot be read as a workbook" in told
    assert "the class folder 'Lung_Opacity' is not there" in told
    assert len(result.manifest) == 5


def test_without_any_table_the_source_is_not_known_and_told(source, tmp_path):
    for path in (source / "COVID-19_Radiography_Dataset").glob("*.xlsx"):
        path.unlink()

    result = index(source, out=tmp_path / "m.csv")

    assert "source" not in result.manifest.frame
    assert "where each image came from is not known" in str(result.problems[0])
