"""Taking volumes apart, and their maps back to the axes of the file."""

import itertools

import nibabel
import numpy as np
import pandas as pd
import pytest

from medglean.anomaly.nifti_maps import join
from medglean.anomaly.volumes import slices_of
from medglean.data.manifest import Manifest
from medglean.data.readers import probe, read
from medglean.data.recipe import Recipe
from medglean.errors import DataError

GREY = Recipe()
TWO = Recipe(channels=("t1", "flair"))


def volume(path, shape, affine=None):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return values


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_slices_that_are_joined_are_the_volume_for_every_orientation(tmp_path, order, signs):
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)] * np.array(signs) * [1.0, 2.0, 3.0]
    values = volume(tmp_path / "a.nii", (2, 3, 4), affine)
    header = probe(tmp_path / "a.nii")
    for axis in range(3):
        count = header.extra["ras_shape"][axis]
        read_ones = {
            k: read(f"a.nii#axis={axis},index={k}", root=tmp_path).values[0] for k in range(count)
        }
        np.testing.assert_array_equal(join(read_ones, header, axis=axis), values)


def test_what_was_not_looked_at_is_0(tmp_path):
    volume(tmp_path / "a.nii", (2, 2, 2))
    header = probe(tmp_path / "a.nii")
    joined = join({1: np.array([[np.nan, 1], [2, 3]], np.float32)}, header, axis=2)
    assert joined[..., 0].tolist() == [[0, 0], [0, 0]]
    assert joined[..., 1].tolist() == [[0, 1], [2, 3]]


def test_only_volumes_become_slices_and_the_rest_stays(tmp_path):
    volume(tmp_path / "v.nii.gz", (4, 5, 3))
    volume(tmp_path / "series.nii", (4, 5, 2, 6))
    volume(tmp_path / "sagittal.nii", (1, 5, 3))
    frame = pd.DataFrame(
        {
            "id": ["v", "png", "one", "s", "plane"],
            "image": [
                "v.nii.gz", "a.png", "v.nii.gz#axis=2,index=1", "series.nii#volume=4",
                "sagittal.nii",
            ],
            "mask": ["m.nii.gz", None, None, None, None],
            "group": [None, "g", None, "own", None],
        }
    )  # fmt: skip

    slices, told = slices_of(Manifest.from_frame(frame, tmp_path), GREY)

    assert told == []
    found = slices.frame
    assert found["id"].tolist() == [
        "v_s000", "v_s001", "v_s002", "png", "one", "s_s000", "s_s001", "plane"
    ]  # fmt: skip
    assert found["image"].tolist() == [
        *(f"v.nii.gz#axis=2,index={k}" for k in range(3)), "a.png", "v.nii.gz#axis=2,index=1",
        *(f"series.nii#volume=4,axis=2,index={k}" for k in range(2)), "sagittal.nii",
    ]  # fmt: skip
    assert found["mask"].iloc[1] == "m.nii.gz#axis=2,index=1"
    assert found["mask"].iloc[3:].isna().all()
    assert found["group"].fillna("-").tolist() == ["v", "v", "v", "g", "-", "own", "own", "-"]
    assert found["slice"].fillna(-1).tolist() == [0, 1, 2, -1, -1, 0, 1, -1]
    assert found["volume.id"].fillna("-").tolist() == ["v", "v", "v", "-", "-", "s", "s", "-"]


def test_volumes_that_cannot_be_used_are_named_with_their_row(tmp_path):
    for name, shape in (("a", (4, 4, 3)), ("b", (4, 4, 3)), ("c", (4, 4, 5)), ("d", (4, 4, 3, 2))):
        volume(tmp_path / f"{name}.nii", shape)
    (tmp_path / "empty.nii").write_bytes(b"")
    frame = pd.DataFrame(
        {
            "id": ["shapes", "fine", "gone", "series", "unused"],
            "image.t1": ["a.nii", "a.nii", "a.nii", "d.nii", "a.nii"],
            "image.flair": ["c.nii", "b.nii", "empty.nii", "d.nii", "b.nii"],
            "image.t2": ["a.nii", "a.nii", "a.nii", "a.nii", "empty.nii"],  # not in the recipe
        }
    )

    slices, told = slices_of(Manifest.from_frame(frame, tmp_path), TWO)

    assert [(p.file, p.row, p.kind) for p in told] == [
        ("a.nii + c.nii", 2, "shapes-differ"),
        ("empty.nii", 4, "ReadError"),
        ("d.nii", 5, "several-volumes"),
    ]
    assert "4 x 4 x 3, 4 x 4 x 5" in told[0].found
    assert set(slices.frame["volume.id"]) == {"fine", "unused"}
    assert slices.frame["image.flair"].iloc[2] == "b.nii#axis=2,index=2"


def test_an_id_that_a_slice_needs_is_told(tmp_path):
    volume(tmp_path / "v.nii", (4, 5, 3))
    frame = pd.DataFrame({"id": ["v", "v_s001"], "image": ["v.nii", "a.png"]})
    with pytest.raises(DataError, match=r"'v_s001'.*Rename"):
        slices_of(Manifest.from_frame(frame, tmp_path), GREY)
