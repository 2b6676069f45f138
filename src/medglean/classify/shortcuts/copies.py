"""Pictures that the network has learnt from, or nearly so, among those that it is judged on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from medglean.classify.shortcuts.hiding import batches
from medglean.data.augment import to_float
from medglean.data.duplicates import near_duplicates
from medglean.data.glance import SIDE_PX
from medglean.data.imageset import ImageSet


@dataclass(frozen=True)
class Copies:
    """Judged images that have a near duplicate among those learnt from.

    Attributes
    ----------
    judged, learnt
        Rows of each pair; an image may be in several.
    similarity
        0..1.
    mirrored
        Whether one is the mirror image of the other.
    """

    judged: Int[np.ndarray, " p"]
    learnt: Int[np.ndarray, " p"]
    similarity: Float[np.ndarray, " p"]
    mirrored: Bool[np.ndarray, " p"]

    def seen(self, rows: np.ndarray) -> Bool[np.ndarray, " m"]:
        """Return which of the judged rows have one."""
        return np.isin(rows, self.judged)


def copies_of(images: ImageSet, learn: np.ndarray, rows: np.ndarray) -> Copies:
    """Find near duplicates across the split, on the images as they were prepared.

    Parameters
    ----------
    images
        All.
    learn, rows
        Learnt from, and judged.
    """
    both = np.concatenate([learn, rows])
    pairs = near_duplicates(_small(images, both))
    # positions below len(learn) were learnt from; of a pair the first is the lower
    across = (pairs.first < len(learn)) & (pairs.second >= len(learn))
    order = np.flatnonzero(across)
    order = order[np.argsort(-pairs.similarity[order], kind="stable")]
    return Copies(
        judged=both[pairs.second[order]],
        learnt=both[pairs.first[order]],
        similarity=pairs.similarity[order],
        mirrored=pairs.mirrored[order],
    )


def _small(images: ImageSet, rows: np.ndarray) -> UInt8[np.ndarray, "n 64 64"]:
    small = np.empty((len(rows), SIDE_PX, SIDE_PX), np.uint8)
    place = 0
    for part in batches(rows):
        grey = to_float(np.asarray(images.stored[part])).mean(axis=1)
        for one in grey:
            shrunk = cv2.resize(one, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
            small[place] = np.rint(np.clip(shrunk, 0.0, 1.0) * 255)
            place += 1
    return small
