"""What is asked of shards: numbers of images, limits, and what shards cannot do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from medglean.curate.budget import check_start, count_of, default_start
from medglean.curate.inputs import codes_of
from medglean.curate.order import Limits
from medglean.curate.pool import choosable
from medglean.curate.settings import CuratePreset
from medglean.curate.shards.cluster import require_ray
from medglean.curate.shards.encoders import refuse_settings
from medglean.curate.shards.plan import by_unit, candidate_counts
from medglean.curate.shards.select import check_method
from medglean.data.manifest import Manifest
from medglean.errors import DataError, UsageError

IMAGES_PER_SHARD = 20_000


@dataclass(frozen=True)
class Asked:
    """What was to be chosen.

    Attributes
    ----------
    method, budget, start
        Its name; how many images; how many of them are drawn at random to begin with.
    taken
        Rows of the manifest that were taken beforehand, ascending.
    """

    method: str
    budget: int
    start: int
    taken: Int[np.ndarray, " t"]


def refuse_preset(preset: CuratePreset) -> None:
    """Refuse a preset that asks for what needs all images at once, and say what to change.

    Raises
    ------
    UsageError
        If there is such a setting.
    """
    asked = preset.selection
    try:
        check_method(asked.method)
    except UsageError as error:
        raise UsageError(
            f"{error} With --engine ray that is --preset enrich2023, or the settings "
            "selection.method=enrich outliers.gate=false."
        ) from error
    if preset.outliers.gate:
        raise UsageError(
            "the outlier gate compares each image with all others, which are never in one place "
            "over shards. Switch it off with the setting outliers.gate=false."
        )
    if asked.quotas:
        raise UsageError(
            "selection.quotas are shared out among the images that could be embedded, which is "
            "known too late over shards. Leave quotas out, or run once for each stratum."
        )
    if asked.patient != "patient":
        raise UsageError(
            f"selection.patient is {asked.patient!r}; shards are made by the column 'patient'. "
            "Name that column patient."
        )
    for name in ("start", "stop_similarity"):
        if asked.method != "enrich" and getattr(asked, name) is not None:
            raise UsageError(
                f"selection.{name} concerns the method enrich alone, and the method is "
                f"{asked.method}. Leave it out."
            )
    refuse_settings(preset.embedding)


def default_shards(manifest: Manifest) -> int:
    """Return one shard for each 20,000 images, and at most one for each patient."""
    wanted = -(-len(manifest) // IMAGES_PER_SHARD)
    return min(wanted, len(set(manifest.groups("patient").tolist())))


def choosable_part(manifest: Manifest) -> Manifest:
    """Return the images that can be chosen."""
    inside = choosable(manifest)
    if not inside.any():
        raise DataError(
            f"{manifest.path or 'the manifest'}: no image can be chosen: none of {len(manifest)} "
            "is in the training part or in none. Check the column 'split'."
        )
    return manifest if inside.all() else manifest.select(inside)


def ask(pool: Manifest, preset: CuratePreset, budget: str | float, taken: np.ndarray) -> Asked:
    """Turn the budget and the start into numbers of images, as on one machine."""
    count = count_of(budget, len(pool) - len(taken))
    selection = preset.selection
    start = 0
    if selection.method == "enrich":
        if selection.start is None:
            start = 0 if len(taken) else default_start(count)
        elif selection.start not in (0, "0"):
            start = count_of(selection.start, len(pool), name="start")
        if start == 0 and len(taken) == 0:
            raise UsageError("enrich needs a start of at least 1 image, or preselected images.")
        check_start(count, start)
    return Asked(selection.method, count, start, taken)


def check_shards(pool: Manifest, asked: Asked, *, shards: int, oversample: float | None) -> None:
    """Refuse what the engine would refuse after the encoder has learnt, which may take an hour.

    Raises
    ------
    UsageError
        If there are fewer patients than shards, ``oversample`` is below 1, or Ray is missing.
    """
    plan = by_unit(pool.groups("patient"), shards=shards, by=pool.grouped_by)
    candidate_counts(plan.sizes, picks=asked.budget - asked.start, oversample=oversample)
    require_ray()


def limits_of(pool: Manifest, preset: CuratePreset) -> Limits:
    """Return how many images may be taken of a group.

    Raises
    ------
    UsageError
        If there is a limit and no column of groups.
    """
    most, name = preset.selection.max_per_group, preset.selection.group
    if most is None:
        return Limits()
    groups = pool.groups(name) if name in pool.frame else None
    codes = codes_of(groups, n=len(pool), name="groups")
    return Limits(None if codes is None else codes.codes, most)
