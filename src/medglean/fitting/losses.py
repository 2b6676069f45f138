"""Losses on their way from the device to the log, and the first that is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from medglean.fitting.state import FitState


@dataclass(frozen=True)
class BadLoss:
    """A loss that is NaN or infinite, and where it was met."""

    text: str
    step: int
    epoch: int
    batch: int


class LossWatch:
    """Keeps losses on the device until somebody looks, because looking waits for a GPU.

    Parameters
    ----------
    state
        Gets the sums that become the log's means.
    """

    def __init__(self, state: FitState) -> None:
        self.state = state
        self._kept: list[tuple[str, torch.Tensor, int, int, int]] = []
        self._newest: dict[str, float] = {}

    def add(self, losses: Mapping[str, torch.Tensor], *, step: int, epoch: int, batch: int) -> None:
        """Keep what a training step returned."""
        for name, value in losses.items():
            self._kept.append((name, value.detach(), step, epoch, batch))

    def look(self) -> BadLoss | None:
        """Add up what was kept; return the first that is not finite."""
        if not self._kept:
            return None
        values = torch.stack([entry[1].float().reshape(()) for entry in self._kept]).tolist()
        kept, self._kept = self._kept, []
        for (name, _, step, epoch, batch), value in zip(kept, values, strict=True):
            if not math.isfinite(value):
                return BadLoss(f"loss {name!r} is {value}", step, epoch, batch)
            self.state.add_loss(name, value)
            self._newest[f"train.{name}"] = value
        return None

    def newest(self) -> dict[str, float]:
        """Return the newest value of each loss."""
        return self._newest
