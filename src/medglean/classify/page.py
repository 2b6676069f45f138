"""The report of a classifier: numbers, curves and examples, in the order in which one reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from medglean.classify.assess import PER_CLASS, Assessment
from medglean.classify.model import Classifier
from medglean.classify.scores import Scores
from medglean.data.augment import to_float
from medglean.data.imageset import ImageSet
from medglean.measure.calibration import reliability
from medglean.measure.curves import precision_recall_curve, roc_curve
from medglean.measure.intervals import roc_band
from medglean.runs import curves, figures, grids
from medglean.runs.report import Figure, Metric, Table
from medglean.runs.tables import format_interval, format_value

EXAMPLES = 8
MOST_CURVES = 6


def metrics_of(found: Assessment, *, group_name: str) -> list[Metric]:
    """Return the headline numbers, the one to quote first."""
    return [
        Metric.of(name, interval, group_name=group_name)
        for name, interval in found.headline.items()
    ]


def class_table(found: Assessment, *, part: str) -> Table:
    """Return the table with one row per class, every number with its interval."""
    rows: list[list[object]] = []
    for name, support, measured in zip(found.classes, found.support, found.per_class, strict=True):
        row: list[object] = [name, support]
        for measure in PER_CLASS:
            interval = measured[measure]
            text = format_value(interval.value)
            span = format_interval(interval.low, interval.high)
            row.append(text if span == "n/a" else f"{text} ({span})")
        rows.append(row)
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
        "precision do not depend on a threshold.",
    )


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
        "Images of each class in each part of the split. A patient is in one part only.",
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
    return Figure("How training went", caption, data, "svg", section="training")


def _last_of(by_epoch: object, column: str, epochs: pd.Index) -> np.ndarray:
    """Return the last value that each epoch has in a column, NaN where it has none."""
    frame = getattr(by_epoch, "obj")  # noqa: B009 - pandas' stubs hide it
    if column not in frame:
        return np.full(len(epochs), np.nan)
    last = frame.dropna(subset=[column]).groupby("epoch")[column].last()
    values: np.ndarray = last.reindex(epochs).to_numpy(dtype=np.float64)
    return values


def result_figures(found: Assessment, groups: Sequence[str] | np.ndarray) -> list[Figure]:
    """Draw confusion, ROC, precision-recall, scores and calibration."""
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
    shown = _curves_to_show(found)
    if shown:
        drawn += _curve_figures(found, groups, shown)
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
    if found.kind == "single" and found.n:
        right = (found.truth & found.called).any(axis=1)
        bins = reliability(right, found.probability.max(axis=1))
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
                    calibration_error=found.headline["calibration error"].value,
                ),
                "svg",
            )
        )
    return drawn


def _curves_to_show(found: Assessment) -> list[int]:
    """Return the classes that curves are drawn for: for two classes, one says it all."""
    defined = [j for j, count in enumerate(found.support) if 0 < count < found.n]
    if found.kind == "single" and len(found.classes) == 2:
        return defined[-1:]
    most = sorted(defined, key=lambda j: -found.support[j])[:MOST_CURVES]
    return sorted(most)


def _curve_figures(
    found: Assessment, groups: Sequence[str] | np.ndarray, shown: Sequence[int]
) -> list[Figure]:
    roc_lines, pr_lines = [], []
    for j in shown:
        truth, score = found.truth[:, j], found.probability[:, j]
        positives = int(truth.sum())
        counts = {"positives": positives, "negatives": len(truth) - positives}
        area, precision = found.per_class[j]["AUROC"], found.per_class[j]["average precision"]
        roc = roc_curve(truth, score)
        pr = precision_recall_curve(truth, score)
        roc_lines.append(
            curves.Line(
                found.classes[j],
                roc.false_positive_rate,
                roc.sensitivity,
                area=area.value,
                low=area.low,
                high=area.high,
                **counts,
            )
        )
        pr_lines.append(
            curves.Line(
                found.classes[j],
                pr.recall,
                pr.precision,
                area=precision.value,
                low=precision.low,
                high=precision.high,
                **counts,
            )
        )
    band = None
    if len(shown) == 1:
        rates = np.linspace(0.0, 1.0, 101)
        low, high = roc_band(
            found.truth[:, shown[0]],
            found.probability[:, shown[0]],
            groups,
            false_positive_rate=rates,
        )
        band = (rates, low, high) if np.isfinite(low).all() else None
    left_out = len(found.classes) - len(shown)
    told = f" The {len(shown)} most frequent classes are drawn." if left_out > 1 else ""
    return [
        Figure(
            "ROC curve: how well the classes are told apart",
            "Towards the upper left is better." + told,
            curves.roc(roc_lines, band=band),
            "svg",
        ),
        Figure(
            "Precision-recall curve: how many calls are right",
            "Towards the upper right is better; this depends on how frequent a class is here."
            + told,
            curves.precision_recall(pr_lines),
            "svg",
        ),
    ]


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
