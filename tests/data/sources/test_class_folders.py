from __future__ import annotations

import pytest
from tests.data.small_files import dicom, png

from medglean.data.index import index
from medglean.data.sources.listing import pair_masks, wrapper


def make(root, *names):
    for name in names:
        png(root / name)
    return root


def test_folders_are_labels(tmp_path):
    source = make(tmp_path / "in", "a/1.png", "a/2.png", "b c/1.png", "b c/2.png")

    result = index(source, out=tmp_path / "m.csv")

    assert result.layout == "class-folders"
    assert "2 folders hold the images ('a', 'b c'), taken as classes" in result.reason
    assert result.manifest.frame["label"].tolist() == ["a", "a", "b c", "b c"]
    assert "Layout class-folders: 2 folders hold the images" in result.summary()


def test_a_class_with_one_image_and_an_empty_class_are_told(tmp_path):
    source = make(tmp_path / "in", "a/1.png", "a/2.png", "a/3.png", "b/1.png")
    (source / "c").mkdir()

    result = index(source, out=tmp_path / "m.csv")

    assert [str(problem) for problem in result.problems] == [
        "c/: the folder is empty. Is something missing?",
        "b: the class 'b' has one image, which can be on one side of a split only. "
        "Add images, or leave the class out.",
    ]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "Testing")])
def test_split_folders_above_the_classes(tmp_path, names):
    files = [f"set/{split}/{label}/{n}.png" for split in names for label in "xy" for n in (1, 2)]
    source = make(tmp_path / "in", *files)

    frame = index(source, out=tmp_path / "m.csv").manifest.frame

    assert frame["label"].unique().tolist() == ["x", "y"]
    assert sorted(frame["split"].unique()) == ["test", "train", "val"]
    train = frame[frame["id"].str.contains(f"/{names[0]}/")]
    assert train["split"].tolist() == ["train"] * 4


def test_masks_beside_their_images_are_no_images(tmp_path):
    source = make(
        tmp_path / "in",
        "benign/b (1).png", "benign/b (1)_mask.png", "benign/b (1)_mask_1.png",
        "benign/b (2).png", "benign/b (2)_mask.png", "normal/n (1).png", "normal/n (2).png",
    )  # fmt: skip

    result = index(source, out=tmp_path / "m.csv")

    frame = result.manifest.frame.set_index("id")
    assert frame["mask"].fillna("").tolist() == [
        "in/benign/b (1)_mask.png", "in/benign/b (2)_mask.png", "", "",
    ]  # fmt: skip
    assert frame["label"].tolist() == ["benign", "benign", "normal", "normal"]
    assert "1 masks have no image of their name, or it has one already" in str(result.problems[0])


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "a/2.png"),  # one class is none
        ("a/1.png", "b/1.png"),  # one image each: rather patients
        ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "top.png"),
        ("images/1.png", "images/2.png", "labels/1.png", "labels/2.png"),
        ("001/1.png", "001/2.png", "002/1.png", "002/2.png"),  # numbers: rather patients
        ("a/s1/1.png", "a/s2/2.png", "b/s1/1.png", "b/s2/2.png"),  # studies below
    ],
)
def test_other_folders_are_not_taken_for_classes(tmp_path, names):
    result = index(make(tmp_path / "in", *names), out=tmp_path / "m.csv")

    assert result.layout == "folder"
    assert "label" not in result.manifest.frame
    assert len(result.manifest) == len(names)


def test_folders_of_dicom_files_are_not_taken_for_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("DOE/1.dcm", "DOE/2.dcm", "ROE/1.dcm", "ROE/2.dcm"):
        dicom(tmp_path / "in" / name, PatientID="1")

    assert index(tmp_path / "in", out=tmp_path / "m.csv").layout == "folder"
    asked = index(tmp_path / "in", out=tmp_path / "asked.csv", layout="class-folders")
    assert asked.manifest.classes() == ("DOE", "ROE")
    assert asked.reason == "as asked for"


def test_a_plain_folder_finds_masks_in_a_folder_of_their_own(tmp_path):
    source = make(tmp_path / "in", "images/1.png", "images/2.png", "masks/1.png", "masks/9.png")

    result = index(source, out=tmp_path / "m.csv")

    frame = result.manifest.frame
    assert frame["id"].tolist() == ["images/1.png", "images/2.png"]
    assert frame["mask"].fillna("").tolist() == ["in/masks/1.png", ""]
    assert "masks/9.png: 1 masks have no image of their name" in str(result.problems[0])


def test_two_images_of_one_name_get_no_guessed_mask():
    images, masks, left = pair_masks(["images/1.png", "images/1.jpg", "masks/1.png"])

    assert images == ["images/1.jpg", "images/1.png"]
    assert (masks, left) == ({}, ["masks/1.png"])


def test_a_name_that_ends_in_mask_without_partner_is_an_image():
    assert pair_masks(["face_mask.png"]) == (["face_mask.png"], {}, [])


def test_a_split_folder_is_no_wrapper():
    assert wrapper(["train/a/1.png", "train/a/2.png"]) == ""
    assert wrapper(["set/a/1.png", "set/b/1.png"]) == "set/"
    assert wrapper([]) == ""
