from __future__ import annotations

import pytest
from tests.data.small_files import jpeg

from medglean.data.index import index

NAMES = {
    "train/NORMAL/IM-0115-0001.jpeg": ("IM-0115", "NORMAL", "normal", "train"),
    "train/NORMAL/IM-0115-0001-0002.jpeg": ("IM-0115", "NORMAL", "normal", "train"),
    "train/NORMAL/NORMAL2-IM-0315-0001.jpeg": ("NORMAL2-IM-0315", "NORMAL", "normal", "train"),
    "train/PNEUMONIA/person12_bacteria_46.jpeg": ("person12", "PNEUMONIA", "bacteria", "train"),
    "train/PNEUMONIA/person12_virus_47.jpeg": ("person12", "PNEUMONIA", "virus", "train"),
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg": ("NORMAL2-IM-1427", "NORMAL", "normal", "val"),
    "test/PNEUMONIA/person1_virus_6.jpeg": ("person1", "PNEUMONIA", "virus", "test"),
}


@pytest.fixture
def source(tmp_path):
    for name in NAMES:
        jpeg(tmp_path / "in" / "chest_xray" / name)
    return tmp_path / "in"


def test_patient_label_subtype_and_split_come_from_path_and_name(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv")

    assert result.layout == "kermany"
    assert "7 files named as in Kermany's set" in result.reason
    frame = result.manifest.frame.set_index("id")
    columns = ["patient", "label", "subtype", "split"]
    found = {name: tuple(frame.loc[f"chest_xray/{name}", columns]) for name in NAMES}
    assert found == NAMES
    assert any("their numbers start anew in each folder" in note for note in result.notes)


def test_the_second_copy_in_the_widespread_archive_is_left_out(source, tmp_path):
    for name in NAMES:
        jpeg(source / "chest_xray" / "chest_xray" / name)
        jpeg(source / "chest_xray" / "__MACOSX" / name)

    result = index(source, out=tmp_path / "m.csv")

    assert len(result.manifest) == len(NAMES)
    assert result.counts["files of a second copy"] == len(NAMES)
    assert any("holds the whole set a second time" in note for note in result.notes)


def test_other_names_and_other_folders_are_told(source, tmp_path):
    jpeg(source / "chest_xray" / "train" / "NORMAL" / "holiday.jpeg")
    jpeg(source / "chest_xray" / "extra.jpeg")

    result = index(source, out=tmp_path / "m.csv")

    assert [str(p).split(":")[0] for p in result.problems] == [
        "chest_xray/train/NORMAL/holiday.jpeg"
    ]
    assert result.counts["files outside the layout"] == 1
    row = result.manifest.frame.set_index("id").loc["chest_xray/train/NORMAL/holiday.jpeg"]
    assert row.isna()["patient"]


def test_the_cause_as_label(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv", columns={"label": "subtype"})

    assert result.manifest.classes() == ("bacteria", "normal", "virus")
