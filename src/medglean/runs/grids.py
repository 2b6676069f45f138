"""Example images with what they are and what they were called, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medglean.runs.style import BLUE, RED, percent, plain
from medglean.runs.tiles import Tile, tile_grid


@dataclass(frozen=True)
class Example:
    """One image and what was said of it.

    Attributes
    ----------
    image
        Shape (h, w), (1, h, w) or (3, h, w), values in [0, 1]: shown as they are, 0 black and
        1 white, never stretched.
    id
        As in the manifest.
    truth, predicted
        Names of classes; several joined by ``;``.
    probability
        Of the predicted class, in [0, 1].
    """

    image: np.ndarray
    id: str
    truth: str
    predicted: str
    probability: float

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the truth."""
        return self.truth == self.predicted


def image_grid(examples: Sequence[Example], *, columns: int = 4) -> bytes:
    """Draw images in rows, each framed by whether it was called right, in words and colour.

    Parameters
    ----------
    examples
        At least one, in the order to be shown.
    columns
        Images per row.

    Raises
    ------
    ValueError
        If there is no example or an image has another shape.
    """
    return tile_grid([_tile(example) for example in examples], columns=columns)


def _tile(example: Example) -> Tile:
    above = (
        plain(example.id, limit=30),
        f"true: {plain(example.truth, limit=24)}",
        f"predicted: {plain(example.predicted, limit=19)}",
    )
    word = "right" if example.is_right else "wrong"
    below = f"{word}: {percent(example.probability)} sure"
    tone = BLUE if example.is_right else RED
    return Tile(example.image, example.id, above, below, tone)
