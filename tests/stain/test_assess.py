"""Means, correlations and shares over pairs, against numbers worked out by hand."""

import numpy as np
import pytest

from medglean.stain import assess as known
from medglean.stain.assess import assess_pairs, difference_of, measures_of, pearson

GROUPS = np.array(["a", "a", "b", "c"])


def table(**columns):
    made = {
        "psnr": [20.0, 22.0, 24.0, 26.0],
        "ssim": [0.2, 0.3, 0.4, 0.5],
        "flat.psnr": [21.0, 21.0, 21.0, 21.0],
        "flat.ssim": [0.1, 0.1, 0.1, 0.1],
        "dab.error": [0.1, -0.1, 0.2, -0.2],
        "dab.mean.generated": [0.1, 0.2, 0.3, 0.4],
        "dab.mean.real": [0.0, 0.3, 0.1, 0.6],
        "dab.p90.generated": [1.0, 2.0, 3.0, 4.0],
        "dab.p90.real": [4.0, 3.0, 2.0, 1.0],
        "dice": [np.nan, 0.5, 0.7, 0.9],
        "background.bias": [0.02, -0.01, np.nan, 0.02],
        "background.b": [1.0, 2.0, np.nan, 3.0],
        "level": [0, 1, 1, -1],
        "judged.generated": [0, 0, 1, 1],
        "judged.real": [0, 1, 1, 1],
    }
    return {name: np.array(values, dtype=np.float64) for name, values in (made | columns).items()}


def assessed(**columns):
    return assess_pairs(table(**columns), GROUPS, levels=("0", "1+"), replicates=200)


def test_every_measure_by_hand():
    metrics = assessed().metrics

    expected = {
        known.PSNR: 23.0,
        known.FLAT_PSNR: 21.0,
        known.GAIN: 2.0,
        known.SSIM: 0.35,
        known.DAB_ERROR: 0.0,
        known.DAB_ABSOLUTE: 0.15,
        known.DAB_R90: -1.0,
        known.DICE: 0.7,  # of the three pairs that have one
        known.BACKGROUND: 0.01,
        known.BACKGROUND_ABSOLUTE: 0.05 / 3,
        known.B_SHIFT: 2.0,
        known.AGREEMENT: 0.75,
        known.AGREES_WITH_LABEL: 2 / 3,  # the fourth has no label
        known.JUDGE: 1.0,
    }
    for name, value in expected.items():
        assert metrics[name].value == pytest.approx(value), name
    assert metrics[known.DAB_R].value == pytest.approx(
        np.corrcoef([0.1, 0.2, 0.3, 0.4], [0.0, 0.3, 0.1, 0.6])[0, 1]
    )
    assert next(iter(metrics)) == known.PSNR
    assert list(metrics)[1] == known.FLAT_PSNR  # always beside it


def test_intervals_are_over_groups():
    metrics = assessed().metrics

    assert (metrics[known.PSNR].n, metrics[known.PSNR].groups) == (4, 3)
    assert (metrics[known.JUDGE].n, metrics[known.JUDGE].groups) == (3, 2)
    low, high = metrics[known.PSNR].low, metrics[known.PSNR].high
    assert 21.0 <= low < 23.0 < high <= 26.0  # group means are 21, 24 and 26


def test_an_infinite_psnr_is_left_out_of_the_mean_and_told():
    found = assessed(psnr=[np.inf, 22.0, 24.0, 26.0])

    assert found.identical == 1
    assert found.metrics[known.PSNR].value == 24.0
    assert "1 pairs equal in every bit" in found.metrics[known.PSNR].note
    everything = assessed(psnr=[np.inf] * 4)
    assert np.isnan(everything.metrics[known.PSNR].value)
    assert np.isnan(everything.metrics[known.GAIN].value)


def test_parts_by_level_leave_out_what_has_none():
    found = assessed().by_level

    assert list(found) == ["0", "1+"]
    assert found["0"][known.PSNR].n == 1
    assert np.isnan(found["0"][known.PSNR].low)  # one pair has no interval
    assert found["1+"][known.PSNR].value == 23.0
    assert found["1+"][known.BACKGROUND].value == pytest.approx(-0.01)


def test_measures_that_need_a_judge_are_absent_without_one():
    some = {name: values for name, values in table().items() if not name.startswith("judged")}

    assert known.AGREEMENT not in measures_of(some)
    unlabelled = measures_of(table(level=[-1] * 4))
    assert known.AGREEMENT in unlabelled
    assert known.JUDGE not in unlabelled


def test_measures_of_the_whole_set_have_a_value_and_a_sentence():
    found = assess_pairs(table(), GROUPS, whole={known.FID: (12.5, "of 4 images")}, replicates=50)

    assert found.metrics[known.FID].value == 12.5
    assert np.isnan(found.metrics[known.FID].low)
    assert found.metrics[known.FID].note == "of 4 images"


def test_differences_are_paired():
    first, second = assessed(), assessed(psnr=[19.0, 21.0, 23.0, 25.0])

    gaps = difference_of(first, second, replicates=200)

    assert gaps[known.PSNR].value == pytest.approx(1.0)
    # every pair differs by 1, so each resample does
    assert gaps[known.PSNR].low == gaps[known.PSNR].high == pytest.approx(1.0)
    assert gaps[known.DICE].value == 0.0
    assert known.GAIN not in gaps
    with pytest.raises(ValueError, match="same pairs"):
        difference_of(first, assess_pairs(table(), GROUPS[::-1], replicates=50))


def test_a_pair_that_one_method_could_not_use_counts_for_neither():
    first = assess_pairs(table(), GROUPS, replicates=50)
    other = table()
    other["judged.real"] = np.array([-1.0, 1, 1, 1])
    gaps = difference_of(first, assess_pairs(other, GROUPS, replicates=50), replicates=50)

    assert gaps[known.AGREEMENT].n == 3


def test_pearson_weighs_pairs_as_if_they_were_repeated():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20))
    counts = rng.integers(0, 4, size=(20, 30))

    found = pearson(x, y)(counts.astype(np.float64))

    for column, value in zip(counts.T, found, strict=True):
        assert value == pytest.approx(np.corrcoef(np.repeat(x, column), np.repeat(y, column))[0, 1])


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0, 2.0], [2.0, 1.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([np.nan] * 3, [1.0, 2.0, 3.0])],
)
def test_pearson_of_too_little_is_undefined(x, y):
    assert np.isnan(pearson(np.array(x), np.array(y))(np.ones((len(x), 1)))[0])
