from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from tests.data.small_files import nifti

from medglean.data.glance import glance
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.readers import Volumes, read
from medglean.data.readers import nifti as nifti_reader
from medglean.data.recipe import Intensity, Recipe

VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


@pytest.fixture
def inflations(monkeypatch):
    """Return the names of the files that were inflated, in order."""
    names = []
    plain = nifti_reader._inflated

    def counted(request, layout, slicer):
        names.append(request.path.name)
        return plain(request, layout, slicer)

    monkeypatch.setattr(nifti_reader, "_inflated", counted)
    return names


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("dtype", ["int16", ">f8"])
def test_a_slice_of_a_kept_volume_is_the_slice_of_the_file(tmp_path, inflations, flipped, dtype):
    path = nifti(tmp_path / "v.nii.gz", VOXELS.astype(dtype), flipped=flipped)
    volumes = Volumes()
    parts = ["", *(f"#axis={a},index={i}" for a in range(3) for i in range(VOXELS.shape[a]))]
    for part in parts:
        plain = read(f"{path.name}{part}", root=tmp_path)
        kept = read(f"{path.name}{part}", root=tmp_path, volumes=volumes)
        np.testing.assert_array_equal(kept.values, plain.values)
        assert kept.values.dtype == plain.values.dtype
        assert (kept.axes, kept.spacing_mm, kept.warnings) == (
            plain.axes, plain.spacing_mm, plain.warnings,
        )  # fmt: skip
    assert len(inflations) == len(parts) + 1


def test_warnings_are_those_of_the_slice(tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, 1] = np.nan
    nifti(tmp_path / "v.nii.gz", voxels)
    volumes = Volumes()

    told = [
        len(read(f"v.nii.gz#axis=2,index={k}", root=tmp_path, volumes=volumes).warnings)
        for k in (0, 1)
    ]

    assert told == [0, 1]


def test_a_file_that_changed_is_read_again(tmp_path):
    path, volumes = nifti(tmp_path / "v.nii.gz", VOXELS), Volumes()
    before = read("v.nii.gz", root=tmp_path, volumes=volumes).values
    nifti(path, VOXELS + 1)
    os.utime(path, ns=(1, 1))

    after = read("v.nii.gz", root=tmp_path, volumes=volumes).values

    np.testing.assert_array_equal(after, before + 1)


def test_no_more_than_the_room_there_is(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"x")
    loads = []

    def load(number):
        loads.append(number)
        return np.zeros(10, np.uint8)

    volumes = Volumes(most_bytes=20)
    for number in (0, 1, 0, 2, 0, 1):  # 2 takes the place of 1, which was asked for longest ago
        values = volumes.voxels(paths[number], lambda number=number: load(number))
        assert not values.flags.writeable
    assert loads == [0, 1, 2, 1]
    volumes.clear()
    volumes.voxels(paths[1], lambda: load(1))
    assert loads == [0, 1, 2, 1, 1]


def test_a_volume_too_large_to_be_kept_is_read_slice_by_slice(tmp_path, inflations):
    nifti(tmp_path / "v.nii.gz", VOXELS)
    volumes = Volumes(most_bytes=VOXELS.nbytes - 1)
    for number in range(3):
        read(f"v.nii.gz#axis=2,index={number}", root=tmp_path, volumes=volumes)
    assert len(inflations) == 3


def test_caching_and_auditing_a_volumes_slices_inflate_it_once(tmp_path, inflations):
    for name in ("a", "b"):
        nifti(tmp_path / f"{name}.nii.gz", VOXELS * 3)
    rows = [
        {"id": f"{v}{k}", "image.t1": f"{v}.nii.gz#axis=2,index={k}"}
        for v in "ab"
        for k in range(4)
    ]
    manifest = Manifest.from_frame(pd.DataFrame(rows), tmp_path)
    recipe = Recipe(
        size_px=(4, 4),
        channels=("t1",),
        resize="centre",
        intensity=Intensity(rule="percentile", low=0, high=99, scope="volume"),
    )

    images = ImageSet(manifest, recipe, cache=None, workers=0)
    assert images.ok.all()
    assert inflations == ["a.nii.gz", "b.nii.gz"]
    assert glance(manifest).ok.all()
    assert sorted(inflations[2:]) == ["a.nii.gz", "b.nii.gz"]
