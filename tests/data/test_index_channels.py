"""Images in several files, one for each channel: indexed, audited, divided, prepared."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.data.small_files import png

from medglean.data.audit import audit
from medglean.data.imageset import ImageSet
from medglean.data.index import index
from medglean.data.manifest import Manifest
from medglean.data.masks import prepared_mask
from medglean.data.phantom import write_brain
from medglean.data.recipe import Intensity, Recipe
from medglean.data.splits import split_by_group
from medglean.errors import ManifestError

CHANNELS = ("t1", "t1ce", "t2", "flair")


@pytest.fixture(scope="module", params=["png", "nifti"])
def brain(request, tmp_path_factory) -> Path:
    """Return the folder of two patients with three slices each."""
    folder = tmp_path_factory.mktemp("brain") / request.param
    write_brain(folder, patients=2, slices=3, size_px=(32, 40), nifti=request.param == "nifti")
    return folder


@pytest.fixture
def indexed(brain, tmp_path) -> Manifest:
    return index(brain, out=tmp_path / "m.parquet").manifest


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_each_channels_file_is_recorded(indexed):
    frame = indexed.frame

    assert indexed.image_columns == [f"image.{name}" for name in CHANNELS]
    assert len(frame) == 6
    assert frame["id"].tolist()[:2] == ["v0000_00", "v0000_01"]
    assert indexed.missing_files() == []
    for name in CHANNELS:
        files = [indexed.file_of(text) for text in frame[f"image.{name}"]]
        assert frame[f"bytes.{name}"].tolist() == [file.stat().st_size for file in files]
        assert frame[f"sha256.{name}"].tolist() == [sha256(file) for file in files]
    assert indexed.classes() == ("healthy", "lesion")
    assert frame["slice"].tolist() == [0, 1, 2, 0, 1, 2]


def test_what_was_written_and_what_was_indexed_are_the_same(brain, indexed):
    written = Manifest.read(brain / "labels.csv")
    assert list(written.frame["label"]) == list(indexed.frame["label"])
    recipe = Recipe(
        channels=CHANNELS,
        size_px=(40, 40),
        resize="centre",
        intensity=Intensity(rule="percentile", low=0, high=99),
    )
    before = ImageSet(written, recipe, cache=None, workers=0)
    after = ImageSet(indexed, recipe, cache=None, workers=0)
    assert before.ok.all()
    assert after.ok.all()
    np.testing.assert_array_equal(before.stored, after.stored)


def test_audit_split_cache_and_masks_work(indexed, tmp_path):
    result = audit(indexed, probe_shortcuts=False)
    assert result.of("unreadable") == []
    assert result.of("altered") == []

    divided = split_by_group(
        indexed, fractions={"train": 0.5, "test": 0.5}, group="patient", seed=0
    )
    assert set(divided.frame["split"]) == {"train", "test"}

    recipe = Recipe(
        channels=CHANNELS,
        size_px=(48, 48),
        resize="pad",
        intensity=Intensity(rule="min-max"),
    )
    images = ImageSet(divided, recipe, cache=tmp_path / "cache", workers=0)
    assert images.stored.shape == (6, 4, 48, 48)
    assert images.ok.all()
    assert len(images.positions("train")) == 3
    rows = indexed.frame["label"] == "lesion"
    inside = [prepared_mask(m, indexed.root, recipe) for m in indexed.frame["mask"][rows]]
    assert inside
    assert all(mask.any() for mask in inside)


def test_a_channel_that_was_altered_is_told_by_cache_and_audit(brain, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(brain, folder)
    manifest = index(folder, out=tmp_path / "m.csv").manifest
    row = manifest.frame.iloc[4]
    first, second = (manifest.file_of(row[f"image.{name}"]) for name in ("t2", "t1"))
    first.write_bytes(second.read_bytes())

    images = ImageSet(
        manifest,
        Recipe(channels=CHANNELS, size_px=(16, 16), intensity=Intensity(rule="min-max")),
        cache=None,
        workers=0,
    )
    findings = audit(manifest, probe_shortcuts=False).of("altered")

    slices = 3 if first.suffix == ".gz" else 1
    assert (~images.ok).sum() == slices
    assert all("t2" in problem.file for problem in images.failures)
    assert len(findings) == slices
    assert findings[-1].ids[0].startswith("v0001_")


def test_a_broken_channel_costs_its_rows_and_is_told_once(tmp_path):
    write_brain(tmp_path / "in", patients=2, slices=3, size_px=(16, 16), nifti=True)
    (tmp_path / "in" / "images" / "v0001_t2.nii.gz").write_bytes(b"nonsense")

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert result.manifest.frame["group"].unique().tolist() == ["v0000"]
    assert result.counts["broken"] == 1
    told = [problem for problem in result.problems if problem.fatal]
    assert [problem.file for problem in told] == ["images/v0001_t2.nii.gz"]


def test_a_channel_without_file_is_left_out_and_told(tmp_path):
    for name in ("a_x", "a_y", "b_x"):
        png(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "labels.csv").write_text(
        "image.x,image.y,label\na_x.png,a_y.png,1\nb_x.png,b_y.png,2\nc_x.png,c_y.png,3\n"
    )

    result = index(tmp_path / "in", out=tmp_path / "m.csv")

    assert "labels.csv lists the images in its columns 'image.x', 'image.y'" in result.reason
    assert result.manifest.ids == ["a_x.png", "b_x.png"]
    assert result.manifest.frame["image.y"].isna().tolist() == [False, True]
    told = [str(problem) for problem in result.problems if problem.kind == "missing-file"]
    assert "labels.csv, row 3, column 'image.y': no one file 'b_y.png'" in told[0]
    assert "The row is left out." in told[1]
    assert result.counts["rows without file"] == 1


def test_columns_of_any_name_become_channels_when_asked_for(tmp_path):
    for name in ("a", "b"):
        png(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "labels.csv").write_text("path,other,label\na.png,b.png,1\n")

    manifest = index(
        tmp_path / "in",
        out=tmp_path / "m.csv",
        columns={"image.one": "path", "image.two": "other"},
    ).manifest

    assert manifest.frame[["image.one", "image.two"]].to_numpy().tolist() == [
        ["in/a.png", "in/b.png"]
    ]


def test_a_table_may_name_parts_of_files(tmp_path):
    write_brain(tmp_path / "in", patients=2, slices=2, size_px=(16, 16), nifti=True)
    table = pd.read_csv(tmp_path / "in" / "labels.csv", dtype=str)
    table["image"] = table.pop("image.flair")
    table = table[["image", "label", "mask"]]
    table.to_csv(tmp_path / "in" / "labels.csv", index=False)

    manifest = index(tmp_path / "in", out=tmp_path / "m.csv").manifest

    assert manifest.ids[1] == "images/v0000_flair.nii.gz#axis=2,index=1"
    assert manifest.frame["image"][1] == "in/images/v0000_flair.nii.gz#axis=2,index=1"
    assert manifest.frame["mask"][1] == "in/masks/v0000.nii.gz#axis=2,index=1"
    assert manifest.frame["bytes"].notna().all()


def test_a_wrong_hash_of_a_channel_is_told(tmp_path):
    table = pd.DataFrame({"id": ["1"], "image.t1": ["a.png"], "sha256.t1": ["xyz"]})
    with pytest.raises(ManifestError, match=r"column 'sha256.t1': 'xyz' is not a SHA-256"):
        Manifest.from_frame(table, tmp_path)
    table = pd.DataFrame({"id": ["1"], "image.t1": ["a.png"], "bytes.t1": ["many"]})
    with pytest.raises(ManifestError, match=r"column 'bytes.t1': 'many' is not a whole number"):
        Manifest.from_frame(table, tmp_path)
