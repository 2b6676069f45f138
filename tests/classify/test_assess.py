import numpy as np
import pytest
from sklearn import metrics

from medglean.classify.assess import PER_CLASS, assess


def _three_classes(count=120):
    generator = np.random.default_rng(0)
    target = generator.integers(3, size=count)
    probability = generator.dirichlet(np.ones(3), size=count)
    probability[np.arange(count), target] += 0.4
    probability /= probability.sum(axis=1, keepdims=True)
    return target, probability, [f"p{i // 2:03d}" for i in range(count)]


def test_numbers_are_scikit_learns():
    target, probability, patients = _three_classes()

    found = assess(
        target, probability, patients, kind="single", classes=["a", "b", "c"], replicates=50
    )

    predicted = probability.argmax(axis=1)
    area = metrics.roc_auc_score(target, probability, multi_class="ovr", average="macro")
    assert found.headline["macro AUROC"].value == pytest.approx(area)
    assert found.headline["accuracy"].value == pytest.approx((target == predicted).mean())
    assert found.headline["macro F1"].value == pytest.approx(
        metrics.f1_score(target, predicted, average="macro")
    )
    precision, recall, _, support = metrics.precision_recall_fscore_support(target, predicted)
    for j in range(3):
        assert found.per_class[j]["sensitivity"].value == pytest.approx(recall[j])
        assert found.per_class[j]["precision"].value == pytest.approx(precision[j])
        assert found.per_class[j]["average precision"].value == pytest.approx(
            metrics.average_precision_score(target == j, probability[:, j])
        )
        assert tuple(found.per_class[j]) == PER_CLASS
    assert found.support == tuple(support)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(target, predicted))
    assert (found.n, found.groups) == (120, 60)
    low, high = found.headline["macro AUROC"].low, found.headline["macro AUROC"].high
    assert low < area < high
    assert found.notes == ()
    assert found.primary[0] == "macro AUROC"


def test_two_classes_have_one_area_and_its_direction():
    target = np.array([0, 0, 0, 1, 1, 1] * 12)
    wrong_way = np.where(target == 1, 0.2, 0.7)
    probability = np.stack([1 - wrong_way, wrong_way], axis=1)

    found = assess(
        target, probability, np.arange(72), kind="single", classes=["n", "p"], replicates=20
    )

    assert found.headline["AUROC"].value == 0.0
    assert found.headline["accuracy"].value == 0.0


def test_a_class_without_images_is_nan_and_told():
    target, probability, patients = _three_classes()
    wide = np.column_stack([probability * 0.9, np.full(len(target), 0.1)])

    found = assess(
        target, wide, patients, kind="single", classes=["a", "b", "c", "d"], replicates=20
    )

    assert np.isnan(found.per_class[3]["AUROC"].value)
    assert np.isnan(found.per_class[3]["sensitivity"].value)
    assert np.isfinite(found.headline["macro AUROC"].value)
    assert any("leave out d" in note for note in found.notes)


def test_several_findings_by_hand():
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 1]] * 10, dtype=float)
    probability = np.array([[0.9, 0.6], [0.8, 0.7], [0.1, 0.2], [0.2, 0.4]] * 10)

    found = assess(
        truth, probability, np.arange(40), kind="multi", classes=["x", "y"], replicates=20
    )

    # finding y is wrong in the first (0.6 without it) and the last image (0.4 with it)
    assert found.headline["exact match"].value == pytest.approx(0.5)
    assert found.headline["Hamming loss"].value == pytest.approx(0.25)
    # y: positives 0.7 and 0.4, negatives 0.6 and 0.2: 3 of 4 pairs are in order
    assert found.per_class[1]["AUROC"].value == pytest.approx(0.75)
    assert found.per_class[0]["AUROC"].value == 1.0
    assert found.headline["macro AUROC"].value == pytest.approx(0.875)
    assert found.confusion is None


def test_few_patients_are_told():
    target, probability, _ = _three_classes()

    found = assess(
        target,
        probability,
        [f"p{i % 5}" for i in range(120)],
        kind="single",
        classes=["a", "b", "c"],
        replicates=20,
    )

    assert found.groups == 5
    assert any("Only 5 patients" in note for note in found.notes)
