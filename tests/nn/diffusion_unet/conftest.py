"""Golden values of the networks, and networks of their size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medglean.nn.diffusion_unet import DiffusionUNet, NoiseClassifier, load_release

REPOSITORY = Path(__file__).resolve().parents[3]

SMALL_UNET = {
    "side_px": 32,
    "in_channels": 4,
    "out_channels": 8,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_px": (16,),
}
SMALL_CLASSIFIER = {
    "side_px": 32,
    "in_channels": 4,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_px": (16,),
    "head_width": 64,
}


def stirred(network, *, seed=0):
    """Fill a network with random weights of a size that keeps outputs near 1, none of them 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = max(1, weight[0].numel())
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
    return network.eval()


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator).to(dtype)


@pytest.fixture(scope="session")
def golden():
    """Return the folder of golden values; skips where it is absent."""
    data = Path(os.environ.get("MEDGLEAN_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = data.parent / "golden"
    if not folder.is_dir():
        pytest.skip("golden values of the release are not here; set MEDGLEAN_DATA beside them")
    return folder


@pytest.fixture(scope="session")
def arrays(golden):
    """Return inputs and outputs of the release's networks."""
    with np.load(golden / "guided_diffusion_small.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def shapes(golden):
    """Return parameters and shapes of the four full-size networks."""
    return json.loads((golden / "guided_diffusion_full_shapes.json").read_text())


@pytest.fixture
def unet(golden):
    network = DiffusionUNet(**SMALL_UNET).eval()
    load_release(network, golden / "guided_unet_small.safetensors")
    return network


@pytest.fixture
def classifier(golden):
    network = NoiseClassifier(**SMALL_CLASSIFIER).eval()
    load_release(network, golden / "guided_classifier_small.safetensors")
    return network
