"""Presets, images and runs that are small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from medglean.anomaly.model import Mapper, make_mapper
from medglean.anomaly.networks import build_network, networks_of
from medglean.anomaly.prepare import Chosen, choose, open_images
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.splits import split_hash
from medglean.runs.rundir import RunFolder

UNET = {"width": 32, "multipliers": [1], "blocks": 1, "attention_px": []}
CLASSIFIER = {**UNET, "head_width": 32}
FIT = {"max_steps": 4, "batch_size": 8, "accelerator": "cpu", "log_every_steps": 1, "epochs": 99}
SETTINGS = {
    "name": "tiny",
    "images": {"size_px": [16, 16], "channels": ["flair"]},
    "split": {"train": 0.5, "val": 0.25, "test": 0.25},
    "unet": UNET,
    "classifier": {**CLASSIFIER, "fit": FIT},
    "vae": {"width": 4, "latent": 4},
    "gan": {"width": 4, "blocks": 1, "critic_steps": 2},
    "diffusion": {"steps": 100, "label_dropout": 0.2},
    "translate": {"noise_level": 50, "steps": 5, "scale": 1.0},
    "fit": {**FIT, "ema_decay": 0.9},
    "predict": {"batch_size": 8},
}


def tiny_preset(**changes) -> AnomalyPreset:
    """Return the settings above with tables laid over them."""
    table = dict(SETTINGS)
    for name, value in changes.items():
        below = table.get(name)
        table[name] = {**below, **value} if isinstance(below, dict) else value
    return AnomalyPreset.model_validate(table)


class Opened(NamedTuple):
    """What a training starts from."""

    preset: AnomalyPreset
    chosen: Chosen
    images: ImageSet


def opened(manifest: Path, preset: AnomalyPreset) -> Opened:
    """Choose and decode the images of a manifest."""
    chosen = choose(Manifest.read(manifest), preset)
    images = open_images(chosen.manifest, preset, cache=None, workers=0)
    return Opened(preset, chosen, images)


def run_folder(path: Path, start: Opened, *, resume: bool = False, **options) -> RunFolder:
    """Make or take up the run folder of a training."""
    return RunFolder.create(
        path,
        preset_toml=start.preset.to_toml(),
        command=["test"],
        manifest_hash=start.chosen.manifest.hash,
        seed=start.preset.fit.seed,
        split_hash=split_hash(start.chosen.manifest),
        task="anomaly",
        resume=resume,
        **options,
    )


def tiny_mapper(preset: AnomalyPreset, *, size: float = 0.1) -> Mapper:
    """Return the preset's networks with random weights everywhere, as if they had been trained."""
    generator = torch.Generator().manual_seed(0)
    networks = {name: build_network(name, preset, seed=0) for name in networks_of(preset)}
    for network in networks.values():
        for weight in network.parameters():
            if not weight.any():  # layers that start at zero would say nothing
                weight.data = size * torch.randn(weight.shape, generator=generator)
    return make_mapper(networks, preset, healthy="healthy", diseased=("lesion",))
