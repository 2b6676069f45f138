"""The formulas of `medglean.stain.optics` and `medglean.stain.lab` on tensors, for losses.

Gradients are finite everywhere: light below `SMALLEST_LIGHT` has none, and roots are not taken
of 0.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medglean.stain.lab import D65, SRGB_TO_XYZ
from medglean.stain.optics import SMALLEST_LIGHT, Basis, stain_vectors


def optical_density(
    image: Float[Tensor, "b 3 h w"], white: Float[Tensor, "b 3"]
) -> Float[Tensor, "b 3 h w"]:
    """Return the decadic optical density of images in [0, 1]; see `optics.optical_density`."""
    light = image / white[:, :, None, None]
    return light.clamp_min(SMALLEST_LIGHT).log() * (-1 / math.log(10))


def unmix(od: Float[Tensor, "b 3 h w"], basis: Basis = "h-dab") -> Float[Tensor, "b 3 h w"]:
    """Return the amounts of a basis' stains; see `optics.unmix`."""
    return _mixed(od, np.linalg.inv(stain_vectors(basis)).T)


def lab(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return L, a and b of sRGB images in [0, 1]; see `medglean.stain.lab.lab`."""
    # the branch that is not taken is kept away from where its gradient is infinite
    curved = ((image.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    linear = torch.where(image > 0.04045, curved, image / 12.92)
    xyz = _mixed(linear, np.array(SRGB_TO_XYZ) / np.array(D65)[:, None])
    root = xyz.clamp_min(0.008856) ** (1 / 3)
    x, y, z = torch.where(xyz > 0.008856, root, 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _mixed(planes: Tensor, weights: np.ndarray) -> Tensor:
    """Multiply each pixel's three values by a matrix."""
    matrix = torch.from_numpy(weights).to(planes)
    return torch.einsum("sc,bchw->bshw", matrix, planes)
