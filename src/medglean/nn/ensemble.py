"""Several networks as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MeanOfLogits(nn.Module):
    """The mean of the logits of networks that were trained alike from different seeds [1]_.

    Parameters
    ----------
    members
        At least one; each maps (b, c, h, w) to logits (b, k).

    Raises
    ------
    ValueError
        If there is none.

    References
    ----------
    .. [1] Lakshminarayanan, Pritzel, Blundell. Simple and Scalable Predictive Uncertainty
       Estimation using Deep Ensembles. NeurIPS 2017. There probabilities are averaged; the mean of
       logits is their normalised geometric mean, and leaves one score to calibrate.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("members: expected at least one network, found none.")
        self.members = nn.ModuleList(members)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the mean logits."""
        return torch.stack([member(images) for member in self.members]).mean(dim=0)


def members_of(network: nn.Module) -> list[nn.Module]:
    """Return the networks of an ensemble, or the one network itself."""
    return list(network.members) if isinstance(network, MeanOfLogits) else [network]
