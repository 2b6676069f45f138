from __future__ import annotations

import pytest
from tests.data.small_files import png

from medglean.data.index import index
from medglean.data.sources import bci

STEMS = ("00001_train_2+", "00002_train_0", "00007_train_3+", "00000_test_1+")


def write(folder, *, flat=False, stems=STEMS, sides=("HE", "IHC")):
    for side in sides:
        for stem in stems:
            part = "train" if "train" in stem else "test"
            place = f"{side}/{part}" if flat else f"{part}/{side}"
            png(folder / place / f"{stem}.png")
    return folder


def run(folder, tmp_path):
    return index(folder, out=tmp_path / "m.csv", overwrite=True)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("wrapper", ["", "BCI_dataset"])
def test_pair_level_and_split_come_from_folder_and_name(tmp_path, flat, wrapper):
    write(tmp_path / "in" / wrapper, flat=flat)

    result = run(tmp_path / "in", tmp_path)

    assert result.layout == "bci"
    assert "8 files named as in BCI" in result.reason
    frame = result.manifest.frame
    assert len(frame) == 4
    for _, row in frame.iterrows():
        assert row["target"] == row["image"].replace("/HE/", "/IHC/")
        assert row["label"] in row["image"]
        assert f"_{row['split']}_" in row["image"]
    assert sorted(frame["label"]) == ["0", "1+", "2+", "3+"]
    assert "group" not in frame
    assert "patient" not in frame
    assert any("of the whole slide, not of the patch: a weak label" in one for one in result.notes)
    assert result.problems == []
    assert result.counts["images"] == 4
    assert not result.counts.get("images without a row")  # targets are no lost images


def test_a_level_that_is_none_is_told_and_not_guessed(tmp_path):
    write(tmp_path / "in", stems=(*STEMS, "00009_train_2", "00010_train_4+"))

    result = run(tmp_path / "in", tmp_path)

    frame = result.manifest.frame.set_index("id")
    assert frame["label"].isna().sum() == 2
    assert frame.isna().loc["train/HE/00009_train_2.png", "label"]
    assert [(one.kind, one.file) for one in result.problems] == [
        ("level", "train/HE/00009_train_2.png"),
        ("level", "train/HE/00010_train_4+.png"),
    ]
    assert "says '2', expected one of the levels 0, 1+, 2+, 3+" in result.problems[0].found
    assert result.counts["pairs without a level"] == 2


def test_images_without_a_partner_are_listed_by_name(tmp_path):
    write(tmp_path / "in")
    png(tmp_path / "in" / "train" / "HE" / "00020_train_1+.png")
    png(tmp_path / "in" / "test" / "IHC" / "00021_test_1+.png")
    # the other level: other pictures, not a pair
    png(tmp_path / "in" / "train" / "HE" / "00022_train_1+.png")
    png(tmp_path / "in" / "train" / "IHC" / "00022_train_2+.png")

    result = run(tmp_path / "in", tmp_path)

    assert len(result.manifest) == 4
    assert {one.kind for one in result.problems} == {"unpaired"}
    told = {one.file: one.found for one in result.problems}
    assert told["train/HE/00020_train_1+.png"] == "no IHC image of this name."
    assert told["test/IHC/00021_test_1+.png"] == "no H&E image of this name."
    assert len(told) == 4
    assert result.counts["images without a partner"] == 4


def test_of_two_files_of_one_name_neither_is_taken(tmp_path):
    write(tmp_path / "in")
    png(tmp_path / "in" / "HE" / "train" / "00001_train_2+.png")

    result = run(tmp_path / "in", tmp_path)

    assert len(result.manifest) == 3
    [told] = result.problems
    assert told.kind == "duplicate"
    assert "HE/train/00001_train_2+.png, train/HE/00001_train_2+.png" in told.found


def test_a_part_that_folder_and_name_tell_differently_is_noted(tmp_path):
    for side in ("HE", "IHC"):
        png(tmp_path / "in" / "train" / side / "00003_test_1+.png")

    result = run(tmp_path / "in", tmp_path)

    assert result.manifest.frame["split"].tolist() == ["test"]
    assert any("the name's is taken" in note for note in result.notes)


def test_other_names_and_single_sides_are_another_layout(tmp_path):
    write(tmp_path / "one", sides=("HE",))
    write(tmp_path / "other", stems=("a", "b"))

    for folder in ("one", "other"):
        assert run(tmp_path / folder, tmp_path).layout != "bci"


def test_files_beside_the_pairs_are_counted(tmp_path):
    write(tmp_path / "in")
    png(tmp_path / "in" / "figure.png")

    assert run(tmp_path / "in", tmp_path).counts["files outside the layout"] == 1


def test_real_pairs(real_data, tmp_path):
    result = run(real_data("path_he_ihc_pairs") / "bci", tmp_path)

    assert result.layout == "bci"
    assert result.manifest.frame["label"].tolist() == ["1+", "3+", "3+", "2+", "2+"]
    assert set(result.manifest.frame["split"]) == {"test"}


def test_levels_are_those_of_the_preset():
    from medglean.stain.settings import LevelSettings

    assert LevelSettings().names == bci.LEVELS
