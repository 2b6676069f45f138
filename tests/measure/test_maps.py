"""Pixel measures from counts equal those of the single pixels, and repeat with the images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.measure import curves, maps, weighted
from medglean.measure.intervals import cluster_bootstrap


def one(statistic, count):
    return float(statistic(np.ones((count, 1)))[0])


def exact_best_dice(truth, values):
    """By trying every value as a threshold."""
    order = np.argsort(-values, kind="stable")
    found, called = np.cumsum(truth[order]), np.arange(1, len(values) + 1)
    last_of_tie = np.append(values[order][1:] != values[order][:-1], True)
    return float((2 * found / (truth.sum() + called))[last_of_tie].max())


def lesions(seed, *, images=6, side=64, share=0.02, shift=1.5, zeros=0.4, dtype=np.float32):
    """Gamma-distributed maps, brighter where the mask is, with a background of exact zeros."""
    rng = np.random.default_rng(seed)
    masks = rng.random((images, side, side)) < share
    values = rng.gamma(2.0, 0.05, size=masks.shape) + shift * 0.1 * masks
    values[(rng.random(masks.shape) < zeros) & ~masks] = 0.0
    return values.astype(dtype), masks


def few(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    values = rng.integers(-2, 4, size=(n, 3, 4)) / 4
    return values, rng.random((n, 3, 4)) < 0.4, rng.integers(0, 4, size=(n, 5)).astype(np.float64)


STATISTICS = {
    "auroc": (maps.pixel_auroc, curves.auroc),
    "average precision": (maps.pixel_average_precision, curves.average_precision),
    "dice": (
        maps.best_dice,
        lambda truth, values: exact_best_dice(truth, values) if truth.any() else np.nan,
    ),
}


def test_values_by_hand():
    # inside: .2 .9; outside: 0 .2. Pairs won: 1/2 + 1 + 1 + 1 of 4.
    # AP: .9 alone: recall 1/2 at precision 1; then .2 twice: recall 1 at precision 2/3.
    # Dice: at .9 2 * 1 / (2 + 1), at .2 2 * 2 / (2 + 3), at 0 2 * 2 / (2 + 4)
    counted = maps.tally(
        np.array([[[0.0, 0.2, 0.2, 0.9]]]), np.array([[[False, False, True, True]]])
    )

    assert one(maps.pixel_auroc(counted), 1) == 3.5 / 4
    assert one(maps.pixel_average_precision(counted), 1) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert one(maps.best_dice(counted), 1) == 4 / 5
    assert maps.best_threshold(counted) == 0.2


def test_a_flipped_map_is_seen():
    values, masks = lesions(0, zeros=0.0)
    upright, flipped = maps.tally(values, masks), maps.tally(-values, masks)

    area = one(maps.pixel_auroc(upright), 6)
    assert area > 0.8
    assert one(maps.pixel_auroc(flipped), 6) == pytest.approx(1 - area, abs=1e-3)
    assert one(maps.pixel_average_precision(flipped), 6) < 0.02
    assert one(maps.best_dice(flipped), 6) < one(maps.best_dice(upright), 6) / 3


@settings(max_examples=25)
@given(st.integers(0, 2**20))
def test_few_values_are_exact_and_weights_do_what_repeating_does(seed):
    values, masks, weights = few(seed)
    counted = maps.tally(values, masks)
    for name, (statistic, plain) in STATISTICS.items():
        by_loop = weighted.by_loop(
            lambda rows, plain=plain: plain(masks[rows].ravel(), values[rows].ravel()), len(values)
        )
        np.testing.assert_allclose(
            statistic(counted)(weights), by_loop(weights), rtol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "world",
    [
        {"share": 0.02},
        {"share": 0.003, "shift": 3.0},
        {"share": 0.1, "shift": 0.8, "zeros": 0.0, "side": 160},
        {"share": 0.05, "shift": 8.0, "zeros": 0.9, "dtype": np.float64},
    ],
)
def test_many_values_come_within_a_thousandth(world, seed):
    values, masks = lesions(seed, **world)
    counted = maps.tally(values, masks)
    for name, (statistic, plain) in STATISTICS.items():
        exact = plain(masks.ravel(), values.ravel())
        assert one(statistic(counted), 6) == pytest.approx(exact, abs=1e-3), name
    assert one(maps.best_dice(counted), 6) <= exact_best_dice(masks.ravel(), values.ravel())


def test_the_bound_holds_for_coarse_bins_and_heavy_ties():
    values, masks = lesions(1, shift=0.3)
    values[:, ::2] = np.round(values[:, ::2], 1)  # half of the pixels share a few values
    exact = curves.auroc(masks.ravel(), values.ravel())
    for bins in (8, 32, 128):
        found = one(maps.pixel_auroc(maps.tally(values, masks, bins=bins)), 6)
        assert abs(found - exact) <= 1 / bins


def test_zeros_have_a_bin_of_their_own():
    values, masks = lesions(2, zeros=0.001)
    counted = maps.tally(values, masks, bins=16)
    place = int(np.flatnonzero(counted.edges == 0)[0])

    assert len(counted.edges) < 50
    assert counted.outside[:, place].sum() == (values == 0).sum() > 0
    assert counted.inside[:, place].sum() == 0


def test_counts_add_up_within_a_region():
    values, masks = lesions(3)
    within = np.zeros_like(masks)
    within[:, 8:40] = True
    counted = maps.tally(values, masks, within=within)

    np.testing.assert_array_equal(counted.inside.sum(axis=1), (masks & within).sum(axis=(1, 2)))
    np.testing.assert_array_equal(counted.outside.sum(axis=1), (~masks & within).sum(axis=(1, 2)))
    exact = curves.auroc(masks[within], values[within])
    assert one(maps.pixel_auroc(counted), 6) == pytest.approx(exact, abs=1e-3)
    some = counted.rows(np.array([1, 4]))
    again = curves.auroc(masks[[1, 4]][within[[1, 4]]], values[[1, 4]][within[[1, 4]]])
    assert one(maps.pixel_auroc(some), 2) == pytest.approx(again, abs=1e-3)


def test_best_threshold_reaches_the_best_dice():
    values, masks = lesions(4)
    counted = maps.tally(values, masks)
    called = values >= maps.best_threshold(counted)
    dice = 2 * (called & masks).sum() / (called.sum() + masks.sum())

    assert one(maps.best_dice(counted), 6) == pytest.approx(dice, abs=1e-12)


def test_undefined_is_nan():
    values = np.array([[[0.1, 0.2]], [[0.3, 0.4]]])
    none = maps.tally(values, np.zeros((2, 1, 2), dtype=bool))
    everything = maps.tally(values, np.ones((2, 1, 2), dtype=bool))
    empty = maps.tally(values[:0], np.zeros((0, 1, 2), dtype=bool))

    for counted in (none, empty):
        weights = np.ones((len(counted.inside), 3))
        for statistic, _ in STATISTICS.values():
            assert np.isnan(statistic(counted)(weights)).all()
        assert np.isnan(maps.best_threshold(counted))
    assert np.isnan(one(maps.pixel_auroc(everything), 2))
    assert one(maps.pixel_average_precision(everything), 2) == 1.0
    # a resample without the only image that has a mask
    half = maps.tally(values, np.array([[[True, False]], [[False, False]]]))
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert np.isnan(maps.best_dice(half)(weights)).tolist() == [False, True]


def test_curves_agree_with_their_areas():
    values, masks = lesions(5)
    counted = maps.tally(values, masks)
    roc, pr = maps.pixel_roc(counted), maps.pixel_precision_recall(counted)

    area = float(np.trapezoid(roc.sensitivity, roc.false_positive_rate))
    assert area == pytest.approx(one(maps.pixel_auroc(counted), 6), abs=1e-9)
    steps = float(np.sum(np.diff(pr.recall, prepend=0.0) * pr.precision))
    assert steps == pytest.approx(one(maps.pixel_average_precision(counted), 6), abs=1e-9)
    assert pr.prevalence == pytest.approx(masks.mean())
    assert (roc.positives, roc.negatives) == (masks.sum(), (~masks).sum())


def test_intervals_are_those_of_patients():
    values, masks = lesions(6)
    statistic = maps.best_dice(maps.tally(values, masks))

    of_two = cluster_bootstrap(statistic, ["a"] * 3 + ["b"] * 3, replicates=200)
    of_six = cluster_bootstrap(statistic, list("abcdef"), replicates=200)

    assert (of_two.groups, of_two.n) == (2, 6)
    assert of_two.low <= of_two.value <= of_two.high
    assert of_six.value == of_two.value


def test_bad_input_is_told():
    values, masks = lesions(7, images=2, side=4)
    with pytest.raises(ValueError, match=r"maps \(2, 4, 4\), masks \(2, 4, 3\)"):
        maps.tally(values, masks[:, :, :3])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        maps.tally(values, masks, bins=0)
    values[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"maps: .* found 1 of 32 .* first at \(1, 0, 0\)"):
        maps.tally(values, masks)
