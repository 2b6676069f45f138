"""Small stained pairs on disk, their manifest, and presets that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from medglean.data.manifest import Manifest
from medglean.stain.settings import StainPreset

LEVELS = ("0", "1+", "2+", "3+")


def picture(number: int, *, height: int = 32, width: int = 32, white: float = 1.0) -> np.ndarray:
    """Return colour noise (h, w, 3) with some glass, other for each number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(40, 200, (height, width, 3))
    pixels[: height // 4] = 255
    return (pixels * white).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, pixels[..., ::-1])
    assert ok
    path.write_bytes(data.tobytes())
    return path


def write_pairs(folder: Path, count: int = 8, **columns: Any) -> Manifest:
    """Write ``he/N.png`` and ``ihc/N.png``; further columns replace those of the table."""
    for number in range(count):
        save(folder / "he" / f"{number}.png", picture(number))
        save(folder / "ihc" / f"{number}.png", picture(number + 1000, white=0.8))
    table = {
        "id": [f"i{number}" for number in range(count)],
        "image": [f"he/{number}.png" for number in range(count)],
        "target": [f"ihc/{number}.png" for number in range(count)],
        "label": [LEVELS[number % 4] for number in range(count)],
    }
    kept = {name: values for name, values in (table | columns).items() if values is not None}
    return Manifest.from_frame(pd.DataFrame(kept), folder)


def preset(**settings: Any) -> StainPreset:
    """Return a preset for images of 32 x 32 pixels and crops of 16."""
    small: dict[str, Any] = {
        "name": "small",
        "images": {"size_px": (32, 32), "channels": "rgb", "resize": "centre"},
        "augment": {"crop_px": 16},
        "generator": {"halvings": 2, "attention": {"kind": "none"}},
        "slide": {"tile_px": 64},
        "split": {"train": 0.5, "val": 0.25, "test": 0.25},
    }
    return StainPreset.model_validate(small | settings)
