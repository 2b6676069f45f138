"""The ROC and precision-recall curves of a classifier's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medglean.classify.assess import Assessment
from medglean.classify.decided import points_on_curves
from medglean.measure.curves import precision_recall_curve, roc_curve
from medglean.measure.intervals import roc_band
from medglean.measure.operating import OperatingPoint
from medglean.runs import curves
from medglean.runs.report import Figure

MOST_CURVES = 6


def curves_to_show(found: Assessment) -> list[int]:
    """Return the classes that curves are drawn for: for two classes, one says it all."""
    defined = [j for j, count in enumerate(found.support) if 0 < count < found.n]
    if found.kind == "single" and len(found.classes) == 2:
        return defined[-1:]
    most = sorted(defined, key=lambda j: -found.support[j])[:MOST_CURVES]
    return sorted(most)


def curve_figures(
    found: Assessment,
    groups: Sequence[str] | np.ndarray,
    shown: Sequence[int],
    points: Mapping[str, tuple[OperatingPoint, ...]],
) -> list[Figure]:
    """Draw ROC and precision-recall curves, operating points marked where one class is drawn.

    Parameters
    ----------
    found, groups
        What is drawn, and the patient of each image.
    shown
        Numbers of the classes drawn.
    points
        Operating points by class.
    """
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
    on_roc: list[curves.OperatingPoint] = []
    on_pr: list[curves.OperatingPoint] = []
    if len(shown) == 1:
        on_roc, on_pr = points_on_curves(
            found.truth[:, shown[0]],
            found.probability[:, shown[0]],
            points.get(found.classes[shown[0]], ()),
        )
        rates = np.linspace(0.0, 1.0, 101)
        low, high = roc_band(
            found.truth[:, shown[0]],
            found.probability[:, shown[0]],
            groups,
            false_positive_rate=rates,
        )
        band = (rates, low, high) if np.isfinite(low).all() else None
    marked = " Marks: thresholds chosen on validation images." if on_roc else ""
    left_out = len(found.classes) - len(shown)
    told = f" The {len(shown)} most frequent classes are drawn." if left_out > 1 else ""
    return [
        Figure(
            "ROC curve: how well the classes are told apart",
            "Towards the upper left is better." + marked + told,
            curves.roc(roc_lines, band=band, points=on_roc),
            "svg",
        ),
        Figure(
            "Precision-recall curve: how many calls are right",
            "Towards the upper right is better; this depends on how frequent a class is here."
            + marked
            + told,
            curves.precision_recall(pr_lines, points=on_pr),
            "svg",
        ),
    ]
