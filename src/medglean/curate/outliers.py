"""The outlier gate: images that look like nothing else, listed beside the selection.

A method that takes what is least similar takes black frames, scanned forms and broken files first.
The gate lists them for a look and leaves them out of the choice, and says how many they are. An
image that shows a rare disease may look like nothing else as well: the list is there to be read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from medglean.curate.methods.neighbours import nearest_neighbours
from medglean.errors import UsageError

NORMAL_MAD = 1.4826  # a normal distribution's standard deviation in units of its MAD
ALONE, FLAT = "looks like nothing else", "nearly constant"


@dataclass(frozen=True)
class OutlierGate:
    """What counts as looking like nothing else.

    Attributes
    ----------
    neighbour
        The similarity to the how-many-th nearest image counts. A larger number also lists junk
        that comes several times alike (a method takes such junk once, as it does any copies), and
        with clips lists the frames of those that move much.
    deviations
        How many standard deviations below the median is too far; the deviation is 1.4826 MAD.
    least_deviation
        What the deviation is at least, as cosine similarity. Where most images have identical
        ones the MAD is 0, and without this every image that has none would be listed.
    least_contrast
        Thumbnails, where they are given, are nearly constant below this standard deviation of
        their pixels, on a scale where 1 is white.
    most_share
        At most this share of the images is listed for looking like nothing else, the loneliest:
        where similarities have a long tail, a threshold alone lists much that belongs.

    Raises
    ------
    UsageError
        If a number is out of its range.
    """

    neighbour: int = 1
    deviations: float = 3.0
    least_deviation: float = 0.01
    least_contrast: float = 0.01
    most_share: float = 1.0

    def __post_init__(self) -> None:
        if self.neighbour < 1:
            raise UsageError(f"neighbour must be at least 1, got {self.neighbour}.")
        for name in ("deviations", "least_deviation", "least_contrast"):
            number = getattr(self, name)
            if not (np.isfinite(number) and number >= 0):
                raise UsageError(f"{name} must be 0 or more, got {number}.")
        if not 0 < self.most_share <= 1:
            raise UsageError(f"most_share must be above 0 and at most 1, got {self.most_share}.")


@dataclass(frozen=True)
class Outliers:
    """The junk list, the most lonely first.

    Attributes
    ----------
    position
        Positions of the images, shape (m,).
    score
        Cosine similarity of each to its k-th nearest image: low is lonely.
    nearest
        Position of the one image that each resembles most; -1 where there is no other image.
    reason
        Why each is listed.
    threshold
        The score below which an image is listed.
    neighbour
        The k that was used: the setting, or n - 1 where there are fewer images.
    alone
        How many images score below the threshold, listed or not.
    """

    position: Int[np.ndarray, " m"]
    score: Float[np.ndarray, " m"]
    nearest: Int[np.ndarray, " m"]
    reason: tuple[str, ...]
    threshold: float
    neighbour: int
    alone: int = 0

    def __len__(self) -> int:
        return len(self.position)


def find_outliers(
    values: Float[np.ndarray, "n d"],
    *,
    gate: OutlierGate,
    thumbnails: Num[np.ndarray, "n h w"] | None = None,
) -> Outliers:
    """List the images whose k-th nearest neighbour is far, by a robust threshold.

    Listed is what lies below ``median - deviations * max(1.4826 MAD, least_deviation)`` of all
    similarities to the k-th neighbour.

    Parameters
    ----------
    values
        Embedding without zero rows.
    gate
        The settings.
    thumbnails
        Small grey images, 0 black and 1 (of 8 bits: 255) white: those that are nearly constant
        are listed, too.

    Returns
    -------
    Outliers
        Nothing is removed here. With fewer than three images only constant thumbnails are listed.
    """
    n = len(values)
    flat = flat_images(thumbnails, gate=gate) if thumbnails is not None else np.zeros(n, bool)
    score, nearest, threshold, k = np.full(n, np.nan), np.full(n, -1), -np.inf, 0
    if n >= 2:
        k = min(gate.neighbour, n - 1)
        found = nearest_neighbours(values, k=k)
        score, nearest = found.similarity[:, -1], found.position[:, 0].astype(np.int64)
        threshold = threshold_of(score, gate=gate) if n >= 3 else -np.inf
    alone = np.flatnonzero(score < threshold)
    most = max(1, int(gate.most_share * n))
    lonely = np.zeros(n, dtype=bool)
    lonely[alone[np.argsort(score[alone], kind="stable")][:most]] = True
    listed = np.flatnonzero(lonely | flat)
    listed = listed[np.argsort(score[listed], kind="stable")]
    reasons = tuple(
        "; ".join(text for text, holds in ((ALONE, lonely[i]), (FLAT, flat[i])) if holds)
        for i in listed
    )
    return Outliers(
        listed, score[listed], nearest[listed], reasons, float(threshold), k, len(alone)
    )


def threshold_of(score: Float[np.ndarray, " n"], *, gate: OutlierGate) -> float:
    """Return the similarity to the k-th neighbour below which an image is an outlier."""
    middle = float(np.median(score))
    deviation = NORMAL_MAD * float(np.median(np.abs(score - middle)))
    return middle - gate.deviations * max(deviation, gate.least_deviation)


def flat_images(
    thumbnails: Num[np.ndarray, "n h w"], *, gate: OutlierGate
) -> Bool[np.ndarray, " n"]:
    """Return which images are nearly constant: black frames, blank pages."""
    white = 255.0 if thumbnails.dtype == np.uint8 else 1.0
    deviation = [float(image.std()) for image in thumbnails]  # one by one: the whole may not fit
    flat: np.ndarray = np.array(deviation) < gate.least_contrast * white
    return flat
