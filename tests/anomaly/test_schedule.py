import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medglean.anomaly.schedule import (
    Schedule,
    check_levels,
    check_noise_level,
    levels_of,
    min_snr_weights,
    per_image,
    q_sample,
    timestep_of,
    timesteps_like,
)
from medglean.errors import UsageError

# Two steps that can be followed by hand: abar is 1, 0.9, 0.45.
TWO = Schedule(np.array([0.1, 0.5]))


def test_linear_schedule_runs_from_first_to_last_variance():
    schedule = Schedule.linear()

    assert schedule.steps == 1000
    assert schedule.betas.dtype == np.float64
    assert schedule.betas[[0, -1]] == pytest.approx([1e-4, 0.02])
    assert np.diff(schedule.betas) == pytest.approx(np.full(999, (0.02 - 1e-4) / 999))
    assert schedule.abar[0] == 1
    assert schedule.abar[1] == pytest.approx(1 - 1e-4, abs=1e-15)


def test_fewer_steps_end_as_noisy():
    few = Schedule.linear(100)

    assert few.betas[[0, -1]] == pytest.approx([1e-3, 0.2])
    assert few.abar[-1] < 1e-4
    assert Schedule.linear().abar[-1] < 1e-4


def test_numbers_of_two_steps_are_those_worked_out_by_hand():
    assert TWO.abar == pytest.approx([1, 0.9, 0.45])
    assert TWO.snr[1:] == pytest.approx([9, 0.45 / 0.55])
    assert math.isinf(TWO.snr[0])
    # beta_2 (1 - abar_1) / (1 - abar_2) = 0.5 * 0.1 / 0.55
    assert TWO.posterior_variance == pytest.approx([0, 0.05 / 0.55])
    # index 0 has no logarithm and takes that of index 1
    assert TWO.posterior_log_variance == pytest.approx([math.log(0.05 / 0.55)] * 2)
    # x_0 is known for sure after one step; then beta sqrt(abar_1) / 0.55, 0.1 sqrt(0.5) / 0.55
    assert TWO.posterior_mean_x0 == pytest.approx([1, 0.5 * math.sqrt(0.9) / 0.55])
    assert TWO.posterior_mean_xt == pytest.approx([0, 0.1 * math.sqrt(0.5) / 0.55])


def test_posterior_mean_and_variance_follow_from_bayes_rule():
    # x_1 | x_0 ~ N(sqrt(.9) x_0, .1) and x_2 | x_1 ~ N(sqrt(.5) x_1, .5): precisions add
    precision = 1 / 0.1 + 0.5 / 0.5
    x_0, x_2 = 0.7, -0.3
    mean = (math.sqrt(0.9) * x_0 / 0.1 + math.sqrt(0.5) * x_2 / 0.5) / precision

    assert TWO.posterior_variance[1] == pytest.approx(1 / precision)
    assert TWO.posterior_mean_x0[1] * x_0 + TWO.posterior_mean_xt[1] * x_2 == pytest.approx(mean)


def test_respaced_schedule_has_the_noise_of_the_levels_kept():
    full = Schedule.linear()
    levels = (0, 3, 400, 1000)

    few = full.respaced(levels)

    assert few.abar == pytest.approx(full.abar[list(levels)])
    assert few.steps == 3


def test_respaced_to_every_level_is_the_same():
    full = Schedule.linear(50)

    assert full.respaced(range(51)).betas == pytest.approx(full.betas)


@pytest.mark.parametrize("betas", [[0.0, 0.5], [0.5, 1.0], [], [-0.1], [math.nan]])
def test_variance_outside_0_to_1_is_refused(betas):
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        Schedule(np.array(betas))


def test_too_few_steps_for_the_variances_are_refused():
    with pytest.raises(UsageError, match=r"diffusion\.beta"):
        Schedule.linear(10)
    with pytest.raises(UsageError, match="at least 1 step, got 0"):
        Schedule.linear(0)


def test_levels_by_default_are_all():
    assert levels_of(5) == (0, 1, 2, 3, 4, 5)


@given(
    noise_level=st.integers(1, 1000),
    share=st.floats(0, 1),
    spacing=st.sampled_from(["even", "quadratic"]),
)
def test_levels_increase_from_0_to_the_noise_level(noise_level, share, spacing):
    steps = max(1, round(share * noise_level))

    levels = levels_of(noise_level, steps, spacing=spacing)

    assert len(levels) == steps + 1
    assert levels[0] == 0
    assert levels[-1] == noise_level
    assert all(low < high for low, high in itertools.pairwise(levels))


def test_quadratic_levels_are_denser_near_the_clean_image():
    assert levels_of(500, 10, spacing="quadratic") == (
        *(0, 5, 20, 45, 80, 125),
        *(180, 245, 320, 405, 500),
    )
    # where two would fall together they are neighbours
    assert levels_of(10, 5, spacing="quadratic") == (0, 1, 2, 4, 6, 10)


@pytest.mark.parametrize(("noise_level", "steps"), [(10, 11), (10, 0), (10, -1)])
def test_more_steps_than_levels_are_refused(noise_level, steps):
    with pytest.raises(UsageError, match=rf"translate\.steps must lie in 1\.\.10.* got {steps}"):
        levels_of(noise_level, steps)


@pytest.mark.parametrize("noise_level", [0, -5])
def test_noise_level_below_1_is_refused(noise_level):
    with pytest.raises(UsageError, match=f"L must be 1 or more, got {noise_level}"):
        levels_of(noise_level, None)


@pytest.mark.parametrize("noise_level", [0, 3])
def test_noise_level_outside_the_schedule_is_refused(noise_level):
    with pytest.raises(UsageError, match=rf"L = {noise_level} is outside 1\.\.2.*diffusion\.steps"):
        check_noise_level(noise_level, TWO)


def test_levels_outside_the_schedule_or_out_of_order_are_refused():
    with pytest.raises(UsageError, match=r"L = 3 is outside 0\.\.2"):
        check_levels((0, 3), TWO)
    for levels in [(0,), (2, 0), (0, 1, 1), ()]:
        with pytest.raises(UsageError, match="two or more that increase"):
            check_levels(levels, TWO)
    with pytest.raises(UsageError, match="start at 0, got 1"):
        TWO.respaced((1, 2))
    check_levels((0, 2), TWO)


def test_networks_are_told_one_less_than_the_level():
    assert [timestep_of(level) for level in (0, 1, 2, 1000)] == [0, 0, 1, 999]
    assert timesteps_like(torch.zeros(3, 1, 2, 2), 7).tolist() == [6, 6, 6]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noised_image_mixes_signal_and_noise_per_image(dtype):
    x = torch.full((2, 1, 1, 2), 2.0, dtype=dtype)
    noise = torch.full((2, 1, 1, 2), -1.0, dtype=dtype)

    noised = q_sample(x, noise, torch.tensor([0, 1]), TWO)

    assert noised.dtype == dtype
    assert noised[:, 0, 0, 0].tolist() == pytest.approx(
        [2 * math.sqrt(0.9) - math.sqrt(0.1), 2 * math.sqrt(0.45) - math.sqrt(0.55)]
    )


def test_golden_noised_images(golden):
    arrays = np.load(golden / "guided_diffusion_small.npz")
    given = {name: torch.from_numpy(arrays[name]) for name in ("x", "train_noise", "train_t")}

    noised = q_sample(given["x"], given["train_noise"], given["train_t"], Schedule.linear())

    np.testing.assert_allclose(noised.numpy(), arrays["q_sample"], atol=1e-6)


def test_numbers_for_images_take_their_type():
    numbers = per_image(TWO.betas, torch.tensor([1, 0, 1]), torch.zeros(3, 2, 4, 4))

    assert numbers.shape == (3, 1, 1, 1)
    assert numbers.dtype == torch.float32
    assert numbers.flatten().tolist() == pytest.approx([0.5, 0.1, 0.5])


def test_min_snr_weights_are_capped_where_there_is_little_noise():
    # SNR of timesteps 0 and 1 is 9 and 0.818: min(SNR, 3) / SNR
    assert min_snr_weights(torch.tensor([0, 1]), TWO, gamma=3.0).tolist() == pytest.approx(
        [1 / 3, 1]
    )
    with pytest.raises(UsageError, match=r"diffusion\.min_snr must be above 0, got 0"):
        min_snr_weights(torch.tensor([0]), TWO, gamma=0)
