"""Healthy maps position by position: moments by hand, shrinkage, and what stands out."""

from __future__ import annotations

import numpy as np
import pytest

from medglean.anomaly.profile import PRIOR, Profile, residual_profile, standardised


def test_moments_per_position_by_hand():
    maps = np.zeros((2, 1, 2), np.float32)
    maps[:, 0, 0], maps[:, 0, 1] = (1.0, 3.0), (4.0, 4.0)
    profile = residual_profile(maps, share=0.0)
    mean, square = 12 / 4, (1 + 9 + 16 + 16) / 4  # over all positions
    first = np.array([4 + PRIOR * mean, 8 + PRIOR * mean]) / (2 + PRIOR)
    second = np.array([10 + PRIOR * square, 32 + PRIOR * square]) / (2 + PRIOR)
    np.testing.assert_allclose(profile.mean[0], first, rtol=1e-6)
    np.testing.assert_allclose(profile.sd[0], np.sqrt(second - first**2), rtol=1e-5)


def test_pixels_outside_do_not_count():
    rng = np.random.default_rng(0)
    inside = rng.random((30, 16, 16)) < 0.5
    maps = rng.random(inside.shape).astype(np.float32)
    expected = residual_profile(maps, inside)
    found = residual_profile(np.where(inside, maps, 1e6).astype(np.float32), inside)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.sd, expected.sd)


def test_an_uncovered_position_takes_the_mean_over_all():
    inside = np.zeros((5, 40, 40), bool)
    inside[:, :10] = True
    maps = np.where(inside, 2.0, 0.0).astype(np.float32)
    profile = residual_profile(maps, inside)
    np.testing.assert_allclose(profile.mean, 2.0, rtol=1e-5)
    np.testing.assert_allclose(profile.sd, 0.0, atol=1e-2)


def test_what_exceeds_the_healthy_mean_stands_out():
    rng = np.random.default_rng(0)
    noisy = np.zeros((1, 1, 20)) + np.where(np.arange(20) < 10, 0.05, 0.5)
    healthy = np.abs(noisy * rng.standard_normal((400, 1, 20))).astype(np.float32)
    profile = residual_profile(healthy, share=0.0)
    found = standardised(np.full((1, 1, 20), 0.5, np.float32), profile)[0, 0]
    assert found[:10].min() > 5 * found[10:].max() > 0
    assert not standardised(np.zeros((1, 1, 20), np.float32), profile).any()  # below the mean


def test_the_floor_bounds_how_much_a_difference_is_blown_up():
    profile = Profile(np.zeros((1, 2), np.float32), np.array([[0.0, 1.0]], np.float32))
    found = standardised(np.ones((1, 1, 2), np.float32), profile, floor=0.1)
    np.testing.assert_allclose(found[0, 0], [10.0, 1.0], rtol=1e-6)


def test_bad_profiles_are_refused():
    maps = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="no pixel of 1 maps is inside"):
        residual_profile(maps, np.zeros(maps.shape, bool))
    with pytest.raises(ValueError, match="expected one"):
        standardised(maps, residual_profile(maps[:, :3]))
