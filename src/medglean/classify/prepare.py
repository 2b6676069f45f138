"""From a manifest to what training needs: which rows, which classes, which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medglean.arrays import Kind
from medglean.classify.settings import ClassifyPreset, LabelSettings
from medglean.data.by_column import named_rows
from medglean.data.cache import Progress
from medglean.data.division import check_division, divide
from medglean.data.fetch import Normalise, channel_statistics
from medglean.data.imageset import ImageSet
from medglean.data.labels import label_sets
from medglean.data.manifest import Manifest
from medglean.data.ties import Ties, near_duplicate_ties
from medglean.errors import DataError, Problem

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Chosen:
    """The rows of a manifest that a classifier is about.

    Attributes
    ----------
    manifest
        Those rows, each with its ``split``.
    kind
        ``single`` or ``multi``.
    classes
        In the order of the network's outputs.
    problems
        What was left out and what is uneven.
    """

    manifest: Manifest
    kind: Kind
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def column(self) -> str:
        """Column of the manifest that holds the truth."""
        return column_of(self.kind)


def column_of(kind: Kind) -> Literal["label", "labels"]:
    """Return the manifest's column that holds the truth of a kind of classifier."""
    return "label" if kind == "single" else "labels"


def kind_of(manifest: Manifest, labels: LabelSettings) -> Kind:
    """Decide between one class per image and several.

    Raises
    ------
    DataError
        If the manifest has no column for it.
    """
    name = str(manifest.path or "the manifest")
    if labels.kind == "auto":
        if "label" in manifest.frame:
            return "single"
        if "labels" in manifest.frame:
            return "multi"
        raise DataError(
            f"{name}: no column 'label' (one class) or 'labels' (several), so there is nothing to "
            "learn. Add one, or index a folder whose sub-folders are the classes."
        )
    if column_of(labels.kind) not in manifest.frame:
        raise DataError(
            f"{name}: no column {column_of(labels.kind)!r}, which labels.kind="
            f"{labels.kind} needs. Add it, or set labels.kind=auto."
        )
    return labels.kind


def choose(
    manifest: Manifest,
    preset: ClassifyPreset,
    *,
    workers: int = 2,
    cache: Path | None = None,
) -> Chosen:
    """Choose rows and classes, and divide the rows.

    Parameters
    ----------
    manifest
        With ``label`` or ``labels``.
    preset
        What to do.
    workers
        Images decoded at the same time, where ``split.duplicates`` is ``together``; otherwise
        none is.
    cache
        Folder in which it is kept which images are near duplicates; by default it is not.

    Raises
    ------
    DataError
        If there is nothing to learn: no labels, one class, a class with too few images, a class
        that was asked for and does not occur.
    SplitError
        If the rows cannot be divided as the preset says.
    """
    kind = kind_of(manifest, preset.labels)
    column = column_of(kind)
    name = str(manifest.path or "the manifest")
    sets = label_sets(manifest.frame[column], several=kind == "multi")
    wanted = preset.labels.classes
    labelled = np.array([names is not None for names in sets], dtype=bool)
    keep = labelled.copy()
    if wanted is not None and kind == "single":
        keep = np.array([names is not None and names[0] in wanted for names in sets], dtype=bool)
    problems = _left_out(name, column, labelled, keep)
    if preset.split.column is not None:
        named, told = named_rows(manifest.select(keep), preset.split.column, preset.split.values)
        keep[np.flatnonzero(keep)[~named]] = False
        problems += told
    _check_classes(name, sets, keep, kind, preset.labels)
    rows = manifest.select(np.flatnonzero(keep))
    if wanted is not None and kind == "multi":
        rows = rows.with_columns(labels=_only(rows, wanted))
    ties = Ties((), ())
    if preset.split.duplicates == "together":
        ties = near_duplicate_ties(rows, workers=workers, cache=cache)
        problems += ties.problems
    rows = divide(rows, preset.split, seed=preset.fit.seed, label=column, tied=ties.sets)
    problems += check_division(rows, preset.split, label=column, tied=ties.sets)
    classes = wanted if wanted is not None else rows.classes(column)
    return Chosen(rows, kind, tuple(classes), tuple(problems))


def _only(manifest: Manifest, wanted: Sequence[str]) -> list[str]:
    return [
        ";".join(name for name in names or () if name in wanted)
        for names in label_sets(manifest.frame["labels"], several=True)
    ]


def _left_out(name: str, column: str, labelled: np.ndarray, keep: np.ndarray) -> list[Problem]:
    problems = []
    without, others = int((~labelled).sum()), int((labelled & ~keep).sum())
    if without:
        found = f"{without} of {len(labelled)} images have no {column} and are left out."
        problems.append(Problem(name, found, "", column=column, kind="unlabelled", fatal=False))
    if others:
        found = f"{others} images have a class that labels.classes does not name; left out."
        problems.append(Problem(name, found, "", column=column, kind="other-class", fatal=False))
    return problems


def _check_classes(
    name: str,
    sets: Sequence[tuple[str, ...] | None],
    keep: np.ndarray,
    kind: Kind,
    labels: LabelSettings,
) -> None:
    """Refuse classes from which nothing can be learnt."""
    counts: dict[str, int] = {}
    for names, kept in zip(sets, keep, strict=True):
        for one in names or () if kept else ():
            counts[one] = counts.get(one, 0) + 1
    missing = [one for one in labels.classes or () if one not in counts]
    if missing:
        raise DataError(
            f"{name}: class {missing[0]!r} of labels.classes has no image; the classes are "
            f"{', '.join(sorted(counts)) or 'none'}. Correct the name or leave it out."
        )
    if not keep.any():
        raise DataError(f"{name}: no image is labelled, so there is nothing to learn from.")
    if kind == "single" and len(counts) < 2:
        raise DataError(
            f"{name}: only one class, {next(iter(counts))!r}; expected at least two to tell apart. "
            "Add images of another class, or check the column 'label'."
        )
    few = sorted(one for one, count in counts.items() if count < labels.min_images)
    if kind == "single" and few:
        raise DataError(
            f"{name}: class {few[0]!r} has {counts[few[0]]} image(s), expected at least "
            f"{labels.min_images}, so it cannot be both learnt and tested. Add images, leave the "
            "class out with labels.classes, or set labels.min_images=1."
        )


def open_images(
    manifest: Manifest,
    preset: ClassifyPreset,
    *,
    column: str | None,
    classes: Sequence[str] | None,
    cache: Path | None,
    workers: int,
    progress: Progress | None = None,
) -> ImageSet:
    """Open a manifest's images as the preset prepares them, in the cache folder given."""
    return ImageSet(
        manifest,
        preset.images,
        cache=cache,
        label_column="labels" if column == "labels" else "label" if column == "label" else None,
        classes=classes,
        workers=workers,
        progress=progress,
    )


def normalisation(images: ImageSet, preset: ClassifyPreset) -> Normalise:
    """Return what is done to values in [0, 1], measured on the training part where it must be.

    Raises
    ------
    DataError
        If ``imagenet`` is asked for images of other than one or three channels.
    """
    rule = preset.inputs.normalise
    if rule == "dataset":
        return channel_statistics(images.stored, images.positions("train"))
    if rule == "imagenet":
        channels = preset.images.channel_count
        if channels == 3:
            return Normalise(rule="mean-sd", mean=IMAGENET_MEAN, sd=IMAGENET_SD)
        if channels == 1:  # the average: the first layer's weights were summed over the channels
            mean, sd = float(np.mean(IMAGENET_MEAN)), float(np.mean(IMAGENET_SD))
            return Normalise(rule="mean-sd", mean=(mean,), sd=(sd,))
        raise DataError(
            f"inputs.normalise=imagenet is for 1 or 3 channels, the images have {channels}. "
            "Set inputs.normalise=dataset."
        )
    return Normalise(rule="image" if rule == "image" else "none")
