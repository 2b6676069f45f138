"""NaN and infinity: found before they move a weight or reach a checkpoint, and told in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medglean.errors import NonFiniteLossError
from medglean.fitting.loader import Loader
from medglean.fitting.state import FitState


@dataclass(frozen=True)
class Place:
    """Where in a fit something happened, each number counted from 0."""

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
        self._kept: list[tuple[str, torch.Tensor, Place]] = []
        self._newest: dict[str, float] = {}

    def add(self, losses: Mapping[str, torch.Tensor], place: Place) -> None:
        """Keep what a training step returned."""
        for name, value in losses.items():
            self._kept.append((name, value.detach(), place))

    def look(self) -> tuple[str, Place] | None:
        """Add up what was kept; return the first that is not finite, in words."""
        if not self._kept:
            return None
        if self._kept[0][1].is_cuda:  # one wait for the device, not one for each value
            values = torch.stack([value.float().reshape(()) for _, value, _ in self._kept]).tolist()
        else:
            values = [float(value) for _, value, _ in self._kept]
        kept, self._kept = self._kept, []
        for (name, _, place), value in zip(kept, values, strict=True):
            if not math.isfinite(value):
                return f"loss {name!r} is {value}", place
            self.state.add_loss(name, value)
            self._newest[f"train.{name}"] = value
        return None

    def newest(self) -> dict[str, float]:
        """Return the newest value of each loss."""
        return self._newest


def spoiled_weights(networks: Mapping[str, nn.Module]) -> str | None:
    """Say which weights or buffers are NaN or infinite, if any."""
    for name, network in networks.items():
        spoiled = [
            key
            for key, value in network.state_dict().items()
            if value.is_floating_point() and not bool(torch.isfinite(value).all())
        ]
        if spoiled:
            return f"weights of {name!r} are not finite ({', '.join(spoiled[:3])})"
    return None


def not_finite(
    what: str, place: Place, *, loader: Loader, last_good: Path | None
) -> NonFiniteLossError:
    """Return the error that names the step, the images and where to go on from."""
    indices = loader.indices(place.epoch, place.batch).tolist()
    names = [str(index) if loader.ids is None else loader.ids[index] for index in indices]
    kind = "rows of the manifest, from 0" if loader.ids is None else "ids"
    return NonFiniteLossError(
        f"step {place.step} (epoch {place.epoch + 1}, batch {place.batch}): {what}. Images "
        f"({kind}): {', '.join(names)}. Last good checkpoint: {last_good or 'none yet'}. Look at "
        "these images, lower the learning rate or set fit.clip_norm."
    )
