"""Maps of where the disease is: from a mapper and images to one map per image.

The way of an image: its healthy counterpart, at one noise level or several and maybe of its mirror
image, too; the difference; mask and filters; maybe the average with the map that needs no learning.
A map does not depend on which other images are in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medglean.anomaly.by_contrast import contrast_scales
from medglean.anomaly.described import uses_contrast
from medglean.anomaly.inside import Maps
from medglean.anomaly.maps import averaged, refine, scale_of
from medglean.anomaly.methods import (
    METHODS,
    Batch,
    Images,
    contrasts,
    differences_of,
    rebuilt_of,
    without_learning,
)
from medglean.anomaly.model import Mapper
from medglean.anomaly.settings import AnomalyPreset
from medglean.data.cache import Progress
from medglean.data.foreground import eroded, foreground_mask
from medglean.errors import DataError, Problem, UsageError

OWN, THRESHOLD = "map", "threshold"
"""Names of the scales: of the method's own map, and of the one that needs no learning."""


class Mapped(NamedTuple):
    """What came out for some images.

    Attributes
    ----------
    maps
        float32, shape (n, h, w); larger is more anomalous. NaN where ``problems`` says why.
    rebuilt
        The healthy counterparts, float32, shape (n, c, h, w), of the first noise level; None
        where the method makes none.
    evaluations
        How many times networks were asked for each image, gradients included.
    problems
        Images whose map is not finite.
    """

    maps: Maps
    rebuilt: Images | None
    evaluations: int
    problems: tuple[Problem, ...]


def map_images(
    mapper: Mapper,
    images: Images,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Mapped:
    """Map the anomalies of images.

    Parameters
    ----------
    mapper
        On the device on which its networks shall run.
    images
        In [0, 1], of the size and channels that the mapper's preset says.
    ids
        For messages, and for the samplers that draw noise: the same id and seed draw the same. By
        default positions.
    seed
        Of that noise.
    progress
        Called as ``progress(done, total)``.

    Raises
    ------
    DataError
        If the images have another size or number of channels than the networks take.
    UsageError
        If maps are to be combined, and their scales were not measured.
    """
    _check(mapper, images)
    if mapper.preset.combine != "none" and mapper.method != "threshold":
        _scales(mapper)  # before an hour of translating
    maps = np.zeros((len(images), *images.shape[2:]), dtype=np.float32)
    rebuilt: Images | None = None
    evaluations, done, problems = 0, 0, []
    for batch in _batches(mapper, images, ids, seed):
        rows = slice(done, done + len(batch.images))
        raw = METHODS[mapper.method](mapper, batch)
        maps[rows], told = _finished(mapper, batch, raw.maps)
        problems += told
        if raw.rebuilt is not None:
            if rebuilt is None:
                rebuilt = np.zeros(images.shape, dtype=np.float32)
            rebuilt[rows] = raw.rebuilt
        evaluations, done = raw.evaluations, rows.stop
        if progress is not None:
            progress(done, len(images))
    return Mapped(maps, rebuilt, evaluations, tuple(problems))


def shared_counterparts(preset: AnomalyPreset) -> bool:
    """Say whether maps follow from one counterpart of each image, which other maps may share."""
    if preset.method == "threshold" or preset.map.flip or preset.map.noise_levels:
        return False
    return not uses_contrast(preset)


def map_counterparts(
    mapper: Mapper, images: Images, made: Mapped, *, ids: Sequence[str] | None = None
) -> Mapped:
    """Return the maps of images whose counterparts were made before, as `map_images` would.

    Parameters
    ----------
    mapper
        Of which `shared_counterparts` holds; it makes no counterparts here.
    images, ids
        As for `map_images`.
    made
        Of the same images, with the same networks and translation.
    """
    _check(mapper, images)
    if made.rebuilt is None:
        raise UsageError(f"method {mapper.method!r} made no counterparts to take.")
    maps = differences_of(mapper, images, made.rebuilt)
    out, problems = np.zeros_like(maps), []
    done = 0
    for batch in _batches(mapper, images, ids, 0):
        part = slice(done, done + len(batch.images))
        out[part], told = _finished(mapper, batch, maps[part])
        problems += told
        done = part.stop
    return Mapped(out, made.rebuilt, made.evaluations, tuple(problems))


def rebuild(
    mapper: Mapper,
    images: Images,
    *,
    noise_level: int | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Images:
    """Return the healthy counterparts alone, float32 of shape (n, c, h, w).

    Parameters
    ----------
    mapper, images, ids, seed, progress
        As for `map_images`.
    noise_level
        L; by default the preset's.

    Raises
    ------
    DataError, UsageError
        As for `map_images`; and if the method rebuilds no images.
    """
    _check(mapper, images)
    if mapper.method == "threshold":
        raise UsageError(
            f"method {mapper.method!r} rebuilds no images. Use a run of diffusion, vae or fpgan."
        )
    level = mapper.preset.translate.noise_level if noise_level is None else noise_level
    rebuilt, done = np.zeros(images.shape, dtype=np.float32), 0
    for batch in _batches(mapper, images, ids, seed):
        rows = slice(done, done + len(batch.images))
        rebuilt[rows] = rebuilt_of(mapper, batch, level)[0]
        done = rows.stop
        if progress is not None:
            progress(done, len(images))
    return rebuilt


def needs_scales(preset: AnomalyPreset) -> bool:
    """Say whether maps are divided by scales that must be measured before."""
    contrast = preset.method == "diffusion" and preset.translate.sampler == "contrast"
    return contrast or preset.combine != "none"


def measure_scales(
    mapper: Mapper,
    images: Images,
    *,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return by what the method's own map and the one without learning are divided when averaged.

    Parameters
    ----------
    mapper
        Its own scales are not looked at.
    images
        Healthy, from the validation part; no mask of a lesion is needed.
    ids, seed, progress
        As for `map_images`.

    Raises
    ------
    DataError
        If there is no image, or not one with a finite map.
    """
    alone = mapper.with_preset(mapper.preset.model_copy(update={"combine": "none"}))
    own_scales: dict[str, float] = {}
    if uses_contrast(mapper.preset):
        own_scales = _contrast_scales(alone, images, ids, seed)
        alone = replace(alone, scales=own_scales)
    found = map_images(alone, images, ids=ids, seed=seed, progress=progress)
    good = np.isfinite(found.maps).all(axis=(1, 2))
    if not good.any():
        told = f" The first: {found.problems[0]}" if found.problems else ""
        raise DataError(
            f"none of {len(images)} healthy images has a map to measure its scale on; expected one "
            f"at least. Keep healthy images for validation: set split.val above 0.{told}"
        )
    inside = foreground_mask(images[good])
    own, other = mapper.preset.map, mapper.preset.threshold
    share = own.erode if own.foreground == "mask" else 0.0
    return {
        **own_scales,
        OWN: scale_of(found.maps[good], eroded(inside, share=share)),
        THRESHOLD: scale_of(
            without_learning(mapper, images[good]), eroded(inside, share=other.erode)
        ),
    }


def _contrast_scales(
    mapper: Mapper, images: Images, ids: Sequence[str] | None, seed: int
) -> dict[str, float]:
    """Return the standard deviations of the contrasts over the foreground of healthy images."""
    settings = mapper.preset.map
    share = settings.erode if settings.foreground == "mask" else 0.0

    def measured() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in _batches(mapper, images, ids, seed):
            yield contrasts(mapper, batch), eroded(foreground_mask(batch.images), share=share)

    return contrast_scales(mapper, measured())


def combined(mapper: Mapper, maps: Maps, images: Images) -> Maps:
    """Return the average of finite maps of the method and those that need no learning.

    They weigh as ``combine_weight`` says, after each was divided by its scale.

    Raises
    ------
    UsageError
        If the mapper's scales were not measured.
    """
    own, other = _scales(mapper)
    share = mapper.preset.combine_weight
    # `averaged` takes a plain mean: a scale of half the size doubles a map's weight
    return averaged(
        [maps, without_learning(mapper, images)],
        [own / (2 * (1 - share)), other / (2 * share)],
    )


def _scales(mapper: Mapper) -> tuple[float, float]:
    if not {OWN, THRESHOLD} <= set(mapper.scales):
        raise UsageError(
            "combine=threshold needs the scales of both maps, and this mapper has "
            f"{', '.join(mapper.scales) or 'none'}. Measure them with measure_scales on healthy "
            "validation images, or set combine=none."
        )
    return mapper.scales[OWN], mapper.scales[THRESHOLD]


def _check(mapper: Mapper, images: Images) -> None:
    expected = mapper.preset.images.shape
    if images.ndim != 4 or images.shape[1:] != expected:
        raise DataError(
            f"the images have shape {images.shape[1:]} (channels, height, width), the networks "
            f"take {expected}. Prepare them with images.size_px and images.channels of the "
            "preset that they were trained with."
        )


def _batches(
    mapper: Mapper, images: Images, ids: Sequence[str] | None, seed: int
) -> Iterator[Batch]:
    names = [str(number) for number in range(len(images))] if ids is None else list(ids)
    if len(names) != len(images):
        raise UsageError(f"{len(names)} ids for {len(images)} images: expected as many.")
    size = mapper.preset.predict.batch_size
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        values = np.ascontiguousarray(images[part], dtype=np.float32)
        yield Batch(values, names[part], seed)


def _finished(mapper: Mapper, batch: Batch, maps: Maps) -> tuple[Maps, list[Problem]]:
    """Mask, filter and combine the maps that are finite; name the images of the others."""
    good = np.isfinite(maps).all(axis=(1, 2))
    out = np.full(maps.shape, np.nan, dtype=np.float32)
    if good.any():
        images, kept, settings = batch.images[good], maps[good], mapper.preset.map
        if mapper.method != "threshold":  # which has mask and filter of its own
            kept = refine(
                kept,
                images,
                foreground=settings.foreground,
                erode=settings.erode,
                median_px=settings.median_px,
                smooth=settings.smooth,
            )
            if mapper.preset.combine == "threshold":
                kept = combined(mapper, kept, images)
        out[good] = kept
    problems = []
    for place in np.flatnonzero(~good).tolist():
        whole = np.isfinite(batch.images[place]).all()
        found = "the translation went to NaN or infinity" if whole else "the image holds NaN"
        remedy = (
            "Lower translate.scale, or set predict.precision=32-true."
            if whole
            else "Check the file and images.intensity."
        )
        problems.append(
            Problem(batch.ids[place], f"has no map: {found}.", remedy, kind="not-finite")
        )
    return out, problems
