"""What the generator and its fast twin share: which input they take, and parts of maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from medglean.errors import UsageError
from medglean.nn.kernel_attention import KeySums
from medglean.nn.stain_gan.extent import tokens_inside
from medglean.nn.stain_gan.skip_attention import SkipAttention


class UNet(Protocol):
    """What decides whether an input fits."""

    stride_px: int
    skips: tuple[int, ...]
    level_channels: int | None


def attention_of(attention: nn.ModuleDict, skip: int) -> SkipAttention:
    """Return the attention on a skip connection that has one."""
    found = attention[str(skip)]
    assert isinstance(found, SkipAttention)
    return found


def cut_inside(
    x: Float[Tensor, "b c h w"],
    image: Float[Tensor, "b 3 H W"],
    inside: tuple[slice, slice] | None,
) -> Float[Tensor, "b c i j"]:
    """Return the part of a feature map whose tokens have their middle inside, in pixels."""
    if inside is None:
        return x
    stride_px = image.shape[2] // x.shape[2]
    rows, columns = (
        tokens_inside(part, side=side, stride_px=stride_px)
        for part, side in zip(inside, image.shape[2:], strict=True)
    )
    return x[:, :, rows, columns]


def check_image(network: UNet, image: Tensor) -> None:
    """Refuse an image that the network cannot take."""
    _, channels, *sides = image.shape
    if channels != 3 or any(side < 1 or side % network.stride_px for side in sides):
        raise UsageError(
            f"the generator got an image of (channels, height, width) = {tuple(image.shape[1:])}, "
            f"expected RGB with sides that are multiples of {network.stride_px}. Pad the image, or "
            "set fewer generator.halvings."
        )


def check_input(
    network: UNet, image: Tensor, level: Tensor | None, sums: Mapping[int, KeySums] | None
) -> None:
    """Refuse an image, level features or sums that do not fit the network."""
    check_image(network, image)
    wanted = network.level_channels
    found = None if level is None else level.shape[-1]
    if found != wanted:
        raise UsageError(
            f"the generator got {found or 'no'} level features, expected {wanted or 'none'}. Use "
            "the level classifier that it was trained with, or set generator.level_features."
        )
    missing = [] if sums is None else [n for n in network.skips if n not in sums]
    if missing:
        raise UsageError(
            f"no sums were given for the skip connection {missing[0]}: pass what key_sums returns."
        )
