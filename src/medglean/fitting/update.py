"""What happens to a loss: backward, accumulation, clipping, optimiser step, average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from medglean.errors import NonFiniteLossError, UsageError
from medglean.fitting.ema import Ema
from medglean.fitting.settings import FitSettings


class Update:
    """Called by a training step as ``update(loss, "optimiser name")``.

    With accumulation, each batch's gradients are weighted by its share of the images and the
    optimiser moves at the last one. Gradients that a loss sends into the weights of *other*
    optimisers are dropped, so a GAN's generator loss does not move its discriminator.

    Parameters
    ----------
    fabric
        Does the backward pass and the optimiser's step.
    networks
        By name, not wrapped.
    optimizers
        By name, not wrapped.
    emas
        Averages by name of network; may be empty.
    settings
        Clipping, and whether gradients are checked.
    """

    def __init__(
        self,
        fabric: Fabric,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        emas: Mapping[str, Ema],
        settings: FitSettings,
    ) -> None:
        self._fabric, self._settings = fabric, settings
        wrapped: Any = fabric.setup_optimizers(*optimizers.values())
        self._wrapped = dict(
            zip(optimizers, wrapped if len(optimizers) > 1 else [wrapped], strict=True)
        )
        self._weights = {name: list(_weights_of(each)) for name, each in optimizers.items()}
        self._moves = {
            name: _networks_of(name, weights, networks) for name, weights in self._weights.items()
        }
        self._others = {
            name: [
                weight
                for other, weights in self._weights.items()
                if other != name
                for weight in weights
                if not any(weight is own for own in self._weights[name])
            ]
            for name in self._weights
        }
        self._networks, self._emas = dict(networks), dict(emas)
        self._base_rates = {
            name: [float(group["lr"]) for group in each.param_groups]
            for name, each in optimizers.items()
        }
        self._optimizers = dict(optimizers)
        self._checks_now = fabric.device.type == "cpu"  # elsewhere asking means waiting
        self._called: set[str] = set()
        self._pending: set[str] = set()
        self._share, self._is_last = 1.0, True

    def begin_step(self, *, rate_factor: float) -> None:
        """Set every learning rate for the coming step."""
        for name, optimizer in self._optimizers.items():
            for group, base in zip(optimizer.param_groups, self._base_rates[name], strict=True):
                group["lr"] = base * rate_factor

    def begin_batch(self, *, share: float, is_last: bool) -> None:
        """Say what share of the step's images the coming batch has, and whether it is the last."""
        self._share, self._is_last = share, is_last
        self._called.clear()

    def end_batch(self) -> None:
        """Move optimisers that got gradients from earlier batches of the step but not this one."""
        if self._is_last:
            for name in sorted(self._pending):
                self._move(name)

    def learning_rates(self) -> dict[str, float]:
        """Return the current rate of each optimiser's first group."""
        return {name: float(each.param_groups[0]["lr"]) for name, each in self._optimizers.items()}

    def __call__(self, loss: torch.Tensor, name: str) -> None:
        """Send a loss back through the networks and, at the end of a step, move the weights.

        Parameters
        ----------
        loss
            A scalar: the mean over the images of the batch.
        name
            Which optimiser.

        Raises
        ------
        NonFiniteLossError
            If the loss is NaN or infinite; no weight has moved then.
        UsageError
            If there is no such optimiser, or it is called twice for a batch while accumulating.
        """
        if name not in self._wrapped:
            raise UsageError(f"no optimiser {name!r}; there are {sorted(self._wrapped)}.")
        if name in self._called and not (self._is_last and self._share == 1.0):
            raise UsageError(
                f"update(loss, {name!r}) was called twice for one batch, which is possible only "
                "without accumulation. Add the losses up, or set accumulate = 1."
            )
        self._called.add(name)
        if self._checks_now and not math.isfinite(value := loss.item()):
            raise NonFiniteLossError(f"the loss of optimiser {name!r} is {value}")
        with _set_aside(self._others[name]):
            self._fabric.backward(loss if self._share == 1.0 else loss * self._share)
        self._pending.add(name)
        if self._is_last:
            self._move(name)

    def _move(self, name: str) -> None:
        self._pending.discard(name)
        self._clip(name)
        optimizer = self._wrapped[name]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for network in self._moves[name]:
            if network in self._emas:
                self._emas[network].update()

    def _clip(self, name: str) -> None:
        limit = self._settings.clip_norm
        if limit is None and not self._settings.check_gradients:
            return
        if limit is None:
            gradients = [weight.grad for weight in self._weights[name] if weight.grad is not None]
            norm: torch.Tensor | None = torch.nn.utils.get_total_norm(gradients)
        else:
            some_network = self._networks[self._moves[name][0]]
            norm = self._fabric.clip_gradients(
                some_network, self._wrapped[name], max_norm=limit, error_if_nonfinite=False
            )
        if not self._settings.check_gradients or norm is None:
            return
        if not math.isfinite(value := norm.item()):
            raise NonFiniteLossError(f"the gradient norm of optimiser {name!r} is {value}")


def _weights_of(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _networks_of(
    name: str, weights: Iterable[nn.Parameter], networks: Mapping[str, nn.Module]
) -> list[str]:
    mine = {id(weight) for weight in weights}
    moved = [
        network
        for network, module in networks.items()
        if any(id(weight) in mine for weight in module.parameters())
    ]
    known = {id(weight) for module in networks.values() for weight in module.parameters()}
    if not mine <= known:
        raise UsageError(
            f"optimiser {name!r} moves weights that are in none of the networks "
            f"{sorted(networks)}, so no checkpoint would keep them. Pass their network too."
        )
    return moved


@contextlib.contextmanager
def _set_aside(weights: list[nn.Parameter]) -> Iterator[None]:
    """Keep the gradients of these weights as they are, whatever happens inside."""
    before = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    try:
        yield
    finally:
        for weight, gradient in zip(weights, before, strict=True):
            weight.grad = gradient
