from __future__ import annotations

import pytest
from tests.data.small_files import png

from medglean.data.index import index

STEMS = ("15M2102762_15_26", "15M2102762_18_18", "19M2102438_31_28")


def write(folder, *names, stems=STEMS, suffix=".png"):
    for name in names:
        for stem in stems:
            png(folder / name / f"{stem}{suffix}")
    return folder


def run(folder, tmp_path, **options):
    return index(folder, out=tmp_path / "m.csv", overwrite=True, **options)


@pytest.mark.parametrize(
    ("he", "ihc"),
    [
        ("HE", "IHC"),
        ("he", "ihc"),
        ("H&E", "IHC"),
        ("A", "B"),
        ("patches/HE", "patches/IHC"),
        ("HE/patches", "IHC/patches"),
        ("trainA", "trainB"),
        ("a/HE", "a/IHC"),  # a wrapper called a tells nothing
    ],
)
def test_pairs_by_folder_and_name(tmp_path, he, ihc):
    write(tmp_path / "in", he, ihc)

    result = run(tmp_path / "in", tmp_path)

    assert result.layout == "paired-folders"
    assert "3 images in folders of H&E" in result.reason
    frame = result.manifest.frame
    assert frame["image"].tolist() == [f"in/{he}/{stem}.png" for stem in STEMS]
    assert frame["target"].tolist() == [f"in/{ihc}/{stem}.png" for stem in STEMS]
    assert frame["group"].tolist() == ["15M2102762", "15M2102762", "19M2102438"]
    assert any("2 slides are taken from the names" in note for note in result.notes)
    assert "label" not in frame
    assert result.problems == []


def test_mist_with_its_parts_and_what_is_stained(tmp_path):
    top = tmp_path / "in" / "HER2" / "TrainValAB"
    write(top, "trainA", "trainB", stems=STEMS[:2])
    write(top, "valA", "valB", stems=STEMS[2:])

    result = run(tmp_path / "in", tmp_path)

    frame = result.manifest.frame
    assert frame["split"].tolist() == ["train", "train", "val"]
    assert set(frame["marker"]) == {"HER2"}
    assert any("no test: what is measured at the end is val" in note for note in result.notes)


def test_several_stains_are_kept_apart_and_told(tmp_path):
    for marker in ("HER2", "ER"):
        write(tmp_path / "in" / marker / "TrainValAB", "trainA", "trainB")

    result = run(tmp_path / "in", tmp_path)

    assert len(result.manifest) == 6
    assert (result.manifest.frame["marker"] == result.manifest.frame["image"].str.split("/").str[1]
            ).all()  # fmt: skip
    assert any("Several stains (ER, HER2)" in note for note in result.notes)


def test_parts_of_a_split_may_be_folders(tmp_path):
    write(tmp_path / "in", "train/HE", "train/IHC", stems=("a", "b"))
    write(tmp_path / "in", "test/HE", "test/IHC", stems=("a",))

    frame = run(tmp_path / "in", tmp_path).manifest.frame

    assert frame["split"].tolist() == ["test", "train", "train"]
    assert (frame["image"].str.split("/").str[1] == frame["target"].str.split("/").str[1]).all()
    assert "group" not in frame


def test_another_suffix_is_the_same_name_and_other_folders_are_not(tmp_path):
    write(tmp_path / "in", "one/HE", "two/HE", stems=("a",))
    write(tmp_path / "in", "one/IHC", "two/IHC", stems=("a",), suffix=".PNG")

    frame = run(tmp_path / "in", tmp_path).manifest.frame

    assert frame["target"].tolist() == ["in/one/IHC/a.PNG", "in/two/IHC/a.PNG"]


def test_what_has_no_partner_or_two_is_listed(tmp_path):
    write(tmp_path / "in", "HE", "IHC")
    png(tmp_path / "in" / "HE" / "alone.png")
    png(tmp_path / "in" / "IHC" / "lonely.png")
    png(tmp_path / "in" / "IHC" / f"{STEMS[0]}.tif")

    result = run(tmp_path / "in", tmp_path)

    assert len(result.manifest) == 2
    assert {one.file: one.kind for one in result.problems} == {
        "HE/alone.png": "unpaired",
        "IHC/lonely.png": "unpaired",
        f"IHC/{STEMS[0]}.png": "duplicate",
    }
    assert not any(one.fatal for one in result.problems)
    assert result.counts["images without a partner"] == 2
    assert result.counts["images that stand twice"] == 3


def test_classes_called_a_and_b_are_classes_unless_nearly_all_have_partners(tmp_path):
    write(tmp_path / "in", "A", stems=("1", "2", "3", "4"))
    write(tmp_path / "in", "B", stems=("4", "5", "6", "7"))

    assert run(tmp_path / "in", tmp_path).layout == "class-folders"
    asked = run(tmp_path / "in", tmp_path, layout="paired-folders")
    assert len(asked.manifest) == 1


def test_a_lone_side_is_another_layout(tmp_path):
    write(tmp_path / "in", "HE")

    assert run(tmp_path / "in", tmp_path).layout != "paired-folders"


def test_a_table_beside_the_folders_goes_first(tmp_path):
    write(tmp_path / "in", "HE", "IHC")
    lines = [f"HE/{stem}.png,IHC/{stem}.png,2+" for stem in STEMS]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["image,target,label", *lines]))

    result = run(tmp_path / "in", tmp_path)

    assert result.layout == "csv"
    assert result.manifest.frame["label"].tolist() == ["2+"] * 3
    assert result.manifest.frame["target"].tolist() == [f"in/IHC/{stem}.png" for stem in STEMS]


def test_columns_he_and_ihc_are_image_and_target(tmp_path):
    write(tmp_path / "in", "x", "y")
    lines = [f"x/{stem}.png,y/{stem}.png,{stem[:10]},1+" for stem in STEMS]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["HE,IHC,slide_id,label", *lines]))

    result = run(tmp_path / "in", tmp_path)

    frame = result.manifest.frame
    assert frame["image"].tolist() == [f"in/x/{stem}.png" for stem in STEMS]
    assert frame["target"].tolist() == [f"in/y/{stem}.png" for stem in STEMS]
    assert frame["group"].tolist() == [stem[:10] for stem in STEMS]
    assert any("image from 'HE'" in note or "target from 'IHC'" in note for note in result.notes)


@pytest.mark.parametrize("header", ["image,IHC,label", "HE,score,label"])
def test_one_of_both_columns_alone_may_mean_something_else(tmp_path, header):
    write(tmp_path / "in", "x")
    lines = [f"x/{stem}.png,3+,1+" for stem in STEMS]
    (tmp_path / "in" / "labels.csv").write_text("\n".join([header, *lines]))

    frame = run(tmp_path / "in", tmp_path).manifest.frame

    assert "target" not in frame


def test_columns_by_other_names_can_be_named(tmp_path):
    write(tmp_path / "in", "x", "y")
    lines = [f"x/{stem}.png,y/{stem}.png,1+" for stem in STEMS]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(["stained,real,her2", *lines]))

    columns = {"image": "stained", "target": "real", "label": "her2"}
    frame = run(tmp_path / "in", tmp_path, columns=columns).manifest.frame

    assert frame["target"].tolist() == [f"in/y/{stem}.png" for stem in STEMS]
    assert set(frame["label"]) == {"1+"}


def test_real_pairs(real_data, tmp_path):
    folder = real_data("path_he_ihc_pairs")

    whole, mist = run(folder, tmp_path), run(folder / "mist", tmp_path)

    assert whole.layout == "csv"
    assert len(whole.manifest) == 27
    assert whole.manifest.frame["target"].notna().all()
    assert whole.manifest.frame["label"].notna().sum() == 22
    assert mist.layout == "paired-folders"
    assert mist.manifest.frame["group"].value_counts().to_dict() == {
        "15M2102762": 3, "19M2102438": 1, "31M2101871": 1,
    }  # fmt: skip
