import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medglean.measure import intervals, operating, weighted


def by_hand():
    """Ten images; the fourth and fifth highest share a score."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    truth = np.array([1, 1, 0, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
    return truth, scores


def test_youden_by_hand():
    # Sensitivity + specificity - 1: 0.8 -> 1/2; 0.6 -> 3/4 - 2/6; 0.5 -> 1 - 2/6 = 2/3, the best.
    point = operating.youden(*by_hand())

    assert (point.threshold, point.sensitivity, point.specificity) == (0.5, 1.0, 4 / 6)
    assert (point.rule, point.note) == ("Youden", "")


def test_a_tie_is_called_together():
    truth, scores = by_hand()
    point = operating.sensitivity_at_least(truth, scores, least=0.75)
    counted = operating.decisions(truth, scores, threshold=point.threshold)

    # 0.5 spares as many negative images as 0.6 and finds one positive image more.
    assert point.threshold == 0.5
    assert (counted.true_positives, counted.false_positives) == (4, 2)
    assert (counted.false_negatives, counted.true_negatives) == (0, 4)
    assert (counted.ppv, counted.npv) == (4 / 6, 1.0)


def test_specificity_by_hand():
    truth, scores = by_hand()

    # 0.7 and 0.8: 5 and 6 of 6 spared; both find two, so the higher threshold wins.
    assert operating.specificity_at_least(truth, scores, least=5 / 6).threshold == 0.8
    assert operating.specificity_at_least(truth, scores, least=0.95).threshold == 0.8
    assert operating.specificity_at_least(truth, scores, least=0.5).threshold == 0.5


def test_nineteen_of_twenty_is_95_percent():
    truth = np.repeat([True, False], 20)
    scores = np.r_[np.arange(20.0), np.arange(20.0) - 15.5]
    sensitive = operating.sensitivity_at_least(truth, scores, least=0.95)
    specific = operating.specificity_at_least(truth, scores, least=0.95)

    assert sensitive.sensitivity >= 0.95
    assert (specific.threshold, specific.specificity) == (3.0, 0.95)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20))
def test_no_attainable_threshold_is_better(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 25))
    scores = generator.integers(0, 6, n) / 4
    truth = generator.random(n) < 0.5
    truth[:2] = [True, False]
    least = float(generator.choice([0.2, 0.5, 0.75, 0.95, 1.0]))
    every = [operating.decisions(truth, scores, threshold=float(one)) for one in np.unique(scores)]

    point = operating.sensitivity_at_least(truth, scores, least=least)
    pairs = [(one.specificity, one.sensitivity) for one in every if one.sensitivity >= least]
    assert (point.specificity, point.sensitivity) == max(pairs)
    assert point.threshold in scores

    point = operating.specificity_at_least(truth, scores, least=least)
    pairs = [(one.sensitivity, one.specificity) for one in every if one.specificity >= least]
    if pairs:
        assert (point.sensitivity, point.specificity) == max(pairs)
    else:
        assert np.isnan([point.threshold, point.sensitivity]).all()
        assert "not attainable" in point.note

    youden = operating.youden(truth, scores)
    best = max(one.sensitivity + one.specificity for one in every)
    assert youden.sensitivity + youden.specificity == pytest.approx(best, abs=1e-12)


def test_what_cannot_be_is_nan_with_its_reason():
    truth = np.array([True, False, False, True])
    tied = np.array([1.0, 1.0, 0.5, 0.2])

    none = operating.specificity_at_least(truth, tied, least=0.95)
    assert np.isnan([none.threshold, none.sensitivity, none.specificity]).all()
    assert none.note == "not attainable: at the highest score specificity is 0.5 already"
    everything = operating.sensitivity_at_least(truth, tied, least=0.95)
    assert (everything.threshold, everything.specificity) == (0.2, 0.0)
    assert everything.note == "every image is called positive"
    for choose in (
        operating.youden,
        lambda t, s: operating.sensitivity_at_least(t, s, least=0.9),
        lambda t, s: operating.specificity_at_least(t, s, least=0.9),
    ):
        lacking = choose(np.zeros(4, dtype=bool), tied)
        assert np.isnan(lacking.threshold)
        assert lacking.note == "no positive image"
        assert choose(np.ones(4, dtype=bool), tied).note == "no negative image"


def test_rates_equal_decisions_and_bootstrap():
    generator = np.random.default_rng(0)
    truth = generator.random(400) < 0.3
    scores = np.round(truth + generator.normal(0, 1, 400), 1)
    patient = np.arange(400) // 4
    threshold = operating.youden(truth, scores).threshold
    counted = operating.decisions(truth, scores, threshold=threshold)
    found = intervals.cluster_bootstrap_many(
        operating.rates(truth, scores, threshold=threshold), patient, replicates=200
    )

    for name, interval in found.items():
        assert interval.value == getattr(counted, name)
        assert interval.low < interval.value < interval.high
    called = scores >= threshold
    np.testing.assert_array_equal(
        weighted.precision(truth, called)(np.ones((400, 1))), [counted.ppv]
    )


def test_no_threshold_decides_nothing():
    truth, scores = by_hand()
    counted = operating.decisions(truth, scores, threshold=np.nan)
    weights = np.ones((10, 2))

    assert counted == operating.Decisions(0, 0, 0, 0)
    assert np.isnan([counted.sensitivity, counted.specificity, counted.ppv, counted.npv]).all()
    for rate in operating.rates(truth, scores, threshold=np.nan).values():
        assert np.isnan(rate(weights)).all()


def test_bad_input_is_told():
    truth, scores = by_hand()
    with pytest.raises(ValueError, match=r"least must lie in \(0, 1\], got 95"):
        operating.sensitivity_at_least(truth, scores, least=95.0)
    with pytest.raises(ValueError, match="scores: expected finite"):
        operating.decisions(truth, np.full(10, np.nan), threshold=0.5)
