"""Who is learnt from and who is tested on, for each replicate: by patient, from the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from medglean.curate.budget import count_of, default_start
from medglean.curate.study.settings import EnrichStudyPreset, Size
from medglean.data.manifest import Manifest
from medglean.errors import DataError, UsageError
from medglean.randomness import numpy_generator

SMALLEST_POOL = 4


@dataclass(frozen=True)
class Replicate:
    """One repetition of the experiment.

    Attributes
    ----------
    number
        Counted from 0.
    pool
        Rows that may be selected and learnt from, in the manifest's order.
    test
        Rows that are measured on.
    """

    number: int
    pool: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]

    @property
    def test_share(self) -> float:
        """Share of the images that is tested on."""
        return len(self.test) / (len(self.test) + len(self.pool))


def is_fixed(manifest: Manifest, preset: EnrichStudyPreset) -> bool:
    """Whether all replicates share one test set."""
    if preset.test.kind == "auto":
        return "split" in manifest.frame and bool(manifest.frame["split"].notna().any())
    return preset.test.kind == "fixed"


def replicates(manifest: Manifest, preset: EnrichStudyPreset) -> list[Replicate]:
    """Divide the rows of a manifest into pool and test, for each replicate.

    Raises
    ------
    DataError
        If the pool or the test part is empty, a patient is on both sides of the manifest's split,
        or no group has as many images as ``balanced_groups`` asks for.
    """
    fixed = is_fixed(manifest, preset)
    standing = "split" in manifest.frame and manifest.frame["split"].notna().any()
    made = []
    for number in range(preset.replicates):
        if fixed and standing:
            parts = manifest.frame["split"].fillna("").to_numpy(dtype=object)
            _check_sides(manifest, parts, preset)
            pool, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
        else:
            inside = _drawn(manifest, preset, replicate=0 if fixed else number)
            pool, test = np.flatnonzero(~inside), np.flatnonzero(inside)
        if preset.balanced_groups is not None:
            pool = balanced(
                pool, manifest.groups(preset.group)[pool], preset.balanced_groups,
                seed=preset.seed, replicate=0 if fixed else number,
            )  # fmt: skip
        if len(pool) < SMALLEST_POOL or len(test) == 0:
            raise DataError(
                f"replicate {number}: {len(pool)} images to select from and {len(test)} to test "
                f"on; expected at least {SMALLEST_POOL} and 1. Check the column 'split', "
                "test.share and balanced_groups."
            )
        made.append(Replicate(number, pool, test))
    return made


def _check_sides(manifest: Manifest, parts: np.ndarray, preset: EnrichStudyPreset) -> None:
    names = manifest.groups(preset.test.group)
    both = set(names[parts == "train"]) & set(names[parts == "test"])
    if both:
        raise DataError(
            f"{len(both)} of the {preset.test.group}s are in train and in test, such as "
            f"{min(both)!r}: the score would be of images that were learnt. Correct the column "
            "'split', or set test.kind=per-replicate."
        )


def _drawn(manifest: Manifest, preset: EnrichStudyPreset, *, replicate: int) -> np.ndarray:
    """Return for each row whether it is tested on: whole patients, drawn within each class.

    Not `split_by_group`: that balances the parts, and where patients differ much in size it finds
    the same split for every seed, while replicates are to show how much the split matters.
    """
    names = manifest.groups(preset.test.group)
    column = preset.labels.column
    labels = (
        manifest.frame[column].fillna("").to_numpy(dtype=object)
        if column in manifest.frame
        else np.full(len(manifest), "", dtype=object)
    )
    commonest = pd.Series(labels).groupby(names).agg(lambda values: values.mode().iloc[0])
    if len(commonest) < 2:
        raise DataError(
            f"one {preset.test.group} only, so none can be kept aside to test on. Check the "
            "column, or name another with test.group."
        )
    generator = numpy_generator(preset.seed, "study", "split", replicate)
    tested: set[object] = set()
    for label in sorted(set(commonest)):
        of_class = sorted(commonest.index[commonest == label])
        count = round(preset.test.share * len(of_class))
        if len(of_class) > 1:
            count = min(max(count, 1), len(of_class) - 1)  # a class on one side tests nothing
        tested |= {of_class[place] for place in generator.permutation(len(of_class))[:count]}
    return np.array([name in tested for name in names], dtype=bool)


def balanced(
    pool: Int[np.ndarray, " n"], groups: np.ndarray, per_group: int, *, seed: int, replicate: int
) -> Int[np.ndarray, " m"]:
    """Return exactly ``per_group`` random rows of every group that has so many, in row order.

    The case of equally many slices of each volume. A group's draw depends on its name, not on
    which other groups there are.
    """
    kept = []
    for name in sorted(set(groups)):
        members = pool[groups == name]
        if len(members) >= per_group:
            generator = numpy_generator(seed, "study", "balanced", replicate, str(name))
            kept.append(generator.choice(members, per_group, replace=False))
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)


def sizes_of(preset: EnrichStudyPreset, pool: int) -> dict[str, int]:
    """Return how many images each size means for a pool, smallest first, by the size's own text.

    Raises
    ------
    UsageError
        If a size is larger than the pool, or two sizes come to the same number.

    Examples
    --------
    >>> from medglean.curate.study.settings import EnrichStudyPreset
    >>> sizes_of(EnrichStudyPreset(name="x", sizes=("10%", 20)), 1000)
    {'20': 20, '10%': 100}
    """
    named = {size_name(size): count_of(size, pool, name="a size") for size in preset.sizes}
    if len(set(named.values())) < len(preset.sizes):
        raise UsageError(
            f"sizes: {', '.join(named)} are not all different for a training pool of {pool:,} "
            "images. Leave one out."
        )
    return dict(sorted(named.items(), key=lambda item: item[1]))


def size_name(size: Size) -> str:
    """Return a size as it stands in tables.

    Examples
    --------
    >>> size_name(0.025), size_name("5 %"), size_name(45)
    ('2.5%', '5%', '45')
    """
    if isinstance(size, float):
        return f"{100 * size:g}%"
    return str(size).replace(" ", "")


def start_of(preset: EnrichStudyPreset, pool: int, counts: Sequence[int]) -> int:
    """Return how many images are drawn at random first: the same for all sizes, so that they nest.

    Raises
    ------
    UsageError
        If it is more than the smallest subset has.
    """
    if preset.start == "auto":
        return default_start(min(counts))
    start = count_of(preset.start, pool, name="start")
    if start > min(counts):
        raise UsageError(
            f"start is {start:,} images, and the smallest subset has {min(counts):,}. Lower start, "
            "or leave that size out."
        )
    return start
