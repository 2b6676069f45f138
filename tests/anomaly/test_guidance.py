import math

import pytest
import torch
from torch import nn

from medglean.anomaly.guidance import (
    classifier_free,
    classifier_guided,
    gradient_of,
    log_probability_gradient,
)
from medglean.anomaly.schedule import Schedule
from medglean.errors import UsageError

SCHEDULE = Schedule.linear()
X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
TIMESTEP = torch.tensor([0, 5, 9])


class Linear(nn.Module):
    """Logits that are a linear function of the image, times 1 + t."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(32, 2)

    def forward(self, x, t):
        return self.layer(x.flatten(1)) * (1 + t)[:, None]


@pytest.mark.parametrize("target", [0, 1])
def test_gradient_of_a_linear_classifier_by_hand(target):
    network = Linear()
    probability = network(X, TIMESTEP).softmax(dim=1).detach()
    weight = network.layer.weight.detach()
    # d log p_k / dx = (1 + t) (w_k - sum_j p_j w_j)
    expected = (1 + TIMESTEP)[:, None] * (weight[target] - probability @ weight)

    found = log_probability_gradient(network, X, TIMESTEP, target)

    torch.testing.assert_close(found.flatten(1), expected)


@pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_whatever_the_caller_has_switched_on(within):
    network = Linear()
    expected = log_probability_gradient(network, X, TIMESTEP, 0)

    with within():
        found = log_probability_gradient(network, X * 1, TIMESTEP * 1, 0)

    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_classifier_is_left_as_it_was():
    network = Linear()
    network.layer.bias.requires_grad_(False)

    log_probability_gradient(network, X, TIMESTEP, 0)
    network.forward = None  # an error within must not leave parameters fixed
    with pytest.raises(TypeError):
        log_probability_gradient(network, X, TIMESTEP, 0)

    assert network.layer.weight.requires_grad
    assert not network.layer.bias.requires_grad
    assert network.layer.weight.grad is None


def test_gradient_of_one_image_ignores_the_others_and_keeps_its_type():
    network = Linear().double()

    together = log_probability_gradient(network, X.double(), TIMESTEP, 0)
    alone = log_probability_gradient(network, X[1:2].double(), TIMESTEP[1:2], 0)

    assert together.dtype == torch.float64
    torch.testing.assert_close(together[1:2], alone)


def test_gradient_at_a_level_asks_at_its_timestep():
    network = Linear()

    found = gradient_of(network, target=1)(X, 6)

    expected = log_probability_gradient(network, X, torch.full((3,), 5), 1)
    assert torch.equal(found, expected)


def test_guided_noise_by_hand():
    eps = classifier_guided(
        lambda x, level: torch.full_like(x, 0.5),
        lambda x, level: torch.full_like(x, 2.0),
        SCHEDULE,
        scale=3.0,
    )

    spread = math.sqrt(1 - SCHEDULE.abar[200])
    assert eps(X, 200).flatten()[0].item() == pytest.approx(0.5 - 3 * spread * 2)


def test_normalised_guidance_by_hand_per_image():
    # rms of the noise: 2 and 2; rms of the gradient: sqrt(8) and 0
    noise = torch.tensor([[[[2.0, -2.0]]], [[[2.0, 2.0]]]])
    push = torch.tensor([[[[4.0, 0.0]]], [[[0.0, 0.0]]]])
    eps = classifier_guided(
        lambda x, level: noise, lambda x, level: push, SCHEDULE, scale=0.5, normalised=True
    )

    spread = math.sqrt(1 - SCHEDULE.abar[300])
    found = eps(noise, 300)

    assert found[0].flatten().tolist() == pytest.approx([2 - 0.5 * spread * 8 / math.sqrt(8), -2])
    assert torch.equal(found[1], noise[1])  # without a gradient there is no push, and no NaN


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e6])
def test_normalised_guidance_does_not_depend_on_the_size_of_the_gradient(size):
    def guided(size):
        return classifier_guided(
            lambda x, level: x,
            lambda x, level: size * x.flip(-1),
            SCHEDULE,
            scale=1,
            normalised=True,
        )

    torch.testing.assert_close(guided(size)(X.double(), 400), guided(1.0)(X.double(), 400))


def test_scale_0_calls_no_classifier():
    def gradient(x, level):
        raise AssertionError

    def eps(x, level):
        return x

    assert classifier_guided(eps, gradient, SCHEDULE, scale=0) is eps


def test_classifier_free_extends_the_line_from_without_to_with():
    def with_class(x, level):
        return torch.full_like(x, 3.0)

    def without(x, level):
        return torch.full_like(x, 1.0)

    found = [
        classifier_free(with_class, without, scale=scale)(X, 1)[0, 0, 0, 0] for scale in (0.5, 2)
    ]

    assert found == [2.0, 5.0]
    assert classifier_free(with_class, without, scale=1) is with_class
    assert classifier_free(with_class, without, scale=0) is without


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_negative_scale_is_refused(scale):
    def eps(x, level):
        return x

    with pytest.raises(UsageError, match=f"s, must be 0 or more, got {scale}"):
        classifier_guided(eps, eps, SCHEDULE, scale=scale)
    with pytest.raises(UsageError, match=f"s, must be 0 or more, got {scale}"):
        classifier_free(eps, eps, scale=scale)


def test_golden_gradient(golden):
    np = pytest.importorskip("numpy")
    from medglean.nn.diffusion_unet import NoiseClassifier, load_release

    arrays = np.load(golden / "guided_diffusion_small.npz")
    network = NoiseClassifier(
        side_px=32,
        in_channels=4,
        width=32,
        multipliers=(1, 2),
        blocks=1,
        attention_px=(16,),
        head_width=64,
    )
    load_release(network, golden / "guided_classifier_small.safetensors")

    found = log_probability_gradient(
        network, torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["t"]), 0
    )

    np.testing.assert_allclose(found.numpy(), arrays["classifier_grad_x_logp0"], atol=1e-5)
