"""What a training step of a classifier takes, and 50 epochs of its last layer alone.

    python bench/classify.py [--networks alexnet vgg11 resnet50] [--steps 10] [--images 640]
        [--size 224] [--batch 32] [--epochs 50] [--by wall] [--contiguous]

Step: float32 on the CPU, as a torchvision script does it (NCHW, torch.optim.Adam as it comes) and
in medglean's loop (channel innermost, fused Adam). Steps of the two take turns in one process; the
first two of each are not counted. ``--contiguous`` also measures medglean with
``fit.channels_last=false``, which says what that default is worth to a network.

Last layer: ``model.train=head`` with all it does, from reading features to the 50th validation,
on ``--images`` images that are already decoded, a tenth of them for validation. Beside it 50 epochs
end to end, extrapolated from the steps above and without their validation, so that the comparison
favours them. Weights are random: they do not change the time.

Prints medians of wall and CPU seconds for people and one line of JSON. Ratios are those of
``--by``: the clock on the wall, or CPU time where others compute on the same machine. The aims are
1.34, 1.45 and 1.24 for the step, and 40 for the last layer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import nn

from medglean.classify.frozen import fit_head
from medglean.classify.prepare import choose, normalisation, open_images
from medglean.classify.settings import ClassifyPreset
from medglean.data.manifest import Manifest
from medglean.fitting import FitSettings, Loader, fit, make_optimizer
from medglean.fitting.classification import make_step
from medglean.fitting.progress import Silent
from medglean.nn.backbones import build_backbone

STEP_AIMS = {"alexnet": 1.34, "vgg11": 1.45, "resnet50": 1.24}
FROZEN_AIM = 40.0
CLASSES = 2
NOT_COUNTED = 2


@dataclass
class Seconds:
    """Wall and CPU seconds of each step."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    _began: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """Start both clocks."""
        self._began = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Note what both clocks say."""
        self.wall.append(time.perf_counter() - self._began[0])
        self.cpu.append(time.process_time() - self._began[1])

    def medians(self, *, skipped: int = NOT_COUNTED) -> dict[str, float]:
        """Return the median of each clock."""
        return {
            "wall": statistics.median(self.wall[skipped:]),
            "cpu": statistics.median(self.cpu[skipped:]),
        }


class _Enough(Exception):  # noqa: N818 - not a fault
    """Ends a fit before it writes a checkpoint of a gigabyte."""


class _Stopwatch(Silent):
    """Stops the clock when the loop says that a step is done."""

    def __init__(self, seconds: Seconds, steps: int) -> None:
        self.seconds, self.steps = seconds, steps

    def update(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Note the step; stop after the last."""
        self.seconds.end()
        if len(self.seconds.wall) >= self.steps:
            raise _Enough


def plain_step(name: str, batch: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """Return a step as a torchvision tutorial shows it."""
    network = getattr(torchvision.models, name)(num_classes=CLASSES)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    network.train()

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(batch["image"]), batch["target"])
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def steps_in_turn(
    name: str, *, size: int, batch_size: int, steps: int, channels_last: bool | str
) -> dict[str, dict[str, float]]:
    """Return the median seconds of a plain step and of one in medglean's loop."""
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randn(batch_size, 3, size, size, generator=generator),
        "target": torch.randint(CLASSES, (batch_size,), generator=generator),
        "index": torch.arange(batch_size),
    }
    theirs, ours = Seconds(), Seconds()
    plain = plain_step(name, batch)

    def fetch(indices: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
        theirs.begin()
        plain()
        theirs.end()
        ours.begin()  # from here on it is the loop's own time
        return dict(batch)

    settings = FitSettings(
        epochs=10**6,
        batch_size=batch_size,
        accelerator="cpu",
        checkpoint_every_minutes=None,
        checkpoint_every_steps=10**9,
        channels_last=channels_last,  # type: ignore[arg-type]
    )
    network = build_backbone(name, classes=CLASSES, in_channels=3)
    networks: dict[str, nn.Module] = {"network": network}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        fit(
            make_step(networks, kind="single", classes=CLASSES),
            networks=networks,
            optimizers={"network": make_optimizer(network.parameters(), settings.optimizer)},
            loader=Loader(fetch, np.arange(batch_size), batch_size=batch_size, seed=0),
            settings=settings,
            folder=Path(folder),
            progress=_Stopwatch(ours, steps + NOT_COUNTED),
        )
    return {"torchvision": theirs.medians(), "medglean": ours.medians()}


def frozen_seconds(
    name: str, *, size: int, batch_size: int, count: int, epochs: int
) -> tuple[dict[str, float], int]:
    """Return the seconds of a whole fit of the last layer, and how many images it learns from."""
    preset = ClassifyPreset.model_validate(
        {
            "name": "bench",
            "task": "classify",
            "images": {"size_px": [size, size], "channels": "rgb"},
            "split": {"train": 0.9, "val": 0.1, "test": 0.0},
            "model": {"architecture": name, "train": "head"},
            "fit": {"epochs": epochs, "batch_size": batch_size, "accelerator": "cpu"},
        }
    )
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = []
        for number in range(count):
            noise = generator.integers(256, size=(size, size), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png", compress_level=0)
            label = ("ill", "well")[number % 2]
            rows.append({"id": str(number), "image": f"{number}.png", "label": label})
        chosen = choose(Manifest.from_frame(pd.DataFrame(rows), folder), preset)
        images = open_images(
            chosen.manifest,
            preset,
            column=chosen.column,
            classes=chosen.classes,
            cache=folder / "cache",
            workers=0,
        )
        normalise = normalisation(images, preset)
        network = build_backbone(name, classes=CLASSES, in_channels=3)
        seconds = Seconds()
        seconds.begin()
        fit_head(
            folder / "run",
            network,
            images,
            chosen,
            preset,
            normalise,
            identity={"bench": name},
            progress=Silent(),
        )
        seconds.end()
        return seconds.medians(skipped=0), len(images.positions("train"))


def step_record(
    name: str, step: dict[str, dict[str, float]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the record of the step, and say it."""
    faster = {by: step["torchvision"][by] / step["medglean"][by] for by in ("wall", "cpu")}
    asked = f">= {STEP_AIMS[name]}" if name in STEP_AIMS else ""
    told = ", ".join(
        f"{by} {step['torchvision'][by]:.3f} against {step['medglean'][by]:.3f} s"
        for by in ("wall", "cpu")
    )
    print(f"{name}, a step: {told}: {faster[arguments.by]:.2f} times as fast. Aim: {asked or '-'}.")
    return {
        "name": f"a training step of {name} at {arguments.size} px",
        "value": faster[arguments.by],
        "unit": "times as fast as a plain torchvision script",
        "asked": asked,
        "n": arguments.steps,
        "note": f"batch {arguments.batch}, float32, CPU; {told}; ratio of {arguments.by} time, "
        f"median of {arguments.steps} steps in turn",
    }


def frozen_records(
    name: str, step: dict[str, dict[str, float]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the records of the last layer alone, and say them."""
    seconds, learnt = frozen_seconds(
        name,
        size=arguments.size,
        batch_size=arguments.batch,
        count=arguments.images,
        epochs=arguments.epochs,
    )
    by, found = arguments.by, []
    steps = arguments.epochs * math.ceil(learnt / arguments.batch)
    for other in ("torchvision", "medglean"):
        whole = steps * step[other][by]
        told = (
            f"{arguments.epochs} epochs of {learnt} images: {whole:.0f} s end to end "
            f"(extrapolated from the median step), {seconds[by]:.1f} s for the last layer, "
            f"{by} time"
        )
        times = whole / seconds[by]
        print(f"{name}, last layer alone beside {other}: {told}: {times:.0f} times as fast.")
        script = "a plain torchvision script" if other == "torchvision" else "medglean"
        found.append(
            {
                "name": f"the last layer of {name} alone, {arguments.epochs} epochs",
                "value": times,
                "unit": f"times as fast as {script} end to end",
                "asked": f">= {FROZEN_AIM:g}",
                "n": arguments.images,
                "note": told,
            }
        )
    return found


def main() -> int:
    """Run the benchmark; the exit status says whether all aims were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(STEP_AIMS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--by", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--contiguous", action="store_true")
    arguments = parser.parse_args()
    records: list[dict[str, Any]] = []
    seconds: dict[str, Any] = {}
    for name in arguments.networks:
        asked = {"size": arguments.size, "batch_size": arguments.batch, "steps": arguments.steps}
        step = steps_in_turn(name, **asked, channels_last="auto")
        seconds[name] = {"step": step}
        records.append(step_record(name, step, arguments))
        if arguments.contiguous:
            other = steps_in_turn(name, **asked, channels_last=False)
            seconds[name]["step, contiguous"] = other
            worth = (other["medglean"][arguments.by] / other["torchvision"][arguments.by]) / (
                step["medglean"][arguments.by] / step["torchvision"][arguments.by]
            )
            print(f"{name}: channel innermost makes medglean's step {worth:.2f} times as fast.")
        records += frozen_records(name, step, arguments)
    result = {
        "seconds": seconds,
        "by": arguments.by,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "records": records,
    }
    print(json.dumps(result))
    missed = [r for r in records if r["asked"] and r["value"] < float(r["asked"].split()[-1])]
    return 4 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
