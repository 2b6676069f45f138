"""Where there is anatomy: brains, heads with skull and noise, X-rays, and images without any."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medglean.data.foreground import check_finite_images, eroded, foreground_mask
from medglean.data.phantom import brain_slice, cxr_image


def disc(side, radius, at=None):
    y, x = np.indices((side, side))
    cy, cx = at or (side / 2 - 0.5, side / 2 - 0.5)
    return np.hypot(y - cy, x - cx) <= radius


def overlap(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def head(side=128, *, air=0.0, seed=0):
    """A scalp, a dark skull, a brain with black ventricles; Rayleigh noise in the air."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side))
    image[disc(side, 0.40 * side)] = 0.8
    image[disc(side, 0.37 * side)] = 0.03
    image[disc(side, 0.34 * side)] = 0.35
    image[disc(side, 0.06 * side)] = 0.0
    noise = (
        air / 1.25 * np.hypot(rng.standard_normal(image.shape), rng.standard_normal(image.shape))
    )
    return np.clip(np.maximum(image, noise), 0, 1).astype(np.float32)[None, None]


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("air", [0.0, 0.05, 0.12])
def test_a_head_is_found_in_noisy_air_with_its_skull_and_ventricles(side, air):
    mask = foreground_mask(head(side, air=air))[0]
    assert mask[disc(side, 0.39 * side)].all()  # dark skull and ventricles are holes no more
    assert not mask[~disc(side, 0.42 * side)].any()  # the head ends at 0.40


def test_erosion_takes_the_scalp_and_skull_off():
    image = head(air=0.05)
    inside = eroded(foreground_mask(image), share=0.07)[0]
    assert not (inside & ~disc(128, 0.35 * 128)).any()
    assert inside[disc(128, 0.31 * 128)].all()


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("lesion", [False, True])
def test_a_stripped_brain_is_what_is_not_zero(side, lesion):
    drawn = [
        brain_slice(3, v, 0.1 + 0.15 * v, lesion=lesion, size_px=(side, side)) for v in range(5)
    ]
    images = np.stack([channels for channels, _ in drawn]).astype(np.float32) / 255
    for image, mask in zip(images, foreground_mask(images), strict=True):
        brain = ndimage.binary_fill_holes(image.max(axis=0) > 0)
        assert mask[brain].mean() > 0.99
        assert overlap(mask, brain) > 0.97  # a blurred rim of a pixel comes with it
        assert ndimage.label(mask)[1] == 1
        assert (ndimage.binary_fill_holes(mask) == mask).all()


def test_lungs_and_heart_of_an_x_ray_are_all_foreground():
    images = np.stack(
        [cxr_image(0, k, opacity=k % 2 == 1, size_px=(128, 128))[0] for k in range(4)]
    )
    masks = foreground_mask(images[:, None].astype(np.float32) / 255)
    assert masks[:, 32:112, 24:104].all()


def test_an_image_with_lit_corners_has_no_background():
    image = np.full((1, 1, 64, 64), 0.5, np.float32)
    image[0, 0, 20:40, 0:20] = 0.01  # a dark lung that reaches the edge
    assert foreground_mask(image).all()
    assert foreground_mask(np.full((1, 1, 64, 64), 0.2, np.float32)).all()


def test_the_largest_component_is_kept_without_its_thin_neighbours():
    image = np.zeros((1, 1, 100, 100), np.float32)
    image[0, 0, 20:60, 20:60] = 0.6
    image[0, 0, 70:90, 70:90] = 1.0  # smaller, though brighter
    image[0, 0, 40, 60:80] = 0.6  # a tube that sticks out
    mask = foreground_mask(image)[0]
    assert mask[25:55, 25:55].all()
    assert not mask[64:].any()
    assert not mask[:, 64:].any()


def test_every_image_is_judged_by_itself():
    bright, dim = head(air=0.05), head(air=0.05) * np.float32(0.1)
    together = foreground_mask(np.concatenate([bright, dim, np.zeros_like(dim)]))
    assert (together[0] == foreground_mask(bright)[0]).all()
    assert overlap(together[0], together[1]) > 0.99
    assert not together[2].any()


def test_what_is_thin_as_a_whole_is_kept():
    image = np.zeros((1, 1, 128, 128), np.float32)
    image[0, 0, 64, 60:66] = 1.0
    assert 1 <= foreground_mask(image).sum() <= 60


def test_no_images_have_no_masks():
    assert foreground_mask(np.zeros((0, 1, 8, 8), np.float32)).shape == (0, 8, 8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_refused_with_the_image(bad):
    images = np.zeros((4, 2, 8, 8), np.float32)
    images[2, 1, 3, 3] = images[3, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"images: .* in image 2 \(counted from 0\), 2 of 4"):
        foreground_mask(images)
    check_finite_images(images=images[:2])


def test_erosion_is_euclidean_and_a_share_of_the_longer_side():
    mask = np.zeros((1, 50, 100), bool)
    mask[0, 10:40, 10:90] = True
    inside = eroded(mask, share=0.05)  # 5 px of 100: rows 15..34, columns 15..84
    expected = np.zeros_like(mask)
    expected[0, 15:35, 15:85] = True
    assert (inside == expected).all()
    notch = np.ones((1, 101, 101), bool)
    notch[0, 50, 50] = False
    left = ~eroded(notch, share=10 / 101)[0]
    left[:12], left[-12:], left[:, :12], left[:, -12:] = False, False, False, False
    assert (left == disc(101, 10, at=(50, 50))).all()  # a disc, not a square or a diamond


def test_the_edge_of_the_image_is_outside():
    inside = eroded(np.ones((1, 20, 20), bool), share=0.1)
    assert inside.sum() == 16 * 16
    assert inside[0, 2, 2]
    assert not inside[0, 1, 10]


def test_erosion_by_nothing_or_by_all():
    mask = foreground_mask(head())
    kept = eroded(mask, share=0.0)
    assert (kept == mask).all()
    assert kept is not mask
    assert not eroded(mask, share=0.45).any()
    assert not eroded(np.zeros_like(mask), share=0.1).any()
    with pytest.raises(ValueError, match=r"share is -0.1: expected .* at least 0"):
        eroded(mask, share=-0.1)
