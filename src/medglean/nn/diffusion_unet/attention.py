"""Self-attention over the pixels of a feature map, and attention that pools them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.diffusion_unet.blocks import zeroed
from medglean.nn.diffusion_unet.norm import Norm


def heads_of(channels: int, *, heads: int, head_width: int | None) -> int:
    """Return the number of heads; ``head_width`` decides it where it is given.

    Raises
    ------
    UsageError
        If the channels cannot be divided so.

    Examples
    --------
    >>> heads_of(128, heads=1, head_width=64)
    2
    """
    divisor = heads if head_width is None else head_width
    if channels % divisor:
        asked = f"{heads} heads" if head_width is None else f"heads of {head_width} channels"
        raise UsageError(
            f"attention at {channels} channels cannot have {asked}. Set heads or head_width to a "
            "divisor of the channels (width times multiplier) wherever there is attention."
        )
    return divisor if head_width is None else channels // head_width


def _dense(tokens: Float[Tensor, "b n i"], layer: nn.Conv1d) -> Float[Tensor, "b n o"]:
    """Apply a convolution of kernel 1 to tokens whose channels lie last."""
    return F.linear(tokens, layer.weight[:, :, 0], layer.bias)


class SpatialAttention(nn.Module):
    """Every pixel attends to every pixel; what comes out is added to the input.

    Parameters
    ----------
    channels
        Of the feature map, a multiple of 32.
    heads
        Number of heads. Queries, keys and values of a head lie together in ``qkv``, head by head,
        as in the release.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, kernel_size=1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the feature map with what its pixels say to one another added."""
        b, c, h, w = x.shape
        # for channels_last, as the network's maps are, channels last is a view
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        qkv = _dense(tokens, self.qkv).view(b, h * w, self.heads, 3, c // self.heads)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(dim=3))
        found = F.scaled_dot_product_attention(query, key, value)
        out = _dense(found.transpose(1, 2).reshape(b, h * w, c), self.proj_out)
        return x + out.view(b, h, w, c).permute(0, 3, 1, 2)


class AttentionPool(nn.Module):
    """The mean of all pixels asks the pixels and itself (Radford et al. 2021, as in CLIP).

    Parameters
    ----------
    side_px
        Side of the feature map: each place has its own learnt embedding.
    channels
        Of the feature map.
    heads
        Number of heads. All queries lie before all keys before all values in ``qkv_proj``.
    out_channels
        Numbers that come out.
    """

    def __init__(self, side_px: int, *, channels: int, heads: int, out_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(
            torch.randn(channels, side_px**2 + 1) / channels**0.5
        )
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, kernel_size=1)
        self.c_proj = nn.Conv1d(channels, out_channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o"]:
        """Return one row of numbers an image."""
        b, c, h, w = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(b, h * w, c)
        tokens = torch.cat([pixels.mean(dim=1, keepdim=True), pixels], dim=1)
        tokens = tokens + self.positional_embedding.to(tokens.dtype).t()
        # of all that attention gives only the mean's row is used, so only the mean asks
        weight, bias = self.qkv_proj.weight[:, :, 0], self.qkv_proj.bias
        assert bias is not None
        query = F.linear(tokens[:, :1], weight[:c], bias[:c])
        key, value = F.linear(tokens, weight[c:], bias[c:]).chunk(2, dim=-1)
        query, key, value = (
            part.reshape(b, -1, self.heads, c // self.heads).transpose(1, 2)
            for part in (query, key, value)
        )
        found = F.scaled_dot_product_attention(query, key, value)
        return _dense(found.transpose(1, 2).reshape(b, 1, c), self.c_proj)[:, 0]
