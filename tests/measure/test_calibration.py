import numpy as np
import pytest
from scipy import special
from sklearn import metrics
from sklearn.calibration import calibration_curve

from medglean.measure import calibration


@pytest.fixture
def forecasts():
    generator = np.random.default_rng(3)
    probability = generator.random(500)
    return generator.random(500) < probability**2, probability


def test_brier_agrees_with_scikit_learn(forecasts):
    truth, probability = forecasts

    assert calibration.brier_score(truth, probability) == pytest.approx(
        metrics.brier_score_loss(truth, probability), abs=1e-12
    )


def test_brier_over_classes_by_hand():
    # Image 1 (class 0): (0.7-1)^2 + 0.2^2 + 0.1^2 = 0.14; image 2 (class 2): 0.25+0.25+1 = 1.5.
    probability = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])

    found = calibration.brier_score_multiclass(np.array([0, 2]), probability)

    assert found == pytest.approx((0.14 + 1.5) / 2)


def test_brier_over_two_classes_is_twice_that_of_one(forecasts):
    truth, probability = forecasts
    both = np.stack([1 - probability, probability], axis=1)

    assert calibration.brier_score_multiclass(truth.astype(int), both) == pytest.approx(
        2 * calibration.brier_score(truth, probability)
    )


def test_reliability_agrees_with_scikit_learn(forecasts):
    truth, probability = forecasts
    table = calibration.reliability(truth, probability, bins=10)
    observed, predicted = calibration_curve(truth, probability, n_bins=10)

    np.testing.assert_allclose(table.observed, observed)
    np.testing.assert_allclose(table.predicted, predicted)
    assert table.count.sum() == 500


def test_calibration_error_by_hand():
    # Two bins. Lower: 0.2, 0.3 and 0.4, none true: gap 0.3. Upper: 0.9, not true: gap 0.9.
    truth = np.array([False, False, False, False])
    probability = np.array([0.2, 0.3, 0.4, 0.9])

    found = calibration.expected_calibration_error(truth, probability, bins=2)

    assert found == pytest.approx(0.75 * 0.3 + 0.25 * 0.9)


def test_limits_fall_into_the_bin_below_and_empty_bins_are_undefined():
    table = calibration.reliability(
        np.array([False, True, True]), np.array([0.0, 0.25, 1.0]), bins=4
    )

    assert table.count.tolist() == [2, 0, 0, 1]
    assert np.isnan(table.observed[1:3]).all()
    assert table.observed[0] == 0.5


def test_no_images_is_undefined():
    nothing = np.array([], dtype=bool)

    assert np.isnan(calibration.expected_calibration_error(nothing, np.array([])))
    assert np.isnan(calibration.brier_score(nothing, np.array([])))


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_what_is_no_probability_is_told(bad):
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\], found"):
        calibration.brier_score(np.array([True, False]), np.array([0.5, bad]))


def test_bins_must_be_positive():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        calibration.reliability(np.array([True]), np.array([0.5]), bins=0)


def test_likelihood_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (200, 3))
    target = generator.integers(3, size=200)
    truth = generator.random((200, 3)) < 0.3

    of_classes = calibration.nll_of_classes(logits, target)
    of_findings = calibration.nll_of_findings(logits, truth)

    assert of_classes.shape == of_findings.shape == (200,)
    assert of_classes.mean() == pytest.approx(
        metrics.log_loss(target, special.softmax(logits, axis=1))
    )
    assert of_findings.mean() == pytest.approx(
        np.mean([metrics.log_loss(truth[:, j], special.expit(logits[:, j])) for j in range(3)])
    )


def test_likelihood_of_sure_logits_is_finite():
    assert calibration.nll_of_classes(np.array([[900.0, 0.0]]), np.array([1])) == [900.0]
    assert calibration.nll_of_findings(np.array([[900.0]]), np.array([[False]])) == [900.0]
    with pytest.raises(ValueError, match="expected class indices 0 to 1"):
        calibration.nll_of_classes(np.zeros((1, 2)), np.array([2]))


def test_a_bin_holds_its_upper_limit():
    probability = np.array([[0.0, 0.2, 0.21], [0.6, 0.99, 1.0]])

    assert calibration.place_in_bins(probability, bins=5).tolist() == [[0, 0, 1], [2, 4, 4]]
