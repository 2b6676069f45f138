import pytest
import torch
from tests.nn.diffusion_unet.conftest import images, stirred

from medglean.errors import UsageError
from medglean.nn.diffusion_unet import NoiseClassifier

TINY = {
    "side_px": 16,
    "in_channels": 1,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_px": (8,),
    "head_width": 32,
}


def tiny(**changes):
    return NoiseClassifier(**{**TINY, **changes})


def test_an_image_does_not_depend_on_its_batch():
    network = stirred(tiny().double())
    x, t = images(3, 1, 16, 16, dtype=torch.float64), torch.tensor([0, 400, 999])
    with torch.no_grad():
        together = network(x, t)
        alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])

    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)
    assert together.shape == (3, 2)


def test_number_of_logits_is_that_of_the_classes():
    assert tiny(classes=5)(images(1, 1, 16, 16), torch.tensor([0])).shape == (1, 5)


def test_gradient_agrees_with_finite_differences():
    network = stirred(tiny().double())
    x, t = images(1, 1, 16, 16, dtype=torch.float64).requires_grad_(), torch.tensor([10])
    direction = images(1, 1, 16, 16, seed=1, dtype=torch.float64)

    (gradient,) = torch.autograd.grad(network(x, t)[0, 0], x)
    with torch.no_grad():
        h = 1e-5
        up, down = (network(x + s * h * direction, t)[0, 0] for s in (1, -1))

    slope = (gradient * direction).sum()
    torch.testing.assert_close(slope, (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="takes images of 16 x 16 pixels, got 32 x 32"):
        tiny()(images(1, 1, 32, 32), torch.tensor([0]))
    with pytest.raises(UsageError, match="at 64 channels cannot have heads of 128 channels"):
        tiny(head_width=128)
