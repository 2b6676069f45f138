"""The expression level as a classifier tells it: its network, its features, how it is trained.

The same kind of network is trained twice. ``level`` learns the level from H&E, and its features
are what the generator may know of it: IHC is not there when a stain is generated, and the label
itself is never an input. ``judge`` learns it from real IHC and is asked about generated images; it
takes no part in making them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from medglean.arrays import UnitBatch
from medglean.data.augment_settings import Augment
from medglean.data.fetch import Fetch, Normalise
from medglean.errors import PresetError
from medglean.fitting.classification import classification_loss, logits_of, probabilities
from medglean.fitting.loader import Batch
from medglean.nn.backbones import ARCHITECTURES, build_backbone
from medglean.randomness import numpy_generator
from medglean.stain.fetch import SHIFT, perturbed
from medglean.stain.settings import AugmentSettings, StainPreset

LEVEL, JUDGE = "level", "judge"
"""Names of the two classifiers."""
SIGNED = Normalise(rule="mean-sd", mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5))
"""From [0, 1] to [-1, 1], as all networks here take images."""
AT_ONCE = 16
"""Shrunken images that are looked at together."""


class LevelClassifier(nn.Module):
    """A classifier of `medglean.nn.backbones` that also tells its pooled last feature map.

    Parameters
    ----------
    architecture
        A key of `medglean.nn.backbones.ARCHITECTURES`.
    levels
        Number of outputs.
    seed
        Of the initialisation.

    Attributes
    ----------
    feature_count
        Channels of the last feature map.

    Raises
    ------
    UsageError
        If the architecture is unknown.
    """

    def __init__(self, architecture: str, *, levels: int, seed: int = 0) -> None:
        super().__init__()
        self.backbone = build_backbone(architecture, classes=levels, in_channels=3, seed=seed)
        self._last_map = ARCHITECTURES[architecture].last_map
        inside = self.backbone.get_submodule(self._last_map).modules()
        self.feature_count = [m for m in inside if isinstance(m, nn.Conv2d)][-1].out_channels

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return logits of images in [-1, 1]."""
        logits: Tensor = self.backbone(images)
        return logits

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Return the mean over the last feature map of each image in [-1, 1]."""
        seen: list[Tensor] = []
        place = self.backbone.get_submodule(self._last_map)
        hook = place.register_forward_hook(lambda _module, _given, made: seen.append(made))
        try:
            self.backbone(images)
        finally:
            hook.remove()
        return seen[0].float().mean(dim=(2, 3))


def shrinking(preset: StainPreset) -> float:
    """Return how many pixels of an image become one for the classifiers, along a side; at least 1.

    It brings the longer side of ``images.size_px`` to ``level.size_px``. Images of another size
    are shrunk as much, so that a nucleus is as large as in training.
    """
    return max(1.0, max(preset.images.size_px) / preset.level.size_px)


def check_size(preset: StainPreset) -> None:
    """Refuse an architecture that there is not, or that leaves nothing of the shrunken images.

    Raises
    ------
    PresetError
        If the name is not known, or a side is too short.
    """
    found = ARCHITECTURES.get(preset.level.architecture)
    if found is None:
        raise PresetError(
            f"level.architecture is {preset.level.architecture!r}, expected one of "
            f"{', '.join(ARCHITECTURES)}."
        )
    side = round(min(preset.images.size_px) / shrinking(preset))
    if side < found.smallest_px:
        raise PresetError(
            f"level.architecture is {preset.level.architecture!r}, which needs images of at least "
            f"{found.smallest_px} pixels; images.size_px {preset.images.size_px} shrunk to "
            f"level.size_px {preset.level.size_px} leave a side of {side}. Set level.size_px "
            "higher, or take a resnet."
        )


def shrunk(images: UnitBatch, factor: float) -> UnitBatch:
    """Return images with ``factor`` pixels made one along each side: the mean of what they cover.

    Parameters
    ----------
    images
        float32, shape (n, 3, h, w).
    factor
        At least 1; with 1 the images themselves are returned. No side becomes 0.
    """
    if factor <= 1.0:
        return images
    height, width = (max(1, round(side / factor)) for side in images.shape[2:])
    out = np.empty((*images.shape[:2], height, width), dtype=np.float32)
    for image, made in zip(images, out, strict=True):
        for plane, smaller in zip(image, made, strict=True):
            cv2.resize(plane, (width, height), dst=smaller, interpolation=cv2.INTER_AREA)
    return out


def _ready(images: UnitBatch, preset: StainPreset) -> Iterator[Tensor]:
    """Give shrunken images in [-1, 1], a few at a time."""
    for start in range(0, len(images), AT_ONCE):
        small = shrunk(images[start : start + AT_ONCE], shrinking(preset))
        yield torch.from_numpy(2.0 * small - 1.0)


@torch.no_grad()
def level_features(
    network: LevelClassifier, images: UnitBatch, preset: StainPreset
) -> Float[np.ndarray, "n f"]:
    """Return what the generator may know of each whole image.

    Parameters
    ----------
    network
        In evaluation mode, on any device.
    images
        H&E, float32 in [0, 1], normalised as the preset says, shape (n, 3, h, w).
    preset
        Says how much images are shrunk.

    Returns
    -------
    ndarray
        float32, not yet standardised: the generator does that.
    """
    device = next(network.parameters()).device
    found = [network.features(batch.to(device)).cpu().numpy() for batch in _ready(images, preset)]
    return np.concatenate(found) if found else np.zeros((0, network.feature_count), np.float32)


def predict_levels(
    network: LevelClassifier, images: UnitBatch, preset: StainPreset
) -> Float[np.ndarray, "n k"]:
    """Return the probability of each level, for whole images as in `level_features`."""
    logits = logits_of(network, _ready(images, preset))
    if not len(logits):
        return np.zeros((0, len(preset.level.names)))
    return probabilities(logits, kind="single")


def shrunken_store(
    read: Callable[[Int[np.ndarray, " b"]], UnitBatch],
    rows: Int[np.ndarray, " m"],
    preset: StainPreset,
    *,
    count: int,
) -> UInt8[np.ndarray, "n 3 s t"]:
    """Shrink images once, for the many times that a classifier's training looks at them.

    Parameters
    ----------
    read
        Gives images in [0, 1] by their rows.
    rows
        Which are needed.
    preset
        Says how large.
    count
        Rows of the manifest, n.

    Returns
    -------
    ndarray
        One image per row of the manifest; those not asked for are 0, and take no memory.
    """
    height, width = (round(side / shrinking(preset)) for side in preset.images.size_px)
    store = np.zeros((count, 3, height, width), dtype=np.uint8)
    for row in rows:
        small = shrunk(read(np.array([row])), shrinking(preset))
        store[row] = np.rint(small[0] * 255.0).astype(np.uint8)
    return store


class LevelFetch:
    """Batches of shrunken images and their levels, a pure function of (rows, epoch).

    Parameters
    ----------
    store
        From `shrunken_store`.
    levels
        Of every row.
    augment
        Mirroring and turning as pairs are; None: neither, as in validation. Quarter turns are
        left out where images are not square.
    stain
        Strength of the change of the H&E's stains; 0 for IHC.
    seed
        Of the random changes.
    """

    def __init__(
        self,
        store: UInt8[np.ndarray, "n 3 s t"],
        levels: Int[np.ndarray, " n"],
        *,
        augment: AugmentSettings | None = None,
        stain: float = 0.0,
        seed: int = 0,
    ) -> None:
        flip = 0.5 if augment is not None and augment.flips else 0.0
        square = store.shape[2] == store.shape[3]
        turns = augment is not None and augment.quarter_turns and square
        changes = Augment(flip_horizontal=flip, flip_vertical=flip, quarter_turns=turns)
        self.fetch = Fetch(store, levels, augment=changes, seed=seed)
        self.stain, self.seed = stain, seed

    def __call__(self, indices: Int[np.ndarray, " b"], epoch: int) -> Batch:
        """Return ``image`` in [-1, 1], ``target`` (the level) and ``index``."""
        batch = self.fetch(indices, epoch)
        if self.stain:
            for image, row in zip(batch["image"].numpy(), indices, strict=True):
                rng = numpy_generator(self.seed, "level-stain", epoch, int(row))
                factors, shifts = rng.uniform(-self.stain, self.stain, (2, 3))
                image[:] = perturbed(image, 1.0 + factors, SHIFT * shifts)
        batch["image"] = SIGNED(batch["image"])
        return batch


def level_validation(
    fetch: LevelFetch, rows: Int[np.ndarray, " m"]
) -> Callable[[Mapping[str, nn.Module]], dict[str, float]]:
    """Return the closure that judges a classifier by ``loss`` and ``accuracy`` on labelled rows."""
    levels = torch.from_numpy(fetch.fetch.targets[rows])

    def validate(networks: Mapping[str, nn.Module]) -> dict[str, float]:
        starts = range(0, len(rows), AT_ONCE)
        batches = (fetch(rows[start : start + AT_ONCE], 0)["image"] for start in starts)
        logits = torch.from_numpy(logits_of(networks["network"], batches))
        loss = classification_loss(logits, levels, kind="single")
        right = logits.argmax(dim=1) == levels
        return {"loss": float(loss), "accuracy": float(right.float().mean())}

    return validate
