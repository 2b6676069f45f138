import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn import metrics

from medglean.classify import decided_calibration
from medglean.classify.assess import assess
from medglean.classify.decided import decisions_part, points_on_curves
from medglean.classify.decisions import Decisions, calibrated, decide
from medglean.classify.parts import Judged, Part
from medglean.classify.settings import ClassifyPreset
from medglean.measure.calibration import expected_calibration_error
from medglean.measure.operating import OperatingPoint


def drawn(count, *, classes=2, factor=2.5, seed=0, shift=0.0):
    """Logits of an overconfident network, and the truth; two images a patient."""
    generator = np.random.default_rng(seed)
    right = generator.normal(0, 1.5, (count, classes))
    cumulative = special.softmax(right, axis=1).cumsum(axis=1)
    target = (generator.random((count, 1)) > cumulative).sum(axis=1)
    moved = right - shift * (target == classes - 1)[:, None] * (np.arange(classes) == classes - 1)
    return (factor * moved).astype(np.float32), target


def findings(count, seed=0):
    generator = np.random.default_rng(seed)
    right = generator.normal(0, 1.5, (count, 3))
    truth = (generator.random((count, 3)) < special.expit(right)).astype(float)
    return right * np.array([3.0, 0.5, 1.0]), truth


def patients(count):
    return np.array([f"p{i // 2}" for i in range(count)])


def judge(logits, targets, decisions, *, kind="single", classes=("well", "ill"), split="test"):
    """Return what the section is made from, without a network or an image."""
    count = len(logits)
    probability = calibrated(logits, decisions or Decisions.none(kind, classes), kind=kind)
    found = assess(targets, probability, patients(count), kind=kind, classes=classes, replicates=20)
    preset = ClassifyPreset(name="here", measure={"replicates": 200})
    frame = pd.DataFrame({"id": np.arange(count).astype(str), "split": split})
    return Judged(
        SimpleNamespace(kind=kind, classes=tuple(classes), preset=preset, decisions=decisions),
        SimpleNamespace(manifest=SimpleNamespace(frame=frame, grouped_by="patient")),
        SimpleNamespace(rows=np.arange(count), logits=logits, probability=probability),
        found,
        patients(count),
        None,
        0,
    )


def decided_on(logits, targets, *, kind="single", classes=("well", "ill"), **settings):
    preset = ClassifyPreset(name="here", decide=settings)
    return decide(
        logits, targets, patients(len(logits)), kind=kind, classes=classes, settings=preset.decide
    )


@pytest.fixture(scope="module")
def two():
    """Two classes, 800 validation and 600 other images, as judged and as a section."""
    decisions = decided_on(*drawn(800, seed=1))
    judged = judge(*drawn(600, seed=4), decisions)
    return judged, decisions_part(judged)


@pytest.fixture(autouse=True)
def undrawn(two, monkeypatch):
    """Spare the drawing of a figure that ``two`` has shown already."""
    monkeypatch.setattr(decided_calibration.curves, "reliability", lambda *_, **__: b"<svg/>")


def test_counts_and_rates_are_those_of_the_threshold(two):
    judged, part = two
    counts, rates = part.tables[:2]
    truth = judged.found.truth[:, 1]
    score = judged.scores.probability[:, 1]

    for row, shown, point in zip(
        counts.rows, rates.rows, judged.classifier.decisions.points["ill"], strict=True
    ):
        called = score >= point.threshold
        (tn, fp), (fn, tp) = metrics.confusion_matrix(truth, called)
        assert row[0] == shown[0] == f"ill: {point.rule}"
        assert row[2:] == [tp, fp, fn, tn]
        expected = [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]
        measured = [re.match(r"(\d\.\d{3}) \(\d", shown[k]).group(1) for k in (1, 3, 5, 6)]
        assert measured == [f"{value:.3f}" for value in expected]
        assert shown[2] == point.sensitivity
        assert shown[4] == point.specificity
    assert "800 validation images of 400 patients" in counts.note


def test_probabilities_are_judged_before_and_after(two):
    judged, part = two
    table = part.tables[2]
    target = judged.found.truth.argmax(axis=1)
    temperature = judged.classifier.decisions.temperature[0]

    def expected(divisor):
        chances = special.softmax(judged.scores.logits.astype(float) / divisor, axis=1)
        right = chances.argmax(axis=1) == target
        return [
            metrics.log_loss(target, chances),
            2 * metrics.brier_score_loss(target, chances[:, 1]),
            expected_calibration_error(right, chances.max(axis=1)),
        ]

    before, after = expected(1.0), expected(temperature)
    assert table.columns[1:] == ["As the network gives them", "After temperature scaling", "Change"]
    for row, first, second in zip(table.rows, before, after, strict=True):
        assert row[1].startswith(f"{first:.3f} (")
        assert row[2].startswith(f"{second:.3f} (")
        assert row[3].startswith(f"{second - first:.3f} (")
        assert second < first
    assert f"divided by {temperature:.3g}" in table.note
    assert [metric.name for metric in part.metrics] == [
        "Brier score after scaling",
        "calibration error after scaling",
    ]
    assert [metric.value for metric in part.metrics] == pytest.approx(after[1:])
    assert all(metric.low < metric.value < metric.high for metric in part.metrics[:1])
    assert part.data == {"temperature": f"{temperature:.4g}"}


def test_a_promise_that_holds_is_no_warning_and_stands_in_a_sentence(two):
    part = two[1]

    assert part.warnings == ()
    assert part.sentences[0].startswith(
        "At the threshold set for sensitivity >= 0.95 on validation images, it finds 0.9"
    )
    (figure,) = part.figures
    assert figure.data.startswith(b"<?xml")


def test_a_promise_that_does_not_hold_elsewhere_is_a_warning():
    decisions = decided_on(*drawn(800, seed=1))
    part = decisions_part(judge(*drawn(600, seed=2, shift=2.0), decisions))

    (warning,) = part.warnings
    assert warning.startswith("ill: sensitivity >= 0.95 was not kept: sensitivity here is 0.")
    assert "whole interval below 0.95" in warning


def test_what_was_chosen_on_the_same_images_is_told():
    logits, target = drawn(800, seed=1)
    decisions = decided_on(logits, target)

    def first(split):
        return decisions_part(judge(logits, target, decisions, split=split)).warnings

    assert any("chosen on these very images" in told for told in first("val"))
    assert first("test") == ()


def test_few_patients_are_told_for_validation_and_for_here():
    decisions = decided_on(*drawn(60, seed=1))
    part = decisions_part(judge(*drawn(60, seed=2), decisions))

    told = " ".join(part.warnings)
    assert "A sensitivity of 0.95 is aimed at, not promised" in told
    few = decisions_part(judge(*drawn(12, seed=2), decisions)).warnings
    assert any("Whether sensitivity >= 0.95 holds cannot be told here" in one for one in few)


def test_each_finding_has_its_points_and_all_share_the_calibration():
    names = ("x", "y", "z")
    decisions = decided_on(*findings(800, seed=1), kind="multi", classes=names)
    logits, truth = findings(600, seed=2)
    part = decisions_part(judge(logits, truth, decisions, kind="multi", classes=names))

    assert [row[0] for row in part.tables[0].rows] == [
        f"{name}: {rule}"
        for name in names
        for rule in ("Youden", "sensitivity >= 0.95", "specificity >= 0.95")
    ]
    chances = special.expit(logits / np.array(decisions.temperature))
    values = {row[0]: row[2] for row in part.tables[2].rows}
    losses = [metrics.log_loss(truth[:, j], chances[:, j]) for j in range(3)]
    assert values["Negative log-likelihood"].startswith(f"{np.mean(losses):.3f} ")
    assert values["Brier score"].startswith(f"{((chances - truth) ** 2).mean():.3f} ")
    error = expected_calibration_error(truth.astype(bool).reshape(-1), chances.reshape(-1))
    assert values["Calibration error"].startswith(f"{error:.3f} ")
    assert set(part.data["temperature"]) == set(names)
    assert part.sentences == ()


def test_without_a_temperature_there_is_one_column_and_no_further_metric():
    decisions = decided_on(*drawn(800, seed=1), calibrate="none")
    part = decisions_part(judge(*drawn(600, seed=2), decisions))

    assert part.tables[2].columns == ["Measure", "As the network gives them"]
    assert "No temperature is applied" in part.tables[2].note
    assert part.metrics == ()


def test_points_that_could_not_be_chosen_are_told():
    decisions = Decisions(
        (1.0,),
        {
            "ill": (
                OperatingPoint("Youden", 0.5, 0.9, 0.8),
                OperatingPoint("specificity >= 0.95", *[float("nan")] * 3, "not attainable"),
            )
        },
        n=100,
        groups=50,
    )
    part = decisions_part(judge(*drawn(600, seed=2), decisions))

    assert len(part.tables[0].rows) == 1
    assert "no threshold for ill: specificity >= 0.95 (not attainable)" in part.tables[0].note
    none = Decisions((1.0,), {}, n=100, groups=50)
    assert len(decisions_part(judge(*drawn(600, seed=2), none)).tables) == 1


def test_an_interval_without_width_is_not_certainty():
    target = np.arange(200) % 2
    logits = np.where(target[:, None] == np.arange(2), 1.0, -1.0)
    decisions = decided_on(logits, target)

    part = decisions_part(judge(logits, target, decisions))

    assert "does not mean certainty" in part.tables[1].note
    assert any("separated perfectly" in told for told in part.warnings)


@pytest.mark.parametrize("decisions", [None, Decisions((1.0,))])
def test_a_run_that_decided_nothing_has_no_section(decisions):
    assert decisions_part(judge(*drawn(100), decisions)) == Part()


def test_points_lie_on_the_curves_where_their_calls_put_them():
    truth = np.array([False, False, True, True, True])
    score = np.array([0.2, 0.6, 0.4, 0.7, 0.9])
    points = (
        OperatingPoint("a", 0.5, 1.0, 1.0),
        OperatingPoint("none", float("nan"), 1.0, 1.0),
        OperatingPoint("nothing called", 0.95, 1.0, 1.0),
    )

    on_roc, on_pr = points_on_curves(truth, score, points)

    # 0.6, 0.7 and 0.9 are called: 2 of 3 found, 1 of 2 called wrongly, 2 of 3 calls right
    assert (on_roc[0].x, on_roc[0].y) == pytest.approx((1 / 2, 2 / 3))
    assert (on_pr[0].x, on_pr[0].y) == pytest.approx((2 / 3, 2 / 3))
    assert [one.name for one in on_roc] == ["a", "nothing called"]
    assert [one.name for one in on_pr] == ["a"]
