"""A stainer with a contrast that shows every seam, and a slide to paint."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image
from tests.stain.tiny import laid_over

from medglean.nn.stain_gan import StainUNet
from medglean.stain.model import Stainer
from medglean.stain.networks import GENERATOR, LEVEL, build_network
from medglean.stain.settings import StainPreset

SETTINGS = {
    "name": "painted",
    "images": {"size_px": [128, 128], "channels": "rgb"},
    "augment": {"crop_px": None},
    "generator": {
        "width": 4,
        "halvings": 4,
        "attention": {"skips": [2, 3], "heads": 2, "head_width": 4, "features": 8},
    },
    "level": {"architecture": "tiny", "size_px": 64, "names": ["low", "high"]},
    "measure": {"judge": False},
    "predict": {"precision": "32-true"},
    "slide": {"tile_px": 128, "mpp": 0.5, "feather_px": 8, "smallest_region_um2": 5},
}


def painted_preset(**changes) -> StainPreset:
    return StainPreset.model_validate(laid_over(SETTINGS, changes))


def tissue_like(size_px, *, seed=0) -> np.ndarray:
    """Return blobs of pink and blue, everywhere."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(*size_px, 2)).astype(np.float32)
    pink, blue = (cv2.GaussianBlur(noise[..., n], (0, 0), 2 + n) * 5 for n in range(2))
    colour = np.array([205.0, 130.0, 190.0]) + pink[..., None] * 35 - blue[..., None] * [50, 40, 15]
    return np.clip(colour, 0, 235).astype(np.uint8)


def slide_pixels(size_px=(300, 450), *, seed=0) -> np.ndarray:
    """Return an oval of tissue in the upper part of a bright glass."""
    height, width = size_px
    pixels = np.full((height, width, 3), 243, np.uint8)
    y, x = np.mgrid[:height, :width]
    oval = ((y / height - 0.38) / 0.34) ** 2 + ((x / width - 0.48) / 0.44) ** 2 < 1
    pixels[oval] = tissue_like(size_px, seed=seed)[oval]
    return pixels


def write_png(path, pixels):
    Image.fromarray(pixels).save(path, compress_level=1)
    return path


def painted_stainer(preset: StainPreset, *, gain: float = 1.0, white=0.9) -> Stainer:
    """Return random networks whose layers all matter, as if they had been trained."""
    draws = torch.Generator().manual_seed(1)
    networks = {GENERATOR: build_network(GENERATOR, preset)}
    generator = networks[GENERATOR]
    assert isinstance(generator, StainUNet)
    for each in generator.attention.values():
        each.gain.data.fill_(gain)
        each.to_qkv.weight.data.mul_(2)
    if generator.film is not None:
        weight = generator.film.to_scale_and_shift.weight
        weight.data = 0.5 * torch.randn(weight.shape, generator=draws)
        networks[LEVEL] = build_network(LEVEL, preset)
    seen = torch.from_numpy(tissue_like((128, 128))).permute(2, 0, 1)[None] / 127.5 - 1
    features = (
        None if generator.level_channels is None else torch.zeros(1, generator.level_channels)
    )
    with torch.no_grad():
        for _ in range(30):  # lets BatchNorm learn the scale of every layer
            generator.train()(seen, features)
        generator.up[0].weight.mul_(80)
    for network in networks.values():
        network.eval().requires_grad_(requires_grad=False)
    return Stainer(preset, networks, np.full(3, white), np.array([0.8, 0.7, 0.6]), "0" * 64)


def with_slide(stainer, **settings):
    """Return the stainer with other settings of ``slide``."""
    preset = stainer.preset
    changed = preset.slide.model_dump() | settings
    return stainer.with_preset(
        type(preset).model_validate(preset.model_dump() | {"slide": changed})
    )
