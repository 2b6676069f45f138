import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from medglean.anomaly.losses import (
    Moments,
    discretised_log_likelihood,
    hybrid_loss,
    interpolated_log_variance,
    normal_kl,
    posterior,
    predicted_x0,
    simple_loss,
    split_output,
    variational_bound,
)
from medglean.anomaly.schedule import Schedule, q_sample
from medglean.errors import UsageError
from medglean.nn.diffusion_unet import DiffusionUNet, load_release

SCHEDULE = Schedule.linear()
T = torch.tensor([0, 10, 400, 999])


def noised(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 2, 4, 4, generator=generator, dtype=dtype)
    noise = torch.randn(4, 2, 4, 4, generator=generator, dtype=dtype)
    return x, noise, q_sample(x, noise, T, SCHEDULE)


def test_golden_losses(golden):
    arrays = np.load(golden / "guided_diffusion_small.npz")
    names = ("x", "y", "train_noise", "train_t", "q_sample")
    x, y, noise, t, x_t = (torch.from_numpy(arrays[name]) for name in names)
    unet = DiffusionUNet(
        side_px=32,
        in_channels=4,
        out_channels=8,
        width=32,
        multipliers=(1, 2),
        blocks=1,
        attention_px=(16,),
    )
    load_release(unet, golden / "guided_unet_small.safetensors")

    with torch.no_grad():
        losses = hybrid_loss(unet(x_t, t, y), x, x_t, noise, t, SCHEDULE)

    assert sorted(losses) == ["mse", "total", "vb"]
    for name, loss in losses.items():
        np.testing.assert_allclose(loss.numpy(), arrays[f"loss_{name}"], rtol=0, atol=1e-5)


def test_simple_loss_is_the_mean_square_per_image():
    eps = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]])

    assert simple_loss(eps, torch.zeros_like(eps)).tolist() == [5.0, 0.0]


def test_clean_image_is_found_again_from_its_noise():
    x, noise, x_t = noised()

    torch.testing.assert_close(predicted_x0(x_t, noise, T, SCHEDULE), x)


def test_bound_is_0_where_noise_and_variance_are_right():
    x, noise, x_t = noised()

    bound = variational_bound(noise, torch.full_like(x, -1), x, x_t, T, SCHEDULE)

    assert bound[1:].tolist() == pytest.approx([0, 0, 0], abs=1e-9)
    assert bound[0] > 0  # a likelihood, which no prediction makes 0


def test_bound_is_the_divergence_by_hand_in_bits():
    x, noise, x_t = noised()
    t = torch.full((4,), 400)
    x_t = q_sample(x, noise, t, SCHEDULE)
    truth = posterior(x, x_t, t, SCHEDULE)

    bound = variational_bound(noise + 0.5, torch.ones_like(x), x, x_t, t, SCHEDULE)

    # predicted variance beta; the mean is off by the weight of x_0 times the error of x_0
    beta, variance = SCHEDULE.betas[400], SCHEDULE.posterior_variance[400]
    off = SCHEDULE.posterior_mean_x0[400] * 0.5 * math.sqrt(1 / SCHEDULE.abar[401] - 1)
    nats = 0.5 * (math.log(beta / variance) - 1 + variance / beta + off**2 / beta)
    assert bound.tolist() == pytest.approx([nats / math.log(2)] * 4)
    assert truth.log_variance.flatten().tolist() == pytest.approx([math.log(variance)] * 4)


def test_first_timestep_scores_the_grey_value():
    x, noise, x_t = noised()

    bound = variational_bound(noise, torch.full_like(x, -1), x, x_t, T, SCHEDULE)[0]

    # mean x, standard deviation that of the posterior at timestep 1, bins 2/255 wide
    spread = math.sqrt(SCHEDULE.posterior_variance[1])
    probability = norm.cdf(1 / 255 / spread) - norm.cdf(-1 / 255 / spread)
    assert float(bound) == pytest.approx(-math.log2(probability), abs=2e-3)


def test_probabilities_of_all_grey_values_add_up_to_1():
    grey = torch.linspace(-1, 1, 256, dtype=torch.float64).view(1, 1, 16, 16)
    for mean, log_variance in [(0.0, -2.0), (-0.99, -3.0), (0.8, 0.0)]:
        predicted = Moments(torch.full_like(grey, mean), torch.full_like(grey, log_variance))

        total = discretised_log_likelihood(grey, predicted).exp().sum()

        assert float(total) == pytest.approx(1, abs=1e-9)


def test_impossible_grey_value_has_a_finite_likelihood():
    x = torch.full((1, 1, 1, 1), 0.5)

    found = discretised_log_likelihood(x, Moments(-x, torch.full_like(x, -10)))

    assert found.item() == pytest.approx(math.log(1e-12))


def test_divergence_by_hand():
    first = Moments(torch.tensor([1.0]), torch.tensor([math.log(4.0)]))
    second = Moments(torch.tensor([3.0]), torch.tensor([math.log(2.0)]))

    # log(s2 / s1) + (v1 + (m1 - m2)^2) / (2 v2) - 1/2, variances 4 and 2
    expected = 0.5 * math.log(2 / 4) + (4 + 4) / 4 - 0.5
    assert normal_kl(first, second).item() == pytest.approx(expected)


def test_v_runs_from_the_posterior_to_beta():
    for v, expected in [
        (-1.0, SCHEDULE.posterior_log_variance[400]),
        (1.0, math.log(SCHEDULE.betas[400])),
    ]:
        found = interpolated_log_variance(
            torch.full((1, 1, 1, 1), v, dtype=torch.float64), torch.tensor([400]), SCHEDULE
        )
        assert found.item() == pytest.approx(expected)


def test_bound_trains_the_variance_and_not_the_noise():
    x, noise, x_t = noised()
    output = torch.cat([noise + 0.1, torch.zeros_like(noise)], dim=1).requires_grad_()

    losses = hybrid_loss(output, x, x_t, noise, T, SCHEDULE)

    (of_bound,) = torch.autograd.grad(losses["vb"].sum(), output, retain_graph=True)
    (of_error,) = torch.autograd.grad(losses["mse"].sum(), output)
    assert of_bound[:, :2].abs().max() == 0
    assert of_bound[:, 2:].abs().flatten(1).max(dim=1).values.min() > 0
    assert of_error[:, :2].abs().min() > 0
    assert of_error[:, 2:].abs().max() == 0


def test_total_weighs_its_parts():
    x, noise, x_t = noised()
    output = torch.cat([noise + 0.1, torch.zeros_like(noise)], dim=1)
    weights = torch.tensor([0.0, 0.5, 1.0, 2.0])

    plain = hybrid_loss(output, x, x_t, noise, T, SCHEDULE)
    losses = hybrid_loss(
        output, x, x_t, noise, T, SCHEDULE, vb_weight=3.0, mse_weights=weights, rescaled=True
    )

    torch.testing.assert_close(plain["total"], plain["mse"] + plain["vb"])
    torch.testing.assert_close(losses["vb"], plain["vb"])  # T is 1000
    torch.testing.assert_close(losses["total"], weights * plain["mse"] + 3 * plain["vb"])


def test_rescaled_bound_weighs_by_the_number_of_steps():
    few, t = Schedule.linear(100), torch.tensor([50])
    x, noise = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    output = torch.cat([noise + 0.1, torch.zeros_like(noise)], dim=1)
    x_t = q_sample(x, noise, t, few)

    plain, rescaled = (
        hybrid_loss(output, x, x_t, noise, t, few, rescaled=flag)["vb"].item()
        for flag in (False, True)
    )

    assert rescaled == pytest.approx(plain / 10)


def test_losses_do_not_depend_on_the_batch():
    x, noise, x_t = noised(torch.float32)
    output = torch.cat([noise + 0.1, torch.zeros_like(noise)], dim=1)

    together = hybrid_loss(output, x, x_t, noise, T, SCHEDULE)["total"]
    alone = [
        hybrid_loss(*(part[i : i + 1] for part in (output, x, x_t, noise, T)), SCHEDULE)["total"]
        for i in range(4)
    ]

    torch.testing.assert_close(together, torch.cat(alone))
    assert together.dtype == torch.float32


def test_output_with_other_channels_is_refused():
    with pytest.raises(UsageError, match=r"3 channels for images of 2; expected 2.*or 4"):
        split_output(torch.zeros(1, 3, 2, 2), 2)
    x = torch.zeros(1, 2, 2, 2)
    with pytest.raises(UsageError, match=r"4 channels, got 2.*diffusion\.learned_range"):
        hybrid_loss(x, x, x, x, torch.tensor([1]), SCHEDULE)
    assert split_output(x, 2)[1] is None
