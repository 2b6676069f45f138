"""Example images with what they are and what they were called, as one PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medglean.runs.style import BLUE, RED, house_style, new_figure, percent, plain, to_png

_TILE_IN = 1.95
_TEXT_IN = 0.78


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
    if not examples:
        raise ValueError("examples: expected at least one image, found none.")
    columns = min(columns, len(examples))
    rows = math.ceil(len(examples) / columns)
    with house_style():
        figure, axes = new_figure(
            _TILE_IN * columns, (_TILE_IN + _TEXT_IN) * rows, rows=rows, columns=columns
        )
        for place in axes:
            place.set_axis_off()
        for place, example in zip(axes, examples, strict=False):
            place.set_axis_on()
            place.grid(visible=False)
            place.set_xticks([])
            place.set_yticks([])
            place.imshow(
                _displayable(example), cmap="gray", vmin=0.0, vmax=1.0, interpolation="antialiased"
            )
            tone = BLUE if example.is_right else RED
            for spine in place.spines.values():
                spine.set(visible=True, color=tone, linewidth=3)
            place.set_title(_caption(example), fontsize=7.5, fontweight="normal", loc="left")
            word = "right" if example.is_right else "wrong"
            place.set_xlabel(
                f"{word}: {percent(example.probability)} sure",
                fontsize=8,
                color=tone,
                fontweight="bold",
                loc="left",
                labelpad=3,
            )
        return to_png(figure)


def _caption(example: Example) -> str:
    return "\n".join(
        [
            plain(example.id, limit=30),
            f"true: {plain(example.truth, limit=24)}",
            f"predicted: {plain(example.predicted, limit=19)}",
        ]
    )


def _displayable(example: Example) -> np.ndarray:
    image = np.asarray(example.image, dtype=np.float64)
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim == 3 and image.shape[0] == 3:
        return np.clip(np.moveaxis(image, 0, -1), 0.0, 1.0)
    if image.ndim != 2:
        raise ValueError(
            f"image {example.id!r}: expected shape (h, w), (1, h, w) or (3, h, w), found "
            f"{image.shape}. Choose the channels to show first."
        )
    return image
