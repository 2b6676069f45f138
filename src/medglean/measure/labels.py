"""How good decisions are: confusion, and per class precision, recall, specificity and F1.

Undefined is NaN, never 0: a class without positive images has no recall, a class that was never
predicted has no precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medglean.measure.checks import check_classes, check_same_length, ratio

Targets = Int[np.ndarray, " n"]
TruthTable = Bool[np.ndarray, "n k"]


@dataclass(frozen=True)
class Counts:
    """True and false positives and negatives, one entry per class, each class against the rest.

    Attributes
    ----------
    true_positives, false_positives, false_negatives, true_negatives
        Whole numbers of shape (k,).
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    true_negatives: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """How many images truly have the class."""
        support: np.ndarray = self.true_positives + self.false_negatives
        return support

    @property
    def precision(self) -> np.ndarray:
        """Share of images called positive that are (positive predictive value)."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        """Share of positive images that were called so (sensitivity)."""
        return ratio(self.true_positives, self.support)

    @property
    def specificity(self) -> np.ndarray:
        """Share of negative images that were called so."""
        return ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall.

        0 for a class that has images but was never found; NaN for a class without images, even
        if some were called so: scikit-learn says 0 there.
        """
        doubled = 2 * self.true_positives
        f1 = ratio(doubled, doubled + self.false_positives + self.false_negatives)
        return np.where(self.support > 0, f1, np.nan)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of images that were called right, for each class against the rest."""
        right = self.true_positives + self.true_negatives
        return ratio(right, right + self.false_positives + self.false_negatives)


def confusion_matrix(
    target: Targets, predicted: Targets, *, classes: int
) -> Int[np.ndarray, "k k"]:
    """Count images by true class (row) and predicted class (column).

    Parameters
    ----------
    target, predicted
        Class indices, 0..classes-1.
    classes
        How many classes there are, whether or not each occurs.

    Examples
    --------
    >>> import numpy as np
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    check_same_length(target=target, predicted=predicted)
    check_classes(classes, target=target, predicted=predicted)
    pairs = np.bincount(target * classes + predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def counts_of_confusion(matrix: Int[np.ndarray, "k k"]) -> Counts:
    """Read each class against the rest out of a confusion matrix (rows true, columns predicted)."""
    right = np.diag(matrix)
    called, truly = matrix.sum(axis=0), matrix.sum(axis=1)
    return Counts(
        true_positives=right,
        false_positives=called - right,
        false_negatives=truly - right,
        true_negatives=matrix.sum() - called - truly + right,
    )


def counts_of_labels(truth: TruthTable, predicted: TruthTable) -> Counts:
    """Count for images that may have several labels at once; one column per label."""
    check_same_length(truth=truth, predicted=predicted)
    return Counts(
        true_positives=(truth & predicted).sum(axis=0),
        false_positives=(~truth & predicted).sum(axis=0),
        false_negatives=(truth & ~predicted).sum(axis=0),
        true_negatives=(~truth & ~predicted).sum(axis=0),
    )


def macro_average(
    values: Float[np.ndarray, " k"] | Sequence[float], *, skip_undefined: bool = False
) -> float:
    """Mean over classes, each counting the same.

    Parameters
    ----------
    values
        One number per class; NaN where undefined.
    skip_undefined
        Average over the defined classes only. Say so, with their number, wherever the result is
        shown; by default one undefined class makes the average NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if skip_undefined:
        numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")


def accuracy(target: Targets, predicted: Targets) -> float:
    """Share of images whose class was predicted right; NaN without images."""
    check_same_length(target=target, predicted=predicted)
    return float(np.mean(target == predicted)) if target.size else float("nan")


def balanced_accuracy(target: Targets, predicted: Targets, *, classes: int) -> float:
    """Mean recall over the classes; NaN if one of them has no image."""
    matrix = confusion_matrix(target, predicted, classes=classes)
    return macro_average(counts_of_confusion(matrix).recall)


def exact_match(truth: TruthTable, predicted: TruthTable) -> float:
    """Share of images for which every label is right; NaN without images."""
    check_same_length(truth=truth, predicted=predicted)
    return float(np.mean((truth == predicted).all(axis=1))) if len(truth) else float("nan")


def hamming_loss(truth: TruthTable, predicted: TruthTable) -> float:
    """Share of single labels that are wrong, over images and labels; NaN without any."""
    check_same_length(truth=truth, predicted=predicted)
    return float(np.mean(truth != predicted)) if truth.size else float("nan")
