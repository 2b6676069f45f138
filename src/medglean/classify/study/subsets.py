"""Fewer training images and fewer classes: what cells of two of the study's tables learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medglean.classify.prepare import Chosen
from medglean.data.labels import label_sets
from medglean.data.splits import joined_groups
from medglean.randomness import numpy_generator


def most_frequent(chosen: Chosen, count: int) -> tuple[str, ...]:
    """Return the classes with the most training images, sorted by name.

    Parameters
    ----------
    chosen
        The study's images, divided.
    count
        How many; of equally frequent ones the first by name.
    """
    frame = chosen.manifest.frame
    learn = frame.loc[frame["split"] == "train", chosen.column]
    counts = dict.fromkeys(chosen.classes, 0)
    for names in label_sets(learn, several=chosen.kind == "multi"):
        for name in names or ():
            counts[name] += 1
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return tuple(sorted(ordered[:count]))


def with_share(chosen: Chosen, share: float, *, group: str, seed: int) -> np.ndarray:
    """Return which rows are left where only a share of the training images is learnt from.

    Parameters
    ----------
    chosen
        The study's images, divided.
    share
        Of the training images, in (0, 1]. Whole groups are taken until it is reached, so there
        are slightly more images. The rows of a smaller share are among those of a larger one.
    group
        Column whose values stay together, as for the split.
    seed
        Of the order in which groups are taken.

    Returns
    -------
    ndarray
        Positions in the manifest, rising: of the training part those that are taken, of the other
        parts all.
    """
    parts = chosen.manifest.frame["split"].to_numpy(dtype=object)
    learn = np.flatnonzero(parts == "train")
    if share >= 1.0:
        return np.arange(len(parts))
    names = joined_groups(chosen.manifest, group=group)[learn]
    sets = label_sets(chosen.manifest.frame[chosen.column], several=chosen.kind == "multi")
    members: dict[str, list[int]] = {}
    for row, name in zip(learn.tolist(), names.tolist(), strict=True):
        members.setdefault(name, []).append(row)
    strata = {name: _usual([sets[row] or () for row in rows]) for name, rows in members.items()}
    taken: list[int] = []
    for name in _order(strata, first=chosen.kind == "single", seed=seed):
        if len(taken) >= share * len(learn):
            break
        taken += members[name]
    return np.sort(
        np.concatenate([np.array(taken, dtype=np.int64), np.flatnonzero(parts != "train")])
    )


def _usual(sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what the most images of a group have, the first by name of equally many."""
    return max(sorted(set(sets)), key=sets.count)


def _order(strata: Mapping[str, tuple[str, ...]], *, first: bool, seed: int) -> list[str]:
    """Return groups in an order of which every beginning has every stratum's share.

    The group of rank r among the n of its stratum stands at (r + u) / n, a systematic sample.

    Parameters
    ----------
    strata
        Class or findings of each group.
    first
        Whether u is 0, so that the first group of every stratum comes first and no class is
        missing: right for classes, of which there are few. Otherwise u is uniform in [0, 1) for
        each stratum: of sets of findings there are many, and most are rare.
    seed
        Of the order within a stratum, and of u.
    """
    inside: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(strata):
        inside.setdefault(strata[name], []).append(name)
    places: dict[str, tuple[float, float]] = {}
    for stratum, members in inside.items():
        random = numpy_generator(seed, "share of the training images", *stratum)
        start = 0.0 if first else float(random.random())
        for rank, place in enumerate(random.permutation(len(members)).tolist()):
            places[members[place]] = ((rank + start) / len(members), float(random.random()))
    return sorted(places, key=lambda name: (places[name], name))
