"""Devices through Lightning Fabric: which, how many, in what precision."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.wrappers import _FabricModule
from torch import nn

from medglean.errors import UsageError
from medglean.fitting.settings import FitSettings, OptimizerSettings


def make_fabric(settings: FitSettings) -> Fabric:
    """Return Fabric, launched, for the settings' accelerator, devices, machines and precision.

    Under torchrun the number of devices and machines is what torchrun says.

    Raises
    ------
    UsageError
        If there is no such device here.
    """
    settings = resolved(settings)
    devices, nodes = settings.devices, settings.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        devices, nodes = local, world // local
    if devices == "auto" and settings.accelerator == "cpu":
        devices = 1
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=settings.precision,  # type: ignore[arg-type]  # "auto" is resolved above
            strategy=_strategy(devices, nodes),
        )
    except (RuntimeError, ValueError, ImportError) as error:  # Lightning's ways to say "not here"
        raise UsageError(
            f"accelerator {settings.accelerator!r} with {devices} device(s): {error} "
            "`medglean doctor` lists what works here."
        ) from error
    fabric.launch()
    return fabric


def device_of(settings: FitSettings, accelerator: str) -> torch.device:
    """Return the one device on which a trained network is applied.

    Raises
    ------
    UsageError
        If ``accelerator`` is none that there is, or not here.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        raise UsageError(f"device {accelerator!r}: expected auto, cpu, gpu, cuda or mps.")
    one = settings.model_copy(update={"accelerator": accelerator, "devices": 1})
    return make_fabric(one).device


def resolved(settings: FitSettings) -> FitSettings:
    """Replace the precision ``auto`` by what this machine computes fastest.

    Examples
    --------
    >>> resolved(FitSettings(precision="auto", accelerator="cpu")).precision != "auto"
    True
    """
    if settings.precision != "auto":
        return settings
    on_gpu = settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else _cpu_has_bf16()
    return settings.model_copy(update={"precision": "bf16-mixed" if has_bf16 else "32-true"})


def _cpu_has_bf16() -> bool:
    """Say whether the processor multiplies bfloat16; torch has no public name for it."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)


def _strategy(devices: int | str, nodes: int) -> DDPStrategy | str:
    if devices == 1 and nodes == 1:
        return "auto"
    if devices == "auto" and nodes == 1 and torch.cuda.device_count() < 2:
        return "auto"
    # broadcasting buffers inside forward changes them in place between the two passes of a GAN;
    # the loop broadcasts them before validation, the only place that reads them
    return DDPStrategy(broadcast_buffers=False)


def make_optimizer(
    parameters: Iterator[nn.Parameter] | list[nn.Parameter],
    settings: OptimizerSettings,
    *,
    precision: str = "32-true",
) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name, over the parameters that require gradients.

    Parameters
    ----------
    parameters
        Those of one network or of several.
    settings
        Its name and numbers.
    precision
        That of the fit; ``fused = "auto"`` depends on it.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise UsageError("nothing to train: no parameter requires a gradient.")
    fused = precision != "16-mixed" if settings.fused == "auto" else settings.fused
    shared: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": fused,
    }
    if settings.name == "sgd":
        return torch.optim.SGD(trained, momentum=settings.momentum, **shared)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(trained, betas=settings.betas, eps=settings.eps, **shared)


def on_device_of(network: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Move a batch to where a network's weights are; for validation and prediction."""
    device = next(network.parameters()).device
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def wants_channels_last(settings: FitSettings, device: torch.device) -> bool:
    """Say whether images and weights are kept with the channel innermost."""
    if settings.channels_last == "auto":
        return device.type == "cpu" or (device.type == "cuda" and settings.precision != "32-true")
    return settings.channels_last


def seed_global(key: int, device: torch.device) -> None:
    """Seed the global generators that dropout draws from, on the CPU and on one device.

    Not ``torch.manual_seed``: where CUDA is not in use that keeps a stack trace of every call for
    later, which costs more than a small step and never ends.
    """
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)
    elif device.type == "mps":
        torch.mps.manual_seed(key)


@contextlib.contextmanager
def repeatable(*, deterministic: bool) -> Iterator[None]:
    """Leave torch's global generators and switches as they were found.

    Parameters
    ----------
    deterministic
        Whether only algorithms that repeat bit for bit are allowed inside.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            if deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
                torch.use_deterministic_algorithms(True)
                torch.backends.cudnn.benchmark = False
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark


def any_device(fabric: Fabric, *flags: bool) -> tuple[bool, ...]:
    """Return for each flag whether any device has raised it; every device must ask."""
    if fabric.world_size == 1:
        return flags
    raised = torch.tensor([float(flag) for flag in flags], device=fabric.device)
    total = cast("torch.Tensor", fabric.all_reduce(raised, reduce_op="sum"))
    return tuple(bool(value > 0) for value in total.tolist())


def mean_over_devices(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Return each value's mean over the devices; every device must ask."""
    if fabric.world_size == 1 or not values:
        return values
    mine = torch.tensor(list(values.values()), dtype=torch.float32, device=fabric.device)
    mean = cast("torch.Tensor", fabric.all_reduce(mine, reduce_op="mean"))
    return dict(zip(values, mean.tolist(), strict=True))


@contextlib.contextmanager
def without_exchange(
    fabric: Fabric, networks: Mapping[str, nn.Module], *, enabled: bool
) -> Iterator[None]:
    """Let devices keep their gradients to themselves: until the last batch of a step."""
    with contextlib.ExitStack() as stack:
        if enabled and fabric.world_size > 1:
            for network in networks.values():
                stack.enter_context(fabric.no_backward_sync(cast("_FabricModule", network)))
        yield
