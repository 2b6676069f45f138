import numpy as np
import pytest
from sklearn import metrics

from medglean.classify.assess import MACRO, PER_CLASS, assess
from medglean.measure.averages import F1_OF_MEANS
from medglean.measure.calibration import brier_score_multiclass, expected_calibration_error


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
    for averaging in ("macro", "weighted", "micro"):
        expected = metrics.precision_recall_fscore_support(target, predicted, average=averaging)
        measured = found.averages[averaging]
        for name, value in zip(("precision", "recall", "F1"), expected[:3], strict=True):
            assert measured[name].value == pytest.approx(value)
            assert measured[name].low < value < measured[name].high
    macro = found.averages["macro"]
    assert tuple(macro) == MACRO
    assert macro["AUROC"] == found.headline["macro AUROC"]
    assert macro["F1"] == found.headline["macro F1"]
    assert macro["recall"] == found.headline["balanced accuracy"]
    assert macro["F1"].value < macro[F1_OF_MEANS].value
    assert macro["average precision"].value == pytest.approx(
        metrics.average_precision_score(np.eye(3)[target], probability, average="macro")
    )
    assert macro["specificity"].value == pytest.approx(
        np.mean([metrics.recall_score(target != j, predicted != j) for j in range(3)])
    )


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
    without = assess(
        target, probability, patients, kind="single", classes=["a", "b", "c"], replicates=20
    )
    for name in MACRO:
        assert found.averages["macro"][name].value == pytest.approx(
            without.averages["macro"][name].value
        )
    assert any("leave out d" in note for note in found.notes)
    assert without.notes == ()


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


def test_probabilities_before_calibration_are_judged_where_they_are_given():
    target, raw, patients = _three_classes()
    softer = raw**0.5
    softer /= softer.sum(axis=1, keepdims=True)

    def headline(**given):
        found = assess(
            target, softer, patients, kind="single", classes=["a", "b", "c"], replicates=20, **given
        )
        return found.headline

    def expected(table):
        right = table.argmax(axis=1) == target
        return [
            brier_score_multiclass(target, table),
            expected_calibration_error(right, table.max(axis=1)),
        ]

    def found(given):
        return [given["Brier score"].value, given["calibration error"].value]

    assert found(headline(raw=raw)) == pytest.approx(expected(raw))
    assert found(headline()) == pytest.approx(expected(softer))
    assert headline(raw=raw)["macro AUROC"] == headline()["macro AUROC"]


def test_findings_are_averaged_as_scikit_learn_averages_them():
    generator = np.random.default_rng(1)
    truth = (generator.random((200, 3)) < 0.3).astype(float)
    probability = np.clip(0.5 * truth + 0.6 * generator.random((200, 3)), 0, 1)

    found = assess(
        truth, probability, np.arange(200), kind="multi", classes=["x", "y", "z"], replicates=20
    )

    for averaging in ("macro", "weighted", "micro"):
        expected = metrics.precision_recall_fscore_support(
            truth, probability >= 0.5, average=averaging
        )[:3]
        values = [found.averages[averaging][name].value for name in ("precision", "recall", "F1")]
        assert values == pytest.approx(expected)
    assert found.headline["Brier score"].value == pytest.approx(((probability - truth) ** 2).mean())
    assert found.headline["calibration error"].value == pytest.approx(
        expected_calibration_error(truth.astype(bool).reshape(-1), probability.reshape(-1))
    )


def test_a_class_that_is_never_called_is_told_with_what_it_costs():
    target = np.array([0, 0, 1, 1] * 20)
    always = np.tile([0.8, 0.2], (80, 1))

    found = assess(target, always, np.arange(80), kind="single", classes=["n", "p"], replicates=20)

    assert np.isnan(found.per_class[1]["precision"].value)
    assert found.averages["macro"]["precision"].value == pytest.approx(0.25)
    assert found.headline["macro F1"].value == pytest.approx((2 / 3) / 2)
    (note,) = found.notes
    assert note.startswith("No image was called p:")
    assert "left out, macro precision would be 0.500" in note


def test_a_finding_that_all_images_have_counts_where_it_can():
    truth = np.array([[1, 0], [1, 1]] * 20)
    probability = np.where(truth == 1, 0.9, 0.2)
    probability[0] = [0.1, 0.2]

    found = assess(
        truth, probability, np.arange(40), kind="multi", classes=["all", "some"], replicates=20
    )

    macro = found.averages["macro"]
    assert macro["AUROC"].value == found.per_class[1]["AUROC"].value == 1.0
    assert macro["recall"].value == pytest.approx((39 / 40 + 1) / 2)
    assert any("leave out all: all images here have it" in note for note in found.notes)


def test_nothing_to_tell_apart_is_undefined_throughout():
    found = assess(
        np.zeros(40),
        np.tile([0.7, 0.3], (40, 1)),
        np.arange(40),
        kind="single",
        classes=["n", "p"],
        replicates=20,
    )

    assert np.isnan(found.headline["AUROC"].value)
    assert np.isnan(found.averages["macro"]["AUROC"].value)
    assert found.headline["accuracy"].value == 1.0
    assert found.headline["balanced accuracy"].value == 1.0
    nobody = assess(
        np.zeros((40, 2)),
        np.full((40, 2), 0.3),
        np.arange(40),
        kind="multi",
        classes=["x", "y"],
        replicates=20,
    )
    assert np.isnan([one.value for one in nobody.averages["macro"].values()]).all()
    assert nobody.headline["exact match"].value == 1.0


def test_averages_that_most_resamples_lose_are_not_to_be_relied_on():
    generator = np.random.default_rng(0)
    truth = np.zeros((50, 6))
    truth[np.arange(6), np.arange(6)] = 1  # each finding in one patient: seldom all are drawn
    found = assess(
        truth,
        generator.random((50, 6)),
        np.arange(50),
        kind="multi",
        classes=list("abcdef"),
        replicates=200,
    )

    assert found.averages["macro"]["recall"].replicates < 100
    assert any("resamples: the others lack a class" in note for note in found.notes)
