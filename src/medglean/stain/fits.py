"""What each training of a stain is: its networks, what it sees, its step, how it is judged."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from medglean.errors import DataError
from medglean.files import sha256_of_json, write_bytes
from medglean.fitting import Batch, device_of
from medglean.fitting.classification import make_step
from medglean.fitting.kept import bytes_of
from medglean.fitting.loader import Fetch
from medglean.fitting.loop import Step
from medglean.fitting.settings import FitSettings
from medglean.fitting.validation import Validate
from medglean.nn.stain_gan import StainUNet
from medglean.stain.fetch import PairFetch, crop_positions
from medglean.stain.levels import (
    JUDGE,
    LEVEL,
    LevelClassifier,
    LevelFetch,
    level_features,
    level_validation,
    shrunken_store,
)
from medglean.stain.networks import DISCRIMINATOR, GENERATOR, build_network, needs_discriminator
from medglean.stain.objectives import gan_step, gan_validation
from medglean.stain.pairs import Chosen, Pairs, image_of, target_of
from medglean.stain.settings import StainPreset

JUDGED = 4
"""How many validation pairs a generator is judged on at most."""
CLASSIFIER = "network"
"""What a classifier and its optimiser are called while it is trained."""
CLASSIFIED = 256
"""How many validation images a classifier is judged on at most."""
SMALLEST_SHARE = 0.1
"""Least standard deviation of a level feature, as a share of what is usual among them."""

Rows = Int[np.ndarray, " m"]


def settings_of(name: str, preset: StainPreset) -> FitSettings:
    """Return how a network is fitted; classifiers run where, and from the seed that, all do."""
    if name not in (LEVEL, JUDGE):
        return preset.fit
    where = preset.fit.model_dump(include={"seed", "accelerator", "devices", "nodes", "workers"})
    return preset.level.fit.model_copy(update=where)


@dataclass(frozen=True)
class Planned:
    """One training: its networks (a GAN has two), what it sees, its step."""

    main: str
    networks: dict[str, nn.Module]
    fetch: Fetch
    positions: Rows
    ids: Sequence[str]
    settings: FitSettings
    step: Step
    validate: Validate | None
    above: str = ""
    """Hash of the networks that it learns with and leaves as they are."""


def classifier_fit(
    name: str, pairs: Pairs, chosen: Chosen, preset: StainPreset, learn: Rows, kept: Rows
) -> Planned:
    """Plan the training of ``level`` or ``judge`` on the rows whose level is known."""
    levels, settings = chosen.levels, settings_of(name, preset)
    learn, kept = (rows[levels[rows] >= 0] for rows in (learn, kept))
    kept = kept[:: max(1, -(-len(kept) // CLASSIFIED))]
    present = np.unique(levels[learn])
    if len(present) < 2:
        seen = ", ".join(chosen.names[place] for place in present) or "none"
        remedy = "generator.level_features=false" if name == LEVEL else "measure.judge=false"
        raise DataError(
            f"the classifier {name!r} learns from {len(learn)} training pairs with a level, and "
            f"the levels among them are: {seen}; expected at least two. Set {remedy}, or label "
            "more pairs."
        )
    network = build_network(name, preset, seed=settings.seed)
    read = functools.partial(image_of if name == LEVEL else target_of, pairs)
    store = shrunken_store(read, np.union1d(learn, kept), preset, count=len(levels))
    fetch = LevelFetch(
        store,
        levels,
        augment=preset.augment,
        stain=preset.augment.stain if name == LEVEL else 0.0,
        seed=settings.seed,
    )
    networks: dict[str, nn.Module] = {CLASSIFIER: network}
    return Planned(
        main=CLASSIFIER,
        networks=networks,
        fetch=fetch,
        positions=learn,
        ids=pairs.images.ids,
        settings=settings,
        step=make_step(networks, kind="single", classes=len(chosen.names)),
        validate=level_validation(LevelFetch(store, levels), kept) if len(kept) else None,
    )


def gan_fit(
    pairs: Pairs,
    preset: StainPreset,
    learn: Rows,
    kept: Rows,
    *,
    level: nn.Module | None,
    folder: Path,
) -> Planned:
    """Plan the training of the generator, and of the discriminator if it has one."""
    names = (GENERATOR, DISCRIMINATOR) if needs_discriminator(preset) else (GENERATOR,)
    networks = {name: build_network(name, preset, seed=preset.fit.seed) for name in names}
    kept = kept[:: max(1, -(-len(kept) // JUDGED))]
    features, above = None, ""
    if preset.generator.level_features:
        if not isinstance(level, LevelClassifier):
            raise ValueError("the generator is given level features: pass the trained classifier.")
        above = hashlib.sha256(bytes_of(level)).hexdigest()
        features = _features(level, pairs, np.union1d(learn, kept), preset, folder, above)
        mean, sd = level_statistics(features[learn])
        generator = networks[GENERATOR]
        assert isinstance(generator, StainUNet)
        generator.set_level_statistics(torch.from_numpy(mean), torch.from_numpy(sd))
    crops = preset.augment.crops_per_image
    return Planned(
        main=GENERATOR,
        networks=networks,
        fetch=PairFetch(pairs, augment=preset.augment, seed=preset.fit.seed, features=features),
        positions=crop_positions(learn, crops),
        ids=[one for one in pairs.images.ids for _ in range(crops)],
        settings=preset.fit,
        step=gan_step(networks, preset),
        validate=gan_validation(_judged(pairs, kept, preset, features)) if len(kept) else None,
        above=above,
    )


def level_statistics(
    features: Float[np.ndarray, "n f"],
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Return what level features are standardised by: mean and standard deviation of each.

    One that hardly moves over the training images may well move on others, and would then be
    blown up; so none is divided by less than a tenth of the root mean square of all deviations,
    and where nothing moves at all (a single image) they are only shifted.

    Examples
    --------
    >>> mean, sd = level_statistics(np.array([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0]]))
    >>> mean.tolist(), sd.round(3).tolist()
    ([2.0, 5.0, 0.0], [1.0, 0.058, 0.058])
    """
    mean, sd = features.mean(axis=0), features.std(axis=0)
    typical = np.sqrt(np.mean(sd**2))
    return mean, np.maximum(sd, SMALLEST_SHARE * typical) if typical > 0 else np.ones_like(sd)


def _features(
    level: LevelClassifier,
    pairs: Pairs,
    rows: Rows,
    preset: StainPreset,
    folder: Path,
    above: str,
) -> Float[np.ndarray, "n f"]:
    """Return the level features of rows, 0 for others; computed once and kept in the folder.

    Kept, because a resumed training must see the same to the last bit, and a GPU may not give it.
    """
    asked = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
    key = sha256_of_json([above, asked, pairs.cache_hash, preset.level.size_px])
    file = folder / f"features-{key[:16]}.npy"
    features = np.zeros((len(pairs), level.feature_count), np.float32)
    if file.is_file():
        features[rows] = np.load(file)
        return features
    training = level.training
    level.eval().to(device_of(preset.fit, preset.fit.accelerator))
    for row in rows:
        features[row] = level_features(level, image_of(pairs, [row]), preset)[0]
    level.cpu().train(training)
    data = io.BytesIO()
    np.save(data, features[rows])
    write_bytes(file, data.getvalue())
    return features


def _judged(
    pairs: Pairs, rows: Rows, preset: StainPreset, features: Float[np.ndarray, "n f"] | None
) -> Callable[[], Iterator[Batch]]:
    """Return what gives the middle of a few pairs, as large as in training, one by one."""
    fetch, side = PairFetch(pairs, augment=None, features=features), preset.augment.crop_px

    def batches() -> Iterator[Batch]:
        for row in rows:
            batch = fetch(np.array([row]), 0)
            for name in ("image", "target"):
                batch[name] = _middle(batch[name], side)
            yield batch

    return batches


def _middle(images: torch.Tensor, side: int | None) -> torch.Tensor:
    """Cut a square out of the middle of images; None: leave them whole."""
    if side is None:
        return images
    top, left = ((whole - side) // 2 for whole in images.shape[2:])
    return images[:, :, top : top + side, left : left + side]
