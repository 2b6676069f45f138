import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.anomaly.closed_form import GaussianMixture

from medglean.anomaly.schedule import Schedule, levels_of
from medglean.anomaly.translate import ddim_step, decode, encode, eps_of, output_of
from medglean.errors import UsageError

SCHEDULE = Schedule.linear()
signal = st.floats(0.01, 1.0)


def gaussian(spread=0.25, dtype=torch.float64):
    """Return images of one normal distribution, and the exact noise in them."""
    mean = torch.full((1, 8, 8), 0.4, dtype=dtype)
    model = GaussianMixture(mean[None], [spread], [1.0], SCHEDULE)
    x = model.sample(0, 16, generator=torch.Generator().manual_seed(0))
    return x, model.conditional(0)


def round_trip_error(x, eps, levels, iterations):
    there = encode(x, eps, SCHEDULE, levels, iterations=iterations)
    return (decode(there, eps, SCHEDULE, levels) - x).square().mean().sqrt().item()


def test_value_computed_by_hand():
    # abar 0.25 -> 0.64:  x0 = (1.0 - sqrt(0.75) * 0.5) / 0.5 = 1.133975
    #                     x  = 0.8 * x0 + 0.6 * 0.5           = 1.207180
    x = torch.full((1, 1, 1, 1), 1.0)
    eps = torch.full((1, 1, 1, 1), 0.5)

    moved = ddim_step(x, eps, abar_from=0.25, abar_to=0.64)

    assert moved.item() == pytest.approx(1.207180, abs=1e-6)


@given(low=signal, high=signal)
def test_step_is_equation_6_of_the_paper(low, high):
    x, eps = 0.3, -0.7
    gain = math.sqrt(1 / low) - math.sqrt(1 / high)
    spread = math.sqrt(1 / high - 1) - math.sqrt(1 / low - 1)
    expected = x + math.sqrt(high) * (gain * x + spread * eps)

    moved = ddim_step(
        *(torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (x, eps)),
        abar_from=low,
        abar_to=high,
    )

    assert moved.item() == pytest.approx(expected, abs=1e-7)


@given(start=signal, stop=signal, seed=st.integers(0, 2**16))
def test_there_and_back_is_identity(start, stop, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    eps = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)

    there = ddim_step(x, eps, abar_from=start, abar_to=stop)
    back = ddim_step(there, eps, abar_from=stop, abar_to=start)

    torch.testing.assert_close(back, x)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, math.nan])
def test_level_out_of_range_names_the_argument_and_the_value(bad):
    x = torch.zeros(1, 1, 2, 2)

    with pytest.raises(ValueError, match=rf"abar_to must lie in \(0, 1\], got {bad}"):
        ddim_step(x, x, abar_from=0.5, abar_to=bad)
    with pytest.raises(ValueError, match=rf"abar_from must lie in \(0, 1\], got {bad}"):
        ddim_step(x, x, abar_from=bad, abar_to=0.5)


def test_plain_encoding_asks_at_the_level_left_and_decoding_too():
    x, exact = gaussian()
    asked = []

    def eps(x, level):
        asked.append(level)
        return exact(x, level)

    there = encode(x, eps, SCHEDULE, (0, 10, 30))
    decode(there, eps, SCHEDULE, (0, 10, 30))

    assert asked == [0, 10, 30, 10]


@pytest.mark.parametrize(("iterations", "levels"), [(1, [0, 10, 30]), (2, [0, 10, 10, 30, 30])])
def test_an_iteration_asks_once_at_the_level_entered(iterations, levels):
    x, exact = gaussian()
    asked = []

    def eps(x, level):
        asked.append(level)
        return exact(x, level)

    encode(x, eps, SCHEDULE, (0, 10, 30), iterations=iterations)

    assert asked == levels


def test_first_iteration_by_hand():
    # noise that depends on the image: eps = x, from abar 1 to abar 0.64 and on to 0.36
    schedule = Schedule(torch.tensor([0.36, 1 - 0.36 / 0.64], dtype=torch.float64).numpy())
    x = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)

    once = encode(x, lambda x, level: x, schedule, (0, 1), iterations=1)
    twice = encode(x, lambda x, level: x, schedule, (0, 1, 2), iterations=1)

    # first estimate 0.8 + 0.6 = 1.4, which is the noise at level 1: 0.8 + 0.6 * 1.4
    assert once.item() == pytest.approx(1.64)
    # noise 1 and 1.4 at sqrt(1 / abar - 1) = 0 and 0.75; at 4/3 the line through them is at
    # 1.4 + (4/3 - 0.75) / 0.75 * 0.4; 0.8 - 0.75 * 0.6 = 0.35 of it is added to 0.75 x
    guess = 0.75 * 1.64 + 0.35 * (1.4 + (4 / 3 - 0.75) / 0.75 * 0.4)
    assert twice.item() == pytest.approx(0.75 * 1.64 + 0.35 * guess)


def test_round_trip_of_50_steps_closes_with_iterations():
    x, eps = gaussian()
    levels = levels_of(500, 50)

    plain, one, two = (round_trip_error(x, eps, levels, k) for k in range(3))

    # from a first estimate of its own each step gives 2.7e-2, 1.3e-3 and 6.9e-5
    assert 1e-2 < plain < 6e-2
    assert one < 1.5e-3
    assert two < 7.8e-5
    assert two < one / 5 < plain / 25


def test_one_iteration_at_50_steps_beats_500_plain_steps():
    x, eps = gaussian()

    few = round_trip_error(x, eps, levels_of(500, 50), 1)
    many = round_trip_error(x, eps, levels_of(500), 0)

    assert few < many


def test_quadratic_levels_close_the_round_trip_of_images_that_vary_little():
    x, eps = gaussian(0.05)

    even, quadratic = (
        round_trip_error(x, eps, levels_of(500, 50, spacing=spacing), 1)
        for spacing in ("even", "quadratic")
    )

    assert quadratic < even / 3


def test_iterations_converge_to_the_exact_inverse_of_the_decoder():
    x, eps = gaussian()

    assert round_trip_error(x, eps, levels_of(500, 25), 40) < 1e-12


@pytest.mark.parametrize("iterations", [0, 1])
def test_twice_the_steps_at_most_half_the_error(iterations):
    x, eps = gaussian()

    errors = [round_trip_error(x, eps, levels_of(400, steps), iterations) for steps in (50, 100)]

    assert errors[1] < 0.55 * errors[0]


def test_decoding_draws_the_distribution():
    # from standard normal noise at T to images of mean 0.4 and standard deviation 0.25
    _, eps = gaussian()
    noise = torch.randn(
        64, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )

    drawn = decode(noise, eps, SCHEDULE, levels_of(1000, 250, spacing="quadratic"))

    # abar_T is 4e-5: the noise stands for an image 0.4 sqrt(4e-5) below the mean of level T
    assert drawn.mean().item() == pytest.approx(0.4, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.25, rel=0.03)


def test_single_precision_and_single_images_agree_with_the_batch():
    x, eps = gaussian()
    levels = levels_of(300, 20)

    together = encode(x, eps, SCHEDULE, levels, iterations=2)
    alone = encode(x[3:4].float(), eps, SCHEDULE, levels, iterations=2)

    assert alone.dtype == torch.float32
    torch.testing.assert_close(alone.double(), together[3:4], atol=1e-5, rtol=1e-5)


def test_network_is_told_timestep_and_class():
    asked = []

    def network(x, t, y):
        asked.append((t.tolist(), y.tolist()))
        return torch.cat([x, -x], dim=1)

    x = torch.ones(2, 3, 4, 4, dtype=torch.float64)

    noise = eps_of(network, label=-1)(x, 7)
    both = output_of(network, label=1)(x, 0)

    assert asked == [([6, 6], [-1, -1]), ([0, 0], [1, 1])]
    assert torch.equal(noise, x)
    assert both.shape == (2, 6, 4, 4)


def test_bad_levels_and_iterations_are_refused():
    x, eps = gaussian()

    for way in (encode, decode):
        with pytest.raises(UsageError, match=r"L = 1001 is outside 0\.\.1000"):
            way(x, eps, SCHEDULE, (0, 1001))
        with pytest.raises(UsageError, match="two or more that increase"):
            way(x, eps, SCHEDULE, (5, 0))
    with pytest.raises(UsageError, match="inversion_iterations must be 0 or more, got -1"):
        encode(x, eps, SCHEDULE, (0, 5), iterations=-1)
