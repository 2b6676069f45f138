"""What each method makes of a batch of images: a map before mask, filters and combination."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from medglean.anomaly.baselines.threshold import threshold_map
from medglean.anomaly.by_contrast import contrast_evaluations, contrasts_of, signed_map
from medglean.anomaly.counterparts import counterpart
from medglean.anomaly.described import uses_contrast
from medglean.anomaly.inside import Maps
from medglean.anomaly.maps import Difference, averaged, difference
from medglean.anomaly.model import Mapper
from medglean.anomaly.objectives import unit_share
from medglean.errors import UsageError
from medglean.fitting.devices import resolved
from medglean.randomness import torch_generator

Images = Float[np.ndarray, "n c h w"]


class Batch(NamedTuple):
    """Some images, and who they are.

    Attributes
    ----------
    images
        float32 in [0, 1], shape (b, c, h, w).
    ids
        Of each.
    seed
        Of what is random.
    """

    images: Images
    ids: Sequence[str]
    seed: int


class Raw(NamedTuple):
    """What a method says of a batch: maps without mask and filters, or NaN; see `Mapped`."""

    maps: Maps
    rebuilt: Images | None
    evaluations: int


def _by_diffusion(mapper: Mapper, batch: Batch) -> Raw:
    """Translate and subtract, or ask for the contrast of the classes."""
    if uses_contrast(mapper.preset):
        return _by_contrast(mapper, batch)
    return by_difference(mapper, batch)


def _by_contrast(mapper: Mapper, batch: Batch) -> Raw:
    """Average the contrasts of the classes, of the image and maybe its mirror image."""
    settings = mapper.preset.map
    sides = (False, True) if settings.flip else (False,)
    found = np.mean([contrasts(mapper, batch, mirrored=side) for side in sides], axis=0)
    nothing = np.zeros_like(batch.images)
    maps = _differences(
        signed_map(mapper, found), nothing, settings.difference, _summed_channels(mapper)
    )
    # what would be expected of a healthy image, as far as these levels tell
    change = found[0].mean(axis=0) * unit_share(mapper.preset.diffusion)
    expected = (batch.images - change).astype(np.float32)
    return Raw(maps, expected, contrast_evaluations(mapper) * len(sides))


def contrasts(
    mapper: Mapper, batch: Batch, *, mirrored: bool = False
) -> Float[np.ndarray, "2 levels b c h w"]:
    """Return the contrasts of the classes in a batch, or in its mirror images turned back."""
    name = "contrast-mirrored" if mirrored else "contrast"
    with _ready(mapper):
        x = torch.from_numpy(batch.images).to(mapper.device)
        generators = [torch_generator(batch.seed, name, one) for one in batch.ids]
        found = contrasts_of(mapper, x.flip(-1) if mirrored else x, generators)
    return np.ascontiguousarray(found[..., ::-1]) if mirrored else found


def by_difference(mapper: Mapper, batch: Batch) -> Raw:
    """Average what image and counterpart differ by, over noise levels and the mirror image."""
    settings = mapper.preset.map
    levels = [mapper.preset.translate.noise_level]
    if mapper.method == "diffusion" and settings.noise_levels:
        levels = list(settings.noise_levels)
    found, first, evaluations = [], None, 0
    for level in levels:
        for mirrored in (False, True) if settings.flip else (False,):
            rebuilt, calls = rebuilt_of(mapper, batch, level, mirrored=mirrored)
            first = rebuilt if first is None else first
            found.append(differences_of(mapper, batch.images, rebuilt))
            evaluations += calls
    return Raw(averaged(found, [1.0] * len(found)), first, evaluations)


def differences_of(mapper: Mapper, images: Images, rebuilt: Images) -> Maps:
    """Return what images and their counterparts differ by, before mask and filters."""
    return _differences(images, rebuilt, mapper.preset.map.difference, _summed_channels(mapper))


def _summed_channels(mapper: Mapper) -> list[int] | None:
    wanted = mapper.preset.map.channels
    if wanted is None:
        return None
    return [mapper.preset.channel_names.index(name) for name in wanted]


def _differences(
    images: Images, rebuilt: Images, kind: Difference, channels: Sequence[int] | None
) -> Maps:
    """Return the differences, NaN for images where either is not finite."""
    good = np.isfinite(images).all(axis=(1, 2, 3)) & np.isfinite(rebuilt).all(axis=(1, 2, 3))
    maps = np.full((len(images), *images.shape[2:]), np.nan, dtype=np.float32)
    maps[good] = difference(images[good], rebuilt[good], kind=kind, channels=channels)
    return maps


def rebuilt_of(
    mapper: Mapper, batch: Batch, level: int, *, mirrored: bool = False
) -> tuple[Images, int]:
    """Return the counterparts of a batch, or of its mirror images turned back."""
    name = "translate-mirrored" if mirrored else "translate"
    with _ready(mapper):
        x = torch.from_numpy(batch.images).to(mapper.device)
        if mirrored:
            x = x.flip(-1)
        if x.device.type == "cpu" or torch.is_autocast_enabled(x.device.type):
            x = x.contiguous(memory_format=torch.channels_last)
        generators = [torch_generator(batch.seed, name, one) for one in batch.ids]
        rebuilt, calls = counterpart(mapper, x, noise_level=level, generators=generators)
    values = rebuilt.flip(-1) if mirrored else rebuilt
    return values.float().contiguous().cpu().numpy(), calls


@contextlib.contextmanager
def _ready(mapper: Mapper) -> Iterator[None]:
    """Compute without gradients, in the precision of the preset."""
    asked = {"precision": mapper.preset.predict.precision, "accelerator": mapper.device.type}
    precision = resolved(mapper.preset.fit.model_copy(update=asked)).precision
    half = precision == "bf16-mixed"
    with torch.no_grad(), torch.autocast(mapper.device.type, torch.bfloat16, enabled=half):
        yield


def _by_threshold(mapper: Mapper, batch: Batch) -> Raw:
    """Look at brightness alone; no network is asked."""
    maps = np.full((len(batch.images), *batch.images.shape[2:]), np.nan, dtype=np.float32)
    good = np.isfinite(batch.images).all(axis=(1, 2, 3))
    maps[good] = without_learning(mapper, batch.images[good])
    return Raw(maps, None, 0)


def without_learning(mapper: Mapper, images: Images) -> Maps:
    """Return the maps of the baseline without learning, as the preset's table says.

    Raises
    ------
    UsageError
        If ``threshold.channel`` is none of the images' channels.
    """
    settings, names = mapper.preset.threshold, mapper.preset.channel_names
    channel = settings.channel
    if channel is None and "flair" in names:
        channel = "flair"
    if channel is not None and channel not in names:
        raise UsageError(
            f"threshold.channel is {channel!r}; the images have {', '.join(names)}. Name one of "
            "these."
        )
    return threshold_map(
        images,
        equalise=settings.equalise,
        channel=None if channel is None else names.index(channel),
        erode=settings.erode,
        median_px=settings.median_px,
    )


METHODS: dict[str, Callable[[Mapper, Batch], Raw]] = {
    "diffusion": _by_diffusion,
    "vae": by_difference,
    "fpgan": by_difference,
    "threshold": _by_threshold,
}
"""What each method makes of a batch; a further kind of map is a further function here."""
