"""The generator: pix2pix's U-Net with attention on its skips and level features at its bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.errors import UsageError
from medglean.nn.kernel_attention import KeySums
from medglean.nn.stain_gan.extent import reach_of
from medglean.nn.stain_gan.inputs import attention_of, check_image, check_input, cut_inside
from medglean.nn.stain_gan.skip_attention import AttentionKind, SkipAttention
from medglean.nn.stain_gan.start import initialise
from medglean.randomness import key_of, torch_generator

SLOPE = 0.2
"""Of LeakyReLU below 0, in the encoder."""
WIDEST = 8
"""Channels grow to this multiple of the width."""
FIRST_DROPOUT = 5
"""Decoder blocks that start this many halvings down or deeper, but the deepest, drop out."""
SMALLEST_SD = 1e-6
"""Least standard deviation that a level feature is divided by."""


class LevelFilm(nn.Module):
    r"""Scales and shifts a feature map's channels by what is known of the expression level [3]_.

    .. math:: (1 + \gamma(z))\, x + \beta(z), \quad z = (f - \mu) / \sigma

    Both are linear in the features and 0 at first.

    Parameters
    ----------
    features
        Numbers that describe the level, f; ``mean`` and ``sd`` over training images are buffers.
    channels
        Of the feature map.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.to_scale_and_shift = nn.Linear(features, 2 * channels)
        nn.init.zeros_(self.to_scale_and_shift.weight)
        nn.init.zeros_(self.to_scale_and_shift.bias)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))

    def forward(
        self, x: Float[Tensor, "b c h w"], level: Float[Tensor, "b f"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the map, modulated."""
        standard = (level.float() - self.mean) / self.sd.clamp_min(SMALLEST_SD)
        found = self.to_scale_and_shift(standard).to(x.dtype)[:, :, None, None]
        scale, shift = found.chunk(2, dim=1)
        return torch.addcmul(x + shift, x, scale)


class StainUNet(nn.Module):
    """Turns an H&E image into an IHC image of the same place.

    The shape of pix2pix's ``unet_256``: convolutions of 4 x 4 that halve the side, as many
    transposed ones that double it, BatchNorm between them but not at the ends, skips that are
    concatenated. Besides it has `SkipAttention` on some skips and `LevelFilm` at the bottom. At
    first both change nothing. What attention adds goes to the decoder alone, so one pass through
    the encoder gives the `KeySums` of every skip.

    Parameters
    ----------
    width
        Channels after the first halving; doubled with each of the next three.
    halvings
        How often the side is halved.
    dropout
        Share of the channels' pixels that the inner blocks of the decoder drop in training.
    patch_px
        Side of the squares of pixels that are folded into channels before and unfolded after.
    attention
        ``none`` or a kind of `SkipAttention`.
    skips
        Which skips have it: n stands for the one after n halvings.
    heads, head_width, features
        Of `SkipAttention`.
    level_channels
        Numbers that describe the level; None: no level features are taken.
    seed
        Of the initial weights and of the random features; no global random state is changed.

    Attributes
    ----------
    stride_px
        What the sides of an image must be a multiple of.
    reach_px
        How far an output pixel sees at most, but for attention and level features.

    Examples
    --------
    >>> network = StainUNet(width=4, halvings=3, skips=(2,)).eval()
    >>> network.stride_px, network.reach_px
    (8, 21)
    >>> tuple(network(torch.zeros(1, 3, 16, 24)).shape)
    (1, 3, 16, 24)
    """

    def __init__(
        self,
        *,
        width: int = 64,
        halvings: int = 8,
        dropout: float = 0.5,
        patch_px: int = 1,
        attention: Literal["none"] | AttentionKind = "favor",
        skips: Sequence[int] = (3, 4, 5),
        heads: int = 4,
        head_width: int = 16,
        features: int = 64,
        level_channels: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        skips = () if attention == "none" else tuple(sorted(set(skips)))
        _check_numbers(width=width, patch_px=patch_px, heads=heads, head_width=head_width)
        _check_skips(skips, halvings)
        self.width, self.halvings, self.patch_px = width, halvings, patch_px
        self.dropout, self.skips, self.level_channels = dropout, skips, level_channels
        self.stride_px = patch_px * 2**halvings
        self.reach_px = reach_of(halvings=halvings, patch_px=patch_px)
        ends = 3 * patch_px**2
        widths = [ends, *(width * min(2**n, WIDEST) for n in range(halvings))]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(seed, "initialisation", "generator"))
            self.down, self.down_norm = nn.ModuleList(), nn.ModuleList()
            self.up, self.up_norm = nn.ModuleList(), nn.ModuleList()
            for n in range(1, halvings + 1):
                outer, inner = widths[n - 1], widths[n]
                below = inner if n == halvings else 2 * inner
                self.down.append(nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=False))
                normed = 1 < n < halvings  # neither the first nor the last is, as in pix2pix
                self.down_norm.append(nn.BatchNorm2d(inner) if normed else nn.Identity())
                out = nn.ConvTranspose2d(below, outer, 4, stride=2, padding=1, bias=n == 1)
                self.up.append(out)
                self.up_norm.append(nn.Identity() if n == 1 else nn.BatchNorm2d(outer))
            initialise(self)  # before the rest, so that a seed starts all variants alike
            self.attention = nn.ModuleDict()
            for n in skips:
                assert attention != "none"
                self.attention[str(n)] = SkipAttention(
                    widths[n],
                    kind=attention,
                    heads=heads,
                    head_width=head_width,
                    features=features,
                    generator=torch_generator(seed, "random features", n),
                )
            self.film = None if level_channels is None else LevelFilm(level_channels, widths[-1])

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        level: Float[Tensor, "b f"] | None = None,
        *,
        sums: Mapping[int, KeySums] | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Return the IHC image.

        Parameters
        ----------
        image
            H&E in [-1, 1], with sides that are multiples of ``stride_px``.
        level
            Features of the expression level, as they come from the classifier; needed if, and
            only if, the network has ``level_channels``.
        sums
            Keys and values of each skip in ``skips`` to ask in place of the image's own.

        Returns
        -------
        Tensor
            In [-1, 1].

        Raises
        ------
        UsageError
            If sides, channels, level features or sums do not fit the network.
        """
        check_input(self, image, level, sums)
        maps = self._encode(image, self.halvings)
        x = maps.pop()
        if self.film is not None and level is not None:
            x = self.film(x, level)
        for n in range(self.halvings, 0, -1):
            if n < self.halvings:
                skip = maps.pop()
                if n in self.skips:
                    skip = attention_of(self.attention, n)(skip, None if sums is None else sums[n])
                x = torch.cat([skip, x], dim=1)
            x = self.up_norm[n - 1](self.up[n - 1](F.relu_(x)))  # x is nobody else's
            if FIRST_DROPOUT <= n < self.halvings:
                x = F.dropout(x, self.dropout, training=self.training)
        return F.pixel_shuffle(torch.tanh(x), self.patch_px)

    def key_sums(
        self, image: Float[Tensor, "b 3 h w"], *, inside: tuple[slice, slice] | None = None
    ) -> dict[int, KeySums]:
        """Sum up keys and values of every skip with attention.

        Parameters
        ----------
        image
            As for the call.
        inside
            Rows and columns of pixels: only tokens with their middle there count. Ranges that
            share out an image give sums that add up to those of the whole.

        Returns
        -------
        dict
            By skip, for each image; ``pooled()`` adds up the images of a batch.

        Raises
        ------
        UsageError
            If attention is ``softmax``, or the image does not fit.
        """
        check_image(self, image)
        if not self.skips:
            return {}
        maps = self._encode(image, self.skips[-1])
        return {
            n: attention_of(self.attention, n).key_sums(cut_inside(maps[n - 1], image, inside))
            for n in self.skips
        }

    def set_level_statistics(self, mean: Float[Tensor, " f"], sd: Float[Tensor, " f"]) -> None:
        """Store mean and standard deviation of the level features over the training images.

        Raises
        ------
        UsageError
            If the network takes no level features, or another number of them.
        """
        if self.film is None or mean.shape != self.film.mean.shape or sd.shape != mean.shape:
            raise UsageError(
                f"level statistics have shapes {tuple(mean.shape)} and {tuple(sd.shape)}, the "
                f"generator takes {self.level_channels} level features. Give level_channels."
            )
        self.film.mean.copy_(mean)
        self.film.sd.copy_(sd)

    def _encode(self, image: Tensor, depth: int) -> list[Tensor]:
        """Return the feature maps after 1, ... ``depth`` halvings, before their activation."""
        x = F.pixel_unshuffle(image, self.patch_px)
        maps: list[Tensor] = []
        for n in range(depth):
            x = self.down_norm[n](self.down[n](x if n == 0 else F.leaky_relu(x, SLOPE)))
            maps.append(x)
        return maps


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"the generator's {name} is {number}, expected at least 1.")


def _check_skips(skips: Sequence[int], halvings: int) -> None:
    if halvings < 2:
        raise UsageError(f"the generator's halvings is {halvings}, expected at least 2.")
    wrong = [n for n in skips if not 1 <= n < halvings]
    if wrong:
        raise UsageError(
            f"attention is asked for on the skip connection {wrong[0]}: with {halvings} halvings "
            f"there are 1 to {halvings - 1}. Set generator.attention.skips."
        )
