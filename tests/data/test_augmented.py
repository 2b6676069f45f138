"""Copies that were turned, flipped, shifted or zoomed are found, and other chests are not."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data.augmented import augmented_copies
from medglean.data.duplicates import near_duplicates
from medglean.data.phantom import cxr_image

COUNT = 10


def thumbnail(image):
    return cv2.resize(np.ascontiguousarray(image), (64, 64), interpolation=cv2.INTER_AREA)


def moved(image, *, degrees=0.0, zoom=1.0, across=0.0, border=cv2.BORDER_CONSTANT):
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, zoom)
    matrix[:, 2] += across * width
    return cv2.warpAffine(image, matrix, (width, height), borderMode=border)


CHANGES = {
    "upside down": lambda i: i[::-1],
    "mirrored": lambda i: i[:, ::-1],
    "a quarter": np.rot90,
    "half a turn": lambda i: np.rot90(i, 2),
    "a quarter, mirrored": lambda i: np.rot90(i, 3)[:, ::-1],
    "5 degrees": lambda i: moved(i, degrees=5),
    "-15 degrees": lambda i: moved(i, degrees=-15, border=cv2.BORDER_REPLICATE),
    "12 degrees, mirrored": lambda i: moved(i[:, ::-1].copy(), degrees=12),
    "shifted by a tenth": lambda i: moved(i, across=0.1),
    "smaller": lambda i: moved(i, zoom=0.9),
    "brighter and turned": lambda i: cv2.convertScaleAbs(moved(i, degrees=8), alpha=0.8, beta=30),
}


@pytest.fixture(scope="module")
def chests():
    return [cxr_image(11, k, opacity=bool(k % 2), size_px=(160, 160))[0] for k in range(COUNT)]


@pytest.mark.parametrize("change", CHANGES)
def test_augmented_copies_are_found_and_nothing_else(chests, change):
    copies = [CHANGES[change](image) for image in chests[:6]]
    found = augmented_copies(np.stack([thumbnail(i) for i in [*chests, *copies]]))

    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {(k, COUNT + k) for k in range(6)}
    odd = change in ("upside down", "mirrored", "a quarter, mirrored", "12 degrees, mirrored")
    assert (found.mirrored == odd).all()
    assert found.similarity.max() <= 1.0 + 1e-6


def test_siblings_of_one_picture_are_found_as_well(chests):
    one = thumbnail(moved(chests[0], degrees=12))
    other = thumbnail(moved(chests[0][:, ::-1].copy(), across=0.06))
    found = augmented_copies(np.stack([one, *map(thumbnail, chests[1:]), other]))
    assert list(zip(found.first, found.second, strict=True)) == [(0, COUNT)]
    assert found.mirrored[0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_images_that_show_nothing_and_too_few_images_give_no_pairs(count):
    assert len(augmented_copies(np.full((count, 64, 64), 90, np.uint8))) == 0
    noise = np.random.default_rng(0).integers(0, 255, (count, 64, 64)).astype(np.uint8)
    assert len(augmented_copies(noise)) == 0


@pytest.mark.slow
def test_real_chest_x_rays_their_augmented_copies_are_found_and_other_patients_are_not(real_data):
    folder = real_data("cxr_kermany_224")
    table = pd.read_csv(folder / "labels.csv", dtype=str).drop_duplicates("patient_id")[::4]
    images = [cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE) for path in table.path[:300]]
    rng = np.random.default_rng(0)
    copies = []
    for image in images[:150]:
        given = {"degrees": rng.uniform(-15, 15), "across": rng.uniform(-0.1, 0.1)}
        copy = moved(image[:, :: rng.choice([-1, 1])].copy(), **given, zoom=rng.uniform(0.9, 1.1))
        copies.append(cv2.convertScaleAbs(copy, alpha=rng.uniform(0.7, 1.2), beta=10))
    thumbnails = np.stack([thumbnail(image) for image in [*images, *copies]])

    found = augmented_copies(thumbnails)

    true = found.second - found.first == len(images)
    assert true.sum() >= 132  # of 150
    assert (~true).sum() == 0
    assert len(near_duplicates(thumbnails)) < 15  # what the search for moved copies is for
