from __future__ import annotations

import numpy as np
import pytest
from tests.data.small_files import nifti

from medglean.data.imageset import ImageSet
from medglean.data.index import index
from medglean.data.masks import prepared_mask
from medglean.data.recipe import Intensity, Recipe
from medglean.errors import DataError, UsageError

SEQUENCES = ("t1", "t1ce", "t2", "flair")
SHAPE = (10, 12, 84)  # slices 80..83 are in range
OLD = {name: name for name in (*SEQUENCES, "seg")}
NEW = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}


def scan(folder, name, *, seg=True, names=OLD, join="_", suffix=".nii.gz", dtype=np.int16):
    """Write a scan whose voxels tell sequence and slice; there is a tumour in slice 81 only."""
    for place, sequence in enumerate(SEQUENCES, start=1):
        voxels = np.zeros(SHAPE, dtype)
        voxels[2:8, 2:8, :] = 100 * place + np.arange(SHAPE[2])
        nifti(folder / name / f"{name}{join}{names[sequence]}{suffix}", voxels)
    if seg:
        mask = np.zeros(SHAPE, np.uint8)
        mask[3, 4, 81] = 4
        nifti(folder / name / f"{name}{join}seg{suffix}", mask)
    return folder / name


def run(tmp_path, **options):
    return index(tmp_path / "in", out=tmp_path / "m.csv", overwrite=True, **options)


def test_a_row_for_each_slice_with_label_mask_and_channels(tmp_path):
    scan(tmp_path / "in" / "MICCAI" / "TrainingData", "BraTS20_Training_001")
    scan(tmp_path / "in" / "MICCAI" / "TrainingData", "BraTS20_Training_002", suffix=".nii")

    result = run(tmp_path)

    frame = result.manifest.frame
    assert result.layout == "brats"
    assert result.reason == "2 scans have files t1, t1ce, t2 and flair"
    assert frame["id"].tolist()[:3] == [f"BraTS20_Training_001_{k:03d}" for k in (80, 81, 82)]
    assert frame["slice"].tolist() == [80, 81, 82, 83] * 2
    assert frame["label"].tolist() == ["healthy", "diseased", "healthy", "healthy"] * 2
    assert frame["patient"].unique().tolist() == ["BraTS20_Training_001", "BraTS20_Training_002"]
    base = "in/MICCAI/TrainingData/BraTS20_Training_001/BraTS20_Training_001"
    assert frame["image.t1ce"][1] == f"{base}_t1ce.nii.gz#axis=2,index=81"
    assert frame["mask"][1] == f"{base}_seg.nii.gz#axis=2,index=81"
    assert result.manifest.image_columns == [f"image.{name}" for name in SEQUENCES]
    assert result.manifest.missing_files() == []
    assert result.counts["rows"] == 8
    assert not result.problems


def test_the_slice_that_is_read_is_the_one_that_is_labelled(tmp_path):
    scan(tmp_path / "in", "BraTS20_Training_001")
    manifest = run(tmp_path).manifest
    window = Intensity(rule="window", low=0, high=1000)
    recipe = Recipe(
        size_px=(16, 16), resize="centre", channels=SEQUENCES, intensity=window, dtype="float32"
    )

    images = ImageSet(manifest, recipe, cache=None, workers=0)

    found = images.stored.max(axis=(2, 3)) * 1000
    expected = [[100 * place + k for place in (1, 2, 3, 4)] for k in (80, 81, 82, 83)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    masks = [prepared_mask(m, manifest.root, recipe).any() for m in manifest.frame["mask"]]
    assert masks == [False, True, False, False]
    # stored voxel (3, 4) of 10 x 12, counted from the other ends (6, 7), with 3 and 2 around
    where = np.argwhere(prepared_mask(manifest.frame["mask"][1], manifest.root, recipe)[0])
    assert where.tolist() == [[3 + 6, 2 + 7]]


def test_names_of_later_years_and_their_time_points(tmp_path):
    scan(tmp_path / "in", "BraTS2021_00000")
    scan(tmp_path / "in", "BraTS-GLI-00005-000", names=NEW, join="-")
    scan(tmp_path / "in", "BraTS-GLI-00005-001", names=NEW, join="-")

    frame = run(tmp_path).manifest.frame

    assert frame["group"].unique().tolist() == [
        "BraTS-GLI-00005-000", "BraTS-GLI-00005-001", "BraTS2021_00000",
    ]  # fmt: skip
    assert frame["patient"].unique().tolist() == ["BraTS-GLI-00005", "BraTS2021_00000"]
    assert frame["image.flair"][0].startswith("in/BraTS-GLI-00005-000/BraTS-GLI-00005-000-t2f.nii")


def test_without_segmentation_there_is_no_label(tmp_path):
    scan(tmp_path / "in", "BraTS20_Validation_001", seg=False)
    scan(tmp_path / "in", "BraTS20_Training_001")

    result = run(tmp_path)

    frame = result.manifest.frame.set_index("id")
    assert frame.loc["BraTS20_Validation_001_081"].isna()[["label", "mask"]].all()
    assert frame.loc["BraTS20_Training_001_081"]["label"] == "diseased"
    assert "1 scans have no segmentation, and so no label." in result.notes


def test_the_one_segmentation_of_2020_with_another_name_is_found(tmp_path):
    folder = scan(tmp_path / "in", "BraTS20_Training_355")
    (folder / "BraTS20_Training_355_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii.gz")

    frame = run(tmp_path).manifest.frame

    assert frame["mask"][1].endswith("W39_1998.09.19_Segm.nii.gz#axis=2,index=81")
    assert frame["label"][1] == "diseased"


def test_other_slices_can_be_asked_for(tmp_path):
    scan(tmp_path / "in", "BraTS20_Training_001")

    assert run(tmp_path, slices=(79, 81)).manifest.frame["slice"].tolist() == [79, 80, 81]
    with pytest.raises(UsageError, match="slices 81 to 79: expected 0 <= first <= last"):
        run(tmp_path, slices=(81, 79))
    with pytest.raises(DataError, match="no image among"):
        run(tmp_path, slices=(84, 90))


@pytest.mark.parametrize(
    ("spoil", "file", "told"),
    [
        (lambda p: p("t2").unlink(), "_t2.nii.gz", "there is no sequence t2 beside t1, t1ce, fl"),
        (
            lambda p: nifti(p("flair"), np.zeros((10, 12, 83), np.int16)),
            "_flair.nii.gz",
            r"a shape of (10, 12, 83), the scan's other files have (10, 12, 84)",
        ),
        (
            lambda p: nifti(p("seg"), np.zeros((12, 10, 84), np.uint8)),
            "_seg.nii.gz",
            r"a shape of (12, 10, 84), the scan's other files have (10, 12, 84)",
        ),
        (
            lambda p: nifti(p("t1"), np.where(np.arange(84) == 7, np.nan, np.ones(SHAPE, "f4"))),
            "_t1.nii.gz",
            "120 of 10,080 voxels are NaN or infinite",
        ),
        (lambda p: p("t1ce").write_bytes(b"nonsense"), "_t1ce.nii.gz", "expected NIfTI"),
        (
            lambda p: p("seg").write_bytes(p("seg").read_bytes()[:-40]),
            "_seg.nii.gz",
            "truncated or damaged",
        ),
    ],
    ids=["missing", "shape", "shape of the mask", "not finite", "no nifti", "mask cut short"],
)
def test_what_is_wrong_with_a_scan_is_told_and_the_others_go_on(tmp_path, spoil, file, told):
    folder = scan(tmp_path / "in", "BraTS20_Training_001")
    scan(tmp_path / "in", "BraTS20_Training_002")
    spoil(lambda name: folder / f"BraTS20_Training_001_{name}.nii.gz")

    result = run(tmp_path)

    assert result.manifest.frame["patient"].unique().tolist() == ["BraTS20_Training_002"]
    (problem,) = result.problems
    assert problem.file == f"BraTS20_Training_001/BraTS20_Training_001{file}"
    assert told in problem.found
    assert problem.remedy.endswith("BraTS20_Training_001 is left out.")
    assert result.counts["scans left out"] == 1


def test_a_second_copy_is_counted(tmp_path):
    scan(tmp_path / "in" / "a", "BraTS20_Training_001")
    scan(tmp_path / "in" / "b", "BraTS20_Training_001")

    result = run(tmp_path)

    assert len(result.manifest) == 4
    assert result.counts["files of a second copy"] == 5
    assert result.manifest.frame["image.t1"][0].startswith("in/a/")


def test_percentiles_are_of_the_volume_and_leave_the_background_out(tmp_path):
    scan(tmp_path / "in", "BraTS20_Training_001")
    manifest = run(tmp_path).manifest
    rule = Intensity(rule="percentile", low=0, high=99, scope="volume", skip_zeros=True)
    recipe = Recipe(
        size_px=(12, 12), resize="centre", channels=SEQUENCES, intensity=rule, dtype="float32"
    )

    images = ImageSet(manifest, recipe, cache=None, workers=0)

    # of each of the 84 values 36 voxels: percentile 99 lies at rank 0.99 * 3023 = 2992.8
    tops = np.array([100 * place + 2992 // 36 for place in (1, 2, 3, 4)])
    expected = np.minimum((100 * np.arange(1, 5) + np.arange(80, 84)[:, None]) / tops, 1)
    np.testing.assert_allclose(images.stored.max(axis=(2, 3)), expected, rtol=1e-6)
