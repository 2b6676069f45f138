"""How well masks agree: Dice and Jaccard of each structure, per image and pooled.

Where neither the truth nor the prediction has a pixel of a structure, both measures are undefined:
NaN. Neither 0 nor 1 would do, for the one punishes and the other rewards an image in which there
was nothing to find, and the mean would follow the share of such images. An image where the truth
is empty and the prediction is not has Dice 0 and Jaccard 0: it was found where there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.measure.checks import check_same_length, ratio
from medglean.measure.intervals import group_positions

Masks = Bool[np.ndarray, "n s *spatial"]
"""Masks of n images and s structures; structures may overlap."""


@dataclass(frozen=True)
class Overlap:
    """Pixel counts from which Dice and Jaccard follow.

    Attributes
    ----------
    both
        Pixels in truth and prediction, shape (n, s).
    truth, predicted
        Pixels in each of them.
    """

    both: Int[np.ndarray, "n s"]
    truth: Int[np.ndarray, "n s"]
    predicted: Int[np.ndarray, "n s"]

    def jaccard(self) -> Float[np.ndarray, "n s"]:
        """Intersection over union, in [0, 1]; NaN where both masks are empty."""
        return ratio(self.both, self.truth + self.predicted - self.both)

    def dice(self) -> Float[np.ndarray, "n s"]:
        """Twice the intersection over the sum of both, in [0, 1]; NaN where both are empty."""
        return ratio(2 * self.both, self.truth + self.predicted)

    def pooled(self, groups: Sequence[object] | np.ndarray | None = None) -> Overlap:
        """Add up the pixels of all images, or of each group, such as a patient's slices.

        Parameters
        ----------
        groups
            One per image; None: all images are one.

        Returns
        -------
        Overlap
            One row per group in the order of their names; one row without groups.
        """
        names = np.zeros(len(self.both), dtype=np.int64) if groups is None else groups
        check_same_length(masks=self.both, groups=np.asarray(names))
        place, count = group_positions(names)
        summed = []
        for pixels in (self.both, self.truth, self.predicted):
            table = np.zeros((count, pixels.shape[1]), dtype=np.int64)
            np.add.at(table, place, pixels)
            summed.append(table)
        return Overlap(*summed)


def overlap(truth: Masks, predicted: Bool[np.ndarray, "m t *other"]) -> Overlap:
    """Count the pixels that two stacks of masks share.

    Parameters
    ----------
    truth, predicted
        Of the same shape (n, s, *spatial).

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> truth = np.array([[[True, True, False, False]]])
    >>> predicted = np.array([[[False, True, True, False]]])
    >>> found = overlap(truth, predicted)
    >>> float(found.dice()[0, 0]), round(float(found.jaccard()[0, 0]), 3)
    (0.5, 0.333)
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"masks: the truth has shape {truth.shape}, the prediction {predicted.shape}: expected "
            "one shape. Bring the prediction to the grid of the truth."
        )
    axes = tuple(range(2, truth.ndim))
    counts = [
        np.asarray(mask.sum(axis=axes, dtype=np.int64))
        for mask in (truth & predicted, truth, predicted)
    ]
    return Overlap(*counts)
