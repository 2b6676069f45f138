"""How well a selection covers all images, and what it can have lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from medglean.curate.order import Ranking
from medglean.errors import UsageError

BLOCK_BYTES = 1 << 25


def nearest_selected(
    values: Float[np.ndarray, "n d"], selected: Float[np.ndarray, "k d"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return each image's largest cosine similarity to the selected ones, and to which.

    Computed in blocks of at most 32 MiB; ``values`` of a shard and ``selected`` of another may
    meet here, so nothing but these two is held.

    Returns
    -------
    tuple
        Similarity in [-1, 1] and row of ``selected``, the first of equal ones; each shape (n,).

    Raises
    ------
    UsageError
        If nothing is selected.
    """
    if not len(selected):
        raise UsageError("nothing is selected, so no image has a nearest selected one.")
    target = _unit(selected)
    block = max(1, BLOCK_BYTES // (8 * max(len(target), values.shape[1])))
    similarity = np.empty(len(values))
    nearest = np.empty(len(values), dtype=np.int64)
    for first in range(0, len(values), block):
        part = slice(first, first + block)
        products = _unit(values[part]) @ target.T
        nearest[part] = products.argmax(axis=1)
        similarity[part] = np.take_along_axis(products, nearest[part][:, None], axis=1)[:, 0]
    return np.clip(similarity, -1.0, 1.0), nearest


def angle(similarity: float) -> float:
    """Return the angle in radians, from 0 to pi, whose cosine is ``similarity``."""
    return math.acos(min(1.0, max(-1.0, similarity)))


@dataclass(frozen=True)
class Certificate:
    """What a finished selection can lose against the best one, from its own numbers.

    Attributes
    ----------
    radius
        Largest angle from any image to the nearest selected one, radians.
    at_least
        No selection of as many images, beside the same start, has a smaller radius. Radians.
    factor
        ``radius / at_least``: at most this many times the best radius, and so of one machine's.
        1 where the radius is 0; infinite where nothing can be said.
    """

    radius: float
    at_least: float
    factor: float


def certify(ranking: Ranking, *, picks: int, lowest_similarity: float) -> Certificate:
    """Bound the loss of a farthest-first order without knowing the best one.

    The picks lie at least the last pick's angle from one another and from the start, and the image
    that is served worst lies at least the radius from all of them. By the argument at the head of
    `select`, no ``picks`` images beside the start reach a radius below half of the smaller of both.

    Parameters
    ----------
    ranking
        A farthest-first order that no limit on groups or strata has touched.
    picks
        How many of its images were picked, the start not counted.
    lowest_similarity
        Smallest over all images of the largest similarity to a selected one.
    """
    radius = angle(lowest_similarity)
    if radius == 0 or not picks:  # nothing is better than 0; without picks nothing was chosen
        return Certificate(radius, radius, 1.0)
    apart = angle(float(ranking.similarity[-1]))
    at_least = min(radius, apart) / 2
    return Certificate(radius, at_least, radius / at_least if at_least else math.inf)


def _unit(values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    exact = np.asarray(values, dtype=np.float64)
    unit: np.ndarray = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return unit
