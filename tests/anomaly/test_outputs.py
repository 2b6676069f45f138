"""Maps as files: on the grid of each image, at the same place in the world, whatever happens."""

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile
from tests.anomaly.tiny import tiny_preset

from medglean.anomaly import outputs
from medglean.anomaly.model import make_mapper
from medglean.anomaly.outputs import MapWriter
from medglean.anomaly.volumes import slices_of
from medglean.data.manifest import Manifest
from medglean.errors import DataError
from medglean.runs.applied import drop_parts, in_parts
from medglean.runs.rundir import RunFolder

EIGHT_BIT = {"rule": "window", "low": 0, "high": 255}


def mapper_of(*, size_px=(32, 32), channels="grey", thresholds=None, **images):
    """Return what maps brightness, which needs no training."""
    recipe = {
        "size_px": list(size_px),
        "channels": channels,
        "resize": "pad",
        "intensity": EIGHT_BIT,
        **images,
    }
    preset = tiny_preset(
        method="threshold",
        images=recipe,
        threshold={"equalise": False, "erode": 0.0, "median_px": 0},
    )
    made = make_mapper({}, preset, healthy="healthy", diseased=("lesion",))
    made.thresholds.update(thresholds or {})
    return made


def predict(folder, mapper, manifest, *, resume=False, rows=256, finish=True):
    """Do what `medglean.anomaly.task.apply` does."""
    with RunFolder.create(
        folder,
        preset_toml=mapper.preset.to_toml(),
        command=["test"],
        manifest_hash=manifest.hash,
        seed=0,
        resume=resume,
    ) as run:
        slices, told = slices_of(manifest, mapper.preset.images)
        writer = MapWriter(run, mapper, slices, workers=0)
        table, problems = in_parts(run, slices, writer.write, rows=rows, told=told)
        problems += writer.join_volumes(table)
        if finish:
            drop_parts(run)
            run.finish()
    return table, problems


def head(shape):
    """Return a dim ball in the middle of an array, in 8 bits."""
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return (60 * (np.sqrt(sum(g**2 for g in grids)) < 0.9)).astype(np.uint8)


def write_volume(path, values, affine):
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"a patient's name"
    nibabel.save(image, path)


def oblique(shape, zooms=(1.0, 3.0, 2.0)):
    """Return an affine whose first axis runs to the feet, turned by a few degrees."""
    turn = np.radians(8)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    axes = np.array([[0, 0, -1], [0, 1, 0], [-1, 0, 0]], dtype=float)  # stored: (-S, A, -R)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes.T @ np.diag(zooms)
    affine[:3, 3] = (11.0, -7.0, 5.0)
    return affine


def manifest_of(root, rows):
    return Manifest.from_frame(pd.DataFrame(rows), root)


def test_a_bright_blob_lights_up_at_its_own_place_in_the_world(tmp_path):
    shape = (20, 24, 30)
    values = head(shape)
    blob = (7, 13, 11)
    values[6:9, 12:15, 9:14] = 255
    affine = oblique(shape)
    write_volume(tmp_path / "scan.nii.gz", values, affine)
    mapper = mapper_of(size_px=(48, 48))

    table, problems = predict(
        tmp_path / "run", mapper, manifest_of(tmp_path, {"id": ["p7"], "image": ["scan.nii.gz"]})
    )

    made = nibabel.load(tmp_path / "run/maps/p7.nii.gz")
    scan = nibabel.load(tmp_path / "scan.nii.gz")
    assert made.shape == shape
    assert made.get_data_dtype() == np.float32
    np.testing.assert_array_equal(made.affine, scan.affine)
    assert made.header.get_zooms() == scan.header.get_zooms()
    assert made.header.get_xyzt_units()[0] == "mm"
    for code in ("sform_code", "qform_code"):
        assert made.header[code] == scan.header[code]
    words = bytes(made.header["descrip"].item()).decode()
    assert words.startswith("anomaly map")
    assert "Research use only" in words
    found = made.get_fdata()
    assert found[blob] == pytest.approx(1.0, abs=0.01)  # the window's upper end
    mirrored = [(12, 13, 11), (7, 10, 11), (7, 13, 18), (12, 10, 18)]
    assert max(found[place] for place in mirrored) < 0.3
    lit = np.argwhere(found > 0.6)  # half way between the head and the blob
    world = nibabel.affines.apply_affine(made.affine, lit.mean(axis=0))
    expected = nibabel.affines.apply_affine(affine, blob)
    np.testing.assert_allclose(world, expected, atol=0.01)
    # axial slices are counted from the feet, and the first stored axis runs there
    assert table["id"].iloc[0] == "p7_s000"
    assert len(table) == 20
    best = table.loc[table["map.max"] > 0.9, "image"].tolist()
    assert best == [f"scan.nii.gz#axis=2,index={19 - stored}" for stored in (8, 7, 6)]
    assert set(table["map.file"]) == {"maps/p7.nii.gz"}
    assert [p for p in problems if p.fatal] == []
    assert not (tmp_path / "run/parts").exists()


def test_slices_named_by_the_user_are_joined_and_the_others_are_0(tmp_path):
    values = head((16, 16, 6)) + 40
    write_volume(tmp_path / "a.nii", values, np.diag([2.0, 2.0, 5.0, 1.0]))
    references = ["a.nii#axis=2,index=2", "a.nii#axis=2,index=3"]
    manifest = manifest_of(tmp_path, {"id": ["x", "y"], "image": references})
    mapper = mapper_of(intensity={"rule": "window", "low": 0, "high": 100})

    slices, told = slices_of(manifest, mapper.preset.images)
    assert (slices is manifest, told) == (True, [])
    predict(tmp_path / "run", mapper, manifest)

    made = nibabel.load(tmp_path / "run/maps/a.nii.gz").get_fdata()
    assert [bool(made[..., k].any()) for k in range(6)] == [False, False, True, True, False, False]


def test_a_plane_image_has_a_tiff_on_its_own_grid_and_a_picture(tmp_path):
    image = head((40, 60))
    image[10:16, 30:36] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    mapper = mapper_of(size_px=(64, 64), thresholds={"healthy 99 %": 0.5})

    table, _ = predict(
        tmp_path / "run", mapper, manifest_of(tmp_path, {"id": ["a"], "image": ["a.png"]})
    )

    with tifffile.TiffFile(tmp_path / "run" / table["map.file"].iloc[0]) as file:
        values, words = file.asarray(), file.pages[0].description
    assert (values.shape, values.dtype) == ((40, 60), np.float32)
    assert np.argwhere(values > 0.9).mean(axis=0) == pytest.approx([12.5, 32.5], abs=0.6)
    assert "Anomaly map of image a" in words
    assert "Research use only" in words
    picture = cv2.imread(str(tmp_path / "run/maps/a.png"))
    assert picture.shape[1] == 512
    # the blob is bright yellow (BGR), the head stays dim
    blob, head_there = picture[12 * 512 // 60, 32 * 512 // 60], picture[30 * 8, 20 * 8]
    assert blob[2] > 200
    assert blob[2] > blob[0] + 50
    assert head_there.max() < 120
    row = table.iloc[0]
    assert row["score"] == pytest.approx(1.0)
    assert row["map.max"] == pytest.approx(1.0)
    # 36 of the ellipse's pi / 4 * (0.9 * 40) * (0.9 * 60) pixels
    assert row["map.area"] == pytest.approx(36 / (np.pi / 4 * 0.81 * 2400), rel=0.15)


def test_what_a_crop_cut_off_is_told_and_not_called_healthy(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), head((20, 60)))
    mapper = mapper_of(size_px=(20, 20), resize="centre")

    table, _ = predict(
        tmp_path / "run", mapper, manifest_of(tmp_path, {"id": ["a"], "image": ["a.png"]})
    )

    values = tifffile.imread(tmp_path / "run/maps/a.tiff")
    assert np.isnan(values[:, :20]).all()
    assert np.isfinite(values[:, 20:40]).all()
    assert "not looked at" in table["warnings"].iloc[0]


def three(root):
    """Write two volumes and an image, and return their manifest."""
    for name, bright in (("a", 5), ("b", 2)):
        values = head((12, 14, 8))
        values[4:7, 5:8, bright] = 250
        write_volume(root / f"{name}.nii.gz", values, np.diag([-1.0, 1.0, 2.0, 1.0]))
    cv2.imwrite(str(root / "c.png"), head((30, 30)))
    return manifest_of(root, {"id": ["a", "b", "c"], "image": ["a.nii.gz", "b.nii.gz", "c.png"]})


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted((folder / "maps").iterdir())}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.85, 0.9])
def test_a_prediction_killed_anywhere_ends_as_if_it_had_not_been(tmp_path, monkeypatch, share):
    manifest, mapper = three(tmp_path), mapper_of()
    write, left = RunFolder.write, np.inf

    def killed(run, name, data):
        nonlocal left
        left -= 1
        written.append(name)
        if left < 0:
            raise KeyboardInterrupt
        return write(run, name, data)

    written = []
    monkeypatch.setattr(RunFolder, "write", killed)
    whole, _ = predict(tmp_path / "whole", mapper, manifest, rows=5)
    left = int(share * len(written))
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "run", mapper, manifest, rows=5)
    monkeypatch.setattr(RunFolder, "write", write)

    again, _ = predict(tmp_path / "run", mapper, manifest, rows=5, resume=True)

    pd.testing.assert_frame_equal(again, whole)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_kill_while_parts_are_removed_does_not_lose_a_volume(tmp_path):
    manifest, mapper = three(tmp_path), mapper_of()
    predict(tmp_path / "run", mapper, manifest, rows=5, finish=False)
    before = contents(tmp_path / "run")
    for file in (tmp_path / "run/parts").rglob("*.npz"):
        file.unlink()
    (tmp_path / "run/parts/part-000001.parquet").unlink()

    table, _ = predict(tmp_path / "run", mapper, manifest, rows=5, resume=True)

    assert len(table) == 17
    assert contents(tmp_path / "run") == before


def test_a_damaged_volume_is_told_once_and_the_others_go_on(tmp_path):
    manifest = three(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (12, 14, 8), dtype=np.uint8)
    write_volume(tmp_path / "a.nii.gz", noise, np.eye(4))
    data = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(data[: len(data) // 2])

    table, problems = predict(tmp_path / "run", mapper_of(), manifest)

    assert table["id"].tolist() == [*(f"b_s{k:03d}" for k in range(8)), "c"]
    first, second = (p for p in problems if p.fatal)
    assert first.file.startswith("a.nii.gz#")
    assert "7 more slices" in first.found
    assert second.file == "maps/a.nii.gz"
    assert "8 of 8 slices" in second.found
    assert set(contents(tmp_path / "run")) == {"b.nii.gz", "c.png", "c.tiff"}


def test_a_map_that_is_not_finite_is_told_and_its_slice_is_0(tmp_path, monkeypatch):
    manifest, map_images = three(tmp_path), outputs.map_images

    def broken(mapper, images, *, ids, seed):
        bad = images.copy()
        bad[[one in ("a_s005", "c") for one in ids]] = np.nan
        return map_images(mapper, bad, ids=ids, seed=seed)

    monkeypatch.setattr(outputs, "map_images", broken)
    table, problems = predict(tmp_path / "run", mapper_of(), manifest)

    told = [p for p in problems if p.kind == "not-finite"]
    assert [p.file for p in told] == ["a_s005", "c"]
    assert not {"a_s005", "c"} & set(table["id"])
    made = nibabel.load(tmp_path / "run/maps/a.nii.gz").get_fdata()
    assert not made[..., 5].any()
    assert made[..., 4].any()
    assert any(p.kind == "slices-without-map" and "(5)" in p.found for p in problems)
    assert set(contents(tmp_path / "run")) == {"a.nii.gz", "b.nii.gz"}


def test_if_no_volume_can_be_read_that_is_said(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no volume")

    with pytest.raises(DataError, match=r"could be read. The first: a\.nii\.gz"):
        predict(
            tmp_path / "run",
            mapper_of(),
            manifest_of(tmp_path, {"id": ["a"], "image": ["a.nii.gz"]}),
        )


def test_ids_that_are_no_file_names_do_not_meet(tmp_path):
    ids = ["../../up", "A", "a", "con", "x" * 300, ".hidden", "ü", "q:1", "q?1"]
    for number in range(len(ids)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), head((16, 16)))
    rows = {"id": ids, "image": [f"{number}.png" for number in range(len(ids))]}

    table, _ = predict(tmp_path / "run", mapper_of(size_px=(16, 16)), manifest_of(tmp_path, rows))

    names = [name.casefold() for name in table["map.file"]]
    assert len(set(names)) == len(ids)
    for file in table["map.file"]:
        inside = (tmp_path / "run" / file).resolve()
        assert inside.parent == (tmp_path / "run/maps").resolve()
        assert inside.is_file()


def test_a_volume_in_several_files_has_one_map(tmp_path):
    values = head((12, 14, 8))
    write_volume(tmp_path / "t1.nii.gz", values, np.diag([-1.0, 1.0, 2.0, 1.0]))
    lesion = values.copy()
    lesion[4:7, 5:8, 5] = 250
    write_volume(tmp_path / "flair.nii.gz", lesion, np.diag([-1.0, 1.0, 2.0, 1.0]))
    files = {"image.t1": ["t1.nii.gz"], "image.flair": ["flair.nii.gz"]}

    table, problems = predict(
        tmp_path / "run",
        mapper_of(channels=["t1", "flair"]),
        manifest_of(tmp_path, {"id": ["p"], **files}),
    )

    assert problems == []
    assert table["image"].iloc[3] == "flair.nii.gz#axis=2,index=3"
    made = nibabel.load(tmp_path / "run/maps/p.nii.gz").get_fdata()
    assert np.unravel_index(made.argmax(), made.shape)[2] == 5
    assert np.argwhere(made > 0.6).mean(axis=0) == pytest.approx([5, 6, 5], abs=0.01)
    assert table["score"].idxmax() == 5
