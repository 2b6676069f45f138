"""Masks of structures, brought to the grid of their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from medglean.data.prepare import prepare
from medglean.data.readers import Volumes, read
from medglean.data.recipe import Intensity, Recipe
from medglean.errors import ReadError


def prepared_mask(
    reference: str,
    root: Path,
    recipe: Recipe,
    *,
    structures: Mapping[str, int] | None = None,
    volumes: Volumes | None = None,
) -> Bool[np.ndarray, "s h w"]:
    """Read a mask and bring it to the grid of its image; a pixel counts where half of it does.

    Parameters
    ----------
    reference, root
        As a manifest has them.
    recipe
        How the image is prepared: size, crop and padding are those of the mask too.
    structures
        Name and pixel value of each structure; by default everything above 0 is one.
    volumes
        Where compressed volumes are kept between calls, for slices one after another.

    Raises
    ------
    ReadError
        If it cannot be read, is in colour, or holds a value that is no structure.
    """
    picture = read(reference, root=root, volumes=volumes)
    if len(picture.channels) != 1:
        raise ReadError(
            reference,
            f"a mask with channels {list(picture.channels)}, expected one.",
            "Write masks as grey images whose values name the structures.",
        )
    values = picture.values
    wanted = list((structures or {}).values())
    unknown = set(np.unique(values).tolist()) - {0, *wanted} if wanted else set()
    if unknown:
        raise ReadError(
            reference,
            f"the mask holds the value {min(unknown):g}, expected 0 or one of {wanted}.",
            "Name every value among the structures, such as learner.unet.structures.",
        )
    inside = [values == value for value in wanted] or [values != 0]
    plain = recipe.model_copy(
        update={
            "channels": "grey",
            "equalise": "none",
            "foreground": None,
            "intensity": Intensity(rule="window", low=0.0, high=1.0),
        }
    )
    planes = [replace(picture, values=one.astype(np.float32)) for one in inside]
    return np.stack([prepare(plane, plain)[0] >= 0.5 for plane in planes])
