"""The discriminator: a conditional PatchGAN with a shared trunk and up to two heads."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medglean.errors import UsageError
from medglean.nn.stain_gan.start import initialise
from medglean.randomness import key_of

SLOPE = 0.2
"""Of LeakyReLU below 0."""
WIDEST = 8
"""Channels grow to this multiple of the width."""


class PatchJudgement(NamedTuple):
    """What the discriminator says of a pair.

    Attributes
    ----------
    patches
        Shape (b, 1, h', w'): logits, larger for what looks real, one for each patch.
    levels
        Shape (b, k): logits of the levels; None without that head.
    """

    patches: Tensor
    levels: Tensor | None


class PatchDiscriminator(nn.Module):
    """Says of each patch of a pair how real it is, and of the pair which level it shows.

    The trunk is that of pix2pix: convolutions of 4 x 4, ``layers`` of stride 2 and one of stride
    1, with BatchNorm after all but the first, and LeakyReLU. One head is a convolution to a logit
    a patch; the other a linear layer on the trunk's mean over the image.

    Parameters
    ----------
    width
        Channels after the first convolution; doubled by each of the next three.
    layers
        Convolutions of stride 2; with 3 a patch is 70 x 70 pixels.
    levels
        Number of levels of the second head; None: no such head.
    seed
        Of the initial weights; no global random state is changed.

    Attributes
    ----------
    patch_px
        Side of what a logit sees.
    smallest_px
        Side that an image must have at least, so that there is a patch.

    Examples
    --------
    >>> network = PatchDiscriminator(width=4, levels=4)
    >>> network.patch_px, network.smallest_px
    (70, 24)
    >>> pair = torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)
    >>> judged = network(*pair)
    >>> tuple(judged.patches.shape), tuple(judged.levels.shape)
    ((2, 1, 6, 6), (2, 4))
    """

    def __init__(
        self, *, width: int = 64, layers: int = 3, levels: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        numbers = {"width": width, "layers": layers, "levels": 1 if levels is None else levels}
        for name, number in numbers.items():
            if number < 1:
                raise UsageError(f"the discriminator's {name} is {number}, expected at least 1.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(seed, "initialisation", "discriminator"))
            parts: list[nn.Module] = [nn.Conv2d(6, width, 4, stride=2, padding=1)]
            parts += [nn.LeakyReLU(SLOPE, inplace=True)]
            i, seen = width, 1
            for n in range(1, layers + 1):
                o = width * min(2**n, WIDEST)
                stride = 2 if n < layers else 1
                parts += [nn.Conv2d(i, o, 4, stride=stride, padding=1, bias=False)]
                parts += [nn.BatchNorm2d(o), nn.LeakyReLU(SLOPE, inplace=True)]
                i = o
            self.trunk = nn.Sequential(*parts)
            self.to_patches = nn.Conv2d(i, 1, 4, padding=1)
            self.to_levels = None if levels is None else nn.Linear(i, levels)
            initialise(self)
        for stride in (1, 1, *(2,) * layers):  # from a logit back to the pixels
            seen = seen * stride + 4 - stride
        self.patch_px = seen
        self.smallest_px = 3 * 2**layers

    def forward(
        self, he: Float[Tensor, "b 3 h w"], ihc: Float[Tensor, "b 3 h w"]
    ) -> PatchJudgement:
        """Judge pairs.

        Parameters
        ----------
        he, ihc
            An H&E image and a real or generated IHC image, in [-1, 1].

        Raises
        ------
        UsageError
            If the two are of different sizes, or too small for a patch.
        """
        if he.shape != ihc.shape or he.shape[1] != 3 or min(he.shape[2:]) < self.smallest_px:
            raise UsageError(
                f"the discriminator got images of shapes {tuple(he.shape)} and "
                f"{tuple(ihc.shape)}, expected two RGB images of the same size from "
                f"{self.smallest_px} pixels on. Set augment.crop_px, or fewer discriminator.layers."
            )
        maps = self.trunk(torch.cat([he, ihc], dim=1))
        levels = None if self.to_levels is None else self.to_levels(maps.mean(dim=(2, 3)))
        return PatchJudgement(self.to_patches(maps), levels)
