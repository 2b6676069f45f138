"""Small images on disk and their manifest, for the tests of caches and image sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medglean.data.manifest import Manifest


def _write_images(folder: Path, count: int = 6, *, size: int = 20, seed: int = 0) -> Manifest:
    """Write grey PNGs of noise in blobs; return the manifest with what the index records."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = rng.integers(0, 256, (5, 5), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
    frame = pd.DataFrame(
        {
            "id": [f"i{number}" for number in range(count)],
            "image": [f"{number}.png" for number in range(count)],
            "patient": [f"p{number // 2}" for number in range(count)],
            "label": [("normal", "pneumonia")[number % 2] for number in range(count)],
        }
    )
    return _recorded(Manifest.from_frame(frame, folder))


def _recorded(manifest: Manifest) -> Manifest:
    """Return a manifest with the size and SHA-256 of each file as they are now."""
    data = [manifest.file_of(text).read_bytes() for text in manifest.frame["image"]]
    return manifest.with_columns(
        bytes=[len(one) for one in data],
        sha256=[hashlib.sha256(one).hexdigest() for one in data],
    )


@pytest.fixture(scope="session")
def write_images() -> Callable[..., Manifest]:
    """Return the function that writes pictures and their manifest."""
    return _write_images


@pytest.fixture(scope="session")
def recorded() -> Callable[[Manifest], Manifest]:
    """Return the function that records sizes and hashes of files in a manifest."""
    return _recorded
