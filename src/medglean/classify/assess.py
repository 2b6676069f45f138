"""From scores and truth to every number of a classifier's report, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medglean.arrays import Kind, ScoreTable
from medglean.measure import weighted
from medglean.measure.calibration import expected_calibration_error
from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.measure.labels import confusion_matrix

PER_CLASS = ("AUROC", "average precision", "sensitivity", "specificity", "precision", "F1")
"""Columns of the per-class table, in order."""


@dataclass(frozen=True)
class Assessment:
    """What a classifier's scores are worth on images whose truth is known.

    Attributes
    ----------
    kind
        ``single`` or ``multi``.
    classes
        Names, in the order of the score table's columns.
    n, groups
        Images and patients (or what stands for them) that count.
    headline
        Measures over all classes, by name. The first is the one to quote.
    per_class
        For each class the measures named in `PER_CLASS`.
    support
        Images that truly have each class.
    confusion
        Counts by true class (row) and predicted class (column); ``None`` for ``multi``.
    truth
        Whether each image has each class, shape (n, k).
    probability
        Shape (n, k).
    called
        Whether each image was called so, shape (n, k).
    notes
        What a careful reader should know about these numbers.
    """

    kind: Kind
    classes: tuple[str, ...]
    n: int
    groups: int
    headline: dict[str, Interval]
    per_class: list[dict[str, Interval]]
    support: tuple[int, ...]
    confusion: np.ndarray | None
    truth: np.ndarray
    probability: np.ndarray
    called: np.ndarray
    notes: tuple[str, ...]

    @property
    def primary(self) -> tuple[str, Interval]:
        """Name and interval of the measure to quote."""
        name = next(iter(self.headline))
        return name, self.headline[name]


def assess(
    targets: np.ndarray,
    probability: ScoreTable,
    groups: Sequence[str] | np.ndarray,
    *,
    kind: Kind,
    classes: Sequence[str],
    threshold: float = 0.5,
    replicates: int = 2000,
    seed: int = 0,
) -> Assessment:
    """Measure a classifier.

    Parameters
    ----------
    targets
        ``single``: class numbers (n,). ``multi``: 0/1 of shape (n, k). Every image is labelled.
    probability
        Shape (n, k), in [0, 1].
    groups
        The patient of each image, or what else images share: whole groups are resampled.
    kind
        ``single``: the class with the highest probability is called, ties to the first.
        ``multi``: each finding whose probability reaches ``threshold``.
    classes
        k names.
    threshold
        For ``multi``.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    Assessment
        Undefined measures, such as the AUROC of a class without an image, are NaN. Averages over
        classes leave such classes out and say so in ``notes``.
    """
    k = len(classes)
    if kind == "single":
        target = targets.astype(np.int64)
        truth = target[:, None] == np.arange(k)
        predicted = probability.argmax(axis=1)
        called = predicted[:, None] == np.arange(k)
        confusion = confusion_matrix(target, predicted, classes=k)
    else:
        truth = targets.astype(bool)
        called = probability >= threshold
        confusion = None
    defined = [j for j in range(k) if 0 < truth[:, j].sum() < len(truth)]
    statistics = {**_overall(truth, called, probability, defined, kind)}
    for j in range(k):
        for name, statistic in _of_class(truth[:, j], called[:, j], probability[:, j]).items():
            statistics[f"{j}/{name}"] = statistic
    measured = cluster_bootstrap_many(statistics, groups, replicates=replicates, seed=seed)
    headline = {name: value for name, value in measured.items() if "/" not in name}
    any_interval = next(iter(measured.values()))
    return Assessment(
        kind=kind,
        classes=tuple(classes),
        n=len(truth),
        groups=any_interval.groups,
        headline=headline,
        per_class=[{name: measured[f"{j}/{name}"] for name in PER_CLASS} for j in range(k)],
        support=tuple(int(count) for count in truth.sum(axis=0)),
        confusion=confusion,
        truth=truth,
        probability=np.asarray(probability, dtype=np.float64),
        called=called,
        notes=_notes(classes, truth, defined, any_interval.groups),
    )


def _of_class(
    truth: np.ndarray, called: np.ndarray, scores: np.ndarray
) -> dict[str, weighted.Statistic]:
    return {
        "AUROC": weighted.auroc(truth, scores),
        "average precision": weighted.average_precision(truth, scores),
        "sensitivity": weighted.sensitivity(truth, called),
        "specificity": weighted.specificity(truth, called),
        "precision": weighted.precision(truth, called),
        "F1": weighted.f1(truth, called),
    }


def _overall(
    truth: np.ndarray,
    called: np.ndarray,
    probability: np.ndarray,
    defined: Sequence[int],
    kind: Kind,
) -> dict[str, weighted.Statistic]:
    """Return measures over all classes; averages are over the defined ones."""
    chosen = list(defined) or [0]
    areas = [weighted.auroc(truth[:, j], probability[:, j]) for j in chosen]
    found = {}
    if kind == "single" and truth.shape[1] == 2:
        found["AUROC"] = areas[-1]  # either class gives the same
    else:
        found["macro AUROC"] = weighted.macro(areas)
    right = (truth == called).all(axis=1)
    if kind == "single":
        found["accuracy"] = weighted.mean(right.astype(np.float64))
        found["balanced accuracy"] = weighted.macro(
            [weighted.sensitivity(truth[:, j], called[:, j]) for j in chosen]
        )
    else:
        found["exact match"] = weighted.mean(right.astype(np.float64))
        found["Hamming loss"] = weighted.mean((truth != called).mean(axis=1))
    found["macro F1"] = weighted.macro([weighted.f1(truth[:, j], called[:, j]) for j in chosen])
    gap = (probability - truth) ** 2
    found["Brier score"] = weighted.mean(gap.sum(axis=1) if kind == "single" else gap.mean(axis=1))
    if kind == "single":
        confidence = probability.max(axis=1)
        found["calibration error"] = weighted.by_loop(
            lambda rows: expected_calibration_error(right[rows], confidence[rows]), len(right)
        )
    return found


def _notes(
    classes: Sequence[str], truth: np.ndarray, defined: Sequence[int], groups: int
) -> tuple[str, ...]:
    notes = []
    left_out = [name for j, name in enumerate(classes) if j not in defined]
    if left_out:
        notes.append(
            f"Averages over classes leave out {', '.join(left_out)}: all or none of the "
            "images here have it, so its measures are undefined."
        )
    if groups < 30:
        notes.append(
            f"Only {groups} patients or groups: intervals from so few are too narrow rather than "
            "too wide."
        )
    return tuple(notes)
