"""Averages over classes are scikit-learn's, on the images repeated as their weights say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from medglean.measure.averages import F1_OF_MEANS, MEASURES, averages

CLASSES = 3


def once(truth, called):
    """Return every average on the images as they are."""
    weights = np.ones((len(truth), 1))
    return {
        averaging: {name: statistic(weights)[0] for name, statistic in found.items()}
        for averaging, found in averages(truth, called).items()
    }


def world(seed, *, several):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 40))
    if several:
        truth = generator.random((n, CLASSES)) < 0.4
        return truth, truth ^ (generator.random((n, CLASSES)) < 0.3)
    both = generator.integers(0, CLASSES, size=(2, n, 1)) == np.arange(CLASSES)
    return both[0], both[1]


@settings(max_examples=25)
@given(st.integers(0, 2**20), st.booleans())
def test_averages_are_scikit_learns(seed, several):
    truth, called = world(seed, several=several)
    weights = np.random.default_rng(seed).integers(0, 3, size=(len(truth), 2)).astype(float)
    statistics = averages(truth, called)
    present = np.flatnonzero(truth.any(axis=0))
    for column in range(2):
        repeated = np.repeat(np.arange(len(truth)), weights[:, column].astype(int))
        whole = truth[repeated][:, present].any(axis=0).all() and len(present) and len(repeated)
        for averaging, found in statistics.items():
            values = [found[name](weights)[column] for name in MEASURES]
            if averaging == "macro" and not whole:
                assert np.isnan(values).all()  # a class is lacking in this resample
                continue
            if not truth[repeated].any():
                continue
            kept = np.arange(CLASSES) if averaging == "micro" else present
            expected = metrics.precision_recall_fscore_support(
                truth[repeated].astype(int),
                called[repeated].astype(int),
                labels=kept,
                average=averaging,
                zero_division=0,
            )[:3]
            if averaging == "micro" and not called[repeated].any():
                assert np.isnan(
                    values[0]
                )  # nothing called: no precision, where a class is called 0
                values[0] = 0
            np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=averaging)


def test_by_hand():
    # Class 0: 2 of 3 found, 2 of 2 calls right. Class 1: 1 of 1 found, 1 of 2 calls right.
    truth = np.array([0, 0, 0, 1])[:, None] == np.arange(2)
    called = np.array([0, 0, 1, 1])[:, None] == np.arange(2)

    found = once(truth, called)

    assert found["macro"]["precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["macro"]["recall"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["macro"]["F1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    # 2 * 0.75 * 0.8333 / 1.5833: not the mean of the F1 values
    assert found["macro"][F1_OF_MEANS] == pytest.approx(2 * (3 / 4) * (5 / 6) / (3 / 4 + 5 / 6))
    assert found["weighted"]["precision"] == pytest.approx((3 * 1 + 1 / 2) / 4)
    assert found["weighted"]["recall"] == pytest.approx(3 / 4)
    assert found["weighted"]["F1"] == pytest.approx((3 * 4 / 5 + 2 / 3) / 4)
    assert list(found["micro"].values()) == pytest.approx([3 / 4] * 3)


@settings(max_examples=25)
@given(st.integers(0, 2**20), st.booleans())
def test_no_macro_f1_exceeds_the_mean_of_precision_and_recall(seed, several):
    macro = once(*world(seed, several=several))["macro"]
    if np.isnan(macro["recall"]):
        return

    assert macro["F1"] <= (macro["precision"] + macro["recall"]) / 2 + 1e-12
    assert macro["F1"] <= macro[F1_OF_MEANS] + 1e-12  # the harmonic mean is concave


def test_a_class_that_is_never_called_counts_nothing_and_one_that_nobody_has_is_left_out():
    truth = np.array([0, 0, 1, 1])[:, None] == np.arange(3)
    always = np.zeros(4, dtype=int)[:, None] == np.arange(3)

    found = once(truth, always)

    assert found["macro"]["precision"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["macro"]["recall"] == pytest.approx((1 + 0) / 2)
    assert found["macro"]["F1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["weighted"]["precision"] == pytest.approx(1 / 4)
    third = np.where([[False, False, True, False]], 2, 0).reshape(-1, 1) == np.arange(3)
    # one image of class 1 is called class 2, which nobody has: micro counts that call, macro not
    assert once(truth, third)["micro"]["precision"] == pytest.approx(2 / 4)
    assert once(truth, third)["macro"]["precision"] == pytest.approx((2 / 3 + 0) / 2)


def test_nothing_right_is_zero_and_nothing_there_is_undefined():
    truth = np.array([0, 1])[:, None] == np.arange(2)

    assert set(once(truth, ~truth)["macro"].values()) == {0.0}
    nobody = once(np.zeros((3, 2), bool), np.ones((3, 2), bool))
    assert np.isnan([*nobody["macro"].values(), *nobody["weighted"].values()]).all()
    assert nobody["micro"]["precision"] == 0.0
