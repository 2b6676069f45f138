"""A fit small enough to be run a hundred times: a CNN with BatchNorm and dropout on noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medglean.fitting import FitResult, FitSettings, Loader, fit, make_optimizer
from medglean.fitting.progress import Silent

IMAGES = 22
"""Not a multiple of the batch size, nor its batches of the accumulation: every remainder is met."""


class TinyFetch:
    """Images that are a function of their index and the epoch."""

    def __call__(self, indices: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
        angle = (indices[:, None] * 64 + np.arange(64)) * 0.37 + epoch * 0.11
        images = (np.sin(angle) * 0.5 + 0.5).astype(np.float32).reshape(-1, 1, 8, 8)
        return {
            "image": torch.from_numpy(images),
            "target": torch.from_numpy(indices % 2),
            "index": torch.from_numpy(indices),
        }


def tiny_network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(256, 2),
    )


def tiny_settings(**changes: object) -> FitSettings:
    base: dict[str, object] = {
        "seed": 3,
        "epochs": 3,
        "batch_size": 4,
        "accumulate": 2,
        "ema_decay": 0.9,
        "optimizer": {"name": "adamw", "learning_rate": 1e-2, "weight_decay": 1e-2},
        "schedule": {"name": "cosine", "warmup_steps": 2},
        "checkpoint_every_steps": 2,
        "accelerator": "cpu",
        "log_every_steps": 2,
        "clip_norm": 1.0,
    }
    return FitSettings.model_validate(base | changes)


def tiny_step(networks: Mapping[str, nn.Module]):
    def step(batch, generator, update):
        noise = torch.randn(batch["image"].shape, generator=generator, device=generator.device)
        logits = networks["net"](batch["image"] + 0.1 * noise)
        loss = nn.functional.cross_entropy(logits, batch["target"])
        update(loss, "net")
        return {"loss": loss}

    return step


def tiny_validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
    batch = TinyFetch()(np.arange(100, 108), 0)
    logits = networks["net"](batch["image"])
    return {"loss": float(nn.functional.cross_entropy(logits, batch["target"]))}


def tiny_loader(settings: FitSettings, **changes: object) -> Loader:
    options: dict[str, object] = {
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "workers": settings.workers,
    }
    return Loader(TinyFetch(), np.arange(IMAGES), **(options | changes))


def tiny_fit(
    folder: Path, *, resume: bool = False, step=None, validate=tiny_validate, **changes: object
) -> FitResult:
    settings = tiny_settings(**changes)
    networks = {"net": tiny_network()}
    return fit(
        tiny_step(networks) if step is None else step(networks),
        networks=networks,
        optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
        loader=tiny_loader(settings),
        settings=settings,
        folder=folder,
        validate=validate,
        resume=resume,
        progress=Silent(),
    )
