"""The generator as it is applied: fewer and faster operations, the same image."""

from __future__ import annotations

import copy
from typing import Literal

from torch import nn

from medglean.nn.stain_gan.generator import StainUNet


def for_inference(
    generator: StainUNet, *, precision: Literal["32-true", "bf16-mixed", "auto"] = "auto"
) -> nn.Module:
    """Return a copy of the generator for applying it."""
    return copy.deepcopy(generator).eval().requires_grad_(requires_grad=False)
