from __future__ import annotations

import cv2
import numpy as np
import pytest

from medglean.classify.shortcuts.hiding import (
    Hidden,
    border_of,
    ellipse,
    filled,
    flat_thumbnails,
    hidden_regions,
    interior,
)


def test_the_border_is_about_a_tenth_of_each_side():
    inside = interior(96, 192)

    # 5 of 48 px: 10 of 96 and 20 of 192
    assert inside[10:86, 20:172].all()
    assert inside.sum() == 76 * 152
    assert interior(3, 3).tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_the_ellipse_covers_what_its_formula_says():
    # pi/4 of the box of 0.9 by 0.9
    assert ellipse(400, 300).mean() == pytest.approx(np.pi / 4 * 0.81, abs=1e-3)
    assert not ellipse(40, 40)[0].any()
    assert ellipse(40, 40)[20, 2:38].all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_hidden_becomes_the_mean_of_the_rest(dtype):
    picture = np.array([[[[10, 20], [99, 31]], [[1, 2], [99, 3]]]]).astype(dtype)
    hidden = np.array([[[False, False], [True, False]]])

    found = filled(picture, hidden)

    # means: (10 + 20 + 31) / 3 = 20.33, and 2; whole numbers are rounded
    expected = 61 / 3 if dtype == np.float32 else 20
    assert found[0, 0, 1, 0] == pytest.approx(expected)
    assert found[0, 1, 1, 0] == 2
    assert found.dtype == dtype
    kept = ~hidden[0]
    np.testing.assert_array_equal(found[0][:, kept], picture[0][:, kept])
    assert picture[0, 0, 1, 0] == 99


def test_the_inside_leaves_no_trace():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 255, (2, 1, 40, 40)).astype(np.uint8)
    second = first.copy()
    where = np.broadcast_to(ellipse(40, 40), (2, 40, 40))
    second[:, 0][where] = rng.integers(0, 255, where.sum())

    np.testing.assert_array_equal(filled(first, where), filled(second, where))
    assert (first != second).any()


def test_an_image_that_is_hidden_altogether_is_empty():
    assert not filled(np.ones((1, 1, 2, 2)), np.ones((1, 2, 2), bool)).any()


def test_masks_hide_a_little_more_than_the_organ(made):
    judged = made("middle", patients=12, masks=True)
    rows = np.arange(12)

    hidden = hidden_regions(judged.images, rows, column="mask")

    mask = np.zeros((40, 40), np.uint8)
    mask[14:26, 14:26] = 1
    # 3 % of 40 px is one pixel to each side
    wide = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    np.testing.assert_array_equal(hidden.of(np.array([7]))[0], wide > 0)
    assert hidden.share == pytest.approx(wide.mean())
    assert hidden.name == "organ"
    assert "outline stays visible" in hidden.told


@pytest.mark.parametrize(
    ("masks", "column", "reason"),
    [
        (False, "mask", "no column 'mask' of masks"),
        ("some", "mask", "6 of 12 images have no usable mask in column 'mask'"),
        (True, "lungs", "no column 'lungs' of masks"),
    ],
)
def test_unless_every_image_has_a_mask_the_middle_of_all_is_hidden(made, masks, column, reason):
    judged = made("middle", patients=12, masks=masks)

    hidden = hidden_regions(judged.images, np.arange(12), column=column)

    assert hidden.name == "middle"
    assert hidden.told.startswith(reason)
    assert "64 % of the picture" in hidden.told
    np.testing.assert_array_equal(hidden.of(np.arange(3)), [ellipse(40, 40)] * 3)


@pytest.mark.parametrize("broken", ["empty", "absent"])
def test_masks_that_show_nothing_are_none(made, broken):
    judged = made("middle", patients=12, masks=True)
    file = judged.images.manifest.root / "mask.png"
    if broken == "absent":
        file.unlink()
    else:
        cv2.imwrite(str(file), np.zeros((40, 40), np.uint8))

    assert hidden_regions(judged.images, np.arange(12), column="mask").name == "middle"


def test_regions_are_those_of_their_rows():
    masks = np.zeros((3, 4, 10), bool)
    masks[1, 2, 9] = True
    packed = np.packbits(masks, axis=-1)
    hidden = Hidden(np.array([2, 5, 9]), "organ", "", 0.0, packed, np.zeros((4, 10), bool))

    np.testing.assert_array_equal(hidden.of(np.array([9, 5])), masks[[2, 1]])


def test_the_border_of_a_thumbnail_knows_nothing_of_the_inside(in_the_middle):
    images = in_the_middle.images
    rows = np.arange(5)
    flat = border_of(flat_thumbnails(images, rows))
    inside = interior(40, 40)

    def emptied(pictures, part):
        return np.where(inside, 0, pictures)

    changed = border_of(flat_thumbnails(images, rows, emptied))

    assert flat.shape == (5, 48 * 48 - 38 * 38)
    # 4 px of 40 are hidden to 4.8 px of 48: only the innermost ring mixes with the inside
    ring = np.zeros((48, 48), bool)
    ring[4:44, 4:44] = True
    outer = ~ring[~interior(48, 48)]
    np.testing.assert_allclose(changed[:, outer], flat[:, outer])
