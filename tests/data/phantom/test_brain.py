import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data.manifest import Manifest
from medglean.data.phantom import brain_slice, write_brain
from medglean.data.phantom.brain import CHANNELS
from medglean.errors import UsageError

SIZE = (96, 96)


def sick_slices(count):
    """Slices that hold a lesion, with the same slice drawn healthy."""
    found = []
    volume = 0
    while len(found) < count:
        ill, mask = brain_slice(0, volume, 0.5, lesion=True, size_px=SIZE)
        if mask.sum() > 40:
            found.append(
                (
                    ill.astype(float),
                    mask,
                    brain_slice(0, volume, 0.5, lesion=False, size_px=SIZE)[0],
                )
            )
        volume += 1
    return found


def test_same_numbers_same_pixels():
    one, mask = brain_slice(4, 1, 0.4, lesion=True, size_px=SIZE)
    two, mask_two = brain_slice(4, 1, 0.4, lesion=True, size_px=SIZE)
    assert one.shape == (4, *SIZE)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(mask, mask_two)
    assert (one != brain_slice(4, 2, 0.4, lesion=True, size_px=SIZE)[0]).mean() > 0.2


def test_a_lesion_is_bright_on_flair_and_t2_and_dark_on_t1():
    contrast = {name: [] for name in CHANNELS}
    for ill, mask, healthy in sick_slices(8):
        for k, name in enumerate(CHANNELS):
            contrast[name].append(ill[k][mask].mean() - healthy[k][mask].mean())
    assert min(contrast["flair"]) > 10
    assert np.mean(contrast["t2"]) > 20
    assert np.mean(contrast["t1"]) < -20


def test_fluid_is_bright_on_t2_only():
    slices = [brain_slice(2, k, 0.1, lesion=False, size_px=SIZE)[0] for k in range(8)]
    fluid = {}
    for k, name in enumerate(CHANNELS):
        brightest = [s[2] >= np.percentile(s[2][s[2] > 0], 97) for s in slices]
        values = [
            s[k][b].mean() / s[k][s[k] > 0].mean() for s, b in zip(slices, brightest, strict=True)
        ]
        fluid[name] = np.mean(values)
    assert fluid["t2"] > 1.5
    assert fluid["flair"] < 0.8
    assert fluid["t1"] < 0.8


def test_a_faint_lesion_lies_where_the_plain_one_does_and_differs_less():
    sharp, mask = brain_slice(0, 1, 0.5, lesion=True, size_px=(64, 64))
    faint, same = brain_slice(0, 1, 0.5, lesion=True, size_px=(64, 64), contrast=0.5)
    t2 = CHANNELS.index("t2")

    assert mask.any()
    np.testing.assert_array_equal(mask, same)
    assert faint[t2][mask].mean() < sharp[t2][mask].mean() - 10
    far = ~mask & (faint[t2] == sharp[t2])
    assert far.sum() > 0.8 * (~mask).sum()


def test_outside_of_the_brain_is_nothing_and_the_lesion_is_inside():
    for ill, mask, _ in sick_slices(3):
        assert ill[:, 0].max() == ill[:, :, 0].max() == 0
        assert (ill[0][mask] > 0).mean() > 0.98


def test_healthy_patient_has_no_mask_and_neighbours_are_alike():
    one, mask = brain_slice(0, 3, 0.50, lesion=False, size_px=SIZE)
    near = brain_slice(0, 3, 0.53, lesion=False, size_px=SIZE)[0]
    far = brain_slice(0, 3, 0.05, lesion=False, size_px=SIZE)[0]
    assert not mask.any()
    change = np.abs(one.astype(float) - near).mean()
    assert 0 < change < 0.7 * np.abs(one.astype(float) - far).mean()


def test_written_set_labels_a_slice_by_its_mask(tmp_path):
    table = write_brain(tmp_path / "b", patients=4, slices=4, size_px=(64, 64))
    frame = pd.read_csv(table)

    assert len(frame) == 16
    assert set(frame.label) == {"healthy", "lesion"}
    for row in frame.to_dict("records"):
        with Image.open(table.parent / row["mask"]) as mask:
            assert np.asarray(mask).any() == (row["label"] == "lesion")
        for channel in CHANNELS:
            with Image.open(table.parent / row[f"image.{channel}"]) as image:
                assert image.size == (64, 64)
    assert (frame[frame.patient.isin(["p0000", "p0002"])].label == "healthy").all()


@pytest.mark.parametrize("nifti", [False, True])
def test_the_table_is_a_manifest(tmp_path, nifti):
    table = write_brain(tmp_path / "b", patients=2, slices=2, size_px=(48, 48), nifti=nifti)
    manifest = Manifest.read(table)
    assert manifest.image_columns == [f"image.{name}" for name in CHANNELS]
    assert manifest.missing_files() == []
    assert manifest.grouped_by == "patient"


def test_nifti_holds_the_same_slices_in_ras(tmp_path):
    table = write_brain(tmp_path / "n", patients=2, slices=3, size_px=(64, 48), nifti=True)
    frame = pd.read_csv(table)
    path, fragment = frame["image.flair"][1].split("#")
    volume = nib.load(table.parent / path)

    assert fragment == "axis=2,index=1"
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert volume.shape == (48, 64, 3)
    drawn = brain_slice(0, 0, 0.475, lesion=False, size_px=(64, 48))[0][3]
    stored = np.asarray(volume.dataobj)[:, :, 1]
    np.testing.assert_array_equal(stored[::-1, ::-1].T, drawn)


def test_too_few_patients_are_refused(tmp_path):
    with pytest.raises(UsageError, match="expected at least 2 patients"):
        write_brain(tmp_path / "b", patients=1)
