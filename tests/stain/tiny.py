"""Presets, pairs and runs of a stain that are small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.nn.backbones import Architecture
from medglean.runs.rundir import RunFolder
from medglean.stain.model import Stainer, make_stainer
from medglean.stain.networks import build_network, networks_of
from medglean.stain.pairs import Chosen, Pairs, choose, open_pairs
from medglean.stain.settings import StainPreset

FIT = {
    "epochs": 99,
    "max_steps": 4,
    "batch_size": 4,
    "accelerator": "cpu",
    "log_every_steps": 1,
    "optimizer": {"learning_rate": 2e-3, "betas": [0.5, 0.999]},
}
SETTINGS = {
    "name": "tiny",
    "images": {"size_px": [64, 64], "channels": "rgb", "resize": "centre"},
    "augment": {"crop_px": 32},
    "split": {"train": 0.5, "val": 0.25, "test": 0.25, "stratify": "label"},
    "generator": {
        "width": 4,
        "halvings": 4,
        "dropout": 0.0,
        "attention": {"skips": [3], "heads": 2, "head_width": 4, "features": 8},
    },
    "discriminator": {"width": 4, "layers": 2},
    "level": {"architecture": "tiny", "size_px": 32, "fit": FIT},
    "fit": FIT,
    "slide": {"tile_px": 64},
    "predict": {"precision": "32-true"},
}


class TinyClassifier(nn.Module):
    """Laid out as torchvision's ResNets are, and so small that a test can train and keep it."""

    def __init__(self, weights: None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 4, stride=4)
        self.layer4 = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 8, 4, stride=4), nn.ReLU())
        self.fc = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.fc(self.layer4(self.conv1(images)).mean(dim=(2, 3)))


TINY = Architecture(TinyClassifier, "conv1", "fc", "layer4", 16)
"""Goes by the name ``tiny`` in tests of stains; see conftest.py."""


def laid_over(below: dict, above: dict) -> dict:
    """Return a table with another laid over it, table by table."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = laid_over(old, value) if both else value
    return merged


def tiny_preset(**changes) -> StainPreset:
    """Return the settings above with tables laid over them."""
    return StainPreset.model_validate(laid_over(SETTINGS, changes))


class Opened(NamedTuple):
    """What a training starts from."""

    preset: StainPreset
    chosen: Chosen
    pairs: Pairs

    def with_preset(self, **changes) -> Opened:
        """Return the same pairs with another preset."""
        return self._replace(preset=tiny_preset(**changes))


def opened(manifest: Path, preset: StainPreset) -> Opened:
    """Choose and decode the pairs of a manifest."""
    chosen = choose(Manifest.read(manifest), preset)
    return Opened(preset, chosen, open_pairs(chosen.manifest, preset, cache=None, workers=0))


def run_folder(path: Path, start: Opened, *, resume: bool = False, **options) -> RunFolder:
    """Make or take up the run folder of a training."""
    return RunFolder.create(
        path,
        preset_toml=start.preset.to_toml(),
        command=["test"],
        manifest_hash=start.chosen.manifest.hash,
        seed=start.preset.fit.seed,
        split_hash=split_hash(start.chosen.manifest),
        task="stain",
        resume=resume,
        **options,
    )


def tiny_stainer(start: Opened, *, rows: np.ndarray | None = None, size: float = 0.3) -> Stainer:
    """Return the preset's networks with random weights everywhere, as if they had been trained."""
    generator = torch.Generator().manual_seed(0)
    networks = {name: build_network(name, start.preset) for name in networks_of(start.preset)}
    for network in networks.values():
        for weight in network.parameters():
            if not weight.any():  # layers that start at zero would say nothing
                weight.data = size * torch.randn(weight.shape, generator=generator)
    return make_stainer(networks, start.preset, start.pairs, rows=rows)
