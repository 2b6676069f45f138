"""The methods by name: plain functions from an embedding to one nested order.

To add one: write the function in a module of its own, give it a line in `METHODS`, and describe
it in `SUMMARY`. What it takes from the `Wish` is its own business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Num

from medglean.curate.methods.clusters import rank_kmeans, rank_representatives
from medglean.curate.methods.coverage import group_weights, rank_coverage
from medglean.curate.methods.rounds import rank_rounds
from medglean.curate.methods.simple import (
    rank_interval,
    rank_random,
    rank_random_groups,
    rank_whole_groups,
)
from medglean.curate.order import Limits, Ranking
from medglean.curate.ranking import Rule, rank_farthest, rank_matrix
from medglean.curate.ssim import ssim_matrix
from medglean.errors import UsageError

DEFAULT = "rounds"


@dataclass(frozen=True)
class Wish:
    """What is asked of a method; each takes what concerns it.

    Attributes
    ----------
    count
        The budget, which the methods that are made for one budget are made for.
    length
        How long the order is to be, at least ``count``.
    seed
        Of all draws.
    limits, taken
        What may be taken, and positions of what was taken beforehand.
    groups, patients
        Numbers without gaps of what each image belongs to; None where it is not known.
    start
        Positions to begin with (ENRICH's random start).
    stop_similarity
        ENRICH stops where all that is left resembles something taken more than this.
    neighbours
        Neighbours per image in the graph of the coverage methods; None: their default.
    thumbnails
        Small grey pictures, in [0, 1] or of 8 bits; None where there are none.
    """

    count: int
    length: int
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    taken: Int[np.ndarray, " t"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    groups: Int[np.ndarray, " n"] | None = None
    patients: Int[np.ndarray, " n"] | None = None
    start: Int[np.ndarray, " s"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    stop_similarity: float | None = None
    neighbours: int | None = None
    thumbnails: Num[np.ndarray, "n h w"] | None = None


Method = Callable[[np.ndarray, Wish], Ranking]
"""From an embedding (n, d) without zero rows, and a wish, to a ranking."""


def _enrich(values: Float[np.ndarray, "n d"], wish: Wish, rule: Rule = "largest") -> Ranking:
    return rank_farthest(
        values,
        start=wish.start,
        count=wish.length,
        taken=wish.taken,
        limits=wish.limits,
        rule=rule,
        stop_similarity=wish.stop_similarity,
    )


def _enrich_ssim(_: Float[np.ndarray, "n d"], wish: Wish) -> Ranking:
    if wish.thumbnails is None:
        raise UsageError(
            "enrich-ssim compares thumbnails, and there are none: the images cannot be read. Take "
            "enrich, which compares embeddings."
        )
    shown = wish.thumbnails
    unit = shown.astype(np.float64) / (255.0 if shown.dtype == np.uint8 else 1.0)
    return rank_matrix(
        ssim_matrix(unit),
        start=wish.start,
        count=wish.length,
        taken=wish.taken,
        limits=wish.limits,
    )


def _coverage(values: np.ndarray, wish: Wish, weights: np.ndarray | None = None) -> Ranking:
    return rank_coverage(
        values,
        count=wish.length,
        weights=weights,
        neighbours=wish.neighbours,
        limits=wish.limits,
        taken=wish.taken,
    )


def _coverage_groups(values: np.ndarray, wish: Wish) -> Ranking:
    return _coverage(values, wish, group_weights(_known(wish.groups, "coverage-groups", "groups")))


def _coverage_patients(values: np.ndarray, wish: Wish) -> Ranking:
    patients = _known(wish.patients, "coverage-patients", "patients")
    return _coverage(values, wish, group_weights(patients))


def _rounds(values: np.ndarray, wish: Wish) -> Ranking:
    return rank_rounds(
        values,
        groups=wish.patients if wish.groups is None else wish.groups,
        count=wish.length,
        seed=wish.seed,
        limits=wish.limits,
        taken=wish.taken,
    )


def _representatives(values: np.ndarray, wish: Wish) -> Ranking:
    return rank_representatives(values, count=wish.length, limits=wish.limits, taken=wish.taken)


def _kmeans(values: np.ndarray, wish: Wish) -> Ranking:
    return rank_kmeans(
        values,
        count=wish.count,
        length=wish.length,
        seed=wish.seed,
        limits=wish.limits,
        taken=wish.taken,
    )


def _random(values: np.ndarray, wish: Wish) -> Ranking:
    return rank_random(
        values, count=wish.length, seed=wish.seed, limits=wish.limits, taken=wish.taken
    )


def _random_groups(values: np.ndarray, wish: Wish) -> Ranking:
    groups = _known(wish.groups, "random-groups", "groups")
    return rank_random_groups(
        values, groups=groups, count=wish.length, seed=wish.seed, limits=wish.limits,
        taken=wish.taken,
    )  # fmt: skip


def _whole_groups(values: np.ndarray, wish: Wish) -> Ranking:
    groups = _known(wish.groups, "whole-groups", "groups")
    return rank_whole_groups(
        values, groups=groups, count=wish.length, seed=wish.seed, limits=wish.limits,
        taken=wish.taken,
    )  # fmt: skip


def _interval(values: np.ndarray, wish: Wish) -> Ranking:
    return rank_interval(
        values,
        count=wish.count,
        length=wish.length,
        within=wish.groups,
        limits=wish.limits,
        taken=wish.taken,
    )


BEGIN_AT_RANDOM = frozenset({"enrich", "enrich-mean", "enrich-batch", "enrich-ssim"})
"""Methods that need images to begin with."""
METHODS: dict[str, Method] = {
    "rounds": _rounds,
    "enrich": _enrich,
    "enrich-mean": partial(_enrich, rule="mean"),
    "enrich-batch": partial(_enrich, rule="batch"),
    "enrich-ssim": _enrich_ssim,
    "coverage": _coverage,
    "coverage-groups": _coverage_groups,
    "coverage-patients": _coverage_patients,
    "representatives": _representatives,
    "k-means": _kmeans,
    "random": _random,
    "random-groups": _random_groups,
    "whole-groups": _whole_groups,
    "interval": _interval,
}
SUMMARY = {
    "rounds": "one image of each group per round, the first round chosen by coverage (the default)",
    "enrich": "each next image is the least similar to those taken (the paper's method)",
    "enrich-mean": "the same with the mean similarity to those taken, for comparison",
    "enrich-batch": "the same, brought up to date after every 100 images only, for comparison",
    "enrich-ssim": "the same with the structural similarity of thumbnails; at most 2,000 images",
    "coverage": "the images that together resemble all images most (facility location)",
    "coverage-groups": "the same, every group (clip, volume) weighing the same",
    "coverage-patients": "the same, every patient weighing the same",
    "representatives": "the middle image of each of ever more clusters (bisecting k-means)",
    "k-means": "the image nearest to each centre of as many clusters as the budget",
    "random": "drawn uniformly",
    "random-groups": "one random image of each group per round",
    "whole-groups": "random groups with all of their images",
    "interval": "every so-many-th image, group by group where groups are known",
}


def method_named(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    UsageError
        If there is none of that name; lists those there are.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; the methods are {', '.join(METHODS)}.")
    return METHODS[name]


def _known(codes: np.ndarray | None, method: str, what: str) -> np.ndarray:
    if codes is None:
        raise UsageError(
            f"{method} needs to know the {what} of the images. Name the column that holds them, or "
            "take a method without: coverage, representatives, random."
        )
    return codes
