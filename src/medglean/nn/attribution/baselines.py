"""Images that stand for nothing: where the path of integrated gradients begins.

What equals the baseline gets no attribution, whatever it means: with black as nothing, air in a
lung can never count. So one baseline is a choice, and two that agree say more [1]_.

References
----------
.. [1] Sturmfels, Lundberg, Lee. Visualizing the Impact of Feature Attribution Baselines. Distill,
   2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medglean.nn.attribution.outputs import at_least_float32

_REACH = 3.0
"""Standard deviations at which the Gaussian is cut off."""


def zero_baseline(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return zeros: for normalised images the mean of the training part, not black.

    For black give ``normalise(zeros)`` itself as the baseline.
    """
    return torch.zeros_like(images)


def mean_baseline(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the mean of each image and channel everywhere: its brightness without its content."""
    exact = images.to(at_least_float32(images.dtype))
    return exact.mean(dim=(2, 3), keepdim=True).to(images.dtype).expand_as(images)


def blurred_baseline(
    images: Float[Tensor, "b c h w"], *, sigma_px: float | None = None
) -> Float[Tensor, "b c h w"]:
    """Return the images through a Gaussian: broad light and dark stay, what is fine goes.

    Parameters
    ----------
    images
        Any range; the outermost pixels are repeated beyond the border.
    sigma_px
        Standard deviation, above 0; by default a tenth of the shorter side.

    Raises
    ------
    ValueError
        If ``sigma_px`` is not above 0.
    """
    sigma = 0.1 * min(images.shape[2:]) if sigma_px is None else sigma_px
    if not sigma > 0.0:
        raise ValueError(f"sigma_px must be above 0, got {sigma}.")
    reach = max(1, math.ceil(_REACH * sigma))
    exact = images.to(at_least_float32(images.dtype))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=exact.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    kernel = kernel / kernel.sum()
    count, channels, height, width = images.shape
    planes = exact.reshape(count * channels, 1, height, width)
    down = F.pad(planes, (0, 0, reach, reach), mode="replicate")
    with torch.autocast(images.device.type, enabled=False):
        planes = F.conv2d(down, kernel.view(1, 1, -1, 1))
        across = F.pad(planes, (reach, reach, 0, 0), mode="replicate")
        planes = F.conv2d(across, kernel.view(1, 1, 1, -1))
    return planes.reshape(images.shape).to(images.dtype)


BASELINES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"zero": zero_baseline, "mean": mean_baseline, "blurred": blurred_baseline}
)
"""By the names that settings use."""
