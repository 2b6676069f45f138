import json
import math

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn import metrics

from medglean.classify.decisions import Decisions, calibrated, decide
from medglean.classify.promises import listed, patients_needed, promised, too_few
from medglean.classify.settings import DecideSettings
from medglean.errors import CheckpointError
from medglean.fitting.classification import probabilities

RULES = ("youden", "sensitivity=0.95", "specificity=0.95")


def overconfident(count=600, classes=2, factor=2.5, seed=0):
    """Classes drawn from softmax of the logits, which are then made too large; 2 a patient."""
    generator = np.random.default_rng(seed)
    right = generator.normal(0, 1.5, (count, classes))
    cumulative = special.softmax(right, axis=1).cumsum(axis=1)
    target = (generator.random((count, 1)) > cumulative).sum(axis=1)
    return (
        (factor * right).astype(np.float32),
        target,
        np.array([f"p{i // 2}" for i in range(count)]),
    )


def findings(count=800, seed=1):
    generator = np.random.default_rng(seed)
    right = generator.normal(0, 1.5, (count, 3))
    truth = generator.random((count, 3)) < special.expit(right)
    return right * np.array([3.0, 0.5, 1.0]), truth.astype(float), np.arange(count)


def decided(logits, targets, groups, *, kind="single", classes=("well", "ill"), **settings):
    return decide(
        logits, targets, groups, kind=kind, classes=classes, settings=DecideSettings(**settings)
    )


def test_one_temperature_for_exclusive_classes():
    logits, target, patients = overconfident()

    found = decided(logits, target, patients)

    def loss(value):
        return metrics.log_loss(target, special.softmax(logits.astype(float) / value, axis=1))

    slow = optimize.minimize_scalar(loss, bounds=(0.5, 10), method="bounded")
    assert found.temperature == pytest.approx((slow.x,), rel=1e-4)
    assert found.temperature[0] == pytest.approx(2.5, rel=0.2)
    assert (found.n, found.groups) == (600, 300)
    assert found.is_calibrated
    assert found.notes == ()


def test_points_do_on_the_validation_images_what_they_say():
    logits, target, patients = overconfident()

    found = decided(logits, target, patients)

    assert list(found.points) == ["ill"]  # the score of "well" is its mirror image
    score = calibrated(logits, found, kind="single")[:, 1]
    youden, sensitive, specific = found.points["ill"]
    assert [p.rule for p in found.points["ill"]] == [
        "Youden",
        "sensitivity >= 0.95",
        "specificity >= 0.95",
    ]
    for point in (youden, sensitive, specific):
        called = score >= point.threshold
        assert called[target == 1].mean() == pytest.approx(point.sensitivity)
        assert (~called[target == 0]).mean() == pytest.approx(point.specificity)
    rate, found_rate, _ = metrics.roc_curve(target, score)
    assert youden.sensitivity + youden.specificity - 1 == pytest.approx((found_rate - rate).max())
    assert sensitive.sensitivity >= 0.95
    assert specific.specificity >= 0.95
    assert sensitive.threshold < youden.threshold < specific.threshold


def test_points_call_the_same_images_without_a_temperature():
    logits, target, patients = overconfident()
    plain = decided(logits, target, patients, calibrate="none")
    scaled = decided(logits, target, patients)

    assert plain.temperature == (1.0,)
    assert not plain.is_calibrated
    for one, other in zip(plain.points["ill"], scaled.points["ill"], strict=True):
        before = calibrated(logits, plain, kind="single")[:, 1] >= one.threshold
        after = calibrated(logits, scaled, kind="single")[:, 1] >= other.threshold
        np.testing.assert_array_equal(before, after)


def test_each_of_three_classes_has_its_own_points():
    logits, target, patients = overconfident(classes=3)

    found = decided(logits, target, patients, classes=("a", "b", "c"), points=RULES[:1])

    assert list(found.points) == ["a", "b", "c"]
    score = calibrated(logits, found, kind="single")
    for j, points in enumerate(found.points.values()):
        assert len(points) == 1
        assert points[0].sensitivity == (score[target == j, j] >= points[0].threshold).mean()


def test_each_finding_has_its_own_temperature_and_points():
    logits, truth, patients = findings()

    found = decided(logits, truth, patients, kind="multi", classes=("x", "y", "z"))

    assert found.temperature == pytest.approx((3.0, 0.5, 1.0), rel=0.2)
    assert list(found.points) == ["x", "y", "z"]
    score = calibrated(logits, found, kind="multi")
    np.testing.assert_allclose(score, special.expit(logits / np.array(found.temperature)))


def test_probabilities_are_those_of_the_network_at_temperature_one():
    logits = overconfident(classes=3)[0]

    for kind, classes in (("single", "abc"), ("multi", "abc")):
        same = calibrated(logits, Decisions.none(kind, classes), kind=kind)
        np.testing.assert_allclose(same, probabilities(logits, kind=kind), atol=1e-15)


def test_a_higher_temperature_is_less_sure():
    logits = np.array([[2.0, 0.0]])

    half = calibrated(logits, Decisions((2.0,)), kind="single")

    assert half[0, 0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert calibrated(logits, Decisions((2.0, 4.0)), kind="multi")[0] == pytest.approx(
        [1 / (1 + math.exp(-1)), 0.5]
    )


def test_perfect_separation_leaves_the_scores_and_is_told():
    target = np.arange(400) % 2
    logits = np.where(target[:, None] == np.arange(2), 1.0, -1.0)

    found = decided(logits, target, np.arange(400))

    assert found.temperature == (1.0,)
    (note,) = found.notes
    assert note == (
        "Probabilities are not calibrated: the validation images are separated perfectly, or as "
        "good as."
    )
    assert [point.sensitivity for point in found.points["ill"]] == [1.0, 1.0, 1.0]


def test_logits_in_the_right_order_but_tiny_leave_the_scores_too():
    target = np.arange(400) % 2
    logits = np.where(target[:, None] == np.arange(2), 0.001, 0.0)
    logits[0] = logits[0, ::-1]  # one mistake: not separable, but the best temperature is 0.0002

    assert decided(logits, target, np.arange(400)).temperature == (1.0,)


def test_few_patients_of_a_kind_leave_the_scores():
    logits, target, _ = overconfident()
    patients = np.where(target == 1, "one of four" + np.char.mod("%d", np.arange(600) % 4), "w")

    found = decided(logits, target, patients)

    assert found.temperature == (1.0,)
    assert "fewer than 5 validation patients" in found.notes[0]


def test_one_class_only_gives_no_threshold():
    logits, target, patients = overconfident()
    found = decided(logits, np.zeros_like(target), patients)

    assert found.temperature == (1.0,)
    assert all(math.isnan(point.threshold) for point in found.points["ill"])
    assert {point.note for point in found.points["ill"]} == {"no positive image"}


def test_a_finding_that_nobody_has_is_told_beside_the_others():
    logits, truth, patients = findings()
    truth[:, 1] = 0

    found = decided(logits, truth, patients, kind="multi", classes=("x", "y", "z"))

    assert found.temperature[1] == 1.0
    assert found.temperature[0] == pytest.approx(3.0, rel=0.2)
    assert found.notes[0].startswith("Probabilities of y are not calibrated: fewer than 5")
    assert "fewer for y (0)" in found.notes[1]
    assert len(found.notes) == 2


def test_logits_that_say_nothing_are_told():
    generator = np.random.default_rng(0)
    target = generator.integers(2, size=400)
    logits = 200 * generator.normal(size=(400, 2))

    found = decided(logits, target, np.arange(400))

    assert found.temperature == (20.0,)
    assert "logits are divided by 20" in found.notes[0]


def test_no_validation_image_decides_nothing():
    nothing = decided(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=object))

    assert nothing == Decisions((1.0,))
    assert Decisions.none("multi", ["x", "y"]).temperature == (1.0, 1.0)
    assert (nothing.points, nothing.n, nothing.notes) == ({}, 0, ())


def test_promises_need_patients():
    # With n patients all found, the true rate is below 0.95 with probability 0.95^n at most:
    # the upper Clopper-Pearson argument, here from the exact interval of n hits in n.
    for least in (0.8, 0.9, 0.95, 0.99):
        needed = int(patients_needed(least))
        assert stats.binomtest(needed, needed).proportion_ci(0.90).low >= least
        assert stats.binomtest(needed - 1, needed - 1).proportion_ci(0.90).low < least
    assert math.isinf(patients_needed(1.0))
    assert promised("youden") is None


def test_a_promise_on_too_few_patients_is_told():
    target = np.repeat([0, 1], [200, 40])
    generator = np.random.default_rng(0)
    logits = np.column_stack([np.zeros(240), target + generator.normal(size=240)])

    found = decided(logits, target, np.arange(240))

    assert found.notes == (
        "A sensitivity of 0.95 is aimed at, not promised: to be 95 % sure of it takes 59 "
        "validation patients with the finding, and there are fewer for ill (40).",
    )
    # The same images of 30 patients without the finding: now specificity is not promised either.
    few = decided(logits, target, np.where(target == 1, np.arange(240), np.arange(240) % 30))
    assert "without the finding, and there are fewer for ill (30)" in few.notes[1]
    assert too_few("youden", {"ill": (0, 0)}) == ""
    assert "no number of patients" in too_few("specificity=1.0", {"ill": (10, 9000)})
    assert listed(["a", "b", "c"], most=1) == "a and 2 more"


def test_json_keeps_every_bit():
    logits, truth, patients = findings(count=300)
    truth[:, 1] = 1
    found = decided(logits, truth, patients, kind="multi", classes=("x", "y", "z"))

    text = json.dumps(found.to_json(), allow_nan=False)
    read = Decisions.from_json(json.loads(text))

    assert read.temperature == found.temperature
    assert read.points["x"] == found.points["x"]
    assert repr(read) == repr(found)  # NaN equals nothing, not even itself
    assert math.isnan(read.points["y"][0].threshold)
    np.testing.assert_array_equal(
        calibrated(logits, read, kind="multi"), calibrated(logits, found, kind="multi")
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": "x", "points": {}, "n": 1, "groups": 1, "notes": []},
        {
            "temperature": [1],
            "points": {"x": [{"rule": "Youden"}]},
            "n": 1,
            "groups": 1,
            "notes": [],
        },
        {"temperature": [1], "points": [], "n": 1, "groups": 1, "notes": []},
        {"temperature": None, "points": {}, "n": 1, "groups": 1, "notes": []},
    ],
)
def test_a_damaged_file_is_named(given):
    with pytest.raises(CheckpointError, match=r"here/decisions\.json: expected temperature"):
        Decisions.from_json(given, file="here/decisions.json")


def test_decisions_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="1 temperatures, expected 3"):
        calibrated(np.zeros((2, 3)), Decisions((1.0,)), kind="multi")
