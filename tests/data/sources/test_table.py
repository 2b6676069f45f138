from __future__ import annotations

import unicodedata

import pytest
from tests.data.small_files import png

from medglean.data.index import index
from medglean.data.sources import columns
from medglean.errors import DataError, UsageError


@pytest.fixture
def source(tmp_path):
    for name in ("a", "b", "c"):
        png(tmp_path / "in" / "images" / f"{name}.png")
    return tmp_path / "in"


def table(source, text, name="labels.csv", encoding="utf-8"):
    (source / name).write_bytes(text.encode(encoding))
    return source


def run(source, **options):
    return index(source, out=source.parent / "m.csv", overwrite=True, **options)


def test_known_columns_under_their_many_names(source):
    table(
        source,
        "File Name,Patient ID,Finding,Gender,Patient Age,View Position,subset,Clip_ID,institution\n"
        "images/a.png,007,NA,Male,52.0,PA,training,k1,CS\n"
        "images/b.png,007,sick,f,50+,AP,validation,k1,CS\n"
        "images/c.png,8,sick,-,unknown,AP,test,k2,DU\n",
    )

    result = run(source)

    assert (result.layout, result.reason) == (
        "csv", "labels.csv lists the images in its column 'File Name'",
    )  # fmt: skip
    frame = result.manifest.frame.fillna("-")
    assert frame["patient"].tolist() == ["007", "007", "8"]
    assert frame["label"].tolist() == ["NA", "sick", "sick"]
    assert frame["sex"].tolist() == ["M", "F", "-"]
    assert frame["age"].tolist() == ["52", "50+", "-"]
    assert frame["view"].tolist() == ["PA", "AP", "AP"]
    assert frame["split"].tolist() == ["train", "val", "test"]
    assert frame["group"].tolist() == ["k1", "k1", "k2"]
    assert frame["source"].tolist() == ["CS", "CS", "DU"]
    assert result.counts["values of sex not understood"] == 1
    assert result.counts["values of age not understood"] == 1
    assert any("patient from 'Patient ID'" in note for note in result.notes)


@pytest.mark.parametrize(
    "written",
    [
        "images/a.png",
        "./images/a.png",
        "images\\a.png",
        "a.png",
        "a",
        " images/a.png ",
        "/home/me/set/images/a.png",
        "D:\\set\\images\\a.png",
    ],
)
def test_ways_to_name_a_file(source, written):
    table(source, f"path,label\n{written},x\n")

    assert run(source).manifest.ids == ["images/a.png"]


def test_names_in_another_unicode_form_are_found(source):
    png(source / "images" / unicodedata.normalize("NFD", "ä.png"))
    table(source, f"path\nimages/{unicodedata.normalize('NFC', 'ä')}.png\n")

    assert run(source).manifest.ids == ["images/" + unicodedata.normalize("NFD", "ä.png")]


def test_rows_without_file_files_without_row_and_double_rows_are_told(source):
    png(source / "other" / "a.png")
    table(source, "path,label\nimages/a.png,x\ngone.png,x\n,x\nimages/a.png,y\na.png,x\n")

    result = run(source)

    assert result.manifest.ids == ["images/a.png"]
    told = [str(problem) for problem in result.problems]
    assert "labels.csv, row 3: no one file 'gone.png' in the folder" in told[0]
    assert "labels.csv, row 4: no file is named" in told[1]
    assert "row 5: 'images/a.png' stands already in row 2" in told[2]
    assert "row 6: no one file 'a.png'" in told[3]  # two files have this name
    assert result.counts["rows without file"] == 3
    assert result.counts["images without a row"] == 3


def test_free_text_dates_places_and_long_numbers_are_not_taken_over(source):
    table(
        source,
        "path,label,slice,phase,clinical_notes,date,location,mrn,count_of,remark\n"
        'images/a.png,x,1,early,"Mr Smith, 61",2020-01-01,Ulm,12,100000,once\n'
        "images/b.png,x,2,early,Mrs Roe,2020-01-02,Ulm,13,100001,twice\n"
        "images/c.png,x,,late,none,2020-01-03,Ulm,14,100002,thrice\n",
    )

    result = run(source)

    carried = result.manifest.frame
    assert {"slice", "phase"} <= set(carried)
    assert not {"clinical_notes", "date", "location", "mrn", "count_of", "remark"} & set(carried)
    assert carried["slice"].fillna(-1).tolist() == [1, 2, -1]
    assert "1.0" not in (source.parent / "m.csv").read_text()  # whole beside a missing one
    note = next(note for note in result.notes if note.startswith("Not taken over"))
    assert "clinical_notes, date, location, mrn, count_of, remark" in note


def test_a_column_that_is_asked_for_is_taken(source):
    table(source, "path,label,subtype,notes\nimages/a.png,x,s,n1\nimages/b.png,x,t,n2\n")

    frame = run(source, columns={"label": "subtype", "notes": "notes"}).manifest.frame

    assert frame["label"].tolist() == ["s", "t"]
    assert frame["notes"].tolist() == ["n1", "n2"]
    with pytest.raises(UsageError, match=r"no column 'sort' for 'label'; the columns are path, l"):
        run(source, columns={"label": "sort"})


def test_pairs_and_masks(source):
    table(source, "he,ihc,seg\nimages/a.png,images/b.png,images/c.png\n")

    frame = run(source, columns={"image": "he", "target": "ihc", "mask": "seg"}).manifest.frame

    assert frame.loc[0, ["image", "target", "mask"]].tolist() == [
        "in/images/a.png", "in/images/b.png", "in/images/c.png",
    ]  # fmt: skip


def test_a_mask_that_is_not_there_is_left_out_and_told(source):
    table(source, "path,mask\nimages/a.png,masks/a.png\nimages/b.png,\n")

    result = run(source)

    assert "mask" not in result.manifest.frame
    assert "labels.csv, row 2, column 'mask': no one file of this name" in str(result.problems[0])


def test_several_labels_in_one_field(source):
    table(source, "Image Index,Finding Labels\na.png,Mass|Nodule\nb.png,Mass\nc.png,\n")

    result = run(source)

    assert result.manifest.frame["labels"].fillna("-").tolist() == ["Mass;Nodule", "Mass", "-"]


def test_words_for_unlabelled_mean_that_there_is_no_label(source):
    table(source, "path,label\nimages/a.png,unlabelled\nimages/b.png,x\n")

    result = run(source)

    assert result.manifest.frame["label"].isna().tolist() == [True, False]
    assert result.counts["labels that say unlabelled"] == 1


def test_the_table_that_names_most_files_is_taken(source):
    table(source, "path,label\nimages/a.png,wrong\n", "a_few.csv")
    table(source, "path;label\nimages/a.png;right\nimages/b.png;right\n", "more.csv", "utf-16")
    table(source, "clip_id,label\nimages,none\n", "clips.csv")
    (source / "broken.csv").write_bytes(b"path,label\n\xe4,\xe4\n")

    assert run(source).manifest.classes() == ("right",)
    assert index(source / "a_few.csv", out=source.parent / "f.csv").manifest.classes() == ("wrong",)


def test_a_table_inside_a_folder_around_everything_is_found(source):
    table(source, "path,label\nimages/a.png,x\n")

    result = index(source.parent, out=source.parent / "out" / "m.csv")

    assert (result.layout, result.manifest.ids) == ("csv", ["in/images/a.png"])


def test_a_table_without_known_paths_is_told_when_asked_for(source):
    table(source, "path,label\nx/y.png,wrong\n")

    assert run(source).layout == "folder"
    with pytest.raises(DataError, match="no CSV at its top has a column of paths"):
        run(source, layout="csv")


def test_ragged_rows_of_a_table_are_told_and_the_others_go_on(source):
    table(source, "path,label\nimages/a.png,x\nimages/b.png,x,y\nimages/c.png,z\n")

    result = run(source)

    assert result.manifest.ids == ["images/a.png", "images/c.png"]
    assert "row 3: 3 fields, the header has 2" in str(result.problems[0])


def test_labels_that_would_be_refused_later_are_refused_now(source):
    table(source, "path,label\nimages/a.png,Normal\nimages/b.png,normal\n")

    with pytest.raises(DataError, match="'Normal' and 'normal' differ only by case"):
        run(source)
    assert not (source.parent / "m.csv").exists()


@pytest.mark.parametrize(
    ("text", "years"),
    [("52.0", "52"), ("052", "52"), ("50+", "50+"), ("0", "0"), ("045Y", "45"), ("0.5", "0.5"),
     ("abc", None), ("1999", None), ("", None)],
)  # fmt: skip
def test_ages(text, years):
    assert columns.age(text) == years


HEADER = (
    "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,"
    "{},artifacts/distortion,notes\n"
)


def test_the_layout_of_the_actualmed_set(tmp_path):
    for name in ("CR.1.2.840.1.png", "CR.1.2.840.2.png"):
        png(tmp_path / "in" / "images" / name)
    table(
        tmp_path / "in",
        HEADER.format("imagename")
        + 'ANON1,,,,,,,,PA,X-ray,CR.1.2.840.1.png,,"Inconclusive, taken 20200313"\n'
        + "ANON1,,,,COVID-19,,,,AP,X-ray,CR.1.2.840.2.png,,\n",
        "metadata.csv",
    )

    frame = index(tmp_path / "in", out=tmp_path / "m.csv").manifest.frame

    assert frame["patient"].tolist() == ["ANON1", "ANON1"]
    assert frame["label"].fillna("-").tolist() == ["-", "COVID-19"]
    assert "20200313" not in (tmp_path / "m.csv").read_text()


def test_the_layout_of_the_figure_1_set(tmp_path):
    for name in ("COVID-00001.jpg", "COVID-00003a.jpg"):
        png(tmp_path / "in" / "images" / name)
    table(
        tmp_path / "in",
        HEADER.format("originalfile")
        + "COVID-00001,13,M,33,COVID-19,,,58,AP erect,X-ray,x.jpeg,,a note\n"
        + "COVID-00003a,8,M,50+,,,39.1,91-92,AP erect,X-ray,y.jpeg,,another\n",
        "metadata.csv",
    )
    both = {"image": "patientid", "patient": "patientid"}

    frame = index(tmp_path / "in", out=tmp_path / "m.csv", columns=both).manifest.frame

    assert frame["patient"].tolist() == ["COVID-00001", "COVID-00003a"]
    assert frame["label"].fillna("-").tolist() == ["COVID-19", "-"]
    assert frame["age"].tolist() == ["33", "50+"]


def test_real_clips_and_masks(real_data, tmp_path):
    clips = index(real_data("us_pocus_clips"), out=tmp_path / "clips.parquet").manifest
    brains = index(real_data("brain_lgg_flair128"), out=tmp_path / "brains.parquet").manifest

    assert len(clips) == 1820
    assert clips.frame["group"].nunique() == 91
    assert clips.frame["patient"].nunique() < 91
    assert len(brains) == 2546
    assert brains.frame["mask"].notna().sum() > 900
    assert brains.missing_files() == []
