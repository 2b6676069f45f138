"""What the sections of a classifier's report are made from, and what each of them gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from medglean.classify.assess import Assessment
from medglean.classify.model import Classifier
from medglean.classify.scores import Scores
from medglean.data.imageset import ImageSet
from medglean.runs.report import Figure, Metric, Table


@dataclass(frozen=True)
class Judged:
    """A classifier on images whose truth is known.

    Attributes
    ----------
    classifier
        With its settings.
    images
        All rows of the manifest.
    scores
        Of the rows that are judged, rising; probabilities are calibrated where the preset says so.
    found
        What they are worth.
    groups
        Patient, or what stands for it, of each judged row.
    learn
        Rows of the same image set that the network learnt from; None where they are not at hand.
    seed
        Of resampling and of baselines.
    """

    classifier: Classifier
    images: ImageSet
    scores: Scores
    found: Assessment
    groups: np.ndarray
    learn: np.ndarray | None
    seed: int


@dataclass(frozen=True)
class Part:
    """A section of a report.

    Attributes
    ----------
    sentences
        For the top of the first page.
    metrics, tables, figures, warnings, data
        As in `medglean.runs.report.Report`.
    """

    sentences: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)


def joined(parts: Iterable[Part]) -> Part:
    """Return parts as one, in their order."""
    given = list(parts)
    return Part(
        sentences=tuple(one for part in given for one in part.sentences),
        metrics=tuple(one for part in given for one in part.metrics),
        tables=tuple(one for part in given for one in part.tables),
        figures=tuple(one for part in given for one in part.figures),
        warnings=tuple(one for part in given for one in part.warnings),
        data={name: value for part in given for name, value in part.data.items()},
    )
