"""The report of a classifier: numbers, curves and examples, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from medglean.classify.assess import PER_CLASS, Assessment
from medglean.classify.decisions import Decisions
from medglean.classify.model import Classifier
from medglean.classify.page_curves import curve_figures, curves_to_show
from medglean.classify.scores import Scores
from medglean.data.augment import to_float
from medglean.data.imageset import ImageSet
from medglean.measure.averages import F1_OF_MEANS
from medglean.measure.calibration import expected_calibration_error, reliability
from medglean.measure.intervals import Interval
from medglean.runs import figures, grids
from medglean.runs.report import Figure, Metric, Table
from medglean.runs.tables import format_measured

EXAMPLES = 8
AVERAGINGS = {
    "macro": "Macro: mean of the classes",
    "weighted": "Weighted: each as often as it occurs",
    "micro": "Micro: all calls pooled",
}


def metrics_of(found: Assessment, *, group_name: str) -> list[Metric]:
    """Return the headline numbers, the one to quote first."""
    return [
        Metric.of(name, interval, group_name=group_name)
        for name, interval in found.headline.items()
    ]


def class_table(found: Assessment, *, part: str) -> Table:
    """Return the table with one row per class and the averages, every number with its interval."""
    rows: list[list[object]] = [
        [name, support, *(_shown(measured[measure]) for measure in PER_CLASS)]
        for name, support, measured in zip(
            found.classes, found.support, found.per_class, strict=True
        )
    ]
    for averaging, named in AVERAGINGS.items():
        measures = found.averages.get(averaging)
        if measures:
            own = {"sensitivity": "recall"}
            cells = [measures.get(own.get(measure, measure)) for measure in PER_CLASS]
            rows.append([named, found.n, *("" if one is None else _shown(one) for one in cells)])
    called = (
        "the class with the highest probability is called"
        if found.kind == "single"
        else "a finding is called from its threshold on"
    )
    return Table(
        f"Each class on the {part} images",
        ["Class", "Images", *(name[0].upper() + name[1:] for name in PER_CLASS)],
        rows,
        note=f"With 95 % intervals from resampled patients; {called}. AUROC and average "
        f"precision do not depend on a threshold. Sensitivity is also named recall."
        f"{_f1_told(found)}",
    )


def _f1_told(found: Assessment) -> str:
    """Say which of several averages of F1 is which: papers seldom do."""
    of_means = found.averages.get("macro", {}).get(F1_OF_MEANS)
    if of_means is None:
        return ""
    return (
        " Macro F1 is the mean of the classes' F1. The F1 of macro precision and macro "
        f"sensitivity, which some call by the same name, is {_shown(of_means)}; it is never less."
    )


def _shown(interval: Interval) -> str:
    return format_measured(interval.value, interval.low, interval.high)


def counts_figure(images: ImageSet, classes: Sequence[str]) -> Figure:
    """Draw how many images of each class each part has."""
    counts: dict[str, dict[str, int]] = {}
    for part in ("train", "val", "test"):
        rows = images.positions(part)
        targets = images.targets[rows]
        if len(rows) == 0:
            continue
        numbers = (
            np.bincount(targets, minlength=len(classes))
            if targets.ndim == 1
            else targets.sum(axis=0)
        )
        counts[part] = {name: int(n) for name, n in zip(classes, numbers, strict=True)}
    return Figure(
        "What was learnt from and tested on",
        "Images of each class in each part of the split.",
        figures.class_counts(counts),
        "svg",
        section="training",
    )


def learning_figure(
    history: Sequence[Mapping[str, object]],
    *,
    monitor: str,
    best_step: int | None,
    parts: Mapping[str, int],
    seeds: int = 1,
) -> Figure | None:
    """Draw loss and the watched measure over the epochs; None without a finished epoch."""
    table = pd.DataFrame([dict(row) for row in history])
    if table.empty or "train.loss" not in table:
        return None
    by_epoch = table.groupby("epoch")
    loss = by_epoch["train.loss"].mean()
    watched = _last_of(by_epoch, f"val.{monitor}", loss.index)
    if np.isnan(watched).all():
        return None
    best = None
    if best_step is not None:
        reached = table.loc[table["step"] == best_step, "epoch"]
        best = float(reached.iloc[0]) if len(reached) else None
    data = figures.learning_curves(
        [float(epoch) for epoch in loss.index],
        loss.tolist(),
        watched.tolist(),
        validation_name=monitor.upper() if monitor == "auroc" else monitor,
        validation_loss=_last_of(by_epoch, "val.loss", loss.index).tolist(),
        best_epoch=best,
        images=parts,
    )
    caption = "The weights of the marked epoch are the ones that were kept and tested."
    if seeds > 1:
        caption += f" Drawn is the first of {seeds} trainings."
    return Figure("How training went", caption, data, "svg", section="training")


def _last_of(by_epoch: object, column: str, epochs: pd.Index) -> np.ndarray:
    """Return the last value that each epoch has in a column, NaN where it has none."""
    frame = getattr(by_epoch, "obj")  # noqa: B009 - pandas' stubs hide it
    if column not in frame:
        return np.full(len(epochs), np.nan)
    last = frame.dropna(subset=[column]).groupby("epoch")[column].last()
    values: np.ndarray = last.reindex(epochs).to_numpy(dtype=np.float64)
    return values


def result_figures(
    found: Assessment,
    groups: Sequence[str] | np.ndarray,
    *,
    decisions: Decisions | None = None,
) -> list[Figure]:
    """Draw confusion, ROC, precision-recall, scores and calibration.

    Parameters
    ----------
    found
        What is drawn.
    groups
        Patient of each image.
    decisions
        Their operating points are marked where one class is drawn. Calibration is then left to
        `medglean.classify.decided.decisions_part`, which draws it before and after.
    """
    decided = decisions is not None and decisions.n > 0
    points = decisions.points if decisions is not None else {}
    drawn = []
    if found.confusion is not None:
        drawn.append(
            Figure(
                "Confusion matrix: what was called what",
                "Each row is a true class; shares are of the row.",
                figures.confusion_matrix(found.confusion, found.classes),
                "svg",
            )
        )
    shown = curves_to_show(found)
    if shown:
        drawn += curve_figures(found, groups, shown, points)
    if found.kind == "single" and len(found.classes) == 2:
        drawn.append(
            Figure(
                "How sure the classifier is",
                "The less the two shapes overlap, the better the classes are told apart.",
                figures.score_histogram(
                    {
                        name: found.probability[found.truth[:, j], 1]
                        for j, name in enumerate(found.classes)
                    },
                    score_name=f"Predicted probability of {found.classes[1]}",
                ),
                "svg",
            )
        )
    if found.kind == "single" and found.n and not decided:
        right = (found.truth & found.called).any(axis=1)
        sure = found.probability.max(axis=1)
        bins = reliability(right, sure)
        drawn.append(
            Figure(
                "Calibration: whether its probabilities come true",
                "Points below the line: more sure than right. Probabilities are as the network "
                "gives them, not recalibrated.",
                figures.reliability_diagram(
                    bins.edges,
                    bins.count,
                    bins.predicted,
                    bins.observed,
                    calibration_error=expected_calibration_error(right, sure),
                ),
                "svg",
            )
        )
    return drawn


def example_figures(
    classifier: Classifier, images: ImageSet, scores: Scores, found: Assessment
) -> list[Figure]:
    """Show images that were called right and wrong, the surest of each first."""
    right = (found.truth == found.called).all(axis=1)
    sure = found.probability.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    drawn = []
    for wanted, title, caption in (
        (False, "Called wrong", "The wrong calls of which the classifier was most sure."),
        (True, "Called right", "The right calls of which it was most sure, class by class."),
    ):
        places = order[right[order] == wanted]
        if wanted:
            places = _by_turns(places, found)
        if len(places) == 0:
            continue
        chosen = [_example(classifier, images, scores, found, p) for p in places[:EXAMPLES]]
        told = f" {len(chosen)} of {len(places):,} are shown."
        drawn.append(
            Figure(title, caption + told, grids.image_grid(chosen), "png", section="examples")
        )
    return drawn


def _by_turns(places: np.ndarray, found: Assessment) -> np.ndarray:
    """Order places so that the true classes take turns."""
    first = np.array([int(found.truth[p].argmax()) for p in places], dtype=np.int64)
    turn = np.zeros(len(places), dtype=np.int64)
    for j in set(first.tolist()):
        turn[first == j] = np.arange(int((first == j).sum()))
    ordered: np.ndarray = places[np.lexsort((first, turn))]
    return ordered


def _example(
    classifier: Classifier, images: ImageSet, scores: Scores, found: Assessment, place: int
) -> grids.Example:
    row = int(scores.rows[place])
    image = to_float(np.asarray(images.stored[row]))
    names = np.array(found.classes, dtype=object)
    called = found.called[place]
    share = found.probability[place]
    return grids.Example(
        image if image.shape[0] in (1, 3) else image[:1],
        images.ids[row],
        ";".join(names[found.truth[place]]) or "none",
        ";".join(names[called]) or "none",
        float(share[called].min() if called.any() else 1.0 - share.max()),
    )
