"""A folder of small pictures: bars at four places, so that there is something to embed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medglean.data.manifest import Manifest


def bar(number: int) -> np.ndarray:
    """Return 16 x 16 pixels: a bar at one of four places, and a little noise."""
    picture = np.random.default_rng(number).integers(0, 40, (16, 16)).astype(np.uint8)
    place = 4 * (number % 4)
    picture[:, place : place + 4] += 180
    return picture


@pytest.fixture
def bars(tmp_path: Path) -> Callable[..., Manifest]:
    def make(count: int = 24, *, bad: tuple[int, ...] = (), **columns: object) -> Manifest:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            data = cv2.imencode(".png", bar(number))[1].tobytes()
            (folder / f"{number:03d}.png").write_bytes(b"not a png" if number in bad else data)
        ids = [f"bar{number:03d}" for number in range(count)]
        table = {"id": ids, "image": [f"{number:03d}.png" for number in range(count)]}
        return Manifest.from_frame(pd.DataFrame(table | columns), folder)

    return make
