from __future__ import annotations

import pytest
from tests.data.small_files import jpeg

from medglean.data.index import index


@pytest.mark.parametrize(
    "folders", [("COVID", "NORMAL", "PNEUMONIA"), ("covid-19", "normal", "pneumonia")]
)
def test_three_class_folders(tmp_path, folders):
    for folder in folders:
        for number in range(2):
            jpeg(tmp_path / "in" / "Data" / folder / f"{folder} ({number}).jpg")
    (tmp_path / "in" / "metadata.csv").write_text("hash,label\n1,COVID\n")

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert result.layout == "covid-pneumonia-normal"
    assert result.manifest.classes() == ("COVID-19", "NORMAL", "PNEUMONIA")
    assert len(result.manifest) == 6
    assert "augmented copies in it cannot be told by their names" in str(result.problems[0])
    assert result.manifest.grouped_by == "id"


def test_a_fourth_folder_makes_it_class_folders_in_general(tmp_path):
    for folder in ("COVID", "NORMAL", "PNEUMONIA", "TB"):
        for number in range(2):
            jpeg(tmp_path / "in" / folder / f"{number}.jpg")

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert result.layout == "class-folders"
    assert result.manifest.classes() == ("COVID", "NORMAL", "PNEUMONIA", "TB")
