"""From positions in a manifest to a batch of tensors: what a training loader calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, Num
from pydantic import BaseModel, ConfigDict, model_validator

from medglean.data.augment import augment as augment_batch
from medglean.data.augment import to_float
from medglean.data.augment_settings import Augment

SMALLEST_SD = 1e-6
"""Below this an image or channel counts as constant and is only shifted."""


class Normalise(BaseModel):
    """How values in [0, 1] become those that a network is fed with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["none", "mean-sd", "image"] = "none"
    """``mean-sd``: per channel, the same for all images. ``image``: each channel of each image by
    its own mean and standard deviation, after augmentation."""
    mean: tuple[float, ...] = ()
    """Of each channel, on the scale of [0, 1]; for ``mean-sd`` only."""
    sd: tuple[float, ...] = ()
    """Standard deviation of each channel, above 0; for ``mean-sd`` only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rule != "mean-sd":
            if self.mean or self.sd:
                raise ValueError(f"mean and sd are for rule 'mean-sd', not for {self.rule!r}.")
        elif not self.mean or len(self.mean) != len(self.sd):
            raise ValueError(
                f"one mean and one sd per channel, got {len(self.mean)} and {len(self.sd)}."
            )
        elif not all(sd >= SMALLEST_SD for sd in self.sd):
            raise ValueError(f"each sd must be at least {SMALLEST_SD}, got {self.sd}.")
        return self

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch of shape (b, c, h, w) in place, and return it."""
        if self.rule == "mean-sd":
            images -= torch.tensor(self.mean, dtype=images.dtype)[:, None, None]
            images /= torch.tensor(self.sd, dtype=images.dtype)[:, None, None]
        elif self.rule == "image":
            for image in images.numpy():
                for plane in image:
                    _standardise(plane)
        return images


def _standardise(plane: Float[np.ndarray, "h w"]) -> None:
    """Subtract a channel's mean and divide by its standard deviation, in place."""
    mean, sd = (float(value.item()) for value in cv2.meanStdDev(plane))
    plane -= np.float32(mean)
    if sd >= SMALLEST_SD:
        plane /= np.float32(sd)


def channel_statistics(
    stored: Num[np.ndarray, "n c h w"], positions: Int[np.ndarray, " m"]
) -> Normalise:
    """Return the mean and standard deviation of each channel over the images of one part.

    Parameters
    ----------
    stored
        As the cache keeps them.
    positions
        Rows of the training part; only these are looked at, 256 at a time.
    """
    channels = stored.shape[1]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for start in range(0, len(positions), 256):
        values = to_float(stored[positions[start : start + 256]]).astype(np.float64)
        total += values.sum(axis=(0, 2, 3))
        squares += (values**2).sum(axis=(0, 2, 3))
        count += values[:, 0].size
    mean = total / max(count, 1)
    variance = np.maximum(squares / max(count, 1) - mean**2, 0.0)
    sd = np.sqrt(variance)
    sd[sd < SMALLEST_SD] = 1.0  # a constant channel is only shifted
    return Normalise(rule="mean-sd", mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))


class Fetch:
    """Batches by position: a pure function of (positions, epoch), picklable for worker processes.

    Parameters
    ----------
    stored
        Images as the cache keeps them, shape (n, c, h, w). Where that is a whole file mapped into
        memory, only its name travels to other processes.
    targets
        One target per row: an array whose first axis is n.
    augment
        Random changes; None for evaluation.
    seed
        Of the random changes.
    normalise
        Applied last.
    """

    def __init__(
        self,
        stored: Num[np.ndarray, "n c h w"],
        targets: Num[np.ndarray, n * k],
        *,
        augment: Augment | None = None,
        seed: int = 0,
        normalise: Normalise | None = None,
    ) -> None:
        if len(stored) != len(targets):
            raise ValueError(f"{len(stored)} images and {len(targets)} targets: expected as many.")
        self.stored, self.targets = stored, targets
        # all off is the same as none, and much cheaper
        self.augment = None if augment == Augment() else augment
        self.seed, self.normalise = seed, normalise or Normalise()

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> dict[str, torch.Tensor]:
        """Return ``image`` (float32, (b, c, h, w)), ``target`` and ``index`` (int64, (b,))."""
        indices = np.asarray(indices, dtype=np.int64)
        images = np.ascontiguousarray(self.stored[indices])
        if self.augment is not None:
            images = augment_batch(images, self.augment, seed=self.seed, epoch=epoch, index=indices)
        else:
            images = to_float(images)
        return {
            "image": self.normalise(torch.from_numpy(images)),
            "target": torch.from_numpy(np.ascontiguousarray(self.targets[indices])),
            "index": torch.from_numpy(indices.copy()),
        }

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if isinstance(self.stored, np.memmap) and _is_whole_file(self.stored):
            stored = self.stored
            state["stored"] = _Mapped(str(stored.filename), stored.dtype.str, stored.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.stored, _Mapped):
            self.stored = self.stored.open()


class _Mapped:
    """What another process needs to map the same file."""

    def __init__(self, file: str, dtype: str, shape: tuple[int, ...]) -> None:
        self.file, self.dtype, self.shape = file, dtype, shape

    def open(self) -> np.ndarray:
        return np.memmap(self.file, dtype=self.dtype, mode="r", shape=self.shape)


def _is_whole_file(mapped: np.memmap) -> bool:
    """Whether an array is all of its file: a part of it would be another array elsewhere."""
    return (
        mapped.filename is not None
        and mapped.offset == 0
        and mapped.flags.c_contiguous
        and Path(mapped.filename).stat().st_size == mapped.nbytes
    )
