from __future__ import annotations

import pytest
from tests.data.small_files import jpeg

from medglean.data.index import index
from medglean.data.sources.covid_chestxray import names_of

HEADER = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,intubated,temperature,view,modality,"
    "date,location,folder,filename,doi,url,license,clinical_notes,other_notes,"
)
ROWS = """\
2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,N,38.1,PA,X-ray,2020,"Ray Hospital, Vietnam",images,a.jpg,\
10.1,https://x.org,CC BY,"Mr Smith, a teacher",,
2,3,M,65.0,Pneumonia/Viral/COVID-19,Y,Y,N,,AP Supine,X-ray,2020,Vietnam,images,b.jpg,10.1148/r,,,,,
4,,F,,"COVID-19, ARDS",,,,,AP,X-ray,2020,,images,c d.jpg,,,,"line one
line two",,
313b,-2,x,forty,No Finding,,,,,L,X-ray,,,images,e.jpg,,http://[broken,,,,
5,,F,40,todo,,,,,PA,X-ray,,,images,f.jpg,,,,,,
6,,F,40,Unknown,,,,,PA,X-ray,,,images,g.jpg,,,,,,
7,,F,40,Pneumonia/Viral/COVID-19,,,,,Axial,CT,,,volumes,h.jpg,,,,,,
8,,F,40,Pneumonia/Bacterial/Staphylococcus/MRSA,,,,,PA,X-ray,,,images,missing.jpg,,,,,,
9,,F,40,,,,,,PA,X-ray,,,images,i.jpg,,,,,,
"""


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "in"
    for name in ("a", "b", "c d", "e", "f", "g", "i"):
        jpeg(root / "images" / f"{name}.jpg")
    jpeg(root / "volumes" / "h.jpg")
    (root / "metadata.csv").write_text(f"{HEADER}\n{ROWS}", encoding="utf-8")
    (root / "scripts").mkdir()
    (root / "scripts" / "select.py").write_text("pass")
    return root


def test_findings_become_labels_with_their_parents(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv")

    assert (result.layout, result.reason) == ("covid-chestxray", "metadata.csv has its columns")
    frame = result.manifest.frame.set_index("id")
    assert frame["labels"].to_dict() == {
        "images/a.jpg": "Pneumonia;Viral;COVID-19",
        "images/b.jpg": "Pneumonia;Viral;COVID-19",
        "images/c d.jpg": "Pneumonia;Viral;COVID-19;ARDS",
        "images/e.jpg": "No Finding",
    }
    assert frame["patient"].tolist() == ["2", "2", "4", "313b"]
    assert frame["view"].tolist() == ["PA", "AP Supine", "AP", "L"]
    assert frame["sex"].fillna("-").tolist() == ["M", "M", "F", "-"]
    assert frame["age"].fillna("-").tolist() == ["65", "65", "-", "-"]
    assert result.manifest.classes("labels") == (
        "ARDS", "COVID-19", "No Finding", "Pneumonia", "Viral",
    )  # fmt: skip


def test_what_is_left_out_is_counted_and_told(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv")

    assert result.counts["finding is 'todo'"] == 1
    assert result.counts["finding is 'Unknown'"] == 1
    assert result.counts["finding is empty"] == 1
    assert result.counts["modality is 'CT', not X-ray"] == 1
    told = "\n".join(map(str, result.problems))
    assert "row 9: no one file 'images/missing.jpg' in the folder" in told
    assert "1 rows left out: finding is 'todo'" in told
    assert result.counts["images without a row"] == 4  # f, g, h, i


def test_nothing_that_could_say_who_it_is_is_taken_over(source, tmp_path):
    index(source, out=tmp_path / "m.csv")

    written = (tmp_path / "m.csv").read_text() + (tmp_path / "problems.csv").read_text()
    for word in ("Smith", "Ray Hospital", "Vietnam", "2020", "https", "line two", "38.1"):
        assert word not in written


def test_one_label_and_ct_when_asked_for(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv", single_label=True, include_ct=True)

    frame = result.manifest.frame.set_index("id")
    assert frame.loc["volumes/h.jpg", ["label", "modality", "view"]].tolist() == [
        "COVID-19", "CT", "Axial",
    ]  # fmt: skip
    assert frame.loc["images/c d.jpg", "label"] == "COVID-19"
    assert "labels" not in frame


def test_the_first_version_of_the_table(tmp_path):
    for name in ("a", "b"):
        jpeg(tmp_path / "in" / "images" / f"{name}.jpg")
    (tmp_path / "in" / "metadata.csv").write_text(
        "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi, url,license\n"
        "1, ,,,COVID-19,,PA,2019,,a.jpg,,,\n"
        "17,9,M,54,COVID-19,Y,CT,2020,Korea,b.jpg,,,\n"
    )

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert (result.layout, result.manifest.ids) == ("covid-chestxray", ["images/a.jpg"])
    assert result.manifest.frame["patient"].tolist() == ["1"]
    assert result.counts["modality is 'CT', not X-ray"] == 1


def test_the_site_is_kept_as_the_source_and_the_publisher_where_there_is_none(source, tmp_path):
    frame = index(source, out=tmp_path / "m.csv").manifest.frame.set_index("id")
    assert frame["source"].dropna().to_dict() == {
        "images/a.jpg": "x.org",
        "images/b.jpg": "10.1148",
    }


def test_names_of_older_versions_get_the_path_of_newer_ones():
    assert names_of("Pneumocystis") == ["Pneumonia", "Fungal", "Pneumocystis"]
    assert names_of("Pneumonia/Fungal/Pneumocystis") == names_of("Pneumocystis")
    assert names_of("Mycoplasma Bacterial Pneumonia") == ["Pneumonia", "Bacterial", "Mycoplasma"]
    assert names_of("No Finding") == ["No Finding"]
    assert names_of("Tuberculosis") == ["Tuberculosis"]
