"""Every statistic equals its plain measure on the images repeated as their weights say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.measure import calibration, curves, labels, weighted

CLASSES = 3


def world(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 30))
    scores = generator.integers(0, 5, size=(n, CLASSES)) / 4  # ties everywhere
    target = generator.integers(0, CLASSES, size=n)
    weights = generator.integers(0, 4, size=(n, 6)).astype(np.float64)
    return target, scores, scores.argmax(axis=1), weights


def pairs_to_compare(target, scores, predicted):
    truth, called, score = target == 1, predicted == 1, scores[:, 1]

    def counts(rows):
        return labels.counts_of_labels(truth[rows, None], called[rows, None])

    return {
        "auroc": (weighted.auroc(truth, score), lambda r: curves.auroc(truth[r], score[r])),
        "average precision": (
            weighted.average_precision(truth, score),
            lambda r: curves.average_precision(truth[r], score[r]),
        ),
        "accuracy": (
            weighted.accuracy(target, predicted),
            lambda r: labels.accuracy(target[r], predicted[r]),
        ),
        "balanced accuracy": (
            weighted.balanced_accuracy(target, predicted, classes=CLASSES),
            lambda r: labels.balanced_accuracy(target[r], predicted[r], classes=CLASSES),
        ),
        "sensitivity": (weighted.sensitivity(truth, called), lambda r: counts(r).recall[0]),
        "specificity": (weighted.specificity(truth, called), lambda r: counts(r).specificity[0]),
        "precision": (weighted.precision(truth, called), lambda r: counts(r).precision[0]),
        "f1": (weighted.f1(truth, called), lambda r: counts(r).f1[0]),
        "mean": (
            weighted.mean(score),
            lambda r: score[r].mean() if len(r) else np.nan,
        ),
        "calibration error": (
            weighted.calibration_error(truth, score, bins=5),
            lambda r: calibration.expected_calibration_error(truth[r], score[r], bins=5),
        ),
        "pooled calibration error": (
            weighted.calibration_error(target[:, None] == np.arange(CLASSES), scores, bins=3),
            lambda r: calibration.expected_calibration_error(
                (target[r, None] == np.arange(CLASSES)).reshape(-1), scores[r].reshape(-1), bins=3
            ),
        ),
        "macro auroc": (
            weighted.macro_auroc(target, scores),
            lambda r: labels.macro_average(curves.auroc_one_vs_rest(target[r], scores[r])),
        ),
    }


@settings(max_examples=25)
@given(st.integers(0, 2**20))
def test_weights_do_what_repeating_does(seed):
    target, scores, predicted, weights = world(seed)
    for name, (statistic, plain) in pairs_to_compare(target, scores, predicted).items():
        by_loop = weighted.by_loop(plain, len(target))
        np.testing.assert_allclose(
            statistic(weights), by_loop(weights), rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_auroc_is_exact_to_the_last_bit():
    generator = np.random.default_rng(5)
    truth = generator.random(300) < 0.4
    scores = generator.integers(0, 40, size=300) / 7
    weights = generator.integers(0, 5, size=(300, 50)).astype(np.float64)

    slow = weighted.by_loop(lambda rows: curves.auroc(truth[rows], scores[rows]), 300)

    np.testing.assert_array_equal(weighted.auroc(truth, scores)(weights), slow(weights))


def test_resamples_without_a_class_are_undefined():
    truth = np.array([True, False, False])
    scores = np.array([0.9, 0.2, 0.4])
    weights = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])

    assert np.isnan(weighted.auroc(truth, scores)(weights)).all()
    assert np.isnan(weighted.average_precision(truth, scores)(weights)).tolist() == [True, False]


def test_unequal_lengths_are_told():
    with pytest.raises(ValueError, match="part has 2, whole has 3"):
        weighted.share(np.ones(2), np.ones(3))


def test_calibration_error_by_hand():
    # Bin (0, 0.5]: predicted 0.1 and 0.3, one of two true: |0.2 - 0.5|. Bin (0.5, 1]: 0.9 - 1.
    truth, probability = np.array([False, True, True]), np.array([0.1, 0.3, 0.9])
    weights = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 2.0]])

    found = weighted.calibration_error(truth, probability, bins=2)(weights)

    # Second resample: two at 0.1, none true, and two at 0.9, all true.
    assert found == pytest.approx([2 / 3 * 0.3 + 1 / 3 * 0.1, 0.5 * 0.1 + 0.5 * 0.1])
    assert np.isnan(weighted.calibration_error(truth, probability)(np.zeros((3, 1)))).all()
    nothing = weighted.calibration_error(np.zeros((0, 2), bool), np.zeros((0, 2)))
    assert np.isnan(nothing(np.zeros((0, 1)))).all()
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\]"):
        weighted.calibration_error(truth, probability + 1)


def test_what_is_remembered_is_worked_out_once_for_each_block():
    calls = []

    def slow(weights):
        calls.append(1)
        return weights.sum(axis=0)

    fast = weighted.remembered(slow)
    first, second = np.ones((2, 3)), np.full((2, 3), 2.0)

    assert fast(first).tolist() == fast(first).tolist() == [2, 2, 2]
    assert fast(second).tolist() == [4, 4, 4]
    assert fast(first).tolist() == [2, 2, 2]
    assert len(calls) == 3
