import math

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import metrics

from medglean.measure import temperature


@pytest.fixture
def overconfident():
    """Classes drawn from softmax of the logits, then logits made 2.5 times too large."""
    generator = np.random.default_rng(0)
    right = generator.normal(0, 1.5, (4000, 3))
    cumulative = special.softmax(right, axis=1).cumsum(axis=1)
    target = (generator.random((4000, 1)) > cumulative).sum(axis=1)
    return 2.5 * right, target


@pytest.fixture
def findings():
    generator = np.random.default_rng(1)
    right = generator.normal(0, 1.5, (3000, 2))
    truth = generator.random((3000, 2)) < special.expit(right)
    return right * np.array([3.0, 0.5]), truth


def test_finds_what_the_logits_were_multiplied_by(overconfident):
    found = temperature.fit_temperature(*overconfident)

    assert found.value == pytest.approx(2.5, rel=0.06)
    assert found.nll_after < found.nll_before
    assert (found.n, found.note) == (4000, "")


def test_agrees_with_a_search_over_log_loss(overconfident):
    logits, target = overconfident

    def loss(value):
        return metrics.log_loss(target, special.softmax(logits / value, axis=1))

    slow = optimize.minimize_scalar(loss, bounds=(0.5, 10), method="bounded")
    found = temperature.fit_temperature(logits, target)

    assert found.value == pytest.approx(slow.x, rel=1e-4)
    assert found.nll_after == pytest.approx(slow.fun, rel=1e-10)
    assert found.nll_after <= slow.fun + 1e-12
    assert found.nll_before == pytest.approx(loss(1.0), rel=1e-10)


def test_by_hand():
    # Every image says "class 0 by a margin of 3"; three of four are. Right is ln 3, for any scale.
    target = np.array([0, 0, 0, 1])
    for margin in (3.0, 0.6):
        logits = np.tile([margin, 0.0], (4, 1))
        found = temperature.fit_temperature(logits, target)
        assert found.value == pytest.approx(margin / math.log(3), rel=1e-12)
        assert found.nll_after == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_scaling_the_logits_scales_the_temperature(overconfident):
    logits, target = overconfident
    once = temperature.fit_temperature(logits, target)
    thrice = temperature.fit_temperature(3 * logits, target)

    assert thrice.value == pytest.approx(3 * once.value, rel=1e-10)
    assert thrice.nll_after == pytest.approx(once.nll_after, rel=1e-12)


def test_softmax_of_two_is_a_sigmoid():
    generator = np.random.default_rng(2)
    logits = 2 * generator.normal(0, 1, (500, 2))
    chance = special.softmax(logits / 2, axis=1)[:, 1]
    target = (generator.random(500) < chance).astype(np.int64)
    one = temperature.fit_temperature(logits, target)
    other = temperature.fit_temperature_of_findings(
        logits[:, 1:] - logits[:, :1], target[:, None] == 1, bounds=temperature.BOUNDS
    )

    assert other.value == pytest.approx(one.value, rel=1e-10)
    assert other.nll_after == pytest.approx(one.nll_after, rel=1e-12)


def test_findings_have_temperatures_of_their_own(findings):
    logits, truth = findings
    together = temperature.fit_temperature_of_findings(logits, truth)
    own = temperature.fit_temperature_per_finding(logits, truth)

    assert own[0].value == pytest.approx(3.0, rel=0.1)
    assert own[1].value == pytest.approx(0.5, rel=0.1)
    assert 0.5 < together.value < 3.0
    values = np.array([one.value for one in own])
    separate = temperature.calibrated_findings(logits, truth, temperature=values)
    shared = temperature.calibrated_findings(logits, truth, temperature=together.value)
    assert separate.nll == pytest.approx(np.mean([one.nll_after for one in own]), rel=1e-12)
    assert separate.nll < shared.nll == pytest.approx(together.nll_after, rel=1e-12)
    assert separate.brier < shared.brier


def test_a_finding_that_nobody_has_takes_the_common_temperature(findings):
    logits, truth = findings
    truth = truth.copy()
    truth[:, 1] = False
    own = temperature.fit_temperature_per_finding(logits, truth)

    assert own[1].value == temperature.fit_temperature_of_findings(logits, truth).value
    assert own[1].note.startswith("none of 3000 images have it")
    assert own[0].note == ""


def test_scaling_helps_calibration_and_keeps_the_calls(overconfident):
    logits, target = overconfident
    found = temperature.fit_temperature(logits, target)
    before = temperature.calibrated(logits, target)
    after = temperature.calibrated(logits, target, temperature=found.value)

    assert before.nll == found.nll_before
    assert after.nll == found.nll_after
    assert after.ece < before.ece / 3
    assert after.brier < before.brier
    none = temperature.calibrated(logits[:0], target[:0])
    assert np.isnan([none.nll, none.ece, none.brier]).all()


def test_perfect_separation_stops_at_the_bound():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.5]])
    found = temperature.fit_temperature(logits, np.array([0, 1, 0]), bounds=(0.2, 5.0))

    assert found.value == 0.2
    assert "separated perfectly" in found.note
    huge = temperature.fit_temperature(1e6 * logits, np.array([0, 1, 0]))
    assert huge.value == temperature.BOUNDS[0]
    of_findings = temperature.fit_temperature_of_findings(
        np.array([[1.0], [-2.0]]), np.array([[True], [False]])
    )
    assert (of_findings.value, "separated" in of_findings.note) == (0.05, True)


def test_logits_that_say_nothing_stop_at_the_other_bound():
    wrong = temperature.fit_temperature(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 0]))
    flat = temperature.fit_temperature(np.zeros((2, 2)), np.array([1, 0]))

    for found in (wrong, flat):
        assert found.value == temperature.BOUNDS[1]
        assert "next to nothing" in found.note
    small = 1e-3 * np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    beyond = temperature.fit_temperature(
        np.tile(small, (9, 1)), np.array([0, 1, 1] * 8 + [0, 1, 0])
    )
    assert beyond.value == temperature.BOUNDS[0]
    assert "below the lowest allowed" in beyond.note


def test_bad_input_is_told():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="1 class among 2 validation images"):
        temperature.fit_temperature(logits, np.array([0, 0]))
    with pytest.raises(ValueError, match="no finding is present in any of 2"):
        temperature.fit_temperature_of_findings(logits, np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="bounds must rise"):
        temperature.fit_temperature(logits, np.array([0, 1]), bounds=(2.0, 1.0))
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        temperature.calibrated(logits, np.array([0, 1]), temperature=0.0)
