"""Initial weights as in pix2pix."""

from __future__ import annotations

from torch import nn

SPREAD = 0.02
"""Standard deviation of initial weights (pix2pix, section 6.2)."""


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 0.02) and gains of BatchNorm from N(1, 0.02); biases are 0.

    Linear layers, which pix2pix has none of, keep torch's way.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, SPREAD)
            nn.init.zeros_(module.bias)
