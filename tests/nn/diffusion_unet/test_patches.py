import pytest
import torch

from medglean.errors import UsageError
from medglean.nn.diffusion_unet import DiffusionUNet, Patched


class Doubling(torch.nn.Module):
    """Gives each channel twice: as it is, and negated."""

    def forward(self, x, t, y):
        self.seen = (tuple(x.shape), t, y)
        return torch.cat([x, -x], dim=1)


def test_folded_in_and_unfolded_out_keeps_every_pixel_in_its_place():
    network = Doubling()
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)

    out = Patched(network, 2)(x, "t", "y")

    assert network.seen == ((2, 12, 2, 3), "t", "y")
    # the first half of the output's channels is the noise, the second what the variance comes from
    torch.testing.assert_close(out[:, :3], x)
    torch.testing.assert_close(out[:, 3:], -x)


def test_a_diffusion_unet_works_on_patches():
    network = DiffusionUNet(
        side_px=8, in_channels=4, out_channels=8, width=32, multipliers=(1, 1), blocks=1,
        attention_px=(),
    )  # fmt: skip
    out = Patched(network, 2)(
        torch.zeros(2, 1, 16, 16), torch.tensor([1, 2]), torch.tensor([0, -1])
    )

    assert out.shape == (2, 2, 16, 16)


def test_a_side_that_is_no_multiple_of_the_patch_is_refused():
    with pytest.raises(UsageError, match=r"15 x 16 pixels cannot be folded into patches of 2"):
        Patched(Doubling(), 2)(torch.zeros(1, 1, 15, 16), None, None)
