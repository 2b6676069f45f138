from __future__ import annotations

import numpy as np
import pytest
from tests.data.small_files import nifti

from medglean.data.imageset import ImageSet
from medglean.data.index import index
from medglean.data.recipe import Intensity, Recipe

SEQUENCES = ("t1", "t1ce", "t2", "flair")


def cut(folder, name, *, seg=None):
    """Write one slice in four sequences; ``seg`` is the largest value of its segmentation."""
    patient, number = name.rsplit("_", 1)
    for sequence in SEQUENCES:
        nifti(folder / f"{patient}_{sequence}_{number}_w.nii.gz", np.ones((6, 8)), flipped=False)
    if seg is not None:
        nifti(folder / f"{patient}_seg_{number}_w.nii.gz", np.full((6, 8), seg), flipped=False)


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "in"
    cut(root / "training" / "000001", "brats_train_001_080", seg=0.0)
    cut(root / "training" / "000002", "brats_train_001_081", seg=4.0)
    cut(root / "testing" / "000247", "brats_train_006_081")
    cut(root / "testing" / "000248", "brats_train_006_082")
    nifti(root / "test_labels" / "000247-label.nii.gz", np.full((6, 8), 2.0), flipped=False)
    return root


def test_patient_slice_label_mask_and_split_come_from_names_and_masks(source, tmp_path):
    result = index(source, out=tmp_path / "m.csv")

    assert result.layout == "brats-slices"
    assert result.reason == "4 slices have files t1, t1ce, t2 and flair"
    frame = result.manifest.frame.set_index("id").sort_index()
    assert frame["patient"].tolist() == ["brats_train_001"] * 2 + ["brats_train_006"] * 2
    assert frame["slice"].tolist() == [80, 81, 81, 82]
    assert frame["split"].tolist() == ["train", "train", "test", "test"]
    assert frame["label"].fillna("-").tolist() == ["healthy", "diseased", "diseased", "-"]
    assert frame["mask"].fillna("-").tolist()[2:] == ["in/test_labels/000247-label.nii.gz", "-"]
    assert frame["image.t2"].iloc[0] == ("in/training/000001/brats_train_001_t2_080_w.nii.gz")
    assert any("turned by 180 degrees" in note for note in result.notes)


def test_an_incomplete_slice_is_told_and_the_others_go_on(source, tmp_path):
    (source / "training" / "000001" / "brats_train_001_flair_080_w.nii.gz").unlink()
    bad = source / "testing" / "000248" / "brats_train_006_t1_082_w.nii.gz"
    nifti(bad, np.full((6, 8), np.nan), flipped=False)

    result = index(source, out=tmp_path / "m.csv")

    assert sorted(result.manifest.ids) == ["brats_train_001_081", "brats_train_006_081"]
    assert [problem.file for problem in result.problems] == [
        "testing/000248/brats_train_006_t1_082_w.nii.gz",
        "training/000001/brats_train_001_flair_080_w.nii.gz",
    ]


def test_the_authors_slices(real_data, tmp_path):
    manifest = index(real_data("brain_brats_nifti_slices"), out=tmp_path / "m.csv").manifest

    assert manifest.ids == [f"brats_train_001_{number:03d}" for number in (80, 81, 82, 83)]
    assert manifest.frame["label"].tolist() == ["diseased"] * 4
    recipe = Recipe(
        channels=SEQUENCES,
        size_px=(256, 256),
        resize="centre",
        intensity=Intensity(rule="window", low=0, high=1),
        dtype="float32",
    )
    images = ImageSet(manifest, recipe, cache=None, workers=0)
    assert images.stored.shape == (4, 4, 256, 256)
    assert (images.stored[:, :, :8] == 0).all()
    assert images.stored.max(axis=(0, 2, 3)).tolist() == [1, 1, 1, 1]
