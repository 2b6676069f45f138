import math

import pytest
import torch
from torch import nn

from medglean.errors import UsageError
from medglean.nn.dvae import (
    Posterior,
    build_dvae,
    capacity_at,
    dvae_loss,
    kl_divergence,
    reconstruction_loss,
    sample,
    with_noise,
)


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_parameters_worked_out_by_hand():
    # convolutions: 16 * in * out weights and out biases
    convolutions = (16 * 1 * 32 + 32) + 3 * (16 * 32 * 32 + 32)
    # four halvings of 64 px leave 4 x 4 x 32 = 512 numbers
    to_posterior = (512 * 256 + 256) + (256 * 256 + 256) + (256 * 256 + 256)
    from_latent = (128 * 256 + 256) + (256 * 256 + 256) + (256 * 512 + 512)
    deconvolutions = 3 * (16 * 32 * 32 + 32) + (16 * 32 * 1 + 1)

    network = build_dvae()

    assert _count(network.convolutions) == convolutions
    assert _count(network.to_posterior) == to_posterior
    assert _count(network.from_latent) == from_latent
    assert _count(network.deconvolutions) == deconvolutions
    assert _count(network) == convolutions + to_posterior + from_latent + deconvolutions == 592_865


@pytest.mark.parametrize(("size_px", "depth"), [(8, 1), (32, 3), (64, 4), (128, 5)])
def test_every_size_ends_in_a_map_of_four_and_comes_back(size_px, depth):
    network = build_dvae(latent=3, in_channels=2, size_px=size_px)
    images = torch.rand(2, 2, size_px, size_px)

    logits, posterior = network(images, torch.zeros(2, 3))

    assert len(network.convolutions) == len(network.deconvolutions) == depth
    assert logits.shape == images.shape
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 3)


@pytest.mark.parametrize("size_px", [4, 48, 63, 100])
def test_other_sizes_are_refused(size_px):
    with pytest.raises(UsageError, match=rf"8, 16, 32, 64, 128 .* got {size_px}"):
        build_dvae(size_px=size_px)


def test_layers_are_those_of_the_paper():
    network = build_dvae()
    for layer in [*network.convolutions, *network.deconvolutions]:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
    # ReLU between the dense layers, none after the last: mean and log variance may be negative
    assert [type(layer) for layer in network.to_posterior] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]
    posterior = network.encode(torch.rand(4, 1, 64, 64))
    assert (posterior.mean < 0).any()
    assert (posterior.log_variance < 0).any()


def test_the_seed_alone_decides_the_weights_and_the_global_state_is_left():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (build_dvae(latent=2, seed=seed).state_dict() for seed in (5, 5, 6))

    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_kl_of_one_number_by_hand():
    # mean 2, variance e: 0.5 (4 + e - 1 - 1) = 0.5 (2 + 2.718282) = 2.359141
    posterior = Posterior(torch.tensor([[2.0]]), torch.tensor([[1.0]]))

    assert kl_divergence(posterior).item() == pytest.approx(2.359141, abs=1e-6)


def test_kl_agrees_with_torch_and_is_zero_only_for_the_prior():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 4, generator=generator)
    log_variance = torch.randn(50, 4, generator=generator)
    ours = kl_divergence(Posterior(mean, log_variance))

    prior = torch.distributions.Normal(0.0, 1.0)
    given = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))

    torch.testing.assert_close(ours, torch.distributions.kl_divergence(given, prior))
    assert (ours > 0).all()
    zero = torch.zeros(1, 4)
    assert kl_divergence(Posterior(zero, zero)).abs().sum() == 0


def test_reconstruction_by_hand():
    # logit 0 is 0.5: cross-entropy ln 2 whatever the pixel; logit ln 3 is 0.75: against 1 -ln 0.75
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 1, 1, 2)
    images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)

    crossed = reconstruction_loss(logits, images)
    squared = reconstruction_loss(logits, images, kind="mse")

    assert crossed.tolist() == pytest.approx([math.log(2.0) - math.log(0.75)])
    assert squared.tolist() == pytest.approx([0.25 + 0.0625])


def test_reconstruction_is_summed_over_pixels_and_kept_per_image():
    logits = torch.zeros(3, 2, 4, 4)

    assert reconstruction_loss(logits, logits).tolist() == pytest.approx([32 * math.log(2.0)] * 3)


def test_loss_with_beta_and_with_capacity():
    reconstruction, kl = torch.tensor([10.0, 20.0]), torch.tensor([1.0, 3.0])

    assert dvae_loss(reconstruction, kl).item() == 17.0
    assert dvae_loss(reconstruction, kl, beta=4.0).item() == 23.0
    # the batch's KL is 2: 3 short of a capacity of 5, 1.5 beyond one of 0.5
    assert dvae_loss(reconstruction, kl, gamma=100.0, capacity=5.0).item() == 315.0
    assert dvae_loss(reconstruction, kl, gamma=100.0, capacity=0.5).item() == 165.0
    assert dvae_loss(reconstruction, kl, gamma=100.0, beta=9.0, capacity=2.0).item() == 15.0


def test_capacity_rises_from_0_to_25_and_stays():
    values = [capacity_at(step, total_steps=101) for step in (0, 50, 100, 500)]

    assert values == [0.0, 12.5, 25.0, 25.0]
    assert capacity_at(0, total_steps=1) == 0.0


def test_noise_is_scaled_by_the_deviation_not_the_variance():
    posterior = Posterior(torch.tensor([[1.0]]), torch.tensor([[math.log(4.0)]]))

    assert with_noise(posterior, torch.tensor([[3.0]])).item() == pytest.approx(7.0)


def test_a_sample_is_a_function_of_its_generator():
    posterior = Posterior(torch.full((20_000, 1), 3.0), torch.full((20_000, 1), math.log(0.25)))

    one, same = (sample(posterior, generator=torch.Generator().manual_seed(4)) for _ in range(2))

    assert torch.equal(one, same)
    assert one.mean().item() == pytest.approx(3.0, abs=0.02)
    assert one.std().item() == pytest.approx(0.5, abs=0.02)


def test_training_rebuilds_more_than_the_mean_image():
    # bars at four places: their mean is grey everywhere
    images = torch.zeros(32, 1, 16, 16)
    for row in range(32):
        place = 4 * (row % 4)
        images[row, :, :, place : place + 4] = 1.0
    network = build_dvae(latent=4, size_px=16, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        logits, posterior = network(images, torch.randn(32, 4, generator=generator))
        kl = kl_divergence(posterior).sum(dim=1)
        loss = dvae_loss(reconstruction_loss(logits, images), kl)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        rebuilt = torch.sigmoid(network.decode(network.encode(images).mean))
    error = (rebuilt - images).square().mean()
    assert error < 0.1 * (images - images.mean(dim=0)).square().mean()
