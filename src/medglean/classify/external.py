"""The section on images from elsewhere: what is left of the run's own numbers there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medglean.classify import external_page as page
from medglean.classify.drop import (
    Change,
    auroc_changes,
    changes,
    headline_statistics,
    on_classes,
    shared_classes,
)
from medglean.classify.parts import Judged, Part
from medglean.classify.stored_scores import RESULTS, StoredScores, read_scores
from medglean.errors import RunFolderError
from medglean.measure import operating
from medglean.measure.weighted import Statistic
from medglean.runs.report import Metric, group_name
from medglean.runs.tables import format_value

PREVALENCE_SHIFT = 0.1
"""Difference in the share of a class, from 0 to 1, from which it is told."""
_MOST_TOLD = 3


def external_part(judged: Judged, run_path: Path) -> Part:
    """Set the run's own test part beside images from elsewhere.

    Both are measured alike, on the classes that both have. The interval of each change comes from
    independent resamples of both sets' patients.

    Parameters
    ----------
    judged
        The classifier on the other images, their classes under the run's names.
    run_path
        Folder of its training run: the scores of its test part are read from there.

    Returns
    -------
    Part
        Empty where the images are the run's own: there is no drop to tell.

    Raises
    ------
    RunFolderError
        If the split or the scores of the run are damaged.
    """
    split = _split_of(run_path)
    here = _here(judged)
    if set(here.ids) <= set(split["id"]):
        return Part()
    overlap = _overlap(judged, split)
    if not (run_path / RESULTS).is_file():
        told = f"{run_path} has no {RESULTS}: the drop from its own test part cannot be told."
        return Part(warnings=(*overlap, told))
    home = read_scores(run_path, training=True)
    same = home.kind == here.kind and set(home.classes) == set(here.classes)
    classes = shared_classes(home, here) if same else ()
    if not classes:
        told = f"No class can be measured both here and on {page.OWN}: no drop is told."
        return Part(warnings=(*overlap, told))
    return _compared(judged, on_classes(home, classes), on_classes(here, classes), classes, overlap)


def _here(judged: Judged) -> StoredScores:
    found = judged.found
    return StoredScores(
        path=judged.images.manifest.path or Path(),
        kind=found.kind,
        classes=found.classes,
        part="all",
        ids=np.array([judged.images.ids[row] for row in judged.scores.rows], dtype=object),
        truth=found.truth,
        probability=found.probability,
        groups=judged.groups,
        grouped_by=judged.images.manifest.grouped_by,
    )


def _split_of(run_path: Path) -> pd.DataFrame:
    file = run_path / "split.csv"
    if not file.is_file():
        return pd.DataFrame({"id": [], "split": []}, dtype=str)
    try:
        split = pd.read_csv(file, dtype=str, keep_default_na=False)
        return split[["id", "split", *(name for name in split if name not in ("id", "split"))]]
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(
            f"{file}: expected a table with the columns id and split, found a damaged file. "
            "Restore it, or train again."
        ) from error


def _compared(
    judged: Judged,
    home: StoredScores,
    here: StoredScores,
    classes: Sequence[str],
    overlap: Sequence[str],
) -> Part:
    measure = judged.classifier.preset.measure
    threshold = judged.classifier.preset.labels.threshold

    def changed(first: Mapping[str, Statistic], second: Mapping[str, Statistic]) -> dict:
        return changes(
            first,
            home.groups,
            second,
            here.groups,
            replicates=measure.replicates,
            seed=judged.seed,
        )

    found: dict[str, Change] = changed(
        headline_statistics(home, classes, threshold=threshold),
        headline_statistics(here, classes, threshold=threshold),
    )
    points: dict[str, Change] = changed(
        _rates(judged, home, classes), _rates(judged, here, classes)
    )
    areas = auroc_changes(home, here, _shown(home, classes))
    name, quoted = next(iter(found.items()))
    left_out = len(classes) < len(judged.found.classes)
    over = f" over {' and '.join(classes)}, which both have" if left_out else ""
    counted = home.counted if home.counted == here.counted else group_name("several")
    tables = [page.headline_table(found, home, here, over), page.class_table(areas, home, here)]
    if points:
        tables.append(page.points_table(points))
    return Part(
        sentences=(page.sentence(name, quoted, over),),
        metrics=(Metric.of(f"{name}: change from {page.OWN}", quoted.change, group_name=counted),),
        tables=tuple(tables),
        figures=(page.figure(found, areas, home, here),),
        warnings=(
            *overlap,
            *_own_part(home),
            *_thresholds(points),
            *_prevalence(home, here, classes),
        ),
        data={"compared with": f"{len(home.ids):,} images of {page.OWN}"},
    )


def _shown(scores: StoredScores, classes: Sequence[str]) -> list[str]:
    """Return the classes to show one by one: of two that exclude one another, one says it all."""
    if scores.kind == "single" and len(scores.classes) == 2:
        return list(scores.classes[-1:])
    return list(classes)


def _rates(judged: Judged, scores: StoredScores, classes: Sequence[str]) -> dict[str, Statistic]:
    """Return sensitivity and specificity at the thresholds that the run chose."""
    decisions = judged.classifier.decisions
    points = {} if decisions is None else decisions.points
    found: dict[str, Statistic] = {}
    for name in _shown(scores, classes):
        j = scores.classes.index(name)
        for point in points.get(name, ()):
            if math.isnan(point.threshold):
                continue
            rates = operating.rates(
                scores.truth[:, j], scores.probability[:, j], threshold=point.threshold
            )
            for rate in ("sensitivity", "specificity"):
                row = f"{name} from {point.threshold:.3g} on ({point.rule}): {rate}"
                found[row] = rates[rate]
    return found


def _overlap(judged: Judged, split: pd.DataFrame) -> list[str]:
    """Warn of patients and files that the run learnt from, where its split names them."""
    learnt = split[split["split"] != "test"]
    frame = judged.images.manifest.frame.iloc[judged.scores.rows]
    warnings = []
    for column, what in (("sha256", "images are byte for byte"), ("patient", "images are of")):
        if column not in learnt or column not in frame:
            continue
        known = set(learnt[column]) - {""}
        seen = int(frame[column].isin(known).sum())
        if seen:
            of = "images" if column == "sha256" else "patients (by their name in both tables)"
            warnings.append(
                f"{seen:,} of {len(frame):,} {what} {of} that the run was trained or chosen on: "
                "the drop is smaller than on images that are new to it."
            )
    return warnings


def _own_part(home: StoredScores) -> list[str]:
    if home.part == "test":
        return []
    return [
        "The run has no test part: the drop is measured from its validation part, on which the "
        "epoch was chosen and which flatters it."
    ]


def _thresholds(points: Mapping[str, Change]) -> list[str]:
    broken = {name: one for name, one in points.items() if one.is_clear}
    if not broken:
        return []
    told = "; ".join(
        f"{name}: {format_value(one.home.value)} at home, {format_value(one.here.value)} here"
        for name, one in list(broken.items())[:_MOST_TOLD]
    )
    more = len(broken) - _MOST_TOLD
    return [
        f"Thresholds chosen at home do not do here what they did there ({told}"
        + (f"; and {more} more" if more > 0 else "")
        + "). Choose them anew on images of this place before anything is decided by them."
    ]


def _prevalence(home: StoredScores, here: StoredScores, classes: Sequence[str]) -> list[str]:
    shares = {
        name: tuple(one.truth[:, one.classes.index(name)].mean() for one in (home, here))
        for name in classes
    }
    shifted = {
        name: both for name, both in shares.items() if abs(both[1] - both[0]) > PREVALENCE_SHIFT
    }
    if not shifted:
        return []
    told = ", ".join(
        f"{name} {100 * own:.0f} % at home and {100 * other:.0f} % here"
        for name, (own, other) in list(shifted.items())[:_MOST_TOLD]
    )
    return [
        f"Classes are not equally frequent ({told}): accuracy, precision, F1 and the Brier score "
        "change by that alone, and probabilities calibrated at home are off here. AUROC, "
        "sensitivity and specificity do not depend on it."
    ]
