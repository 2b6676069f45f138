"""What a step of the loop costs over a bare PyTorch loop that computes the same.

    python bench/step_overhead.py [--rounds 10]

CPU seconds of one thread, the two taking turns; of each the least mean over 20 steps in a row:
other work on the machine adds to a measurement and never takes away from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medglean.fitting import FitSettings, Loader, fit, make_optimizer
from medglean.fitting.progress import Silent

STEPS = 200
WINDOW = 20
IMAGES = torch.rand(16, 1, 8, 8)
TARGETS = torch.arange(16) % 2


def network() -> nn.Module:
    """Return a small CNN, whose step takes about a millisecond, so that 0.1 ms shows."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def fetch(indices: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
    """Return the same batch every time: loading is not what is measured."""
    return {"image": IMAGES, "target": TARGETS, "index": torch.from_numpy(indices)}


def bare() -> float:
    """Return CPU milliseconds a step of a bare loop, which looks at its loss as ours does."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    moments: list[float] = []
    for _ in range(STEPS):
        moments.append(time.process_time())
        loss = nn.functional.cross_entropy(net(IMAGES), TARGETS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return least_ms(moments)


def least_ms(moments: list[float]) -> float:
    """Return the least mean of :data:`WINDOW` steps in a row, in milliseconds."""
    spans = [last - first for first, last in zip(moments, moments[WINDOW:], strict=False)]
    return min(spans) / WINDOW * 1e3


def ours(**changes: object) -> float:
    """Return CPU milliseconds a step of the loop, from the first step to the last."""
    settings = FitSettings.model_validate(
        {"epochs": 1, "batch_size": 16, "accelerator": "cpu", **changes}
    )
    networks = {"net": network()}
    moments: list[float] = []

    def step(batch, generator, update):  # noqa: ANN001, ANN202
        moments.append(time.process_time())
        loss = nn.functional.cross_entropy(networks["net"](batch["image"]), batch["target"])
        update(loss, "net")
        return {"loss": loss}

    with tempfile.TemporaryDirectory() as folder:
        fit(
            step,
            networks=networks,
            optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
            loader=Loader(fetch, np.arange(16 * STEPS), batch_size=16, seed=0),
            settings=settings,
            folder=Path(folder),
            progress=Silent(),
        )
    return least_ms(moments)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {
        "bare": bare,
        "fit": ours,
        "fit with ema and clipping": lambda: ours(ema_decay=0.99, clip_norm=1.0),
    }
    least = dict.fromkeys(kinds, float("inf"))
    for _ in range(arguments.rounds):
        for name, kind in kinds.items():
            least[name] = min(least[name], kind())
    over = least["fit"] - least["bare"]
    for name, value in least.items():
        print(f"{name}: {value:.3f} ms a step")
    print(f"the loop costs {over:.3f} ms a step ({over / least['bare']:.1%})")
    record = {
        "name": "the loop beside bare PyTorch, a small CNN",
        "value": over,
        "unit": "ms a step more",
        "asked": "< 0.3",
        "n": arguments.rounds,
        "note": f"of {least['bare']:.2f} ms; least of {arguments.rounds} rounds, one thread",
    }
    print(json.dumps({"ms_per_step": least, "overhead_ms": over, "records": [record]}))


if __name__ == "__main__":
    main()
