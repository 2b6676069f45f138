"""One validation: the networks as they would be used, whatever training needs them to be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from lightning_fabric import Fabric
from torch import nn

from medglean.errors import UsageError
from medglean.fitting.devices import seed_global
from medglean.fitting.settings import FitSettings
from medglean.fitting.state import Trained
from medglean.randomness import key_of

Validate = Callable[[Mapping[str, nn.Module]], Mapping[str, float]]
"""Validation: takes the networks in evaluation mode, returns numbers by name."""


def measure(
    validate: Validate,
    networks: Mapping[str, nn.Module],
    *,
    trained: Trained,
    fabric: Fabric,
    settings: FitSettings,
    step: int,
) -> dict[str, float]:
    """Return what ``validate`` says of the networks after ``step`` steps.

    Raises
    ------
    UsageError
        If the number that ``settings.monitor`` names is not among them.
    """
    if fabric.world_size > 1:  # running statistics differ between devices; the first one's count
        for tensor in _buffers(trained):
            tensor.copy_(fabric.broadcast(tensor))
    seed_global(key_of(settings.seed, "validate", step), fabric.device)
    with trained.averaged(), _evaluating(networks), torch.no_grad():
        found = validate(networks)
    metrics = {name: float(value) for name, value in found.items()}
    if fabric.world_size > 1:
        metrics = fabric.broadcast(metrics)
    if settings.monitor not in metrics:
        raise UsageError(
            f"fit.monitor is {settings.monitor!r}, but validation returned {sorted(metrics)}. Set "
            "it to one of these."
        )
    return metrics


def _buffers(trained: Trained) -> Iterator[torch.Tensor]:
    for network in trained.networks.values():
        yield from network.buffers()
    for ema in trained.emas.values():
        names = dict(ema.network.named_buffers())
        yield from (value for key, value in ema.average.items() if key in names)


@contextlib.contextmanager
def _evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Put networks in evaluation mode inside, and every part back in its own mode after."""
    modes = [(part, part.training) for net in networks.values() for part in net.modules()]
    for network in networks.values():
        network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
