"""Fits on two processes, as torchrun would start them; run by ``test_devices.py``."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np
import tiny
import torch
from torch import nn

from medglean.fitting import FitSettings, Loader, fit, make_optimizer
from medglean.fitting.progress import Silent


def plain_network() -> nn.Module:
    """Without BatchNorm and dropout, whose draws and statistics are each device's own."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def main(
    folder: Path, *, resume: bool = False, max_steps: int | None = None, bypass: bool = False
) -> None:
    settings = FitSettings.model_validate(
        {
            "epochs": 2,
            "batch_size": 4,
            "accumulate": 2,
            "ema_decay": 0.9,
            "clip_norm": 1.0,
            "optimizer": {"name": "sgd", "learning_rate": 0.05},
            "accelerator": "cpu",
            "max_steps": max_steps,
        }
    )
    networks = {"net": plain_network()}
    kept = networks["net"]

    def step(batch, generator, update):
        network = kept if bypass else networks["net"]
        loss = nn.functional.cross_entropy(network(batch["image"]), batch["target"])
        update(loss, "net")
        return {"loss": loss}

    result = fit(
        step,
        networks=networks,
        optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
        loader=Loader(tiny.TinyFetch(), np.arange(24), batch_size=4, seed=3),
        settings=settings,
        folder=folder,
        validate=tiny.tiny_validate,
        resume=resume,
        progress=Silent(),
    )
    sys.stdout.write(f"done {result.steps}\n")


def on_processes(count: int, port: int, log: Path, **options: object) -> None:
    """Fork so many processes with what torchrun puts in the environment, and wait for them."""
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            output = os.open(log.with_suffix(f".{rank}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if count > 1:
                os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1"}
                os.environ |= {"MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(count)}
                os.environ |= {"WORLD_SIZE": str(count), "RANK": str(rank)}
                os.environ |= {"LOCAL_RANK": str(rank)}
            try:
                main(**options)
            except BaseException:  # noqa: BLE001 - the child must not go on as the parent
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, request in enumerate(json.loads(sys.argv[1])):
        request["folder"] = Path(request["folder"])
        on_processes(log=Path(sys.argv[2]) / f"log-{number}", **request)
