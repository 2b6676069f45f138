"""An exponential moving average of a network's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn


def decay_at(update: int, *, decay: float) -> float:
    """Return the decay of update number ``update``, from 0: min(decay, (1 + n) / (10 + n)).

    Without this warm-up the average would remember the random start for about ``1 / (1 - decay)``
    steps.

    Examples
    --------
    >>> decay_at(0, decay=0.999), round(decay_at(90, decay=0.999), 2)
    (0.1, 0.91)
    """
    return min(decay, (1 + update) / (10 + update))


class Ema:
    """The average of one network: weights and floating-point buffers, such as BatchNorm's.

    Buffers are averaged as the weights are, so that their statistics fit the averaged weights;
    whole numbers, such as BatchNorm's count of batches, are copied.

    Parameters
    ----------
    network
        What to follow; the average starts as a copy of it.
    decay
        Share of the old average that is kept at each update, in (0, 1), after the warm-up.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.network, self.decay = network, decay
        self.updates = 0
        self._places = _places(network)
        self.average = {
            key: owner[name].detach().clone() for key, (owner, name) in self._places.items()
        }
        self._averaged = [key for key, value in self.average.items() if value.is_floating_point()]
        self._copied = [key for key in self.average if key not in set(self._averaged)]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network: a <- d a + (1 - d) w."""
        weight = 1.0 - decay_at(self.updates, decay=self.decay)
        torch._foreach_lerp_(
            [self.average[key] for key in self._averaged],
            [self._live(key) for key in self._averaged],
            weight,
        )
        for key in self._copied:
            self.average[key].copy_(self._live(key))
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network hold the average inside the block, and its own weights again after it.

        Memory is exchanged, not copied, so the weights come back bit for bit.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for key in self._places:
            live = self._live(key)
            live.data, self.average[key] = self.average[key], live.data

    def _live(self, key: str) -> torch.Tensor:
        owner, name = self._places[key]
        return cast("torch.Tensor", owner[name])

    def load(self, tensors: Mapping[str, torch.Tensor], *, updates: int) -> None:
        """Go on from a saved average with the same keys."""
        for key, value in self.average.items():
            value.copy_(tensors[key])
        self.updates = updates


def _places(network: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Find where each tensor of the state lives, tied weights once.

    Asked once, because ``state_dict`` of a deep network takes milliseconds. The owner is kept
    rather than the tensor, as a module may put a new tensor in the place of a buffer.
    """
    saved = network.state_dict().keys()
    places: dict[str, tuple[dict[str, Any], str]] = {}
    seen: set[int] = set()
    for path, module in network.named_modules():
        for owner in (module._parameters, module._buffers):
            for name, tensor in owner.items():
                key = f"{path}.{name}" if path else name
                if tensor is not None and key in saved and id(tensor) not in seen:
                    seen.add(id(tensor))
                    places[key] = (cast("dict[str, Any]", owner), name)
    return places
