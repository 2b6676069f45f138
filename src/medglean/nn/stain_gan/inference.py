"""The generator as it is applied: fewer and faster operations, the same image.

What is different from `StainUNet` in evaluation mode:

- BatchNorm is a scale and a shift by then: it is folded into the convolution before it.
- Maps lie channels_last, in float32 or bfloat16; weights are stored in that precision.
- A skip is kept as its LeakyReLU and not as it was: the decoder's ReLU makes no difference between
  the two. Both halves of what the decoder reads are written to their place as they are activated.
- The last transposed convolution, whose 3 channels would leave most of a vector register empty, is
  computed as a convolution of 2 x 2 to 4 times as many channels. Of the pixels of a transposed
  convolution of kernel 4 and step 2, those of even rows read inputs i - 1 and i with the kernel's
  rows 3 and 1, those of odd rows i and i + 1 with the rows 2 and 0: each of the four kinds of
  pixels is a convolution of 2 x 2, and all four read the same patches once the input has a border.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medglean.nn.kernel_attention import KeySums
from medglean.nn.stain_gan.generator import SLOPE, StainUNet
from medglean.nn.stain_gan.inputs import attention_of, check_image, check_input, cut_inside

Precision = Literal["auto", "32-true", "bf16-mixed"]
LAYOUT = torch.channels_last


def for_inference(generator: StainUNet, *, precision: Precision = "auto") -> InferenceUNet:
    """Return a network that gives the generator's images faster.

    Parameters
    ----------
    generator
        As it was trained, on any device; it is not changed, and no weights are shared.
    precision
        ``32-true``: images are equal up to rounding. ``bf16-mixed``: convolutions and maps in
        bfloat16, attention and level features in float32. ``auto``: ``bf16-mixed`` where the
        generator's device has instructions for it.
    """
    weight = generator.down[0].weight
    assert isinstance(weight, Tensor)
    if precision == "auto":
        precision = "bf16-mixed" if _has_bf16(weight.device) else "32-true"
    kind = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    return InferenceUNet(generator, kind).eval().requires_grad_(requires_grad=False)


class InferenceUNet(nn.Module):
    """A `StainUNet` in evaluation mode, from `for_inference`: the same calls and attributes.

    Attributes
    ----------
    dtype
        In which maps are.
    stride_px, reach_px, skips, level_channels
        As of the generator.
    """

    def __init__(self, generator: StainUNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.halvings, self.patch_px = generator.halvings, generator.patch_px
        self.stride_px, self.reach_px = generator.stride_px, generator.reach_px
        self.skips, self.level_channels = generator.skips, generator.level_channels
        self.attention = copy.deepcopy(generator.attention)
        self.film = copy.deepcopy(generator.film)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for layer, norm in zip(generator.down, generator.down_norm, strict=True):
            self.down.append(_Folded(layer, norm, dtype))
        for layer, norm in zip(generator.up, generator.up_norm, strict=True):
            self.up.append(_Folded(layer, norm, dtype))
        self.last = _Quartered(generator.up[0], dtype)
        del self.up[0]

    @torch.inference_mode()
    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        level: Float[Tensor, "b f"] | None = None,
        *,
        sums: Mapping[int, KeySums] | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Return the IHC image in float32, as `StainUNet.forward` does; without gradients."""
        check_input(self, image, level, sums)
        x = self._entrance(image)
        maps: list[Tensor] = []
        for n in range(1, self.halvings + 1):
            x = self.down[n - 1](x)
            if n == self.halvings:
                break
            if n in self.skips:
                maps.append(attention_of(self.attention, n)(x, None if sums is None else sums[n]))
                F.leaky_relu_(x, SLOPE)
            else:
                maps.append(F.leaky_relu_(x, SLOPE))
        if self.film is not None and level is not None:
            x = self.film(x, level)
        x = F.relu_(x)
        # new memory costs as much as a pass over it, so all levels take turns in one piece of it
        room = maps[0].new_empty(max(2 * skip.numel() for skip in maps))
        for n in range(self.halvings, 1, -1):
            x = _laid_beside(maps.pop(), self.up[n - 2](x), room)
        x = self.last(x)
        return x if self.patch_px == 1 else F.pixel_shuffle(x, self.patch_px)

    @torch.inference_mode()
    def key_sums(
        self, image: Float[Tensor, "b 3 h w"], *, inside: tuple[slice, slice] | None = None
    ) -> dict[int, KeySums]:
        """Sum up keys and values of every skip with attention, as `StainUNet.key_sums` does."""
        check_image(self, image)
        found: dict[int, KeySums] = {}
        if not self.skips:
            return found
        x = self._entrance(image)
        for n in range(1, self.skips[-1] + 1):
            x = self.down[n - 1](x)
            if n in self.skips:
                found[n] = attention_of(self.attention, n).key_sums(cut_inside(x, image, inside))
            x = F.leaky_relu_(x, SLOPE)
        return found

    def _entrance(self, image: Tensor) -> Tensor:
        if self.patch_px > 1:
            image = F.pixel_unshuffle(image, self.patch_px)
        return image.to(self.dtype, memory_format=LAYOUT)


class _Folded(nn.Module):
    """A convolution, plain or transposed, with the BatchNorm after it folded in."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Module, norm: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        weight, bias = layer.weight.detach().double(), None
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = weight * scale.view((1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1))
            bias = (norm.bias.detach() - norm.running_mean.double() * scale).to(dtype)
        self.register_buffer("weight", weight.to(dtype, memory_format=LAYOUT))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        found: Tensor = convolve(x, self.weight, self.bias, stride=2, padding=1)
        return found


class _Quartered(nn.Module):
    """The last transposed convolution, as one of 2 x 2 to all four kinds of pixels, and tanh."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(layer, nn.ConvTranspose2d)
        assert layer.bias is not None
        self.out_channels = layer.out_channels
        # which kernel rows meet inputs j - 1 and j, for the odd row 2 j - 1 and the even row 2 j
        taps = torch.tensor([[2, 0], [3, 1]], device=layer.weight.device)
        weight = layer.weight.detach()[:, :, taps[:, None, :, None], taps[None, :, None, :]]
        quarters = weight.permute(2, 3, 1, 0, 4, 5).flatten(0, 2)  # (odd, odd), (odd, even), ...
        self.register_buffer("weight", quarters.to(dtype, memory_format=LAYOUT))
        self.register_buffer("bias", layer.bias.detach().to(dtype).repeat(4))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o 2*h 2*w"]:
        """Return the hyperbolic tangent of the map in float32, of twice the height and width."""
        b, _, h, w = x.shape
        quarters = F.conv2d(x, self.weight, self.bias, padding=1).permute(0, 2, 3, 1)
        pixels = torch.tanh(quarters.float()).reshape(b, h + 1, w + 1, 2, 2, self.out_channels)
        # rows -1 to 2 h of the result, of which the first and the last are outside
        joined = pixels.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, 2 * h + 2, 2 * w + 2)
        return joined[:, :, 1:-1, 1:-1].contiguous()


def _laid_beside(skip: Tensor, below: Tensor, room: Tensor) -> Tensor:
    """Return the ReLU of both in ``room``, channels of the skip first; one pass for all steps."""
    b, c, h, w = skip.shape
    both = room[: 2 * skip.numel()].view(b, h, w, 2 * c).permute(0, 3, 1, 2)
    torch.clamp_min(skip, 0, out=both[:, :c])
    torch.clamp_min(below, 0, out=both[:, c:])
    return both


def _has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # private in torch, so asked with care; without them, the slower precision that always works
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)
