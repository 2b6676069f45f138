from __future__ import annotations

import pytest
from tests.data.small_files import jpeg

from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.sources.chexpert import FINDINGS

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(FINDINGS)
WRAPPER = "CheXpert-v1.0-small"


def line(path, about, **findings):
    named = {name.replace("_", " "): value for name, value in findings.items()}
    return ",".join([f"{WRAPPER}/{path}", about, *(named.get(name, "") for name in FINDINGS)])


TRAIN = {
    "train/patient00001/study1/view1_frontal.jpg": (
        "Female,68,Frontal,AP",
        {"Pleural_Effusion": "1.0", "Edema": "-1.0", "Pneumonia": "0.0", "Support_Devices": "1.0"},
    ),
    "train/patient00002/study1/view1_frontal.jpg": (
        "Male,87,Frontal,PA",
        {"No_Finding": "1.0"},
    ),
    "train/patient00002/study2/view2_lateral.jpg": (
        "Male,87,Lateral,",
        {"Pleural_Effusion": "-1.0", "Edema": "0.0"},
    ),
    "train/patient00003/study1/view1_frontal.jpg": ("Unknown,0,Frontal,", {}),
}
VALID = {
    "valid/patient64541/study1/view1_frontal.jpg": (
        "Male,73,Frontal,AP",
        {name.replace(" ", "_"): "0.0" for name in FINDINGS},
    ),
}


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "in" / WRAPPER
    for name, images in (("train.csv", TRAIN), ("valid.csv", VALID)):
        for path in images:
            jpeg(root / path)
        lines = [line(path, about, **findings) for path, (about, findings) in images.items()]
        (root / name).write_text("\n".join([HEADER, *lines]) + "\n")
    return root


def frame_of(result):
    return result.manifest.frame.set_index("id")


@pytest.mark.parametrize("inside", [True, False])
def test_findings_that_are_1_are_labels_and_those_that_are_minus_1_uncertain(
    source, tmp_path, inside
):
    result = index(source if inside else source.parent, out=tmp_path / "m.csv")

    assert result.layout == "chexpert"
    frame = frame_of(result)
    assert len(frame) == 5
    assert frame["labels"].tolist()[:3] == ["Pleural Effusion;Support Devices", "No Finding", ""]
    assert frame["labels"].isna().tolist() == [False, False, False, True, False]
    assert frame["labels"].iloc[4] == ""
    assert frame["uncertain"].fillna("-").tolist() == ["Edema", "-", "Pleural Effusion", "-", "-"]
    assert frame["patient"].tolist()[:2] == ["patient00001", "patient00002"]
    assert frame["study"].tolist()[2] == "patient00002/study2"
    assert frame["split"].tolist() == ["train"] * 4 + ["val"]
    assert frame["view"].tolist() == ["AP", "PA", "Lateral", "Frontal", "AP"]
    assert frame["sex"].fillna("-").tolist() == ["F", "M", "M", "-", "M"]
    assert frame["age"].tolist() == ["68", "87", "87", "0", "73"]
    assert any("uncertain finding counts as not there" in note for note in result.notes)
    again = Manifest.read(tmp_path / "m.csv")
    assert again.classes("labels") == ("No Finding", "Pleural Effusion", "Support Devices")
    assert again.frame["labels"].isna().tolist() == [False, False, False, True, False]


def test_rows_without_file_double_rows_and_odd_values_are_told(source, tmp_path):
    first = next(iter(TRAIN))
    with (source / "train.csv").open("a") as file:
        file.write(line(first, "Female,68,Frontal,AP", Edema="1.0") + "\n")
        file.write(line("train/patient00009/study1/view1_frontal.jpg", "Male,1,Frontal,AP") + "\n")
        jpeg(source / "train/patient00010/study1/view1_frontal.jpg")
        path = "train/patient00010/study1/view1_frontal.jpg"
        file.write(line(path, "Male,1,Frontal,AP", Edema="maybe", Fracture="1") + "\n")

    result = index(source, out=tmp_path / "m.csv")

    told = [str(problem) for problem in result.problems]
    assert "train.csv, row 6: 'train/patient00001" in told[0]
    assert "train.csv, row 7: no one file 'CheXpert-v1.0-small/train/patient00009" in told[1]
    assert "column 'Edema': 1 values are none of 1, 0, -1 and empty" in told[2]
    assert result.counts["rows without file"] == 1
    assert frame_of(result).loc[path, "labels"] == "Fracture"


def test_a_table_of_other_columns_is_another_layout(source, tmp_path):
    for name in ("train.csv", "valid.csv"):
        text = (source / name).read_text().replace("No Finding", "Nothing")
        (source / name).write_text(text)

    assert index(source, out=tmp_path / "m.csv").layout == "csv"
