"""Residual attention on a skip connection."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.kernel_attention import (
    Kernel,
    KeySums,
    attend,
    exact_attention,
    key_sums,
    orthogonal_features,
)

AttentionKind = Literal["favor", "softmax", "elu"]


class SkipAttention(nn.Module):
    """What the pixels of a feature map say to one another, added to the map times a gain.

    The gain is one number and 0 at first: the network then is the one without attention, and
    training decides what attention adds. Queries, keys and values of all heads lie in that order
    in ``to_qkv``.

    Parameters
    ----------
    channels
        Of the feature map.
    kind
        ``favor``, ``elu`` (see `medglean.nn.kernel_attention`) or ``softmax``.
    heads, head_width
        Heads, and the width of each one's queries, keys and values.
    features
        Random features of a head, of ``favor``; all heads share them. They are drawn here and
        stored with the weights.
    generator
        Of the random features.
    """

    projection: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        kind: AttentionKind = "favor",
        heads: int = 4,
        head_width: int = 16,
        features: int = 64,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.kind, self.heads, self.head_width = kind, heads, head_width
        self.to_qkv = nn.Linear(channels, 3 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, channels)
        self.gain = nn.Parameter(torch.zeros(()))
        drawn = None
        if kind == "favor":
            drawn = orthogonal_features(features, head_width, generator=generator)
        self.register_buffer("projection", drawn)

    def forward(
        self, x: Float[Tensor, "b c h w"], sums: KeySums | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the map with attention added.

        Parameters
        ----------
        x
            The feature map, of any size.
        sums
            Keys and values to ask in place of the map's own, such as those of a whole slide; of
            as many images as the map has, or of one for all.

        Raises
        ------
        UsageError
            If sums are given to ``softmax``, which cannot use any.
        """
        b, c, h, w = x.shape
        tokens = _tokens(x)
        kind = self.kind
        if kind == "softmax":
            if sums is not None:
                raise _no_sums()
            found = exact_attention(*self._heads(tokens, 0, 3))
        else:
            if sums is None:
                query, key, value = self._heads(tokens, 0, 3)
                sums = self._sums(key, value, kind)
            else:
                (query,) = self._heads(tokens, 0, 1)
            found = attend(query, sums, kind=kind, projection=self.projection)
        joined = found.transpose(1, 2).reshape(b, h * w, self.heads * self.head_width)
        # the gain goes into the small matrix: one pass less over the map
        gain = self.gain.to(joined.dtype)
        bias = self.to_out.bias.to(joined.dtype)
        added = F.linear(joined, gain * self.to_out.weight.to(joined.dtype), gain * bias)
        return added.view(b, h, w, c).permute(0, 3, 1, 2).add_(x)

    def key_sums(
        self, x: Float[Tensor, "b c h w"], keep: Bool[Tensor, "b h w"] | None = None
    ) -> KeySums:
        """Sum up the keys and values of a feature map, of the pixels in ``keep``.

        Raises
        ------
        UsageError
            If attention is ``softmax``.
        """
        if self.kind == "softmax":
            raise _no_sums()
        key, value = self._heads(_tokens(x), 1, 3)
        return self._sums(key, value, self.kind, None if keep is None else keep.flatten(1))

    def _sums(
        self, key: Tensor, value: Tensor, kind: Kernel, keep: Tensor | None = None
    ) -> KeySums:
        return key_sums(key, value, kind=kind, projection=self.projection, keep=keep)

    def _heads(self, tokens: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """Return some of queries, keys and values, each of shape (b, heads, n, d)."""
        b, n = tokens.shape[:2]
        inner = self.heads * self.head_width
        weight = self.to_qkv.weight[first * inner : last * inner].to(tokens.dtype)
        parts = F.linear(tokens, weight).view(b, n, last - first, self.heads, self.head_width)
        return parts.permute(2, 0, 3, 1, 4).unbind(0)


def _tokens(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """Lay a map out as tokens: a view, where the map is channels_last."""
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, h * w, c)


def _no_sums() -> UsageError:
    return UsageError(
        "softmax attention has no sums that add up over tiles. Train with "
        "generator.attention.kind=favor or elu, or set slide.attention=tile."
    )
