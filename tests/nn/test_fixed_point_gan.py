import itertools

import pytest
import torch
from torch import nn

from medglean.errors import UsageError
from medglean.nn.fixed_point_gan import (
    build_discriminator,
    build_generator,
    discriminator_layers,
)


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_generator_parameters_worked_out_by_hand():
    # published widths: 3 channels and 5 domains in, 64 maps, 6 blocks; each norm has 2 per channel
    ends = 49 * (3 + 5) * 64 + 2 * 64 + 49 * 64 * 3
    down = (16 * 64 * 128 + 2 * 128) + (16 * 128 * 256 + 2 * 256)
    blocks = 6 * 2 * (9 * 256 * 256 + 2 * 256)
    up = (16 * 256 * 128 + 2 * 128) + (16 * 128 * 64 + 2 * 64)

    assert _count(build_generator(in_channels=3, domains=5)) == ends + down + blocks + up


def test_discriminator_parameters_worked_out_by_hand():
    # published widths at 128 px: six convolutions to 2 x 2 x 2048, two heads without bias
    widths = [3, 64, 128, 256, 512, 1024, 2048]
    body = sum(16 * i * o + o for i, o in itertools.pairwise(widths))
    heads = 9 * 2048 + 5 * 4 * 2048
    with torch.device("meta"):
        network = build_discriminator(side_px=128, in_channels=3, domains=5)

    assert _count(network) == body + heads


@pytest.mark.parametrize("size", [(8, 8), (12, 12), (16, 32), (20, 44)])
def test_generator_keeps_shape_and_range_of_any_multiple_of_4(size):
    network = build_generator(in_channels=3, width=2, blocks=1)

    made = network(torch.rand(2, 3, *size) * 2 - 1, torch.tensor([0, 1]))

    assert made.shape == (2, 3, *size)
    assert made.abs().max() <= 1


def test_generator_adds_a_change_and_takes_the_hyperbolic_tangent():
    network = build_generator(width=2, blocks=1)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    domain = torch.tensor([0, 1])
    planes = torch.zeros(2, 2, 8, 8)
    planes[0, 0] = planes[1, 1] = 1.0

    change = network.body(torch.cat([images, planes], dim=1))
    torch.testing.assert_close(network(images, domain), torch.tanh(images + change))

    nn.init.zeros_(network.body[-1].weight)
    torch.testing.assert_close(network(images, domain), torch.tanh(images))


def test_images_are_translated_alone_or_together_alike_in_training_and_after():
    network = build_generator(width=2, blocks=1)
    images, domain = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 1])

    together = network(images, domain)

    torch.testing.assert_close(network(images[1:2], domain[1:2]), together[1:2])
    torch.testing.assert_close(network.eval()(images, domain), together)
    assert not torch.allclose(network(images, 1 - domain), together, atol=1e-3)


@pytest.mark.parametrize("side_px", [0, 4, 30, 63])
def test_other_sides_are_refused(side_px):
    with pytest.raises(UsageError, match=rf"multiples of 4, got {side_px}. Set images.size_px"):
        build_discriminator(side_px=side_px)
    with pytest.raises(UsageError, match=rf"multiples of 4, got {side_px}. Set images.size_px"):
        build_generator(width=2)(torch.zeros(1, 1, 8, side_px), torch.tensor([0]))


def test_other_shapes_than_the_network_was_built_for_are_refused():
    with pytest.raises(UsageError, match=r"have 3 channel\(s\), this generator takes 1"):
        build_generator(width=2)(torch.zeros(1, 3, 8, 8), torch.tensor([0]))
    with pytest.raises(UsageError, match=r"discriminator takes \(1, 16, 16\)"):
        build_discriminator(side_px=16, width=2)(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("name", ["in_channels", "domains", "width"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(UsageError, match=f"{name} is 0"):
        build_generator(**{name: 0})
    with pytest.raises(UsageError, match=f"{name} is 0"):
        build_discriminator(side_px=16, **{name: 0})


@pytest.mark.parametrize(
    ("side_px", "layers", "patches"), [(8, 2, 2), (12, 2, 3), (64, 5, 2), (96, 5, 3), (192, 6, 3)]
)
def test_the_discriminator_ends_in_patches_and_one_verdict(side_px, layers, patches):
    network = build_discriminator(side_px=side_px, in_channels=2, domains=3, width=1)

    judged = network(torch.rand(2, 2, side_px, side_px))

    assert discriminator_layers(side_px) == layers
    assert judged.realness.shape == (2, 1, patches, patches)
    assert judged.domain.shape == (2, 3)
    assert judged.slope is None


def linear_critic(weight: torch.Tensor) -> nn.Module:
    """D(x) = <weight, x>, in the discriminator's clothes."""
    network = build_discriminator(side_px=8, width=1)
    network.body = nn.Identity()
    network.to_realness = nn.Conv2d(1, 1, 8, bias=False)
    network.to_domain = nn.Conv2d(1, 2, 8, bias=False)
    with torch.no_grad():
        network.to_realness.weight.copy_(weight)
    return network


def test_the_slope_of_a_linear_critic_is_its_weight():
    weight = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = linear_critic(weight)

    judged = network(torch.zeros(1, 1, 8, 8), torch.rand(3, 1, 8, 8))

    torch.testing.assert_close(judged.slope, weight.expand(3, -1, -1, -1))
    # half the square of the slope has the weight itself as its gradient, once per point
    (0.5 * judged.slope.square().sum()).backward()
    torch.testing.assert_close(network.to_realness.weight.grad, 3 * weight)


def test_the_slope_is_that_of_finite_differences():
    network = build_discriminator(side_px=8, width=2).double()
    images = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    step = torch.zeros_like(images)
    step[0, 0, 3, 4] = 1e-6
    there, back = (network(images + s).realness.sum() for s in (step, -step))
    network.float()

    slope = network(images.float(), images.float()).slope

    assert slope[0, 0, 3, 4].item() == pytest.approx((there - back).item() / 2e-6, rel=1e-3)


def test_the_slope_is_computed_in_float32_under_autocast():
    network = build_discriminator(side_px=8, width=2)
    images, points = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    plain = network(images, points)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(images, points)

    assert mixed.realness.dtype == torch.bfloat16
    assert torch.equal(mixed.slope, plain.slope)


def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    for build in (build_generator, lambda **x: build_discriminator(side_px=8, **x)):
        one, same, other = (next(build(width=2, seed=s).parameters()) for s in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
