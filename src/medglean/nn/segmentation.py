"""MONAI's U-Net for masks of one or several structures, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medglean.errors import UsageError
from medglean.randomness import key_of

CHANNELS = (8, 16, 32, 64)
"""Feature maps of each level; halving the side three times suits 128 px on a CPU."""


def build_unet(
    structures: int,
    *,
    in_channels: int = 1,
    channels: Sequence[int] = CHANNELS,
    residual_units: int = 0,
    seed: int = 0,
) -> nn.Module:
    """Build a two-dimensional U-Net of MONAI (residual units after Kerfoot et al. 2018).

    Parameters
    ----------
    structures
        Number of output maps, one per structure.
    in_channels
        Channels of the image.
    channels
        Feature maps of each level, at least two; each level halves height and width, so these must
        be multiples of ``2 ** (len(channels) - 1)``.
    residual_units
        Residual units of each level; 0 takes plain convolutions.
    seed
        Of the initialisation. The global random state is left as it was.

    Returns
    -------
    torch.nn.Module
        Maps (b, in_channels, h, w) to logits (b, structures, h, w); a sigmoid above 0.5 is inside.

    Raises
    ------
    UsageError
        If a number is not positive, or there are fewer than two levels.

    Examples
    --------
    >>> network = build_unet(1, channels=(4, 8))
    >>> tuple(network(torch.zeros(1, 1, 16, 16)).shape)
    (1, 1, 16, 16)
    """
    if len(channels) < 2 or min([structures, in_channels, *channels]) < 1 or residual_units < 0:
        raise UsageError(
            f"a U-Net needs at least two levels and positive numbers, got {list(channels)} feature "
            f"maps, {in_channels} channel(s), {structures} structure(s), {residual_units} residual "
            "units. Set unet.channels to something like [8, 16, 32, 64]."
        )
    from monai.networks.nets.unet import UNet  # seconds to import: only where one is built

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(seed, "initialisation"))
        network: nn.Module = UNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=structures,
            channels=tuple(channels),
            strides=tuple(2 for _ in pairwise(channels)),
            num_res_units=residual_units,
        )
    return network


def segmentation_loss(
    logits: Float[Tensor, "b s h w"], masks: Float[Tensor, "b s h w"]
) -> Float[Tensor, ""]:
    """Return Dice loss plus binary cross-entropy, both as MONAI computes them.

    Dice is taken over the whole batch: per image it would be undefined where a mask is empty, and
    most slices of a volume are.

    Parameters
    ----------
    logits
        Raw outputs of the network.
    masks
        1 inside a structure, 0 outside; structures may overlap.
    """
    from monai.losses.dice import DiceCELoss

    loss: Tensor = DiceCELoss(sigmoid=True, batch=True)(logits.float(), masks)
    return loss
