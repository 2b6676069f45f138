"""The masks that maps are measured against: they are for measuring alone, never for training."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from medglean.anomaly.prepare import DISEASED
from medglean.data.manifest import Manifest
from medglean.data.masks import prepared_mask
from medglean.data.recipe import Recipe
from medglean.errors import Problem, ReadError


class Masks(NamedTuple):
    """Masks of some images, on the grid of their maps."""

    masks: Bool[np.ndarray, "n h w"]
    """True where the disease is; empty where an image is healthy, or has no mask."""
    known: Bool[np.ndarray, " n"]
    """Whether the truth is known: the image is healthy, or its mask could be read."""
    problems: list[Problem]
    """Masks that could not be read."""


def open_masks(
    manifest: Manifest,
    recipe: Recipe,
    rows: Int[np.ndarray, " n"],
    targets: Int[np.ndarray, " n"],
) -> Masks:
    """Read the masks of some rows of a manifest.

    Parameters
    ----------
    manifest
        With or without a column ``mask``.
    recipe
        How the images are prepared.
    rows
        Positions in the manifest.
    targets
        The class of each of these rows; see `medglean.anomaly.prepare`.
    """
    masks = np.zeros((len(rows), *recipe.size_px), dtype=bool)
    known = np.asarray(targets != DISEASED)
    problems: list[Problem] = []
    if "mask" not in manifest.frame:
        return Masks(masks, known, problems)
    for place, row in enumerate(rows.tolist()):
        reference = manifest.frame["mask"].iloc[row]
        if not isinstance(reference, str) or not reference:
            continue
        try:
            masks[place] = prepared_mask(reference, manifest.root, recipe)[0]
            known[place] = True
        except ReadError as error:
            known[place] = False
            told = replace(error.problem(), row=row + 2, column="mask", fatal=False)
            problems.append(told)
    return Masks(masks, known, problems)
