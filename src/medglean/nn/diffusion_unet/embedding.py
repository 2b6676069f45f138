"""What tells a network the noise level: sines and cosines of the timestep, and two dense layers."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LONGEST_PERIOD = 10_000.0


def timestep_embedding(t: Int[Tensor, " b"], *, width: int) -> Float[Tensor, "b width"]:
    r"""Return :math:`\cos(t f_i)` and then :math:`\sin(t f_i)`, :math:`f_i = 10000^{-2i/width}`.

    Parameters
    ----------
    t
        Timesteps, 0 the least noisy.
    width
        Numbers per timestep, even.

    Returns
    -------
    Tensor
        In float32 also under autocast: bfloat16 cannot hold the integers beyond 256.

    References
    ----------
    .. [1] Vaswani et al. Attention Is All You Need. NeurIPS 2017.

    Examples
    --------
    >>> timestep_embedding(torch.tensor([0]), width=4).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Sequential):
    """From timesteps to what the blocks see: `timestep_embedding` and two dense layers.

    Parameters
    ----------
    width
        Numbers of the sines and cosines; 4 times as many come out.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.width = width

    def forward(self, t: Int[Tensor, " b"]) -> Float[Tensor, "b 4*width"]:
        """Return the embedding of timesteps, 0 the least noisy."""
        waves = timestep_embedding(t, width=self.width)
        out: Tensor = waves.to(next(self.parameters()).dtype)
        for layer in self:
            out = layer(out)
        return out
