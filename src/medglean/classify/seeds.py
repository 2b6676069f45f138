"""The section on seeds: what each of several trainings came to, and how much they differ."""

from __future__ import annotations

import numpy as np

from medglean.classify.assess import assess
from medglean.classify.parts import Judged, Part
from medglean.classify.scores import probability_of
from medglean.runs.report import Metric, Table, group_name
from medglean.runs.tables import format_value

REPLICATES = 100
"""Only values are told of each training, no intervals."""


def seeds_part(judged: Judged) -> Part:
    """Say each training's measures, their mean and standard deviation, beside the classifier's.

    The standard deviation is that of the trainings (n - 1 in the denominator): what another seed
    would change. It says nothing of other patients, which the intervals are about.
    """
    members = judged.scores.members
    if len(members) < 2:
        return Part()
    classifier, found = judged.classifier, judged.found
    values = np.array([_values(judged, logits) for logits in members])
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    first = classifier.preset.fit.seed
    seeds = [str(first + k) for k in range(len(members))]
    rows: list[list[object]] = [
        [
            name,
            *(format_value(one) for one in values[:, j]),
            f"{format_value(mean[j])} ± {format_value(spread[j])}",
            format_value(found.headline[name].value),
        ]
        for j, name in enumerate(found.headline)
    ]
    name = found.primary[0]
    counted = group_name(judged.images.manifest.grouped_by)
    many = len(members)
    return Part(
        metrics=(
            Metric(
                f"{name}, mean of {many} seeds",
                float(mean[0]),
                n=found.n,
                groups=found.groups,
                note=f"standard deviation between seeds {format_value(spread[0])}",
                group_name=counted,
            ),
        ),
        tables=(
            Table(
                f"{many} trainings from different seeds",
                ["Measure", *(f"Seed {seed}" for seed in seeds), "Mean ± SD", "Together"],
                rows,
                note="All learnt from the same images and are measured on the same ones. "
                '"Together" is the classifier of this run: the mean of their logits. The standard '
                "deviation is between trainings, not between patients.",
            ),
        ),
    )


def _values(judged: Judged, logits: np.ndarray) -> list[float]:
    """Return one network's headline measures, in the order of the classifier's."""
    images, preset = judged.images, judged.classifier.preset
    found = assess(
        images.targets[judged.scores.rows],
        probability_of(judged.classifier, logits),
        judged.groups,
        kind=judged.classifier.kind,
        classes=judged.classifier.classes,
        threshold=preset.labels.threshold,
        replicates=REPLICATES,
        seed=judged.seed,
    )
    return [found.headline[name].value for name in judged.found.headline]
