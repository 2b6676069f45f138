import math

import numpy as np
import pytest
from scipy import stats

from medglean.measure import curves, delong


def world(seed, *, groups=30, per_group=4):
    """Two correlated classifiers with ties; a patient's images share an offset and mix kinds."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(groups), per_group)
    n = len(patient)
    truth = generator.random(n) < 0.4
    shared = generator.normal(0, 1, groups)[patient] + 1.0 * truth
    first = np.round(shared + generator.normal(0, 0.5, n), 1)
    second = np.round(shared + generator.normal(0, 1.5, n), 1)
    return truth, first, second, patient


def slow_kernel(truth, scores):
    positive, negative = scores[truth], scores[~truth]
    kernel = np.empty((len(positive), len(negative)))
    for i, x in enumerate(positive):
        for j, y in enumerate(negative):
            kernel[i, j] = 1.0 if x > y else 0.5 if x == y else 0.0
    return kernel


def slow_covariance(truth, first, second):
    """DeLong's equations by the kernel over all pairs."""
    kernels = [slow_kernel(truth, scores) for scores in (first, second)]
    over_positives = np.cov([kernel.mean(axis=1) for kernel in kernels])
    over_negatives = np.cov([kernel.mean(axis=0) for kernel in kernels])
    return over_positives / truth.sum() + over_negatives / (~truth).sum()


def slow_clustered_variance(truth, scores, patient):
    """Obuchowski's equations for one classifier, patient by patient."""
    kernel = slow_kernel(truth, scores)
    theta, (m, n) = kernel.mean(), kernel.shape
    v10, v01 = kernel.mean(axis=1), kernel.mean(axis=0)
    names = np.unique(patient)
    s10 = s01 = s11 = 0.0
    for name in names:
        a = (v10[patient[truth] == name] - theta).sum()
        b = (v01[patient[~truth] == name] - theta).sum()
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    i10, i01, i = len(set(patient[truth])), len(set(patient[~truth])), len(names)
    s10 *= i10 / ((i10 - 1) * m)
    s01 *= i01 / ((i01 - 1) * n)
    s11 *= i / (i - 1)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_the_slow_kernel(seed):
    truth, first, second, _ = world(seed)
    covariance = slow_covariance(truth, first, second)
    one = delong.auroc_estimate(truth, first)
    both = delong.compare_aurocs(truth, first, second)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]

    assert one.value == pytest.approx(curves.auroc(truth, first), rel=1e-12)
    assert one.variance == pytest.approx(covariance[0, 0], rel=1e-10)
    assert both.difference == pytest.approx(both.first - both.second, abs=1e-12)
    assert both.standard_error == pytest.approx(math.sqrt(variance), rel=1e-10)
    z = both.difference / both.standard_error
    assert both.p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-10)
    assert both.low == pytest.approx(both.difference - 1.959964 * both.standard_error, rel=1e-6)
    assert (both.positives, both.groups) == (truth.sum(), len(truth))


@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_agree_with_the_equations(seed):
    truth, first, _, patient = world(seed)
    names = np.array([f"p{number}" for number in patient])

    found = delong.auroc_estimate(truth, first, groups=names)

    assert found.variance == pytest.approx(
        slow_clustered_variance(truth, first, patient), rel=1e-10
    )
    assert found.groups == 30
    assert found.variance != pytest.approx(delong.auroc_estimate(truth, first).variance, rel=1e-3)


def test_clusters_of_one_image_equal_plain_delong():
    truth, first, second, _ = world(3)
    plain = delong.compare_aurocs(truth, first, second)
    alone = delong.compare_aurocs(truth, first, second, groups=np.arange(len(truth))[::-1])

    assert alone.standard_error == pytest.approx(plain.standard_error, rel=1e-12)
    assert alone.p == pytest.approx(plain.p, rel=1e-10)


def test_copies_of_each_image_tell_nothing_new():
    truth, first, second, _ = world(4)
    plain = delong.compare_aurocs(truth, first, second)
    patient = np.arange(len(truth)).repeat(5)
    copied = [values.repeat(5) for values in (truth, first, second)]

    assert delong.compare_aurocs(*copied, groups=patient).p == pytest.approx(plain.p, rel=1e-9)
    assert delong.compare_aurocs(*copied).p < plain.p


def test_clustered_interval_covers_what_the_plain_one_misses():
    """Patients with six images of one kind and a common offset; AUROC of the population known."""
    truth_value = stats.norm.cdf(1.0 / math.sqrt(2 * (1.0 + 0.25)))
    covered = {"patients": 0, "images": 0}
    for trial in range(300):
        generator = np.random.default_rng(trial)
        patient = np.repeat(np.arange(60), 6)
        truth = patient % 2 == 0
        scores = truth + generator.normal(0, 1, 60)[patient] + generator.normal(0, 0.5, 360)
        for name, groups in (("patients", patient), ("images", None)):
            found = delong.auroc_estimate(truth, scores, groups=groups)
            covered[name] += found.low <= truth_value <= found.high

    assert 0.90 <= covered["patients"] / 300 <= 0.98
    assert covered["images"] / 300 < 0.75


def test_swapping_classifiers_swaps_the_sign():
    truth, first, second, patient = world(5)
    one = delong.compare_aurocs(truth, first, second, groups=patient)
    other = delong.compare_aurocs(truth, second, first, groups=patient)

    assert one.difference > 0
    assert other.difference == pytest.approx(-one.difference)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p == pytest.approx(one.p)


def test_equal_orders_do_not_differ():
    truth, first, _, patient = world(6)
    for groups in (None, patient):
        found = delong.compare_aurocs(truth, first, np.exp(first), groups=groups)

        assert (found.difference, found.standard_error, found.p) == (0.0, 0.0, 1.0)
        assert (found.low, found.high, found.note) == (0.0, 0.0, "")


def test_nothing_positive_is_nan():
    found = delong.compare_aurocs(np.zeros(4, dtype=bool), np.arange(4.0), np.arange(4.0))

    assert np.isnan([found.first, found.difference, found.p, found.low, found.high]).all()
    assert found.note == "no positive image"
    one = delong.auroc_estimate(np.ones(4, dtype=bool), np.arange(4.0))
    assert np.isnan([one.value, one.variance, one.low]).all()
    assert one.note == "no negative image"


def test_one_patient_of_a_kind_has_no_variance():
    truth = np.array([True, True, False, False])
    found = delong.auroc_estimate(truth, np.array([2.0, 1.0, 1.5, 0.0]), groups=[1, 1, 2, 3])

    assert found.value == 0.75
    assert np.isnan([found.variance, found.low]).all()
    assert found.note == "no variance: positive images of 1 group, 2 are needed"


def test_no_spread_is_told():
    truth = np.array([True, True, False, False])
    scores = np.array([3.0, 2.0, 1.0, 0.0])
    one = delong.auroc_estimate(truth, scores)
    both = delong.compare_aurocs(truth, scores, -scores)

    assert (one.value, one.variance, one.low, one.high) == (1.0, 0.0, 1.0, 1.0)
    assert "no width" in one.note
    assert both.difference == 1.0
    assert np.isnan([both.p, both.low]).all()
    assert "variance of the difference is 0" in both.note


def test_per_class_is_each_class_alone():
    truth, first, second, patient = world(7)
    tables = [
        np.stack(pair, axis=1) for pair in ((truth, ~truth), (first, second), (second, -first))
    ]
    found = delong.compare_aurocs_per_class(*tables, groups=patient)

    assert found[0] == delong.compare_aurocs(truth, first, second, groups=patient)
    assert found[1] == delong.compare_aurocs(~truth, second, -first, groups=patient)


def test_bad_input_is_told():
    truth = np.array([True, False])
    with pytest.raises(ValueError, match="level must lie in"):
        delong.auroc_estimate(truth, np.zeros(2), level=95.0)
    with pytest.raises(ValueError, match="groups has 3"):
        delong.auroc_estimate(truth, np.zeros(2), groups=[1, 2, 3])
    with pytest.raises(ValueError, match="scores: expected finite"):
        delong.auroc_estimate(truth, np.array([0.0, np.nan]))
