"""A manifest's images as a network takes them, with their classes: from rows to samples.

Images come out of a cache and are read when they are asked for, so that a set of any size opens
at once. Which rows can be used for what is told by :meth:`ImageSet.positions`; a row whose image
failed, or that has no label, keeps its place and its id and is never silently dropped from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.arrays import UnitImage
from medglean.data.augment import to_float
from medglean.data.cache import Cache, Progress, decode_to_memory, open_cache
from medglean.data.fetch import Fetch, Normalise, channel_statistics
from medglean.data.labels import NOT_LABELLED, class_targets, several_targets
from medglean.data.manifest import Manifest
from medglean.data.prepare import prepare
from medglean.data.recipe import Recipe
from medglean.errors import DataError, Problem

__all__ = ["Fetch", "ImageSet", "Normalise", "Sample", "channel_statistics", "prepare"]


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it.

    Attributes
    ----------
    image
        float32 in [0, 1], shape (c, h, w).
    id
        Of the manifest.
    group
        What it belongs to, for counting: the patient where that is known.
    label
        Class name, or names joined by ``;``; None where the row is not labelled.
    target
        The label as a network takes it: an index into ``classes``, or a 0 or 1 for each class;
        None where the row is not labelled.
    spacing_mm
        Millimetres between neighbouring pixels along y and x; None where unknown.
    """

    image: UnitImage
    id: str
    group: str
    label: str | None
    target: int | Float[np.ndarray, " k"] | None
    spacing_mm: tuple[float, float] | None


class ImageSet(Sequence[Sample]):
    """The images of a manifest, prepared by a recipe.

    Parameters
    ----------
    manifest
        At least one row.
    recipe
        How images are prepared.
    cache
        Folder for caches; None: images are decoded into memory and nothing is written.
    label_column
        ``label``: one class per image. ``labels``: any number of classes, joined by ``;``. None,
        or a manifest without the column: there are no classes.
    classes
        The classes in the order of the network's outputs; by default those that occur, sorted. A
        trained network's own list must be given when it is used on other data.
    workers
        How many images are decoded at the same time; 0: in this process.
    progress
        Called as ``progress(done, total)`` while images are decoded.

    Attributes
    ----------
    manifest, recipe, classes
        As above.
    stored
        The prepared images as the cache keeps them, shape (n, c, h, w).
    targets
        One class per image: int64 of shape (n,), -1 where not labelled. Several: float32 of shape
        (n, k), NaN where not labelled. Without classes: -1.
    ok
        Whether each row has an image, shape (n,).
    failures, warnings
        What was wrong with images, and what to know about them.

    Raises
    ------
    DataError
        If the data have a class that is not in ``classes``.
    CacheError
        As :func:`~medglean.data.cache.open_cache`.
    """

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        *,
        cache: Path | None,
        label_column: Literal["label", "labels"] | None = "label",
        classes: Sequence[str] | None = None,
        workers: int = 2,
        progress: Progress | None = None,
    ) -> None:
        self.manifest, self.recipe = manifest, recipe
        self.label_column = label_column if label_column in manifest.frame else None
        # classes first: a wrong label is told before an hour of decoding
        self.classes, self.targets = _classes_and_targets(manifest, self.label_column, classes)
        self.cached: Cache = (
            decode_to_memory(manifest, recipe, workers=workers, progress=progress)
            if cache is None
            else open_cache(manifest, recipe, cache, workers=workers, progress=progress)
        )
        self.ids = manifest.ids
        self.groups = manifest.groups("patient")

    @property
    def stored(self) -> np.ndarray:
        """The prepared images as the cache keeps them, shape (n, c, h, w)."""
        return self.cached.array

    @property
    def ok(self) -> Bool[np.ndarray, " n"]:
        """Whether each row has an image."""
        return self.cached.ok

    @property
    def failures(self) -> tuple[Problem, ...]:
        """Why rows have no image."""
        return self.cached.failures

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What to know about images that were read."""
        return self.cached.warnings

    @property
    def labelled(self) -> Bool[np.ndarray, " n"]:
        """Whether each row has a label."""
        if self.targets.ndim == 2:
            known: np.ndarray = ~np.isnan(self.targets).any(axis=1)
            return known
        one: np.ndarray = self.targets != NOT_LABELLED
        return one

    def positions(
        self, split: str | None = None, *, labelled: bool = True
    ) -> Int[np.ndarray, " m"]:
        """Return the rows that can be used, in order: they have an image, and a label if asked.

        Parameters
        ----------
        split
            Only rows of this part: train, val or test. None: of all parts, and of none.
        labelled
            Whether a row needs a label; not for prediction.

        Raises
        ------
        DataError
            If a part is asked for and the manifest has no split.
        """
        usable = self.ok & self.labelled if labelled else self.ok
        if split is not None:
            if "split" not in self.manifest.frame:
                raise DataError(
                    f"part {split!r} is asked for, and the manifest has no column 'split'. Make "
                    "one with split_by_group."
                )
            usable = usable & (self.manifest.frame["split"] == split).to_numpy(dtype=bool)
        return np.flatnonzero(usable).astype(np.int64)

    def __len__(self) -> int:
        return len(self.manifest)

    @overload
    def __getitem__(self, position: int) -> Sample: ...
    @overload
    def __getitem__(self, position: slice) -> list[Sample]: ...
    def __getitem__(self, position: int | slice) -> Sample | list[Sample]:
        """Return the image of a row.

        Raises
        ------
        DataError
            If it could not be read; the message is the one in ``failures``.
        """
        if isinstance(position, slice):
            return [self[row] for row in range(*position.indices(len(self)))]
        row = range(len(self))[position]
        if not self.ok[row]:
            raise DataError(next(str(f) for f in self.failures if f.row == row + 2))
        label = target = None
        if self.label_column is not None and self.labelled[row]:
            label = str(self.manifest.frame[self.label_column].iloc[row])
            target = self.targets[row] if self.targets.ndim == 2 else int(self.targets[row])
        return Sample(
            image=to_float(self.stored[row]),
            id=self.ids[row],
            group=str(self.groups[row]),
            label=label,
            target=target,
            spacing_mm=self.cached.spacing_mm[row],
        )


def _classes_and_targets(
    manifest: Manifest, column: str | None, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    if column is None:
        return tuple(classes or ()), np.full(len(manifest), NOT_LABELLED, dtype=np.int64)
    labels = manifest.frame[column]
    if column == "labels":
        return several_targets(labels, classes)
    return class_targets(labels, classes)
