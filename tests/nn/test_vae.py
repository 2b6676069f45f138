import math

import pytest
import torch
from torch import nn

from medglean.errors import UsageError
from medglean.nn.dvae import Posterior
from medglean.nn.vae import build_vae, vae_loss


def test_parameters_worked_out_by_hand():
    # 64 px: four halvings leave 8 w x 4 x 4; a transposed convolution has o biases
    # and every normalisation 2 o more
    w, latent = 6, 10
    down = sum(16 * i * o + 3 * o for i, o in ((2, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)))
    up = sum(16 * i * o + 3 * o for i, o in ((8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w)))
    up += 16 * w * 2 + 2
    flat = 8 * w * 4 * 4
    dense = (flat * 2 * latent + 2 * latent) + (latent * flat + flat)

    network = build_vae(side_px=64, in_channels=2, width=w, latent=latent)

    assert sum(weight.numel() for weight in network.parameters()) == down + up + dense


@pytest.mark.parametrize("side_px", [16, 48, 80])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_multiple_of_16_comes_back_in_its_shape_and_range(side_px, channels):
    network = build_vae(side_px=side_px, in_channels=channels, width=2, latent=3)

    rebuilt, posterior = network(torch.rand(2, channels, side_px, side_px), torch.randn(2, 3) * 9)

    assert rebuilt.shape == (2, channels, side_px, side_px)
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 3)
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1


@pytest.mark.parametrize(("side_px", "near"), [(8, 16), (100, 96), (63, 48), (0, 16)])
def test_other_sides_are_refused_and_a_near_one_is_named(side_px, near):
    with pytest.raises(UsageError, match=rf"multiples of 16 pixels, got {side_px}.*\[{near}, "):
        build_vae(side_px=side_px)


@pytest.mark.parametrize("name", ["in_channels", "width", "latent"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} is 0, expected at least 1"):
        build_vae(side_px=16, **{name: 0})


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 32, 32), (1, 1, 16, 32)])
def test_images_of_another_shape_are_refused(shape):
    network = build_vae(side_px=16, width=2, latent=3)

    with pytest.raises(UsageError, match=r"takes \(1, 16, 16\)"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("width", [1, 3, 4, 5])
def test_any_width_takes_a_single_image_of_the_least_side(width):
    network = build_vae(side_px=16, width=width, latent=3)

    rebuilt, _ = network(torch.rand(1, 1, 16, 16))

    assert torch.isfinite(rebuilt).all()


def test_the_code_is_the_mean_plus_the_deviation_times_the_noise():
    network = build_vae(side_px=16, width=2, latent=3)
    images, noise = torch.rand(2, 1, 16, 16), torch.randn(2, 3)

    plain, posterior = network(images)
    drawn, _ = network(images, noise)

    torch.testing.assert_close(plain, network.decode(posterior.mean))
    z = posterior.mean + noise * torch.exp(posterior.log_variance / 2)
    torch.testing.assert_close(drawn, network.decode(z))
    assert not torch.allclose(plain, drawn)


def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    one, same, other = (build_vae(side_px=16, width=2, seed=seed) for seed in (0, 0, 1))

    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.to_posterior.weight, other.to_posterior.weight)


def test_there_is_no_way_around_the_code():
    network = build_vae(side_px=16, width=2, latent=3)
    nn.init.zeros_(network.from_latent.weight)

    rebuilt, _ = network(torch.rand(2, 1, 16, 16))

    assert torch.equal(rebuilt[0], rebuilt[1])


def test_loss_worked_out_by_hand():
    images = torch.tensor([[[[0.5, 1.0]]], [[[0.0, 0.2]]]])
    rebuilt = torch.tensor([[[[0.25, 0.5]]], [[[0.0, 0.0]]]])
    posterior = Posterior(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 1.0]] * 2))

    total, reconstruction, kl = vae_loss(rebuilt, images, posterior, beta=0.1)

    # (0.25^2 + 0.5^2 + 0.2^2) / 2; KL per image 1/2 mu^2 + 1/2 (e - 1 - 1)
    assert reconstruction.item() == pytest.approx((0.0625 + 0.25 + 0.04) / 2, rel=1e-6)
    assert kl.item() == pytest.approx((0.5 + 2.0) / 2 + (math.e - 2) / 2, rel=1e-6)
    assert total.item() == pytest.approx(reconstruction.item() + 0.1 * kl.item(), rel=1e-6)


def test_log_variance_is_float32_under_autocast():
    network = build_vae(side_px=16, width=2, latent=3)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        rebuilt, posterior = network(torch.rand(1, 1, 16, 16), torch.randn(1, 3))

    assert rebuilt.dtype == posterior.mean.dtype == posterior.log_variance.dtype == torch.float32
