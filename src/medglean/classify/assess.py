"""From scores and truth to every number of a classifier's report, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medglean.arrays import Kind, ScoreTable
from medglean.classify.assess_notes import notes_on
from medglean.measure import weighted
from medglean.measure.averages import F1_OF_MEANS, averages
from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.measure.labels import confusion_matrix

PER_CLASS = ("AUROC", "average precision", "sensitivity", "specificity", "precision", "F1")
"""Columns of the per-class table, in order."""
MACRO = ("AUROC", "average precision", "recall", "specificity", "precision", "F1", F1_OF_MEANS)
"""Macro averages. ``F1`` is the mean of the classes' F1."""


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
    averages
        By averaging (``macro``, ``weighted``, ``micro``) the measures ``precision``, ``recall``
        and ``F1`` over the classes; for ``macro`` all of `MACRO`.
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
    averages: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

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
    raw: ScoreTable | None = None,
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
    raw
        Probabilities before calibration, shape (n, k), for Brier score and calibration error; by
        default those of ``probability``.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    Assessment
        Undefined measures, such as the AUROC of a class without an image, are NaN. Averages over
        classes leave such classes out and say so in ``notes``.
    """
    k = len(classes)
    confusion = None
    if kind == "single":
        target = targets.astype(np.int64)
        truth = target[:, None] == np.arange(k)
        predicted = probability.argmax(axis=1)
        called = predicted[:, None] == np.arange(k)
        confusion = confusion_matrix(target, predicted, classes=k)
    else:
        truth = targets.astype(bool)
        called = probability >= threshold
    of_class = [
        _of_class(truth[:, j], called[:, j], probability[:, j].astype(np.float64)) for j in range(k)
    ]
    over = _over_classes(of_class, truth, called)
    measured = _measured(
        {
            "all": _headline(over, of_class, truth, called, kind)
            | _of_probability(truth, called, probability if raw is None else raw, kind),
            **{str(j): statistics for j, statistics in enumerate(of_class)},
            **over,
        },
        groups,
        replicates=replicates,
        seed=seed,
    )
    one = next(iter(measured["all"].values()))
    per_class = [measured[str(j)] for j in range(k)]
    by_averaging = {name: measured[name] for name in over}
    return Assessment(
        kind=kind,
        classes=tuple(classes),
        n=len(truth),
        groups=one.groups,
        headline=measured["all"],
        per_class=per_class,
        support=tuple(int(count) for count in truth.sum(axis=0)),
        confusion=confusion,
        truth=truth,
        probability=np.asarray(probability, dtype=np.float64),
        called=called,
        notes=notes_on(classes, truth, called, one.groups, per_class, by_averaging["macro"]),
        averages=by_averaging,
    )


def _measured(
    statistics: Mapping[str, Mapping[str, weighted.Statistic]],
    groups: Sequence[str] | np.ndarray,
    *,
    replicates: int,
    seed: int,
) -> dict[str, dict[str, Interval]]:
    """Return all intervals from the same resamples, table by table."""
    flat = {f"{table}/{name}": one for table, of in statistics.items() for name, one in of.items()}
    found = cluster_bootstrap_many(flat, groups, replicates=replicates, seed=seed)
    return {
        table: {name: found[f"{table}/{name}"] for name in of} for table, of in statistics.items()
    }


def _of_class(
    truth: np.ndarray, called: np.ndarray, scores: np.ndarray
) -> dict[str, weighted.Statistic]:
    """Return the measures of one class; those that averages need again are remembered."""
    return {
        "AUROC": weighted.remembered(weighted.auroc(truth, scores)),
        "average precision": weighted.remembered(weighted.average_precision(truth, scores)),
        "sensitivity": weighted.sensitivity(truth, called),
        "specificity": weighted.remembered(weighted.specificity(truth, called)),
        "precision": weighted.precision(truth, called),
        "F1": weighted.f1(truth, called),
    }


def _over_classes(
    of_class: Sequence[Mapping[str, weighted.Statistic]], truth: np.ndarray, called: np.ndarray
) -> dict[str, dict[str, weighted.Statistic]]:
    """Return averages over the classes that define them."""
    found = averages(truth, called)
    mixed = [j for j, share in enumerate(truth.mean(axis=0)) if 0 < share < 1]
    macro = {
        # Without such a class the AUROC of any is undefined, and so is its mean.
        name: weighted.macro([of_class[j][name] for j in mixed]) if mixed else of_class[0]["AUROC"]
        for name in ("AUROC", "average precision", "specificity")
    }
    macro |= found["macro"]
    return {
        "macro": {name: macro[name] for name in MACRO},
        "weighted": found["weighted"],
        "micro": found["micro"],
    }


def _headline(
    over: Mapping[str, Mapping[str, weighted.Statistic]],
    of_class: Sequence[Mapping[str, weighted.Statistic]],
    truth: np.ndarray,
    called: np.ndarray,
    kind: Kind,
) -> dict[str, weighted.Statistic]:
    """Return the measures over all classes that a reader looks for first."""
    found = {}
    if kind == "single" and len(of_class) == 2:
        found["AUROC"] = of_class[1]["AUROC"]  # either class gives the same
    else:
        found["macro AUROC"] = over["macro"]["AUROC"]
    right = (truth == called).all(axis=1)
    if kind == "single":
        found["accuracy"] = weighted.mean(right.astype(np.float64))
        found["balanced accuracy"] = over["macro"]["recall"]
    else:
        found["exact match"] = weighted.mean(right.astype(np.float64))
        found["Hamming loss"] = weighted.mean((truth != called).mean(axis=1))
    found["macro F1"] = over["macro"]["F1"]
    return found


def _of_probability(
    truth: np.ndarray, called: np.ndarray, probability: np.ndarray, kind: Kind
) -> dict[str, weighted.Statistic]:
    """Return what probabilities are worth as probabilities."""
    gap = (probability.astype(np.float64) - truth) ** 2
    if kind == "multi":
        return {
            "Brier score": weighted.mean(gap.mean(axis=1)),
            "calibration error": weighted.calibration_error(truth, probability),
        }
    right = (truth & called).any(axis=1)
    return {
        "Brier score": weighted.mean(gap.sum(axis=1)),
        "calibration error": weighted.calibration_error(right, probability.max(axis=1)),
    }
