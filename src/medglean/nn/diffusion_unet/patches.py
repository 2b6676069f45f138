"""A diffusion U-Net that works on small patches of pixels as if each were one pixel.

The squares of ``patch_px`` by ``patch_px`` pixels become channels at the network's entrance
(space-to-depth) and pixels again at its exit. All layers work at a fraction of the side: at 2, a
quarter of the arithmetic with channels as before.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from medglean.errors import UsageError


class Patched(nn.Module):
    """A network whose images are folded into channels.

    Parameters
    ----------
    network
        Takes and returns ``patch_px ** 2`` times as many channels as the images have.
    patch_px
        Side of a patch.

    Examples
    --------
    >>> import torch
    >>> twice = Patched(nn.Identity(), 2)
    >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> torch.equal(twice(x), x)
    True
    """

    def __init__(self, network: nn.Module, patch_px: int) -> None:
        super().__init__()
        self.network, self.patch_px = network, patch_px

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        *told: Int[Tensor, " b"] | None,
    ) -> Float[Tensor, "b o h w"]:
        """Return what the network says of the folded images, unfolded.

        Parameters
        ----------
        x
            Images.
        told
            What else the network takes: timesteps and classes.

        Raises
        ------
        UsageError
            If a side of the images is no multiple of the patch's.
        """
        if any(side % self.patch_px for side in x.shape[-2:]):
            raise UsageError(
                f"images of {x.shape[-2]} x {x.shape[-1]} pixels cannot be folded into patches of "
                f"{self.patch_px}: set images.size_px to multiples of unet.patch_px."
            )
        folded = pixel_unshuffle(x, self.patch_px)
        unfolded: Tensor = pixel_shuffle(self.network(folded, *told), self.patch_px)
        return unfolded
