"""What U-Net and classifier share: the half that makes the map smaller, and the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from medglean.errors import UsageError
from medglean.nn.diffusion_unet.attention import SpatialAttention, heads_of
from medglean.nn.diffusion_unet.blocks import (
    Change,
    Downsample,
    ResidualBlock,
    Stage,
    Upsample,
)
from medglean.nn.diffusion_unet.norm import GROUPS


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a network is laid out; see `medglean.nn.diffusion_unet.unet.DiffusionUNet`."""

    side_px: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention_px: tuple[int, ...]
    heads: int = 1
    head_width: int | None = None
    scale_shift: bool = False
    block_resampling: bool = False
    dropout: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if not self.multipliers or self.blocks < 1:
            raise UsageError(
                f"expected at least one level with one residual block, got multipliers "
                f"{self.multipliers} and {self.blocks} blocks."
            )
        for multiplier in self.multipliers:
            if multiplier < 1 or self.width * multiplier % GROUPS:
                raise UsageError(
                    f"width {self.width} times multiplier {multiplier} is not a multiple of "
                    f"{GROUPS}, the groups of GroupNorm. Set width to such a multiple."
                )
        self.check_side(self.side_px, self.side_px)

    @property
    def halvings(self) -> int:
        """How often the side is halved."""
        return len(self.multipliers) - 1

    def channels(self, level: int) -> int:
        """Return the channels of a level, 0 the largest map."""
        return self.width * self.multipliers[level]

    def attends(self, level: int) -> bool:
        """Whether there is attention at a level."""
        return self.side_px >> level in self.attention_px

    def check_side(self, height: int, width: int) -> None:
        """Refuse sides that cannot be halved as often as the network does."""
        divisor = 2**self.halvings
        if height % divisor or width % divisor or not height or not width:
            raise UsageError(
                f"images of {height} x {width} pixels cannot be halved {self.halvings} times: both "
                f"sides must be multiples of {divisor}. Set images.size_px so, or use fewer "
                "multipliers."
            )

    def block(self, channels: int, out_channels: int, change: Change = "none") -> ResidualBlock:
        """Return a residual block."""
        return ResidualBlock(
            channels,
            out_channels,
            embedding=4 * self.width,
            scale_shift=self.scale_shift,
            change=change,
            dropout=self.dropout,
        )

    def attention(self, channels: int) -> SpatialAttention:
        """Return attention with the plan's heads."""
        heads = heads_of(channels, heads=self.heads, head_width=self.head_width)
        return SpatialAttention(channels, heads=heads)

    def resampling(self, channels: int, change: Change) -> nn.Module:
        """Return what halves or doubles the side."""
        if self.block_resampling:
            return self.block(channels, channels, change)
        return Downsample(channels) if change == "down" else Upsample(channels)

    def stage(self, *layers: nn.Module) -> Stage:
        """Return the layers as one stage."""
        return Stage(*layers, checkpointing=self.checkpointing)


class Encoder(NamedTuple):
    """The stages from the image to the middle.

    Attributes
    ----------
    stages
        ``input_blocks`` of the release.
    middle
        ``middle_block`` of the release.
    channels
        Channels after each of ``stages``; the last are those of the middle.
    """

    stages: nn.ModuleList
    middle: Stage
    channels: Sequence[int]


def build_encoder(plan: Plan, *, in_channels: int) -> Encoder:
    """Build the half of the network that both have."""
    now = plan.channels(0)
    stages = [plan.stage(nn.Conv2d(in_channels, now, kernel_size=3, padding=1))]
    channels = [now]
    for level in range(len(plan.multipliers)):
        for _ in range(plan.blocks):
            layers: list[nn.Module] = [plan.block(now, plan.channels(level))]
            now = plan.channels(level)
            if plan.attends(level):
                layers.append(plan.attention(now))
            stages.append(plan.stage(*layers))
            channels.append(now)
        if level < plan.halvings:
            stages.append(plan.stage(plan.resampling(now, "down")))
            channels.append(now)
    middle = plan.stage(plan.block(now, now), plan.attention(now), plan.block(now, now))
    return Encoder(nn.ModuleList(stages), middle, channels)
