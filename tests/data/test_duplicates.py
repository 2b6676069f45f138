import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data.duplicates import (
    MAX_DISTANCE_BITS,
    components,
    near_duplicates,
    perceptual_hash,
    same_keys,
    similarities,
)
from medglean.data.glance import glance
from medglean.data.manifest import Manifest
from medglean.data.phantom import cxr_image

COUNT = 24


def thumbnail(image):
    return cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def chests():
    return [cxr_image(11, k, opacity=bool(k % 2), size_px=(160, 160))[0] for k in range(COUNT)]


def recompressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0)


def cropped(image):
    height, width = image.shape
    return image[height * 4 // 100 : -height * 4 // 100, width * 4 // 100 : -width * 4 // 100]


CHANGES = {
    "recompressed": recompressed,
    "halved": lambda i: cv2.resize(i, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda i: np.clip(i * 0.7 + 50, 0, 255).astype(np.uint8),
    "gamma": lambda i: (255 * (i / 255.0) ** 1.5).astype(np.uint8),
    "mirrored": lambda i: np.ascontiguousarray(i[:, ::-1]),
    "cropped": cropped,
    "cut at the top": lambda i: i[2:],
    "equalised": lambda i: cv2.createCLAHE(2, (8, 8)).apply(i),
    "written on": lambda i: cv2.putText(i.copy(), "R 12", (8, 24), 0, 0.6, 255, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(chests, change):
    copies = [CHANGES[change](image) for image in chests[:8]]
    pairs = near_duplicates(np.stack([thumbnail(i) for i in [*chests, *copies]]))

    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert found == {(k, COUNT + k) for k in range(8)}
    assert (pairs.mirrored == (change == "mirrored")).all()
    assert pairs.similarity.min() >= 0.93
    assert pairs.similarity.max() <= 1.0
    assert pairs.distance.max() <= MAX_DISTANCE_BITS


def test_images_that_show_nothing_are_no_duplicates():
    flat = np.stack([np.full((64, 64), level, np.uint8) for level in (0, 0, 128, 128, 255)])
    assert len(near_duplicates(flat)) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_give_no_pairs(count):
    assert len(near_duplicates(np.zeros((count, 64, 64), np.uint8))) == 0


def test_a_negative_is_not_the_same_picture(chests):
    left = thumbnail(chests[0]).astype(float)[None]
    left = (left - left.mean()) / np.sqrt(((left - left.mean()) ** 2).sum())
    assert similarities(left, left)[0] == pytest.approx(1.0, abs=1e-6)
    assert similarities(left, -left)[0] == 0.0


def test_similarity_forgives_a_shift_of_one_pixel_but_not_of_six(chests):
    image = thumbnail(chests[3]).astype(float)
    image = cv2.GaussianBlur(image, (0, 0), 1.0)

    def unit(part):
        part = part - part.mean()
        return (part / np.sqrt((part**2).sum()))[None]

    here, near, far = image[8:56, 8:56], image[8:56, 9:57], image[14:62, 14:62]
    plain = float((unit(here) * unit(near)).sum())
    assert similarities(unit(here), unit(near))[0] > plain + 0.25 * (1 - plain)
    assert similarities(unit(here), unit(far))[0] < 0.93


def test_hash_ignores_brightness_and_contrast_and_tells_images_apart(chests):
    images = np.stack([thumbnail(i) for i in chests])
    darker = np.rint(images * 0.5 + 20).astype(np.uint8)
    moved = np.bitwise_count(perceptual_hash(images) ^ perceptual_hash(darker))
    assert moved.max() <= 4
    assert perceptual_hash(images, side=16).shape == (COUNT, 4)
    others = np.bitwise_count(perceptual_hash(images)[:1] ^ perceptual_hash(images)[1:])
    assert others.min() > 0


def test_hash_of_a_plane_by_hand():
    # cos(pi (x + 1/2) / 64) is the first horizontal cosine: of the 63 coefficients that are not
    # the constant, one is positive and 62 are about 0, so exactly bit 1 (and the constant) stand
    x = np.arange(64)
    wave = 128 + 100 * np.cos(np.pi * (x + 0.5) / 64)
    plane = np.rint(np.broadcast_to(wave, (64, 64))).astype(np.uint8)[None]
    bits = np.unpackbits(perceptual_hash(plane).view(np.uint8))
    assert bits[0] == 1
    assert bits[1] == 1
    flipped = np.unpackbits(perceptual_hash(plane[:, :, ::-1].copy()).view(np.uint8))
    assert flipped[1] == 0


def test_components_join_chains():
    assert components(6, [0, 1, 4], [1, 2, 5]).tolist() == [0, 0, 0, 3, 4, 4]
    assert components(3, [], []).tolist() == [0, 1, 2]


def test_same_keys_leaves_missing_ones_alone():
    assert same_keys(["x", None, "y", "x", None, "y", "y", "z", float("nan")]) == [
        [0, 3],
        [2, 5, 6],
    ]


@pytest.mark.slow
def test_real_chest_x_rays_of_different_patients_are_not_called_duplicates(real_data):
    folder = real_data("cxr_kermany_224")
    table = pd.read_csv(folder / "labels.csv", dtype=str).iloc[::2]
    manifest = Manifest.from_frame(
        table.assign(id=table.path, image=table.path)[["id", "image"]], folder
    )
    seen = glance(manifest)
    assert seen.ok.all()
    assert len(near_duplicates(seen.thumbnails)) == 0


@pytest.mark.slow
def test_slices_of_different_heads_are_not_called_duplicates(real_data):
    folder = real_data("brain_lgg_flair128")
    table = pd.read_csv(folder / "labels.csv", dtype=str).iloc[:900]  # 27 patients
    manifest = Manifest.from_frame(
        table.assign(id=table.path, image=table.path)[["id", "image"]], folder
    )
    pairs = near_duplicates(glance(manifest).thumbnails)
    patient = table.patient_id.to_numpy()
    assert len(pairs) > 50  # neighbouring slices of one head
    assert (patient[pairs.first] == patient[pairs.second]).all()


@pytest.mark.slow
def test_known_duplicates_of_breast_ultrasound_are_found(real_data):
    folder = real_data("us_busi")
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    manifest = Manifest.from_frame(
        table.assign(id=table.path, image=table.path)[["id", "image"]], folder
    )
    pairs = near_duplicates(glance(manifest).thumbnails)
    label = table.label.to_numpy()

    # published flaw of the set (Pawlowska et al. 2023): duplicates, some with two labels
    assert 120 <= len(pairs) <= 160
    assert (label[pairs.first] != label[pairs.second]).sum() >= 3
    group = table.near_duplicate_group.to_numpy()
    assert (group[pairs.first] == group[pairs.second]).mean() > 0.95
