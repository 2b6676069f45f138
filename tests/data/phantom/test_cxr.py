import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data.phantom import cxr_image, write_cxr
from medglean.errors import UsageError


def auc(truth, score):
    positive, negative = np.asarray(score)[truth], np.asarray(score)[~truth]
    return float(
        (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    )


def test_same_numbers_same_pixels_and_other_numbers_others():
    image, mask = cxr_image(5, 2, opacity=True, size_px=(96, 80))
    again, mask_again = cxr_image(5, 2, opacity=True, size_px=(96, 80))

    assert image.shape == (96, 80)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(mask, mask_again)
    assert (image != cxr_image(5, 3, opacity=True, size_px=(96, 80))[0]).mean() > 0.5
    assert (image != cxr_image(6, 2, opacity=True, size_px=(96, 80))[0]).mean() > 0.5


def test_opacity_is_the_only_difference_and_lies_under_its_mask():
    inside, outside = [], []
    for index in range(12):
        ill, mask = cxr_image(0, index, opacity=True, size_px=(128, 128))
        healthy, nothing = cxr_image(0, index, opacity=False, size_px=(128, 128))
        change = ill.astype(float) - healthy
        assert not nothing.any()
        assert 0.005 < mask.mean() < 0.30
        inside.append(change[mask].mean())
        outside.append(np.abs(change[~mask]).mean())
    assert np.mean(inside) > 12  # denser lung is brighter
    assert np.mean(outside) < 3


def test_a_chest_has_dark_lungs_bright_spine_and_belly():
    images = np.stack([cxr_image(1, k, opacity=False, size_px=(64, 64))[0] for k in range(16)])
    mean = images.mean(axis=0)
    lungs = (mean[24:34, 16:20].mean() + mean[24:34, 45:48].mean()) / 2
    assert mean[24:34, 30:34].mean() > lungs + 40
    assert mean[54:60, 24:40].mean() > lungs + 60
    assert mean[36:42, 36:40].mean() > mean[36:42, 24:28].mean() + 5  # the heart lies left


def test_images_of_one_patient_are_more_alike_than_those_of_two():
    def drawn(index, patient):
        image = cxr_image(0, index, opacity=False, patient=patient, size_px=(48, 48))[0]
        return image[4:44, 4:44].ravel().astype(float)

    same = [np.corrcoef(drawn(2 * k, k), drawn(2 * k + 1, k))[0, 1] for k in range(12)]
    other = [np.corrcoef(drawn(2 * k, k), drawn(2 * k + 1, k + 50))[0, 1] for k in range(12)]
    assert np.mean(same) > np.mean(other) + 0.01
    assert max(same) < 0.9999


def test_brightness_does_not_tell_the_class():
    truth = np.arange(90) % 2 == 1
    means = [
        cxr_image(3, k, opacity=bool(t), size_px=(48, 48))[0].mean() for k, t in enumerate(truth)
    ]
    assert 0.35 < auc(truth, means) < 0.65


def test_written_set_has_a_table_with_masks_and_patients(tmp_path):
    table = write_cxr(tmp_path / "set", patients=6, size_px=(64, 48), seed=2)
    frame = pd.read_csv(table)

    assert list(frame.columns) == ["path", "label", "patient_id", "mask", "source"]
    assert frame.patient_id.nunique() == 6
    assert (frame.groupby("patient_id").label.nunique() == 1).all()
    assert set(frame.label) == {"normal", "opacity"}
    for row in frame.itertuples():
        with (
            Image.open(table.parent / row.path) as image,
            Image.open(table.parent / row.mask) as mask,
        ):
            assert image.size == mask.size == (48, 64)
            assert "synthetic" in image.text["Comment"]
            assert np.asarray(mask).any() == (row.label == "opacity")


def test_two_writings_are_the_same_bytes(tmp_path):
    digests = []
    for name in ("a", "b"):
        folder = write_cxr(tmp_path / name, patients=2, size_px=(48, 48)).parent
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files])
    assert digests[0] == digests[1]


def test_planted_flaws_are_there(tmp_path):
    flaws = ["duplicate", "relabelled", "truncated", "constant", "confound"]
    table = write_cxr(tmp_path / "set", patients=20, size_px=(64, 64), flaws=flaws)
    frame = pd.read_csv(table)
    folder = table.parent
    content = frame.path.map(lambda p: (folder / p).read_bytes())

    twin = frame[content.duplicated(keep=False)]
    assert len(twin) == 2
    assert twin.patient_id.nunique() == 2
    assert twin.label.nunique() == 1
    jpeg = frame[frame.path.str.endswith(".jpg")].iloc[0]
    assert jpeg.label == "normal"
    cut = folder / frame[frame.path.str.contains("_cut")].path.iloc[0]
    with pytest.raises(OSError, match="truncated"), Image.open(cut) as image:
        image.load()
    with Image.open(folder / frame[frame.path.str.contains("_blank")].path.iloc[0]) as blank:
        assert blank.getextrema()[0] == blank.getextrema()[1]
    share = frame.groupby("label").source.apply(lambda s: (s == "clinic-b").mean())
    assert share["opacity"] > 0.7 > 0.3 > share["normal"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patients": 1}, "expected at least 2"),
        ({"images_per_patient": (2, 1)}, "fewest <= most"),
        ({"flaws": ["duplicates"]}, "unknown flaw 'duplicates'; there are duplicate,"),
    ],
)
def test_wrong_settings_are_named(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        write_cxr(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_cxr(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
