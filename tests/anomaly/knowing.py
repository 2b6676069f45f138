"""A network whose answer is known: it knows the healthy image, and where the disease would be."""

from __future__ import annotations

import numpy as np
import torch
from tests.anomaly.tiny import tiny_preset
from torch import nn

from medglean.anomaly.model import Mapper, make_mapper
from medglean.anomaly.objectives import schedule_of
from medglean.anomaly.prepare import DISEASED, NULL
from medglean.anomaly.settings import AnomalyPreset

SIDE_PX = 16
Y, X = np.mgrid[:SIDE_PX, :SIDE_PX]
HEAD = np.hypot(Y - 7.5, X - 7.5) < 6.5
LESION = np.hypot(Y - 6, X - 5) < 2
HEALTHY_IMAGE = np.where(HEAD, 0.5, 0.0).astype(np.float32)[None]
DISEASED_IMAGE = np.where(LESION, 0.8, HEALTHY_IMAGE).astype(np.float32)
NAME = "unet"


class Knows(nn.Module):
    """Predicts the noise over an image that it knows for each class.

    A healthy patient looks like ``HEALTHY_IMAGE``, a diseased one like ``DISEASED_IMAGE``; without
    a class the network expects ``untold``.
    """

    def __init__(self, preset: AnomalyPreset, untold: np.ndarray = DISEASED_IMAGE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.abar = torch.from_numpy(schedule_of(preset.diffusion).abar).float()
        signed = preset.diffusion.value_range == "signed"
        images = {DISEASED: DISEASED_IMAGE, NULL: untold, 0: HEALTHY_IMAGE}
        self.expected = {
            label: torch.from_numpy(2 * image - 1 if signed else image)
            for label, image in images.items()
        }

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None):
        label = NULL if y is None else int(y[0])
        abar = self.abar[t + 1].view(-1, 1, 1, 1)
        return (x - abar.sqrt() * self.expected[label]) / (1 - abar).sqrt()


def knowing_mapper(preset: AnomalyPreset | None = None, **changes) -> Mapper:
    """Return a mapper that asks such a network, by default for the contrast of the classes."""
    how = {"sampler": "contrast", "contrast_levels": [10, 30], "contrast_draws": 1}
    table = {
        "diffusion": {"learned_range": False},
        "map": {"difference": "signed", "foreground": "mask"},
        "translate": {"guidance": "class", **how},
    }
    for name, value in changes.items():
        table[name] = {**table.get(name, {}), **value} if isinstance(value, dict) else value
    settings = tiny_preset(**table) if preset is None else preset
    return make_mapper({NAME: Knows(settings)}, settings, healthy="healthy", diseased=("lesion",))


def images_of(count: int, *, diseased: bool, noise: float = 0.01) -> np.ndarray:
    """Return images of one class with a little noise in the head, shape (count, 1, 16, 16)."""
    rng = np.random.default_rng(int(diseased))
    image = DISEASED_IMAGE if diseased else HEALTHY_IMAGE
    made = image + noise * HEAD * rng.standard_normal((count, 1, SIDE_PX, SIDE_PX))
    return np.clip(made, 0, 1).astype(np.float32)
