"""What a whole training epoch of AlexNet takes, beside a plain torchvision script.

    python bench/epoch.py [--images 640] [--rounds 3]

Makes PNGs with the texture of a chest X-ray in a temporary folder and trains AlexNet at 224 px,
batch 32, Adam 1e-4, with a random flip: once as a torchvision tutorial does it (ImageFolder,
transforms, DataLoader with two workers, torch.optim.Adam as it comes), once with medglean's cache
and loop, colour input in both; medglean's also writes a checkpoint of 0.7 GB. Epochs of the two
take turns in one process; the first of each is not counted. Prints a line for people and one of
JSON with the medians. The aim is 1.4.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision import transforms

from loading import MEAN, SD, make
from medglean.data.augment_settings import Augment
from medglean.data.imageset import Fetch, ImageSet, Normalise
from medglean.data.recipe import Recipe
from medglean.fitting import FitSettings, Loader, fit, make_optimizer
from medglean.fitting.classification import make_step
from medglean.fitting.progress import Silent
from medglean.nn.backbones import build_backbone

AIM = 1.4
BATCH = 32


def plain(folder: Path) -> Callable[[], None]:
    """Return one epoch of the script that a torchvision tutorial shows."""
    steps = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([MEAN] * 3, [SD] * 3),
        ]
    )
    images = torchvision.datasets.ImageFolder(str(folder), steps)
    loader = torch.utils.data.DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=2)
    network = torchvision.models.alexnet(num_classes=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def epoch() -> None:
        network.train()
        for batch, target in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(batch), target)
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def ours(images: ImageSet, place: Path) -> Callable[[], None]:
    """Return one epoch of medglean's loop over a cache that is already made."""
    settings = FitSettings(
        epochs=1, batch_size=BATCH, accelerator="cpu", checkpoint_every_minutes=None
    )
    normalise = Normalise(rule="mean-sd", mean=(MEAN,) * 3, sd=(SD,) * 3)
    fetch = Fetch(
        images.stored, images.targets, augment=Augment(flip_horizontal=0.5), normalise=normalise
    )
    loader = Loader(fetch, images.positions(), batch_size=BATCH, seed=0)
    network = build_backbone("alexnet", classes=2, in_channels=3)
    networks: dict[str, nn.Module] = {"network": network}
    optimizer = make_optimizer(network.parameters(), settings.optimizer)
    number = iter(range(1_000_000))

    def epoch() -> None:
        fit(
            make_step(networks, kind="single", classes=2),
            networks=networks,
            optimizers={"network": optimizer},
            loader=loader,
            settings=settings,
            folder=place / f"fit-{next(number)}",
            progress=Silent(),
        )

    return epoch


def main() -> int:
    """Run the benchmark; the exit status says whether the aim was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "images")
        source.mkdir()
        manifest = make(source, arguments.images)
        recipe = Recipe(size_px=(224, 224), channels="rgb", resize="crop", centre_crop=0.875)
        images = ImageSet(manifest, recipe, cache=Path(place, "cache"), workers=0)
        candidates = {"torchvision": plain(source), "medglean": ours(images, Path(place))}
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for turn in range(arguments.rounds + 1):
            for name, epoch in candidates.items():
                began = time.perf_counter()
                epoch()
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    faster = median["torchvision"] / median["medglean"]
    print(
        f"Seconds for an epoch of {arguments.images} images, median of {arguments.rounds}: plain "
        f"torchvision {median['torchvision']:.1f}, medglean {median['medglean']:.1f}: "
        f"{faster:.2f} times as fast. Aim: {AIM}."
    )
    result = {
        "images": arguments.images,
        "rounds": arguments.rounds,
        "seconds": seconds,
        "times_faster": faster,
        "aim": AIM,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "records": [
            {
                "name": "a whole AlexNet epoch at 224 px",
                "value": faster,
                "unit": "times as fast as a plain torchvision script",
                "asked": f">= {AIM}",
                "n": arguments.images,
                "note": f"1024 px PNGs, batch {BATCH}; {median['medglean']:.1f} against "
                f"{median['torchvision']:.1f} s, median of {arguments.rounds}",
            }
        ],
    }
    print(json.dumps(result))
    return 0 if faster >= AIM else 4


if __name__ == "__main__":
    raise SystemExit(main())
