"""Residual blocks, changes of side, and stages that hand them the embedding of time and class."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from medglean.nn.diffusion_unet.norm import Norm

Change = Literal["none", "down", "up"]
Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d)


def zeroed(layer: Layer) -> Layer:
    """Set a layer's weights to 0, so that the branch that it ends says nothing at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Downsample(nn.Module):
    """Halve the side by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h/2 w/2"]:
        """Return the smaller map."""
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Double the side by repeating pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
        """Return the larger map."""
        out: Tensor = self.conv(resized(x, "up"))
        return out


def resized(x: Float[Tensor, "b c h w"], change: Change) -> Float[Tensor, "b c H W"]:
    """Halve the side by averaging, double it by repeating, or leave it."""
    if change == "down":
        return F.avg_pool2d(x, kernel_size=2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if change == "up" else x


class ResidualBlock(nn.Module):
    """Two convolutions, each after GroupNorm and SiLU, beside a short cut.

    Parameters
    ----------
    channels, out_channels
        Before and after, multiples of 32.
    embedding
        Numbers that tell time and class.
    scale_shift
        They scale and shift what the second GroupNorm gives; otherwise they are added before it.
    change
        ``down`` or ``up``: the side changes before the first convolution and in the short cut.
    dropout
        Share of features set to 0 before the second convolution.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        embedding: int,
        scale_shift: bool = False,
        change: Change = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale_shift, self.change = scale_shift, change
        self.in_layers = nn.Sequential(
            Norm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        told = 2 * out_channels if scale_shift else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, told))
        self.out_layers = nn.Sequential(
            Norm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if out_channels == channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b o H W"]:
        """Return the map, given the embedding of time and class."""
        norm, activation, convolution = self.in_layers
        h = convolution(resized(activation(norm(x)), self.change))
        told = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + told)
        for layer in rest:
            h = layer(h)
        out: Tensor = self.skip_connection(resized(x, self.change)) + h
        return out


class Stage(nn.Sequential):
    """Layers one after the other; those that take the embedding get it.

    Parameters
    ----------
    layers
        Residual blocks, attention, convolutions, changes of side.
    checkpointing
        Keep only what goes into residual blocks and attention, and compute the rest again in the
        backward pass.
    """

    def __init__(self, *layers: nn.Module, checkpointing: bool = False) -> None:
        super().__init__(*layers)
        self.checkpointing = checkpointing

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b o H W"]:
        """Apply all."""
        again = self.checkpointing and torch.is_grad_enabled()
        for layer in self:
            given = (x, embedding) if isinstance(layer, ResidualBlock) else (x,)
            x = checkpoint(layer, *given, use_reentrant=False) if again else layer(*given)
        return x
