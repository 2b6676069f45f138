"""Pairs of H&E and IHC: which rows of a manifest they are, their levels, and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from medglean.arrays import UnitBatch
from medglean.data.augment import to_float
from medglean.data.cache import Progress
from medglean.data.division import divide
from medglean.data.imageset import ImageSet
from medglean.data.manifest import Manifest
from medglean.data.splits import split_problems
from medglean.errors import DataError, Problem, SplitError
from medglean.files import sha256_of_json
from medglean.stain.optics import normalise_white
from medglean.stain.pair_checks import listed, paired, targets_as_images, wrong_sizes
from medglean.stain.settings import StainPreset, WhiteSettings
from medglean.stain.white import measured_whites

NOT_KNOWN = -1
"""Level of an image that has no label."""
LEVEL = "label"
"""The column with the levels."""


@dataclass(frozen=True)
class Chosen:
    """The rows of a manifest that are pairs.

    Attributes
    ----------
    manifest
        Those rows, each with its ``split``.
    levels
        Index into ``names`` of each row, int64, shape (n,); NOT_KNOWN where there is no label.
    names
        The levels, in order.
    problems
        What was left out and what is uneven.
    """

    manifest: Manifest
    levels: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    problems: tuple[Problem, ...]


def choose(manifest: Manifest, preset: StainPreset) -> Chosen:
    """Find the pairs and their levels, and divide them.

    Raises
    ------
    DataError
        If no row is a pair, a label is none of ``level.names``, no pair is for training, or the
        preset learns from levels and no training pair has one.
    SplitError
        If the rows cannot be divided as the preset says.
    """
    rows, problems = paired(manifest)
    levels = levels_of(rows, preset)
    known = bool((levels != NOT_KNOWN).any())
    _check_levels(manifest, levels, preset)
    split = preset.split
    if not known and split.stratify == LEVEL:
        split = split.model_copy(update={"stratify": None})
    rows = divide(rows, split, seed=preset.fit.seed, label=LEVEL)
    told = split_problems(rows, group=split.group, stratify=LEVEL if known else None)
    torn = [problem for problem in told if problem.kind == "group-on-two-sides"]
    if torn:
        more = f" ({len(torn) - 1} more such groups.)" if len(torn) > 1 else ""
        raise SplitError(f"{torn[0]}{more}")
    inside = (rows.frame["split"] == "train").to_numpy(dtype=bool)
    if not inside.any():
        raise DataError(
            f"{_name(manifest)}: none of {len(rows)} pairs is in the training part. Check the "
            "column 'split', or divide all pairs anew (split.anew=true)."
        )
    _check_levels(manifest, levels[inside], preset, part="the training part has ")
    if level_settings(preset):
        problems += [problem for problem in told if problem.kind != "unlabelled"]
        problems += _unlabelled(manifest, levels)
    return Chosen(rows, levels, preset.level.names, tuple(problems))


def levels_of(
    manifest: Manifest, preset: StainPreset, *, strict: bool = True
) -> Int64[np.ndarray, " n"]:
    """Return the level of each row by its label, NOT_KNOWN where there is none.

    Parameters
    ----------
    manifest
        With or without the column ``label``.
    preset
        Names the levels.
    strict
        Whether a label that is no level is refused; otherwise its level is not known.

    Raises
    ------
    DataError
        If a label is none of ``level.names``.
    """
    if LEVEL not in manifest.frame:
        return np.full(len(manifest), NOT_KNOWN, dtype=np.int64)
    names = preset.level.names
    labels = manifest.frame[LEVEL]
    others = labels[labels.notna() & ~labels.isin(names)]
    if strict and len(others):
        counts = others.value_counts(sort=False)
        shown = ", ".join(f"{name!r} ({count})" for name, count in counts.items())
        first = manifest.ids[int(others.index[0])]
        raise DataError(
            f"{_name(manifest)}: {len(others)} rows have a label that is no level: {shown}; the "
            f"first at id {first!r}. The levels are {', '.join(map(repr, names))}: correct the "
            "labels, empty those that are not known, or set level.names."
        )
    place = {name: index for index, name in enumerate(names)}
    return np.array([place.get(label, NOT_KNOWN) for label in labels], dtype=np.int64)


def level_settings(preset: StainPreset) -> tuple[str, ...]:
    """Return the settings by which a preset that learns from levels would do without.

    Examples
    --------
    >>> level_settings(StainPreset(name="a", method="mean-colour"))
    ('measure.judge=false',)
    """
    needed = []
    if preset.method == "gan" and preset.generator.level_features:
        needed.append("generator.level_features=false")
    if preset.method == "gan" and preset.discriminator.level_head and preset.losses.adversarial:
        needed.append("discriminator.level_head=false")
    if preset.measure.judge:
        needed.append("measure.judge=false")
    return tuple(needed)


def _check_levels(
    manifest: Manifest, levels: np.ndarray, preset: StainPreset, *, part: str = ""
) -> None:
    """Refuse rows without any level where the preset learns from levels."""
    settings = level_settings(preset)
    if not settings or (levels != NOT_KNOWN).any():
        return
    found = f"no level in the column {LEVEL!r}"
    if LEVEL not in manifest.frame:
        found = f"no column {LEVEL!r} with the level of each pair"
    raise DataError(
        f"{_name(manifest)}: {part}{found}, and preset {preset.name!r} learns from levels. Add "
        f"them ({', '.join(preset.level.names)}), or set {' '.join(settings)}."
    )


def _unlabelled(manifest: Manifest, levels: np.ndarray) -> list[Problem]:
    without = int((levels == NOT_KNOWN).sum())
    if not without:
        return []
    found = (
        f"{without} of {len(levels)} pairs have no level; they teach the colours, and nothing is "
        "learnt from or measured on their level."
    )
    name = _name(manifest)
    return [Problem(name, found, "", column=LEVEL, kind="unlabelled", fatal=False)]


# --- pixels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """The opened pairs of a manifest.

    Attributes
    ----------
    images
        H&E.
    targets
        IHC, in the same rows; None where they were not asked for.
    levels
        Index of the level of each row, NOT_KNOWN where it has none; shape (n,).
    white_images, white_targets
        Measured white point of each row's slide, of the image itself where no slide is known, as
        a share of full scale; shape (n, 3). NaN where there is no image.
    ok
        Whether a row can be used: all its images were read and fit one another; shape (n,).
    failures
        Why the others cannot.
    warnings
        What to know about images that were read.
    white
        What `image_of` and `target_of` do with the white points.
    """

    images: ImageSet
    targets: ImageSet | None
    levels: Int64[np.ndarray, " n"]
    white_images: Float[np.ndarray, "n 3"]
    white_targets: Float[np.ndarray, "n 3"]
    ok: Bool[np.ndarray, " n"]
    failures: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    white: WhiteSettings

    def __len__(self) -> int:
        return len(self.images)

    @property
    def manifest(self) -> Manifest:
        """The rows."""
        return self.images.manifest

    @property
    def cache_hash(self) -> str:
        """SHA-256 that changes with any image's content and with the recipe."""
        return sha256_of_json(
            [part.cached.hash for part in (self.images, self.targets) if part is not None]
        )

    def positions(self, part: str | None = None) -> Int64[np.ndarray, " m"]:
        """Return the rows that can be used, in order: of train, val or test, or of all.

        Raises
        ------
        DataError
            If a part is asked for and the manifest has no split.
        """
        rows = self.images.positions(part, labelled=False)
        usable: np.ndarray = rows[self.ok[rows]]
        return usable


def open_pairs(
    manifest: Manifest,
    preset: StainPreset,
    *,
    cache: Path | None,
    workers: int,
    progress: Progress | None = None,
    need_targets: bool = True,
) -> Pairs:
    """Open the images of pairs as the preset prepares them, and measure their white points.

    Parameters
    ----------
    manifest
        Rows of pairs; a row without a target is told and cannot be used.
    preset
        How images are prepared, which levels there are, and how white is measured.
    cache
        Folder for decoded images; None: they are kept in memory.
    workers
        Images decoded at the same time.
    progress
        Called as ``progress(done, total)`` while images are decoded: H&E first, then IHC.
    need_targets
        Whether targets are opened. If not, a label that is no level is passed over.

    Raises
    ------
    DataError
        If no row can be used; the message lists why. Or as `levels_of`.
    CacheError
        As `medglean.data.cache.open_cache`.
    """
    levels = levels_of(manifest, preset, strict=need_targets)
    refused: dict[int, Problem] = {}
    if need_targets:
        refused |= _unpaired(manifest)
    sizes = wrong_sizes(manifest, preset.images, need_targets=need_targets, workers=workers)
    for row, problem in sizes:
        refused.setdefault(row, problem)

    def opened(rows: Manifest) -> ImageSet:
        return ImageSet(
            rows, preset.images, cache=cache, label_column=None, workers=workers, progress=progress
        )

    images = opened(manifest)
    targets = opened(targets_as_images(manifest)) if need_targets else None
    failures = [*images.failures]
    warnings = [*images.warnings]
    ok = images.ok.copy()
    if targets is not None:
        missing = [row for row, problem in refused.items() if problem.kind == "unpaired"]
        failures += [one for one in targets.failures if (one.row or 0) - 2 not in missing]
        warnings += [one for one in targets.warnings if (one.row or 0) - 2 not in missing]
        ok &= targets.ok
    ok[list(refused)] = False
    if targets is not None:
        refused |= _same_pictures(images, targets, ok)
        ok[list(refused)] = False
    whites = measured_whites(images, targets, ok, percentile=preset.white.percentile, cache=cache)
    ok &= whites.ok
    failures += [*refused.values(), *whites.failures]
    failures.sort(key=lambda problem: problem.row or 0)
    if not ok.any():
        raise DataError(
            f"{_name(manifest)}: none of {len(manifest)} "
            f"{'pairs' if need_targets else 'images'} can be used.{listed(failures)}"
        )
    used = _used(preset.white, targets is not None)
    warnings += [one for one in whites.warnings if one.column in used]
    return Pairs(
        images,
        targets,
        levels,
        whites.images,
        whites.targets,
        ok,
        tuple(failures),
        tuple(warnings),
        preset.white,
    )


def _unpaired(manifest: Manifest) -> dict[int, Problem]:
    return {(problem.row or 2) - 2: problem for problem in paired(manifest)[1]}


def _same_pictures(images: ImageSet, targets: ImageSet, ok: np.ndarray) -> dict[int, Problem]:
    """Return the rows whose target has the very pixels of the image: a copy under another name."""
    found = {}
    for row in np.flatnonzero(ok):
        one, other = images.stored[row], targets.stored[row]
        middle = one.shape[1] // 2
        # one line first: whole images are compared only where they may be the same
        if (one[:, middle] == other[:, middle]).all() and np.array_equal(one, other):
            found[int(row)] = Problem(
                str(images.manifest.frame["image"].iloc[row]),
                "image and target are the same picture, expected two stains.",
                "Name the IHC image as target.",
                row=int(row) + 2,
                column="target",
                kind="same-picture",
            )
    return found


def _used(white: WhiteSettings, targets: bool) -> set[str]:
    """Return the columns whose white points are divided by."""
    used = {"image"} if white.inputs else set()
    return used | ({"target"} if white.normalise and targets else set())


def image_of(pairs: Pairs, rows: Sequence[int] | Int[np.ndarray, " m"]) -> UnitBatch:
    """Return H&E images, float32 in [0, 1], shape (m, 3, h, w), white normalised if set so."""
    white = pairs.white_images if pairs.white.inputs else None
    return _normalised(pairs.images, white, rows)


def target_of(pairs: Pairs, rows: Sequence[int] | Int[np.ndarray, " m"]) -> UnitBatch:
    """Return IHC images, float32 in [0, 1], shape (m, 3, h, w), white normalised if set so.

    Raises
    ------
    ValueError
        If the pairs were opened without targets.
    """
    if pairs.targets is None:
        raise ValueError("the pairs were opened without targets (need_targets=False).")
    white = pairs.white_targets if pairs.white.normalise else None
    return _normalised(pairs.targets, white, rows)


def _normalised(
    images: ImageSet, white: np.ndarray | None, rows: Sequence[int] | np.ndarray
) -> UnitBatch:
    which = np.asarray(rows, dtype=np.int64)
    values = to_float(images.stored[which])
    return values if white is None else normalise_white(values, white[which])


def white_of(pairs: Pairs, rows: Sequence[int] | Int[np.ndarray, " m"]) -> Float[np.ndarray, "m 3"]:
    """Return the white point of targets as `target_of` gives them: 1 where it was divided by."""
    measured = pairs.white_targets[np.asarray(rows, dtype=np.int64)]
    return np.ones_like(measured) if pairs.white.normalise else measured


def _name(manifest: Manifest) -> str:
    return str(manifest.path or "the manifest")
