from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest

from medglean.data.readers import probe, read
from medglean.errors import ReadError, TooLargeError

volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
RAS = np.diag([2.0, 3.0, 4.0, 1.0])


def save(path, array, affine=RAS, **header):
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volume_in_ras(tmp_path, name):
    picture = read(save(tmp_path / name, volume))

    np.testing.assert_array_equal(picture.values, volume[np.newaxis])
    assert picture.values.dtype == np.int16
    assert (picture.axes, picture.spacing_mm) == (("R", "A", "S"), (2.0, 3.0, 4.0))
    assert (picture.unit, picture.warnings, picture.full_scale) == ("US", (), None)


def test_stored_axes_are_turned_to_right_front_head(tmp_path):
    # stored axes run to the back, to the head and to the left; 5, 6 and 7 mm apart
    affine = np.array([[0, 0, -7, 0], [-5, 0, 0, 0], [0, 6, 0, 0], [0, 0, 0, 1.0]])
    path = save(tmp_path / "a.nii", volume, affine)

    picture = read(path)

    expected = volume[::-1, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(picture.values[0], expected)
    assert picture.spacing_mm == (7.0, 5.0, 6.0)
    reference = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_array_equal(picture.values[0], reference.dataobj)
    for axis, length in enumerate(expected.shape):
        for index in range(length):
            part = read(f"{path}#axis={axis},index={index}")
            np.testing.assert_array_equal(part.values[0], expected.take(index, axis))
    assert part.axes == ("R", "A")
    assert part.spacing_mm == (7.0, 5.0)


def test_slope_and_intercept(tmp_path):
    path = save(tmp_path / "a.nii", volume)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", 0.5, -10.0)
    path.write_bytes(data)

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], volume * 0.5 - 10)
    assert picture.values.dtype == np.float32


def test_slope_0_means_none(tmp_path):
    path = save(tmp_path / "a.nii", volume)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", 0.0, 7.0)
    path.write_bytes(data)

    np.testing.assert_array_equal(read(path).values[0], volume)


def test_big_endian_and_nifti_2(tmp_path):
    image = nibabel.Nifti1Image(volume.astype(">i2"), RAS, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti2Image(volume, RAS), tmp_path / "b.nii")

    for name in ("a.nii", "b.nii"):
        np.testing.assert_array_equal(read(tmp_path / name).values[0], volume)
        assert probe(tmp_path / name).extra["shape"] == (2, 3, 4)


def test_one_slice_is_a_picture(tmp_path):
    picture = read(save(tmp_path / "a.nii.gz", volume[:, :, :1]))

    assert picture.values.tolist() == [volume[:, :, 0].tolist()]
    assert (picture.axes, picture.spacing_mm) == (("R", "A"), (2.0, 3.0))


def test_series_needs_a_volume(tmp_path):
    series = np.stack([volume, volume + 100], axis=-1)
    path = save(tmp_path / "a.nii.gz", series)

    with pytest.raises(ReadError, match=r"holds 2 volumes, expected one\. .*a\.nii\.gz#volume=0"):
        read(path)
    np.testing.assert_array_equal(read(f"{path}#volume=1").values[0], volume + 100)
    part = read(f"{path}#volume=1,axis=2,index=3")
    np.testing.assert_array_equal(part.values[0], volume[:, :, 3] + 100)
    header = probe(path)
    assert (header.height, header.width, header.frames, header.bits) == (2, 3, 8, 16)
    assert header.decoded_bytes == 96


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("volume=1", r"volume=1 is asked for, but the file has 1 volume\(s\)"),
        ("axis=3,index=0", "axis=3 is asked for, but the file has 3 axis"),
        ("axis=0,index=2", r"index=2 is asked for, but the file has 2 slice\(s\), numbered 0 to 1"),
        ("axis=0", "only one of axis= and index="),
        ("frame=0", "a NIfTI understands only volume, axis, index"),
    ],
)
def test_bad_fragment(tmp_path, fragment, message):
    path = save(tmp_path / "a.nii", volume)

    with pytest.raises(ReadError, match=message):
        read(f"{path}#{fragment}")


def test_nan_and_infinity_are_counted_and_left(tmp_path):
    values = np.ones((2, 3, 4), np.float32)
    values[0, 0, 0], values[1, 0, 0], values[1, 1, 1] = np.nan, np.inf, -np.inf

    picture = read(save(tmp_path / "a.nii", values))

    np.testing.assert_array_equal(picture.values[0], values)
    assert picture.warnings == ("3 voxel(s) are NaN or infinite and were left as they are.",)


def test_no_orientation_is_told(tmp_path):
    path = save(tmp_path / "a.nii", volume)
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(data)

    picture = read(path)

    np.testing.assert_array_equal(picture.values[0], volume[::-1])
    assert "the header states no orientation" in picture.warnings[0]


@pytest.mark.parametrize(("code", "millimetres"), [(1, 2000.0), (2, 2.0), (3, 0.002), (0, 2.0)])
def test_unit_of_length(tmp_path, code, millimetres):
    path = save(tmp_path / "a.nii", volume)
    data = bytearray(path.read_bytes())
    data[123] = code
    path.write_bytes(data)

    assert read(path).spacing_mm[0] == pytest.approx(millimetres)


@pytest.mark.parametrize("kept", [100, 352, 360, -1])
def test_truncated(tmp_path, kept):
    path = save(tmp_path / "a.nii", volume)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(ReadError, match=r"a\.nii: (the NIfTI is truncated|expected NIfTI, found)"):
        read(path)


@pytest.mark.parametrize("fragment", ["", "#axis=2,index=0"])
@pytest.mark.parametrize("damage", ["cut", "short", "flip"])
def test_damaged_gzip(tmp_path, damage, fragment):
    noise = np.random.default_rng(0).integers(0, 4000, (16, 16, 16)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "short":
        data = gzip.compress(gzip.decompress(bytes(data))[:-10])
    else:
        data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)

    with pytest.raises(ReadError, match="the NIfTI is truncated or damaged"):
        read(f"{path}{fragment}")


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 3, 4), np.complex64), "voxels of type complex64"),
        (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "voxels of type RGB"),
        (np.zeros((2, 3, 4, 2, 2), np.int16), r"5 axes \(2, 3, 4, 2, 2\)"),
    ],
)
def test_other_kinds_of_voxels_are_refused(tmp_path, array, found):
    with pytest.raises(ReadError, match=found):
        read(save(tmp_path / "a.nii", array))


def test_pair_of_files_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(volume, RAS), tmp_path / "a.hdr")

    with pytest.raises(ReadError, match=r"a \.hdr/\.img pair"):
        read(tmp_path / "a.hdr")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_forged_size_is_refused_before_anything_is_allocated(tmp_path, name):
    data = bytearray(save(tmp_path / "b.nii", volume).read_bytes())
    data[40:48] = struct.pack("<4h", 3, 32767, 32767, 32767)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    with pytest.raises(TooLargeError, match="32767 x 32767 x 32767 samples"):
        read(tmp_path / name)


def test_header_without_sense(tmp_path):
    data = bytearray(save(tmp_path / "a.nii", volume).read_bytes())
    data[70:72] = struct.pack("<h", 999)  # datatype
    (tmp_path / "a.nii").write_bytes(data)

    with pytest.raises(ReadError, match="its header"):
        read(tmp_path / "a.nii")


def test_real_slices(real_data):
    paths = sorted(real_data("brain_brats_nifti_slices").rglob("*.nii.gz"))[:5]

    for path in paths:
        expected = np.squeeze(nibabel.as_closest_canonical(nibabel.load(path)).get_fdata())
        np.testing.assert_array_equal(read(path).values[0], expected)
