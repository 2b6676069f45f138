"""The map without learning: equalised inside, nothing outside, lesions of phantoms found."""

from __future__ import annotations

import numpy as np
import pytest

from medglean.anomaly.baselines.threshold import threshold_map
from medglean.anomaly.settings import ThresholdSettings
from medglean.data.foreground import eroded, foreground_mask
from medglean.data.phantom import brain_slice

FLAIR = 3


def phantoms(side=96):
    drawn = [brain_slice(0, v, 0.45, lesion=True, size_px=(side, side)) for v in range(12)]
    drawn = [(image, mask) for image, mask in drawn if mask.sum() > 0.01 * side**2]
    images = np.stack([image for image, _ in drawn]).astype(np.float32) / 255
    return images, np.stack([mask for _, mask in drawn])


def auroc(values, truth):
    """The share of pairs of lesion and other pixels that are in the right order."""
    rank = np.searchsorted(np.sort(values[~truth]), values[truth], side="left") / (~truth).sum()
    return float(rank.mean())


def head_of_two(side=64):
    """Half of the head at 0.4, half at 0.6, a scalp at 1.0, and black air."""
    y, x = np.indices((side, side))
    radius = np.hypot(y - side / 2 + 0.5, x - side / 2 + 0.5)
    image = np.where(x < side / 2, 0.4, 0.6) * (radius < 26) + 1.0 * (
        (radius >= 26) & (radius < 29)
    )
    return image.astype(np.float32)[None, None]


def test_equalising_gives_the_share_of_tissue_that_is_at_most_as_bright():
    image = head_of_two()
    found = threshold_map(image, erode=0.1, median_px=0)[0]
    inside = eroded(foreground_mask(image), share=0.1)[0]
    assert image[0, 0][inside].max() < 1  # the scalp is out
    assert np.unique(found[inside]) == pytest.approx([0.5, 1.0], abs=0.01)
    assert found[32, 20] < found[32, 44]  # brighter is more anomalous
    assert not found[~inside].any()


def test_equalising_does_not_depend_on_brightness_or_on_other_images():
    images, _ = phantoms()
    flair = images[:, FLAIR : FLAIR + 1]
    expected = threshold_map(flair)
    np.testing.assert_allclose(threshold_map(flair * np.float32(0.5)), expected, atol=0.02)
    np.testing.assert_array_equal(threshold_map(flair[2:3]), expected[2:3])
    assert expected.dtype == np.float32
    assert expected.min() == 0
    assert expected.max() <= 1


def test_lesions_of_phantoms_are_found_in_flair_and_not_in_t1():
    images, lesions = phantoms()
    inside = eroded(foreground_mask(images), share=0.02)
    flair = threshold_map(images, channel=FLAIR, erode=0.02)
    t1 = threshold_map(images, channel=0, erode=0.02)
    assert auroc(flair[inside], lesions[inside]) > 0.85
    assert auroc(t1[inside], lesions[inside]) < 0.5  # there lesions are dark


def test_without_equalising_it_is_the_brightness_inside():
    image = head_of_two()
    found = threshold_map(image, equalise=False, erode=0.1, median_px=0)[0]
    inside = eroded(foreground_mask(image), share=0.1)[0]
    np.testing.assert_array_equal(found, np.where(inside, image[0, 0], 0))


def test_without_a_channel_it_is_their_mean():
    image = head_of_two()
    both = np.concatenate([image, image / 2], axis=1)
    found = threshold_map(both, equalise=False, erode=0.1, median_px=0)
    alone = threshold_map(image, equalise=False, erode=0.1, median_px=0)
    np.testing.assert_allclose(found, 0.75 * alone, rtol=1e-6)


def test_a_speck_is_removed_by_the_median():
    image = head_of_two()
    image[0, 0, 30, 20] = 0.9
    assert threshold_map(image, median_px=0)[0, 30, 20] > 0.9
    assert threshold_map(image, median_px=3)[0, 30, 20] == pytest.approx(0.5, abs=0.02)


def test_images_without_foreground_or_contrast_have_a_map():
    dark = np.zeros((1, 1, 32, 32), np.float32)
    assert not threshold_map(dark).any()
    flat = threshold_map(np.full((1, 1, 32, 32), 0.5, np.float32))
    assert np.isfinite(flat).all()
    assert len(np.unique(flat)) == 2  # 0 at the rim, and one value inside


def test_bad_input_is_refused():
    images = np.full((3, 2, 16, 16), 0.5, np.float32)
    with pytest.raises(ValueError, match="channel is 2: expected 0 to 1"):
        threshold_map(images, channel=2)
    with pytest.raises(ValueError, match="expected an odd number"):
        threshold_map(images, median_px=4)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"image 2 \(counted from 0\)"):
        threshold_map(images)


def test_defaults_are_those_of_the_settings():
    settings = ThresholdSettings()
    given = threshold_map.__kwdefaults__
    assert (given["equalise"], given["erode"], given["median_px"]) == (
        settings.equalise,
        settings.erode,
        settings.median_px,
    )
