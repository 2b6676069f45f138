"""Measures that know which images they rest on.

An interval then tells the right numbers of images and patients, and two methods can be compared on
the images that both could be measured on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.measure.weighted import Statistic


class Measure(NamedTuple):
    """A statistic and the images that it is of, as rising positions."""

    statistic: Statistic
    rows: np.ndarray


def intervals_of(
    measures: Mapping[str, Measure],
    groups: Sequence[object] | np.ndarray,
    *,
    replicates: int,
    seed: int,
) -> dict[str, Interval]:
    """Return each measure with its interval over the groups of its own images.

    Parameters
    ----------
    measures
        By name.
    groups
        Patient of every image, or what stands for it.
    replicates, seed
        Of the bootstrap.
    """
    names = np.asarray(groups)
    sets: dict[bytes, list[str]] = {}
    for name, measure in measures.items():
        sets.setdefault(measure.rows.tobytes(), []).append(name)
    found: dict[str, Interval] = {}
    for together in sets.values():
        found |= cluster_bootstrap_many(
            {name: measures[name].statistic for name in together},
            names[measures[together[0]].rows],
            replicates=replicates,
            seed=seed,
        )
    return {name: found[name] for name in measures}


def difference(first: Measure, second: Measure) -> Measure:
    """Return first less second, both on the images that both rest on."""
    rows = np.intersect1d(first.rows, second.rows)

    def at(measure: Measure, weights: np.ndarray) -> np.ndarray:
        # an image that only one of the two could use counts for neither
        spread = np.zeros((len(measure.rows), weights.shape[1]))
        spread[np.searchsorted(measure.rows, rows)] = weights
        return measure.statistic(spread)

    return Measure(lambda weights: at(first, weights) - at(second, weights), rows)
