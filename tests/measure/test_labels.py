import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from medglean.measure import labels

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)
CLASSES = list(range(4))


def columns(rows):
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@given(pairs)
def test_confusion_and_per_class_numbers_agree_with_scikit_learn(rows):
    target, predicted = columns(rows)
    matrix = labels.confusion_matrix(target, predicted, classes=4)
    counts = labels.counts_of_confusion(matrix)

    np.testing.assert_array_equal(
        matrix, metrics.confusion_matrix(target, predicted, labels=CLASSES)
    )
    by_class = metrics.multilabel_confusion_matrix(target, predicted, labels=CLASSES)
    np.testing.assert_array_equal(counts.true_negatives, by_class[:, 0, 0])
    np.testing.assert_array_equal(counts.false_positives, by_class[:, 0, 1])
    np.testing.assert_array_equal(counts.false_negatives, by_class[:, 1, 0])
    np.testing.assert_array_equal(counts.true_positives, by_class[:, 1, 1])
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        target, predicted, labels=CLASSES, zero_division=np.nan
    )
    np.testing.assert_allclose(counts.precision, precision)
    np.testing.assert_allclose(counts.recall, recall)
    np.testing.assert_allclose(counts.f1, np.where(support > 0, f1, np.nan))
    np.testing.assert_array_equal(counts.support, support)
    specificity = [
        metrics.recall_score(target != k, predicted != k, zero_division=np.nan) for k in CLASSES
    ]
    np.testing.assert_allclose(counts.specificity, specificity)


@given(pairs)
def test_accuracies_agree_with_scikit_learn(rows):
    target, predicted = columns(rows)

    assert labels.accuracy(target, predicted) == metrics.accuracy_score(target, predicted)
    balanced = labels.balanced_accuracy(target, predicted, classes=4)
    if set(target) == set(CLASSES):
        assert balanced == pytest.approx(metrics.balanced_accuracy_score(target, predicted))
    else:
        assert np.isnan(balanced)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**16))
def test_several_labels_at_once_agree_with_scikit_learn(n, k, seed):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.random((2, n, k)) < 0.4

    # As columns of whole numbers with one more, for scikit-learn reads (n, 1) otherwise.
    wide_truth = np.c_[truth, np.zeros(n, bool)].astype(int)
    wide_predicted = np.c_[predicted, np.zeros(n, bool)].astype(int)
    assert labels.exact_match(truth, predicted) == metrics.accuracy_score(
        wide_truth, wide_predicted
    )
    assert labels.hamming_loss(truth, predicted) == pytest.approx(
        metrics.hamming_loss(wide_truth, wide_predicted) * (k + 1) / k
    )
    counts = labels.counts_of_labels(truth, predicted)
    by_label = metrics.multilabel_confusion_matrix(wide_truth, wide_predicted)[:k]
    np.testing.assert_array_equal(counts.true_negatives, by_label[:, 0, 0])
    np.testing.assert_array_equal(counts.false_positives, by_label[:, 0, 1])
    np.testing.assert_array_equal(counts.false_negatives, by_label[:, 1, 0])
    np.testing.assert_array_equal(counts.true_positives, by_label[:, 1, 1])
    np.testing.assert_allclose(
        counts.accuracy, [np.mean(truth[:, j] == predicted[:, j]) for j in range(k)]
    )


def test_a_class_without_images_is_undefined_even_when_called():
    # Class 2 never occurs but is called once; class 1 occurs and is never called.
    matrix = labels.confusion_matrix(np.array([0, 0, 1]), np.array([0, 2, 0]), classes=3)
    counts = labels.counts_of_confusion(matrix)

    assert np.isnan(counts.recall[2])
    assert np.isnan(counts.f1[2])
    assert counts.precision[2] == 0.0
    assert np.isnan(counts.precision[1])
    assert counts.recall[1] == 0.0
    assert counts.f1[1] == 0.0


def test_macro_average_hides_nothing_unless_told():
    values = np.array([0.5, np.nan, 1.0])

    assert np.isnan(labels.macro_average(values))
    assert labels.macro_average(values, skip_undefined=True) == 0.75
    assert np.isnan(labels.macro_average(np.array([np.nan]), skip_undefined=True))


def test_no_images_is_undefined_not_zero():
    none = np.array([], dtype=np.int64)
    empty = np.zeros((0, 2), dtype=bool)

    assert np.isnan(labels.accuracy(none, none))
    assert np.isnan(labels.exact_match(empty, empty))
    assert np.isnan(labels.hamming_loss(empty, empty))


def test_a_class_index_out_of_range_is_told():
    with pytest.raises(ValueError, match="predicted: expected class indices 0 to 1, found 0 to 2"):
        labels.confusion_matrix(np.array([0, 1]), np.array([0, 2]), classes=2)
