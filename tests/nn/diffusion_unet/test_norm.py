import pytest
import torch
from torch.nn import functional as F

from medglean.nn.diffusion_unet.norm import Norm

CHANNELS_LAST = torch.channels_last


def case(*, mean, dtype, channels=96, size=(10, 6)):
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(3, channels, *size, generator=generator) for _ in range(2))
    norm = Norm(channels)
    with torch.no_grad():
        for weight in norm.parameters():
            weight.copy_(torch.randn(channels, generator=generator))
    x = (2 * x + mean).to(dtype).to(memory_format=CHANNELS_LAST)
    return norm, x, g.to(dtype)


def exact(norm, x, g):
    """Value and gradients by torch's own GroupNorm in float64 of contiguous maps."""
    inputs = [x.contiguous(), norm.weight, norm.bias]
    x64, w64, b64 = (each.detach().double().requires_grad_() for each in inputs)
    out = F.group_norm(x64, 32, w64, b64)
    out.backward(g.double())
    return [out.detach(), x64.grad, w64.grad, b64.grad]


def found(norm, x, g):
    x = x.detach().requires_grad_()
    norm.zero_grad()
    out = norm(x)
    out.backward(g)
    return [out.detach(), x.grad, norm.weight.grad, norm.bias.grad]


@pytest.mark.parametrize("mean", [0.0, 10.0, -200.0])
def test_channels_last_agrees_with_float64(mean):
    norm, x, g = case(mean=mean, dtype=torch.float32)
    for mine, reference in zip(found(norm, x, g), exact(norm, x, g), strict=True):
        # mean 100 deviations off: 100 x the 6e-8 of float32, and sums of 60 of them
        torch.testing.assert_close(
            mine.double(), reference, rtol=0, atol=5e-4 if mean < 0 else 5e-5
        )


def test_layout_is_kept_forward_and_backward():
    norm, x, g = case(mean=0.0, dtype=torch.float32)
    out, gradient, *_ = found(norm, x, g)
    assert out.is_contiguous(memory_format=CHANNELS_LAST)
    assert gradient.is_contiguous(memory_format=CHANNELS_LAST)


@pytest.mark.parametrize("size", [(10, 6), (40, 32)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, CHANNELS_LAST])
def test_bfloat16_maps_are_normalised_in_float32(layout, size):
    norm, x, g = case(mean=1.0, dtype=torch.bfloat16, size=size)
    mine = found(norm, x.contiguous(memory_format=layout), g)
    assert [each.dtype for each in mine] == [torch.bfloat16] * 2 + [torch.float32] * 2
    for given, reference in zip(mine, exact(norm, x, g), strict=True):
        # half a unit in the last place of bfloat16: 2^-8 of the largest; sums stay in float32
        limit = 2**-8 * reference.abs().max().item() * 1.01
        torch.testing.assert_close(given.double(), reference, rtol=0, atol=limit)


def test_gradient_of_float64_agrees_with_finite_differences():
    norm, x, _ = case(mean=0.5, dtype=torch.float64, channels=32)
    norm.double()
    assert torch.autograd.gradcheck(norm, x[:1, :, :2, :2].detach().requires_grad_())


def test_a_gradient_of_the_gradient_is_refused_rather_than_wrong():
    norm, x, _ = case(mean=0.0, dtype=torch.float32)
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
