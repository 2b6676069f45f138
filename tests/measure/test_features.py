import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from medglean.errors import DataError
from medglean.measure.features import frechet_distance, inception_score


def samples_of(mean, covariance, count=6):
    """Return ``count`` points whose sample mean and covariance are exactly these."""
    dimensions = len(mean)
    raw = np.random.default_rng(0).normal(size=(count, dimensions))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(linalg.sqrtm(np.cov(raw.T)).real)
    return white @ linalg.sqrtm(covariance).real + mean


def test_distance_of_two_normals_by_hand():
    # apart: 3^2 + 4^2 = 25; variances 4, 9 against 1, 16: (2 - 1)^2 + (3 - 4)^2 = 2
    first = samples_of(np.zeros(2), np.diag([4.0, 9.0]))
    second = samples_of(np.array([3.0, 4.0]), np.diag([1.0, 16.0]))

    assert frechet_distance(first, second) == pytest.approx(27)
    assert frechet_distance(second, first) == pytest.approx(27)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), counts=st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_distance_equals_the_formula_with_a_matrix_root(seed, counts):
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(count, 4)) @ rng.normal(size=(4, 4)) for count in counts)

    one, other = (np.cov(features.T) for features in (first, second))
    # the trace of a root is the sum of the roots of the eigenvalues
    shared = np.sqrt(np.maximum(linalg.eigvals(one @ other).real, 0)).sum()
    apart = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    expected = apart + np.trace(one) + np.trace(other) - 2 * shared
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-5)


def test_a_set_is_at_no_distance_from_itself():
    features = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)

    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_distance_needs_two_images_of_each():
    with pytest.raises(DataError, match="FID of 1 and 3 images: expected at least 2"):
        frechet_distance(np.ones((1, 2)), np.ones((3, 2)))


def test_score_of_the_same_classes_everywhere_is_1_and_of_distinct_ones_their_number():
    alike = np.tile(np.array([0.3, -2.0, 5.0]), (4, 1))
    distinct = 1000 * np.eye(5)

    assert inception_score(alike) == pytest.approx(1)
    assert inception_score(distinct) == pytest.approx(5)


def test_score_by_hand_and_in_splits():
    # shares (3/4, 1/4) and (1/4, 3/4): divergence from (1/2, 1/2) is the same for both
    logits = np.log(np.array([[3.0, 1.0], [1.0, 3.0]]))
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)

    assert inception_score(logits) == pytest.approx(math.exp(divergence))
    assert inception_score(logits, splits=2) == pytest.approx(1)
    with pytest.raises(DataError, match="2 images in 3 splits"):
        inception_score(logits, splits=3)
