import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from medglean.measure import curves

# Few distinct scores, so that ties within and across classes are the rule.
images = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40)


def arrays(rows):
    truth = np.array([row[0] for row in rows], dtype=bool)
    scores = np.array([row[1] for row in rows], dtype=np.float64) / 3
    return truth, scores


def test_auroc_by_hand():
    # Positives 0.4 and 0.9, negatives 0.1 and 0.4: pairs won 1, tie, 1, 1 = 3.5 of 4.
    truth = np.array([False, True, False, True])
    scores = np.array([0.1, 0.4, 0.4, 0.9])

    assert curves.auroc(truth, scores) == 0.875


@given(images)
def test_auroc_and_average_precision_agree_with_scikit_learn(rows):
    truth, scores = arrays(rows)
    if truth.any() and not truth.all():
        assert curves.auroc(truth, scores) == pytest.approx(
            metrics.roc_auc_score(truth, scores), abs=1e-12
        )
    else:
        assert np.isnan(curves.auroc(truth, scores))
    if truth.any():
        assert curves.average_precision(truth, scores) == pytest.approx(
            metrics.average_precision_score(truth, scores), abs=1e-12
        )
    else:
        assert np.isnan(curves.average_precision(truth, scores))


@given(images)
def test_roc_curve_agrees_with_scikit_learn(rows):
    truth, scores = arrays(rows)
    if truth.all() or not truth.any():
        return
    curve = curves.roc_curve(truth, scores)
    fpr, tpr, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)

    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.sensitivity, tpr)
    np.testing.assert_array_equal(curve.threshold, thresholds)
    area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
    assert area == pytest.approx(curves.auroc(truth, scores))
    assert (curve.positives, curve.negatives) == (truth.sum(), (~truth).sum())


@given(images)
def test_precision_recall_curve_agrees_with_scikit_learn(rows):
    truth, scores = arrays(rows)
    if not truth.any():
        return
    curve = curves.precision_recall_curve(truth, scores)
    precision, recall, thresholds = metrics.precision_recall_curve(truth, scores)

    np.testing.assert_allclose(curve.precision, precision[:-1][::-1])
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1])
    np.testing.assert_array_equal(curve.threshold, thresholds[::-1])
    assert curve.prevalence == pytest.approx(truth.mean())


@given(images)
def test_youden_threshold_is_the_best_of_all_and_the_highest_of_equals(rows):
    truth, scores = arrays(rows)
    threshold = curves.youden_threshold(truth, scores)
    if truth.all() or not truth.any():
        assert np.isnan(threshold)
        return

    def gain(at):  # in whole pairs, so that equals are equal
        called = scores >= at
        hits, alarms = int((called & truth).sum()), int((called & ~truth).sum())
        return hits * int((~truth).sum()) - alarms * int(truth.sum())

    best = max(gain(at) for at in scores)
    assert threshold == max(at for at in scores if gain(at) == best)


def test_order_of_rows_and_monotone_rescaling_change_nothing():
    generator = np.random.default_rng(0)
    truth = generator.random(200) < 0.3
    scores = np.round(generator.normal(size=200) + truth, 1)
    order = generator.permutation(200)

    assert curves.auroc(truth[order], scores[order]) == curves.auroc(truth, scores)
    assert curves.auroc(truth, np.exp(scores)) == curves.auroc(truth, scores)
    assert curves.auroc(truth, -scores) == pytest.approx(1 - curves.auroc(truth, scores))


def test_one_vs_rest_gives_nan_for_a_class_that_does_not_occur():
    target = np.array([0, 1, 0, 1, 1])
    generator = np.random.default_rng(1)
    scores = generator.random((5, 3))

    found = curves.auroc_one_vs_rest(target, scores)

    assert found[0] == pytest.approx(metrics.roc_auc_score(target == 0, scores[:, 0]))
    assert found[1] == pytest.approx(metrics.roc_auc_score(target == 1, scores[:, 1]))
    assert np.isnan(found[2])


def test_scores_that_are_not_finite_are_counted_in_the_error():
    with pytest.raises(ValueError, match=r"found 2 of 3 that are NaN or infinite, the first at"):
        curves.auroc(np.array([True, False, True]), np.array([0.5, np.nan, np.inf]))


def test_lengths_that_differ_are_told():
    scores = np.linspace(0, 1, 4)
    with pytest.raises(ValueError, match="expected class indices 0 to 1, found 0 to 2"):
        curves.one_vs_rest(np.array([0, 1, 2, 0]), np.stack([scores, scores], axis=1))
