import csv

import numpy as np
import pytest
from bench.medmnist import unpack
from PIL import Image


def write(path, **parts):
    images = {
        part: np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
        for part, count in parts.items()
    }
    np.savez(
        path,
        **{f"{part}_images": values for part, values in images.items()},
        **{
            f"{part}_labels": np.arange(len(values))[:, None] % 2 for part, values in images.items()
        },
    )
    return images


def read(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_images_come_out_unchanged_with_their_classes(tmp_path):
    images = write(tmp_path / "set.npz", train=3, test=2)

    assert unpack(tmp_path / "set.npz", tmp_path / "out", classes=["no", "yes"]) == 5
    rows = read(tmp_path / "out")
    assert [row["label"] for row in rows] == ["no", "yes", "no", "no", "yes"]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["test"] * 2
    found = np.array(Image.open(tmp_path / "out" / rows[4]["path"]))
    np.testing.assert_array_equal(found, images["test"][1])


def test_val_takes_the_place_of_a_test_part_that_is_absent(tmp_path):
    write(tmp_path / "set.npz", train=2, val=1)
    unpack(tmp_path / "set.npz", tmp_path / "out")

    assert [(row["label"], row["split"]) for row in read(tmp_path / "out")] == [
        ("0", "train"),
        ("1", "train"),
        ("0", "test"),
    ]
    unpack(tmp_path / "set.npz", tmp_path / "other", split=False)
    assert "split" not in read(tmp_path / "other")[0]


def test_what_cannot_be_unpacked_is_refused(tmp_path):
    np.savez(tmp_path / "none.npz", other=np.zeros(1))
    with pytest.raises(SystemExit, match="no train_images, val_images or test_images"):
        unpack(tmp_path / "none.npz", tmp_path / "out")
    write(tmp_path / "set.npz", train=2)
    with pytest.raises(SystemExit, match="label 1, and 1 classes named"):
        unpack(tmp_path / "set.npz", tmp_path / "out", classes=["only"])
    np.savez(tmp_path / "many.npz", train_images=np.zeros((1, 4, 4)), train_labels=np.zeros((1, 3)))
    with pytest.raises(SystemExit, match="3 labels per image, expected one"):
        unpack(tmp_path / "many.npz", tmp_path / "out")
