"""From positions to a batch of pairs: what a training loader of a stain calls."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from medglean.data.augment import to_float
from medglean.data.fetch import Fetch
from medglean.errors import PresetError
from medglean.randomness import uniforms
from medglean.stain.optics import SMALLEST_LIGHT, normalise_white, stain_vectors
from medglean.stain.pairs import Pairs, white_of
from medglean.stain.settings import AugmentSettings

SHIFT = 0.2
"""Largest shift of a stain's density, as a share of the strength that multiplies it."""
_PLACE, _FLIPS, _TURNS, _MULTIPLIERS, _SHIFTS = (
    slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 8), slice(8, 11),
)  # fmt: skip
_DRAWS = 11
"""Each change has places of its own, so that switching one on leaves what the others draw."""


class Drawn(NamedTuple):
    """What was drawn for each of b positions."""

    corner: Int[np.ndarray, "b 2"]
    """Upper left pixel of the crop: y, x."""
    flips: np.ndarray
    """Whether it is mirrored top to bottom and left to right, bool, shape (b, 2)."""
    turns: Int[np.ndarray, " b"]
    """Quarter turns, 0 to 3, after mirroring."""
    multipliers: Float[np.ndarray, "b 3"]
    """Of the densities of haematoxylin, eosin and rest."""
    shifts: Float[np.ndarray, "b 3"]
    """Added to them."""


def crop_positions(rows: Int[np.ndarray, " m"], crops: int) -> Int[np.ndarray, " k"]:
    """Return what a loader takes for ``crops`` crops of each row: row x crops + 0, 1, ...

    Examples
    --------
    >>> crop_positions(np.array([0, 7]), 2).tolist()
    [0, 1, 14, 15]
    """
    positions: np.ndarray = (np.asarray(rows)[:, None] * crops + np.arange(crops)).ravel()
    return positions.astype(np.int64)


def draw(
    settings: AugmentSettings,
    *,
    size_px: tuple[int, int],
    seed: int,
    epoch: int,
    positions: Int[np.ndarray, " b"],
) -> Drawn:
    """Draw the changes of each position: a function of (seed, epoch, position) alone."""
    u = uniforms(seed, "pair", epoch, index=positions, draws=_DRAWS)
    crop = settings.crop_px or 0
    room = np.array([side - crop + 1 if crop else 1 for side in size_px])
    return Drawn(
        corner=np.floor(u[:, _PLACE] * room).astype(np.int64),
        flips=(u[:, _FLIPS] < 0.5) & settings.flips,
        turns=(np.floor(u[:, _TURNS] * 4).astype(np.int64) * settings.quarter_turns)[:, 0],
        multipliers=1 + settings.stain * (2 * u[:, _MULTIPLIERS] - 1),
        shifts=SHIFT * settings.stain * (2 * u[:, _SHIFTS] - 1),
    )


class PairFetch:
    """Batches of pairs by position: a pure function of (positions, epoch), picklable.

    Parameters
    ----------
    pairs
        Opened with targets. Only the crop of an image is read from the cache.
    augment
        Random changes. None: whole images as they are, and positions are rows.
    seed
        Of the random changes.
    features
        Features of the level of each row, shape (n, f), given with the batch.

    Raises
    ------
    ValueError
        If the pairs were opened without targets, or there are not as many features as pairs.
    PresetError
        If quarter turns are asked for images that are not square and not cropped.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        augment: AugmentSettings | None,
        seed: int = 0,
        features: Float32[np.ndarray, "n f"] | None = None,
    ) -> None:
        if pairs.targets is None:
            raise ValueError("the pairs were opened without targets (need_targets=False).")
        if features is not None and len(features) != len(pairs):
            raise ValueError(f"{len(features)} rows of features for {len(pairs)} pairs.")
        height, width = pairs.images.recipe.size_px
        turned = augment is not None and augment.quarter_turns and augment.crop_px is None
        if turned and height != width:
            raise PresetError(
                f"augment.quarter_turns needs square images, and they are {height} x {width} "
                "uncropped. Set augment.quarter_turns=false, or augment.crop_px to a side."
            )
        # the arrays travel to other processes as the names of their files
        self.images = Fetch(pairs.images.stored, pairs.levels)
        self.targets = Fetch(pairs.targets.stored, pairs.levels)
        self.white_images = pairs.white_images if pairs.white.inputs else None
        self.white_targets = pairs.white_targets if pairs.white.normalise else None
        every = np.arange(len(pairs))
        self.white = white_of(pairs, every).astype(np.float32)
        self.augment, self.seed, self.features = augment, seed, features

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> dict[str, torch.Tensor]:
        """Return the pairs at some positions as they look in an epoch.

        Parameters
        ----------
        indices
            Of `crop_positions`; rows where there is no augmentation.
        epoch
            Decides, with the seed and the position, what is drawn.

        Returns
        -------
        dict
            ``image`` and ``target``, float32 in [-1, 1], shape (b, 3, s, s); ``level``, int64;
            ``white``, the white point of the target as it now is, float32, shape (b, 3);
            ``index``, the row, int64; and ``features`` where given.
        """
        positions = np.asarray(indices, dtype=np.int64)
        crops = 1 if self.augment is None else self.augment.crops_per_image
        rows = positions // crops
        images, targets = self._changed(rows, positions, epoch)
        batch = {
            "image": images,
            "target": targets,
            "level": self.images.targets[rows],
            "white": self.white[rows],
            "index": rows,
        }
        if self.features is not None:
            batch["features"] = self.features[rows]
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in batch.items()}

    def _changed(
        self, rows: np.ndarray, positions: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = self.images.stored.shape[2:]
        settings = self.augment or AugmentSettings(crop_px=None, flips=False, quarter_turns=False)
        drawn = draw(
            settings, size_px=(height, width), seed=self.seed, epoch=epoch, positions=positions
        )
        side = settings.crop_px
        shape = (len(rows), 3, side or height, side or width)
        images, targets = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for place, row in enumerate(rows):
            for stored, whites, out in (
                (self.images.stored, self.white_images, images),
                (self.targets.stored, self.white_targets, targets),
            ):
                share = to_float(_moved(stored[row], drawn, place, side))
                out[place] = share if whites is None else normalise_white(share, whites[row])
            if settings.stain:
                images[place] = perturbed(
                    images[place], drawn.multipliers[place], drawn.shifts[place]
                )
        for out in (images, targets):
            out *= 2
            out -= 1
        return images, targets


def _moved(image: np.ndarray, drawn: Drawn, place: int, side: int | None) -> np.ndarray:
    """Return a view of the crop, mirrored and turned."""
    if side is not None:
        top, left = drawn.corner[place]
        image = image[:, top : top + side, left : left + side]
    upended, mirrored = drawn.flips[place]
    image = image[:, :: -1 if upended else 1, :: -1 if mirrored else 1]
    return np.rot90(image, int(drawn.turns[place]), axes=(1, 2))


def perturbed(
    image: Float32[np.ndarray, "3 h w"],
    multipliers: Float[np.ndarray, " 3"],
    shifts: Float[np.ndarray, " 3"],
) -> Float32[np.ndarray, "3 h w"]:
    """As `medglean.stain.optics.perturb_stains`, in one matrix product, for the training loop.

    Unmixing, change and mixing are linear in the optical density, so that together they are one
    matrix and one shift per pixel.
    """
    vectors = stain_vectors("h-e")
    matrix = vectors.T @ np.diag(multipliers) @ np.linalg.inv(vectors).T
    offset = shifts @ vectors * np.log(10)
    light = np.ascontiguousarray(np.moveaxis(image, 0, 2))
    np.maximum(light, np.float32(SMALLEST_LIGHT), out=light)
    cv2.log(light, light)  # minus the density, to the base of e
    changed = cv2.transform(light, np.column_stack([matrix, -offset]))
    cv2.exp(changed, changed)
    return np.moveaxis(np.minimum(changed, 1, out=changed), 2, 0)
