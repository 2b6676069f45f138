"""The classifier of noisy images, whose gradient guides the diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medglean.errors import UsageError
from medglean.nn.diffusion_unet.attention import AttentionPool, heads_of
from medglean.nn.diffusion_unet.embedding import TimeEmbedding
from medglean.nn.diffusion_unet.encoder import Plan, build_encoder
from medglean.nn.diffusion_unet.norm import Norm
from medglean.randomness import key_of

Pool = Literal["attention", "average"]


class NoiseClassifier(nn.Module):
    """The encoder half of the U-Net with an attention pool, with the names of its release.

    Parameters
    ----------
    side_px
        Side of the images; the attention pool takes no other.
    in_channels
        Channels of the image.
    classes
        Number of logits.
    width, multipliers, blocks, attention_px, head_width, scale_shift, block_resampling, seed
        As of `medglean.nn.diffusion_unet.unet.DiffusionUNet`. The channels of the last level are a
        multiple of ``head_width``.
    pool
        ``attention``: as released. ``average``: the mean of each feature over the image and one
        linear layer, which learns from few images in few steps.

    Raises
    ------
    UsageError
        If sides, channels, heads and levels do not go together.

    References
    ----------
    .. [1] Dhariwal, Nichol. Diffusion Models Beat GANs on Image Synthesis. NeurIPS 2021.

    Examples
    --------
    >>> network = NoiseClassifier(
    ...     side_px=16,
    ...     in_channels=1,
    ...     width=32,
    ...     multipliers=(1, 1),
    ...     blocks=1,
    ...     attention_px=(),
    ...     head_width=32,
    ... )
    >>> network(torch.zeros(3, 1, 16, 16), torch.tensor([0, 1, 999])).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        *,
        side_px: int,
        in_channels: int,
        classes: int = 2,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention_px: Sequence[int],
        head_width: int,
        scale_shift: bool = True,
        block_resampling: bool = True,
        pool: Pool = "attention",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.plan = Plan(
            side_px=side_px,
            width=width,
            multipliers=tuple(multipliers),
            blocks=blocks,
            attention_px=tuple(attention_px),
            head_width=head_width,
            scale_shift=scale_shift,
            block_resampling=block_resampling,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(seed, "initialisation"))
            self.time_embed = TimeEmbedding(width)
            encoder = build_encoder(self.plan, in_channels=in_channels)
            self.input_blocks, self.middle_block = encoder.stages, encoder.middle
            last = encoder.channels[-1]
            self.out = nn.Sequential(
                Norm(last), nn.SiLU(), *_head(pool, self.plan, last, classes=classes)
            )

    def forward(
        self, x: Float[Tensor, "b c h w"], t: Int[Tensor, " b"]
    ) -> Float[Tensor, "b classes"]:
        """Return logits of noisy images.

        Parameters
        ----------
        x
            Noisy images of the side given at the beginning.
        t
            Timesteps, 0 the least noisy.

        Raises
        ------
        UsageError
            If the images have another side.
        """
        side = self.plan.side_px
        if x.shape[-2:] != (side, side):
            raise UsageError(
                f"the classifier takes images of {side} x {side} pixels, got {x.shape[-2]} x "
                f"{x.shape[-1]}. Prepare the images as it was trained, or train it for this size."
            )
        embedding = self.time_embed(t)
        h = x
        for stage in self.input_blocks:
            h = stage(h, embedding)
        logits: Tensor = self.out(self.middle_block(h, embedding))
        return logits


def _head(pool: Pool, plan: Plan, channels: int, *, classes: int) -> list[nn.Module]:
    """Return what makes logits of the last feature map."""
    if pool == "average":
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    heads = heads_of(channels, heads=1, head_width=plan.head_width)
    side = plan.side_px >> plan.halvings
    return [AttentionPool(side, channels=channels, heads=heads, out_channels=classes)]
