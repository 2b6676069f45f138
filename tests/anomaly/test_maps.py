"""Differences with their sign, filters that nothing leaks into, scales, and averages."""

from __future__ import annotations

import numpy as np
import pytest

from medglean.anomaly import maps
from medglean.data.foreground import eroded, foreground_mask
from medglean.data.phantom import brain_slice


def column(*values):
    """One image of one row per channel."""
    return np.array(values, np.float32).reshape(1, len(values), 1, -1)


IMAGE = column([0.9, 0.2, 0.5], [0.1, 0.1, 0.4])
REBUILT = column([0.5, 0.6, 0.5], [0.3, 0.1, 0.1])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("absolute", [0.4 + 0.2, 0.4, 0.3]),
        ("positive", [0.4, 0.0, 0.3]),
        ("negative", [0.2, 0.4, 0.0]),
    ],
)
def test_differences_by_hand(kind, expected):
    found = maps.difference(IMAGE, REBUILT, kind=kind)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


def test_only_chosen_channels_are_summed():
    found = maps.difference(IMAGE, REBUILT, kind="positive", channels=[1])
    np.testing.assert_allclose(found[0, 0], [0, 0, 0.3], atol=1e-6)
    both = maps.difference(IMAGE, REBUILT, channels=[1, 0])
    np.testing.assert_array_equal(both, maps.difference(IMAGE, REBUILT))


@pytest.mark.parametrize("channels", [[2], [-1], [0, 0], []])
def test_wrong_channels_are_refused(channels):
    with pytest.raises(ValueError, match="expected different positions from 0 to 1"):
        maps.difference(IMAGE, REBUILT, channels=channels)


def test_bad_arguments_of_differences_are_refused():
    with pytest.raises(ValueError, match="expected one shape"):
        maps.difference(IMAGE, REBUILT[:, :1])
    with pytest.raises(
        ValueError, match="'squared': expected absolute, positive, negative or signed"
    ):
        maps.difference(IMAGE, REBUILT, kind="squared")
    broken = np.concatenate([REBUILT, REBUILT])
    broken[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"rebuilt: .* image 1 \(counted from 0\), 1 of 2"):
        maps.difference(np.concatenate([IMAGE, IMAGE]), broken)


def test_a_bright_lesion_is_positive_and_a_dark_one_negative():
    healthy = np.full((1, 1, 8, 8), 0.4, np.float32)
    ill = healthy.copy()
    ill[0, 0, 2:4, 2:4] = 0.9
    positive = maps.difference(ill, healthy, kind="positive")[0]
    assert positive[2, 2] == pytest.approx(0.5)
    assert not maps.difference(ill, healthy, kind="negative").any()
    assert not maps.difference(healthy, ill, kind="positive").any()


def test_the_median_of_windows_by_hand():
    one = np.array([[[5.0, 1.0, 4.0], [2.0, 9.0, 3.0], [7.0, 8.0, 6.0]]], np.float32)
    found = maps.median_filtered(one, side_px=3)
    assert found[0, 1, 1] == 5.0
    assert found[0, 0, 0] == pytest.approx((2 + 5) / 2)  # of 1, 2, 5, 9: the two in the middle
    assert found[0, 0, 1] == pytest.approx((3 + 4) / 2)  # of 1, 2, 3, 4, 5, 9


def test_the_median_removes_a_speck_and_keeps_an_edge():
    one = np.zeros((1, 20, 20), np.float32)
    one[:, :, 10:] = 1.0
    one[0, 5, 4] = 9.0
    found = maps.median_filtered(one, side_px=5)
    one[0, 5, 4] = 0.0
    np.testing.assert_array_equal(found, one)


FILTERS = [
    pytest.param(lambda m, inside: maps.median_filtered(m, side_px=5, inside=inside), id="median"),
    pytest.param(lambda m, inside: maps.smoothed(m, share=0.1, inside=inside), id="gauss"),
]


@pytest.mark.parametrize("filtered", FILTERS)
def test_nothing_leaks_in_from_outside(filtered):
    rng = np.random.default_rng(0)
    inside = np.zeros((2, 32, 32), bool)
    inside[0, 6:26, 8:20] = inside[1, :16] = True
    values = rng.random(inside.shape).astype(np.float32)
    skull = np.where(inside, values, 1e6).astype(np.float32)
    broken = np.where(inside, values, np.nan).astype(np.float32)
    expected = filtered(values, inside)
    np.testing.assert_array_equal(filtered(skull, inside), expected)
    np.testing.assert_array_equal(filtered(broken, inside), expected)
    assert not expected[~inside].any()
    assert expected[inside].min() > 0


@pytest.mark.parametrize("filtered", FILTERS)
def test_a_constant_stays_constant_up_to_the_rim(filtered):
    inside = np.zeros((1, 32, 32), bool)
    inside[0, 3:20, 5:32] = True
    found = filtered(np.full(inside.shape, 0.7, np.float32), inside)
    np.testing.assert_allclose(found[inside], 0.7, rtol=1e-5)
    everywhere = filtered(np.full(inside.shape, 0.7, np.float32), None)
    np.testing.assert_allclose(everywhere, 0.7, rtol=1e-5)


@pytest.mark.parametrize("filtered", FILTERS)
def test_filters_refuse_nan_inside_and_other_shapes(filtered):
    values = np.zeros((3, 8, 8), np.float32)
    values[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"maps: .* image 1 \(counted from 0\), 1 of 3"):
        filtered(values, np.ones(values.shape, bool))
    with pytest.raises(ValueError, match="expected one"):
        filtered(values, np.ones((3, 8, 7), bool))


@pytest.mark.parametrize("filtered", FILTERS)
def test_an_empty_mask_gives_zeros(filtered):
    assert not filtered(np.ones((1, 8, 8), np.float32), np.zeros((1, 8, 8), bool)).any()


def test_filters_of_no_size_change_nothing_inside():
    values = np.random.default_rng(1).random((1, 8, 8)).astype(np.float32)
    for found in (
        maps.median_filtered(values, side_px=0),
        maps.median_filtered(values, side_px=1),
        maps.smoothed(values, share=0.0),
    ):
        np.testing.assert_array_equal(found, values)
        assert found is not values


def test_sizes_that_make_no_sense_are_refused():
    values = np.zeros((1, 8, 8), np.float32)
    for side_px in (4, -3):
        with pytest.raises(ValueError, match=f"side_px is {side_px}: expected an odd number"):
            maps.median_filtered(values, side_px=side_px)
    with pytest.raises(ValueError, match="at least 0"):
        maps.smoothed(values, share=-0.1)


def test_the_gaussian_has_the_asked_width():
    point = np.zeros((1, 101, 101), np.float32)
    point[0, 50, 50] = 1.0
    found = maps.smoothed(point, share=4 / 101)[0].astype(np.float64)
    offsets = np.arange(101) - 50
    assert found.sum() == pytest.approx(1, abs=1e-3)
    assert np.sqrt((found.sum(axis=0) * offsets**2).sum()) == pytest.approx(4, rel=0.01)


def test_refinement_masks_then_filters():
    channels, _ = brain_slice(0, 1, 0.5, lesion=True, size_px=(64, 64))
    images = channels[None].astype(np.float32) / 255
    rng = np.random.default_rng(0)
    raw = rng.random((1, 64, 64)).astype(np.float32)
    raw[:, :4] = 50.0  # what a translation leaves in the background
    inside = eroded(foreground_mask(images), share=0.05)
    found = maps.refine(raw, images, foreground="mask", erode=0.05, median_px=3, smooth=0.02)
    assert not found[~inside].any()
    assert found[inside].min() > 0
    assert found.max() < 1
    by_hand = maps.smoothed(
        maps.median_filtered(raw, side_px=3, inside=inside), share=0.02, inside=inside
    )
    np.testing.assert_array_equal(found, by_hand)


def test_refinement_without_steps_is_the_map_itself():
    images = np.zeros((1, 1, 8, 8), np.float32)
    raw = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(maps.refine(raw, images), raw)
    np.testing.assert_array_equal(maps.refine(raw, images, erode=0.2), raw)
    assert not maps.refine(raw, images, foreground="mask").any()  # an image without foreground


def test_the_scale_is_the_99th_percentile_inside():
    values = np.zeros((1, 10, 20), np.float32)
    inside = np.zeros(values.shape, bool)
    inside[0, :, :10] = True
    values[0, :, :10] = np.arange(100).reshape(10, 10)
    values[0, :, 10:] = 1e9
    assert maps.scale_of(values, inside) == pytest.approx(0.99 * 99)
    assert maps.scale_of(values * 3, inside) == pytest.approx(3 * 0.99 * 99)


def test_the_scale_of_a_map_that_is_nearly_or_all_zero():
    values = np.zeros((1, 20, 20), np.float32)
    assert maps.scale_of(values) == 1.0
    values[0, 3, 3] = 0.25
    assert maps.scale_of(values) == 0.25
    with pytest.raises(ValueError, match="no pixel of 1 maps is inside the mask"):
        maps.scale_of(values, np.zeros(values.shape, bool))


def test_averaging_brings_units_together():
    one, other = np.full((2, 3, 3), 3.0, np.float32), np.full((2, 3, 3), 10.0, np.float32)
    np.testing.assert_allclose(maps.averaged([one, other], [1.0, 5.0]), 2.5)
    np.testing.assert_allclose(maps.averaged([one, other], [1, 1]), 6.5)
    scaled = maps.averaged([1000 * one, other], [maps.scale_of(1000 * one), maps.scale_of(other)])
    np.testing.assert_allclose(scaled, 1.0, rtol=1e-6)


def test_averages_of_nothing_or_of_unlike_maps_are_refused():
    one = np.zeros((1, 2, 2), np.float32)
    for several, scales in (([], []), ([one], [1.0, 2.0]), ([one, one[:, :1]], [1.0, 1.0])):
        with pytest.raises(ValueError, match="at least one map, all of one shape, and a scale"):
            maps.averaged(several, scales)
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="expected finite numbers above 0"):
            maps.averaged([one], [scale])


def test_a_signed_map_counts_what_is_darker_against():
    images = np.array([[[[0.5, 0.2]]]], np.float32)
    rebuilt = np.array([[[[0.1, 0.6]]]], np.float32)

    np.testing.assert_allclose(maps.difference(images, rebuilt, kind="signed"), [[[0.4, -0.4]]])


def test_background_is_the_least_anomalous_of_a_signed_map():
    images = np.zeros((1, 1, 32, 32), np.float32)
    images[0, 0, 8:24, 8:24] = 0.8
    shown = np.full((1, 32, 32), 0.5, np.float32)
    shown[0, 10:20, 10:20] = -0.3

    found = maps.refine(shown, images, foreground="mask")

    assert found[0, 0, 0] == pytest.approx(-0.3)
    assert found[0, 22, 22] == pytest.approx(0.5)
    assert maps.refine(np.abs(shown), images, foreground="mask")[0, 0, 0] == 0.0
