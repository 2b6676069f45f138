import numpy as np
import pytest
from skimage.filters import threshold_otsu

from medglean.measure import map_values
from medglean.measure.pixels import overlap


def one(statistic, count):
    return float(statistic(np.ones((count, 1)))[0])


def two_levels(low, high, *, dtype=np.float32):
    """Half of the pixels low, half high."""
    return np.array([[[low, low], [high, high]]], dtype=dtype)


def test_otsu_is_scikit_images_and_calls_what_is_above():
    values = np.random.default_rng(0).gamma(2.0, 0.1, size=(3, 16, 16)).astype(np.float32)
    found = map_values.otsu_thresholds(values)

    for row in range(3):
        wanted = threshold_otsu(values[row].astype(np.float64))
        assert found[row] == np.nextafter(wanted, np.inf)
        np.testing.assert_array_equal(values[row] >= found[row], values[row] > wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_levels_are_parted_and_an_even_map_calls_nothing(dtype):
    values = np.concatenate([two_levels(0.1, 0.7, dtype=dtype), two_levels(0.3, 0.3, dtype=dtype)])
    masks = np.array([[[False, False], [True, True]]] * 2)

    found = map_values.overlap_at(values, masks, map_values.otsu_thresholds(values))

    assert found.predicted[:, 0].tolist() == [2, 0]
    assert found.dice()[:, 0].tolist() == [1.0, 0.0]


def test_otsu_within_a_region_sees_only_that():
    values = np.array([[[0.0, 0.0, 0.5, 0.9], [0.0, 0.0, 0.5, 0.9]]])
    within = values > 0

    everywhere = map_values.overlap_at(values, within, map_values.otsu_thresholds(values))
    inner = map_values.otsu_thresholds(values, within=within)

    assert everywhere.predicted[0, 0] == 4
    assert map_values.overlap_at(values, within, inner, within=within).predicted[0, 0] == 2
    nothing = map_values.otsu_thresholds(values, within=np.zeros_like(within))
    assert np.isnan(nothing).all()
    assert map_values.overlap_at(values, within, nothing).predicted[0, 0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_threshold_just_above_a_value_excludes_it(dtype):
    values = np.full((1, 1, 2), 0.1, dtype=dtype)
    masks = np.ones((1, 1, 2), dtype=bool)
    at = float(values[0, 0, 0])

    assert map_values.overlap_at(values, masks, at).predicted[0, 0] == 2
    assert map_values.overlap_at(values, masks, np.nextafter(at, 1)).predicted[0, 0] == 0


def test_pooled_dice_and_mean_dice_by_hand():
    # image 0: 1 of 1 mask pixels found, 2 called: 2/3; image 1: 1 of 3 found, 1 called: 1/2
    values = np.array([[[0.9, 0.8, 0.1, 0.1]], [[0.9, 0.1, 0.1, 0.1]]])
    masks = np.array([[[True, False, False, False]], [[True, True, True, False]]])
    found = map_values.overlap_at(values, masks, 0.5)

    assert found.dice()[:, 0].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert one(map_values.pooled_dice(found), 2) == pytest.approx(2 * 2 / (4 + 3))
    dice = np.append(found.dice()[:, 0], np.nan)
    assert one(map_values.mean_of_defined(dice), 3) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(one(map_values.mean_of_defined(np.array([np.nan])), 1))


def test_overlap_within_leaves_out_the_rest():
    rng = np.random.default_rng(1)
    values, masks = rng.random((2, 5, 5)), rng.random((2, 5, 5)) < 0.5
    within = rng.random((2, 5, 5)) < 0.5

    found = map_values.overlap_at(values, masks, np.array([0.3, 0.6]), within=within)
    called = values >= np.array([0.3, 0.6])[:, None, None]
    wanted = overlap((masks & within)[:, None], (called & within)[:, None])

    np.testing.assert_array_equal(found.both, wanted.both)
    np.testing.assert_array_equal(found.predicted, wanted.predicted)


def test_healthy_threshold_is_a_percentile():
    values = np.arange(1, 102, dtype=np.float64).reshape(1, 1, 101)

    assert map_values.healthy_threshold(values) == 100.0
    assert map_values.healthy_threshold(values, within=values < 12, share_below=0.5) == 6.0
    assert np.isnan(map_values.healthy_threshold(values[:0]))
    with pytest.raises(ValueError, match=r"share_below must lie in \(0, 1\), got 1"):
        map_values.healthy_threshold(values, share_below=1.0)


def test_means_of_a_map():
    values = np.zeros((2, 10, 20))
    values[0, 0, :2] = [0.4, 0.8]  # 2 of 200 pixels: 1 %
    within = np.zeros_like(values, dtype=bool)
    within[0, 0, :4] = True

    assert map_values.top_means(values).tolist() == pytest.approx([0.6, 0.0])
    assert map_values.mean_values(values).tolist() == pytest.approx([1.2 / 200, 0.0])
    assert map_values.mean_values(values, within=within)[0] == pytest.approx(0.3)
    assert np.isnan(map_values.mean_values(values, within=within)[1])
    top = map_values.top_means(values, within=within)
    assert top[0] == 0.8  # one of four
    assert np.isnan(top[1])


def test_maps_with_nan_are_found():
    values = np.zeros((3, 2, 2))
    values[1, 0, 1] = np.nan
    values[2, 1, 1] = np.inf

    assert map_values.finite_maps(values).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="maps: expected finite numbers"):
        map_values.otsu_thresholds(values)
    with pytest.raises(ValueError, match=r"maps \(3, 2, 2\), within \(1, 2, 2\)"):
        map_values.mean_values(values, within=np.ones((1, 2, 2), dtype=bool))
