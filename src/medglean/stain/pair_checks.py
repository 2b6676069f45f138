"""What can be wrong with a pair before its pixels are looked at: partners, files and sizes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.data.manifest import Manifest
from medglean.data.readers import probe
from medglean.data.recipe import Recipe
from medglean.data.reference import ImageReference
from medglean.errors import DataError, Problem, ReadError

TARGET = "target"
_SHOWN = 10  # problems that one message spells out


def paired(manifest: Manifest) -> tuple[Manifest, list[Problem]]:
    """Return the rows that name a pair of two files, and what is said of the others.

    Left out is a row without a target, one whose target is its own image, and one whose target
    stands in an earlier row already.

    Raises
    ------
    DataError
        If the manifest has no column ``target``, has an image per channel, or no row is a pair.
    """
    name = str(manifest.path or "the manifest")
    if manifest.image_columns != ["image"]:
        raise DataError(
            f"{name}: one image per channel ({', '.join(manifest.image_columns)}), and a stain "
            "needs one colour image in the column 'image'."
        )
    if TARGET not in manifest.frame:
        raise DataError(
            f"{name}: no column 'target', which names the IHC image of each H&E image. Add one, or "
            "index a folder whose sub-folders are HE and IHC."
        )
    problems, keep = [], []
    first: dict[str, int] = {}
    images, targets = manifest.frame["image"], manifest.frame[TARGET]
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        problem = _wrong(str(image), None if pd.isna(target) else str(target), row, first)
        if problem is None:
            keep.append(row)
            first[_same(str(target))] = row + 2
        else:
            problems.append(problem)
    if not keep:
        raise DataError(f"{name}: no row is a pair of two images.{listed(problems)}")
    if len(keep) == len(manifest):
        return manifest, problems
    return manifest.select(np.array(keep)), problems


def _wrong(image: str, target: str | None, row: int, first: dict[str, int]) -> Problem | None:
    if target is None:
        found = "no target, expected the other image of the pair; left out."
        return _left_out(image, row, "unpaired", found, "Name it, or remove the row.")
    if _same(target) == _same(image):
        found = "the target is the image itself, expected the other stain; left out."
        return _left_out(image, row, "same-file", found, "Name the IHC image.")
    if _same(target) in first:
        found = f"the target {target!r} stands already in row {first[_same(target)]}; left out."
        return _left_out(image, row, "duplicate-target", found, "Keep the row that is right.")
    return None


def _left_out(image: str, row: int, kind: str, found: str, remedy: str) -> Problem:
    return Problem(image, found, remedy, row=row + 2, column=TARGET, kind=kind, fatal=False)


def _same(text: str) -> str:
    """Return one text for all ways to write a reference."""
    reference = ImageReference.parse(text)
    part = ",".join(f"{key}={value}" for key, value in sorted(reference.fragment))
    return f"{posixpath.normpath(reference.path)}#{part}"


def listed(problems: Sequence[Problem]) -> str:
    """Return problems as lines of a message: the first ten, and how many more there are."""
    lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    return lines + (f"\n  ... and {more} more." if more > 0 else "")


def targets_as_images(manifest: Manifest) -> Manifest:
    """Return a manifest whose image is each row's target; its own where a row has none."""
    frame = manifest.frame
    known = frame[TARGET] if TARGET in frame else frame["image"]
    recorded = dict.fromkeys(("bytes", "sha256", "height", "width", TARGET))  # of the other file
    return manifest.with_columns(image=known.fillna(frame["image"]), **recorded)


def wrong_sizes(
    manifest: Manifest, recipe: Recipe, *, need_targets: bool, workers: int
) -> Iterator[tuple[int, Problem]]:
    """Give the rows whose images cannot lie on one another, with what is wrong; by headers alone.

    So are those that the recipe would surround with black, which is the densest stain there is.
    A file whose header cannot be read is not looked at here: its reader tells more.
    """
    images = manifest.frame["image"].tolist()
    targets: list[object] = [None] * len(images)
    if need_targets and TARGET in manifest.frame:
        targets = manifest.frame[TARGET].tolist()

    def look(pair: tuple[object, object]) -> tuple[Size, Size]:
        return _size(pair[0], manifest.root), _size(pair[1], manifest.root)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        sizes = pool.map(look, zip(images, targets, strict=True))
        for row, (of_image, of_target) in enumerate(sizes):
            name, place = str(images[row]), row + 2
            if of_image is None:
                continue
            if of_target is not None and of_target != of_image:
                yield (
                    row,
                    Problem(
                        name,
                        f"{_shown(of_image)} pixels, and its target {targets[row]!r} has "
                        f"{_shown(of_target)}: expected one size.",
                        "Register the images to one grid, or leave the pair out.",
                        row=place,
                        column=TARGET,
                        kind="pair-size",
                    ),
                )
            elif _gets_black(of_image, recipe):
                yield (
                    row,
                    Problem(
                        name,
                        f"{_shown(of_image)} pixels, fewer than the {_shown(recipe.size_px)} of "
                        f"images.size_px, and images.resize={recipe.resize} would fill up with "
                        "black.",
                        "Set a smaller images.size_px, or images.resize=crop, which enlarges.",
                        row=place,
                        column="image",
                        kind="too-small",
                    ),
                )


Size = tuple[int, int] | None


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _size(text: object, root: Path) -> Size:
    """Return height and width by header or fragment; None where they cannot be told."""
    if not isinstance(text, str):
        return None
    try:
        reference = ImageReference.parse(text)
        height, width = reference.option("h"), reference.option("w")
        if height is not None and width is not None:
            return height, width
        header = probe(root / reference.path)
    except (ReadError, OSError):
        return None
    return header.height, header.width


def _gets_black(size: tuple[int, int], recipe: Recipe) -> bool:
    """Tell whether a recipe surrounds an image of this size with zeros."""
    if recipe.resize == "centre":
        kept = [max(1, round(side * recipe.centre_crop)) for side in size]
        return any(have < want for have, want in zip(kept, recipe.size_px, strict=True))
    return recipe.resize == "pad" and size[0] * recipe.size_px[1] != size[1] * recipe.size_px[0]
