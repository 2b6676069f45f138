"""The images that are embedded: decoded once, masked where asked, at the encoder's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from medglean.curate.embed.encoder import Progress
from medglean.curate.embed.settings import EmbeddingSettings, MaskSettings
from medglean.curate.masking import MASK_VERSION, mask_clip
from medglean.data.cache import Cache, decode_to_memory, open_cache
from medglean.data.decode import to_stored
from medglean.data.manifest import Manifest
from medglean.data.prepare import BT601
from medglean.data.recipe import Recipe
from medglean.data.resize import resize
from medglean.errors import Problem
from medglean.files import atomic_writer, sha256_of_json


@dataclass(frozen=True)
class Pictures:
    """Prepared images of a manifest.

    Attributes
    ----------
    stored
        Shape (n, c, h, w), of the recipe's ``dtype``; zeros where there is no image.
    ok
        Whether each row has an image, shape (n,).
    problems
        Why others have none, and what to know about the rest.
    hash
        Changes with any image's content, with the recipe and with the masking.
    """

    stored: np.ndarray
    ok: Bool[np.ndarray, " n"]
    problems: tuple[Problem, ...]
    hash: str


def prepare_pictures(
    manifest: Manifest,
    settings: EmbeddingSettings,
    *,
    cache: Path | None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Pictures:
    """Decode, mask and resize the images of a manifest.

    Masking works on a larger copy, which is cached, too; then it is brought to the encoder's size.

    Parameters
    ----------
    manifest
        At least one row. Column ``group`` names the clip for static masks.
    settings
        Recipe and masking.
    cache
        Where decoded and masked images are kept; None: in memory.
    workers
        Images decoded at the same time; 0: in this process.
    progress
        Told while images are decoded.

    Raises
    ------
    CacheError, DataError
        As :func:`medglean.data.cache.open_cache`.
    """
    recipe = settings.images
    if not settings.mask.any:
        found = _decoded(manifest, recipe, cache, workers, progress)
        return Pictures(found.array, found.ok, (*found.failures, *found.warnings), found.hash)
    found = _decoded(manifest, _working(recipe, settings.mask), cache, workers, progress)
    clips = [str(group) for group in manifest.groups("group")] if settings.mask.static else None
    key = sha256_of_json(
        {
            "version": MASK_VERSION,
            "images": found.hash,
            "ok": np.packbits(found.ok).tobytes().hex(),
            "recipe": recipe.hash(),
            "mask": settings.mask.model_dump(mode="json"),
            "clips": clips,
        }
    )
    place = None if cache is None else cache / "masked" / f"{key[:32]}.npy"
    stored = None if place is None else _opened(place, (len(manifest), *recipe.shape))
    if stored is None:
        stored = _masked(found, recipe, settings.mask, clips)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_writer(place) as file:
                np.save(file, stored)
    return Pictures(stored, found.ok, (*found.failures, *found.warnings), key)


def _decoded(
    manifest: Manifest, recipe: Recipe, cache: Path | None, workers: int, progress: Progress | None
) -> Cache:
    if cache is None:
        return decode_to_memory(manifest, recipe, workers=workers, progress=progress)
    return open_cache(manifest, recipe, cache, workers=workers, progress=progress)


def _working(recipe: Recipe, mask: MaskSettings) -> Recipe:
    """Return the recipe of the larger copy: 8 bit, of the same shape as the small one.

    Where borders are looked for it is the whole image, padded to a square, so that a border is
    cut off before the image is cropped around its centre.
    """
    height, width = recipe.size_px
    scale = max(1.0, mask.working_px / max(height, width))
    colour = mask.colour or recipe.channels == "rgb"
    changes: dict[str, object] = {
        "size_px": (round(height * scale), round(width * scale)),
        "dtype": "uint8",
        "channels": "rgb" if colour else "grey",
    }
    if mask.borders:
        side = max(mask.working_px, height, width)
        changes |= {"size_px": (side, side), "resize": "pad", "centre_crop": 1.0}
    return recipe.model_copy(update=changes)


def _opened(place: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        stored: np.ndarray = np.load(place, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return stored if stored.shape == shape else None


def _masked(
    found: Cache, recipe: Recipe, mask: MaskSettings, clips: Sequence[str] | None
) -> np.ndarray:
    """Mask and resize all images, clip by clip where marks that never move are looked for."""
    stored = np.zeros((len(found.ok), *recipe.shape), dtype=recipe.dtype)
    for rows in _clips_of(found.ok, clips):
        masked = mask_clip(
            found.array[rows],
            borders=mask.borders,
            sector=mask.sector,
            text=mask.text,
            static=mask.static,
            colour=mask.colour,
            fill=mask.fill,
        )
        for row, image in zip(rows, masked, strict=True):
            unit = image.astype(np.float32) / np.float32(255)
            if len(unit) > recipe.channel_count:
                weights = np.array(BT601, dtype=np.float32)
                unit = np.tensordot(weights, unit, axes=1)[np.newaxis]
            if mask.borders:
                small = resize(
                    unit, recipe.size_px, how=recipe.resize, centre_crop=recipe.centre_crop
                )
            else:  # the larger copy was cropped already
                small = resize(unit, recipe.size_px, how="stretch")
            stored[row] = to_stored(np.clip(small.image, 0.0, 1.0), recipe.dtype)
    return stored


def _clips_of(
    ok: Bool[np.ndarray, " n"], clips: Sequence[str] | None
) -> list[Int[np.ndarray, " m"]]:
    rows = np.flatnonzero(ok)
    if clips is None:
        return [rows[start : start + 1] for start in range(len(rows))]
    together: dict[str, list[int]] = {}
    for row in rows.tolist():
        together.setdefault(clips[row], []).append(row)
    return [np.array(members, dtype=np.int64) for members in together.values()]
