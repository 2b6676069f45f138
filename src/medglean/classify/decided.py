"""The section on decisions: what thresholds and temperature, chosen on validation, do here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from medglean.classify.decided_calibration import (
    AFTER,
    BEFORE,
    calibration_of,
    calibration_table,
    intervals_of,
    probabilities_of,
    reliability_figure,
    shown,
)
from medglean.classify.decisions import Decisions
from medglean.classify.parts import Judged, Part
from medglean.classify.promises import listed, patients_of_each_kind, promised
from medglean.measure import operating
from medglean.measure.intervals import Interval
from medglean.measure.operating import OperatingPoint
from medglean.runs import curves
from medglean.runs.report import Metric, Table, group_name
from medglean.runs.tables import format_value

RATES = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class Met:
    """An operating point on the images that are judged."""

    name: str
    point: OperatingPoint
    counts: operating.Decisions
    rates: Mapping[str, Interval]
    patients: tuple[int, int]

    @property
    def label(self) -> str:
        """Class and rule."""
        return f"{self.name}: {self.point.rule}"


def decisions_part(judged: Judged) -> Part:
    """Return what the operating points and the temperature of a classifier do on judged images.

    Returns
    -------
    Part
        Empty where nothing was chosen on validation images.
    """
    decisions: Decisions | None = judged.classifier.decisions
    if decisions is None or decisions.n == 0:
        return Part()
    tables = probabilities_of(judged, decisions)
    met = list(_met(judged, decisions, tables[AFTER] if AFTER in tables else tables[BEFORE]))
    measured = calibration_of(judged, decisions, tables)
    counted = group_name(judged.images.manifest.grouped_by)
    metrics = [
        Metric.of(f"{name} after scaling", interval, group_name=counted)
        for name, interval in measured.get(AFTER, {}).items()
        if name in ("Brier score", "calibration error")
    ]
    return Part(
        sentences=_sentences(met),
        metrics=tuple(metrics),
        tables=(*_point_tables(met, decisions, counted), calibration_table(measured, decisions)),
        figures=(reliability_figure(judged, tables, measured),),
        warnings=(*_warnings(judged, decisions, met, counted), *decisions.notes),
        data={"temperature": _temperatures(judged, decisions)},
    )


def points_on_curves(
    truth: np.ndarray, score: np.ndarray, points: tuple[OperatingPoint, ...]
) -> tuple[list[curves.OperatingPoint], list[curves.OperatingPoint]]:
    """Return where operating points lie on the ROC and on the precision-recall curve of images."""
    on_roc, on_pr = [], []
    for point in points:
        done = operating.decisions(truth, score, threshold=point.threshold)
        found, spared = done.sensitivity, done.specificity
        if not np.isnan([found, spared]).any():
            on_roc.append(curves.OperatingPoint(1 - spared, found, point.threshold, point.rule))
        if not np.isnan([found, done.ppv]).any():
            on_pr.append(curves.OperatingPoint(found, done.ppv, point.threshold, point.rule))
    return on_roc, on_pr


def _met(judged: Judged, decisions: Decisions, probability: np.ndarray) -> Iterator[Met]:
    """Judge each operating point that has a threshold, all on the same resamples of patients."""
    chosen = [
        (name, judged.classifier.classes.index(name), point)
        for name, points in decisions.points.items()
        for point in points
        if not np.isnan(point.threshold)
    ]
    truth = judged.found.truth
    statistics = {
        f"{place}/{rate}": statistic
        for place, (_, j, point) in enumerate(chosen)
        for rate, statistic in operating.rates(
            truth[:, j], probability[:, j], threshold=point.threshold
        ).items()
    }
    if not chosen:
        return
    found = intervals_of(judged, statistics)
    for place, (name, j, point) in enumerate(chosen):
        yield Met(
            name,
            point,
            operating.decisions(truth[:, j], probability[:, j], threshold=point.threshold),
            {rate: found[f"{place}/{rate}"] for rate in RATES},
            patients_of_each_kind(truth[:, j], judged.groups),
        )


def _point_tables(met: list[Met], decisions: Decisions, counted: str) -> tuple[Table, ...]:
    if not met:
        return ()
    names = list(decisions.points)
    of_what = (
        f"A case is called {names[0]} when its probability reaches the threshold"
        if len(names) == 1
        else "Each class against all others: it is called when its probability reaches the "
        "threshold"
    )
    missing = [
        f"{name}: {point.rule} ({point.note})"
        for name, points in decisions.points.items()
        for point in points
        if np.isnan(point.threshold)
    ]
    told = f" There is no threshold for {listed(missing)}." if missing else ""
    certain = any(m.rates[rate].low == m.rates[rate].high for m in met for rate in RATES)
    width = (
        " An interval without width does not mean certainty: of n calls none was wrong (or right), "
        "and up to some 3 / n may be."
        if certain
        else ""
    )
    counts = [
        [
            m.label,
            format_value(m.point.threshold),
            m.counts.true_positives,
            m.counts.false_positives,
            m.counts.false_negatives,
            m.counts.true_negatives,
        ]
        for m in met
    ]
    rates = [
        [
            m.label,
            shown(m.rates["sensitivity"]),
            m.point.sensitivity,
            shown(m.rates["specificity"]),
            m.point.specificity,
            shown(m.rates["ppv"]),
            shown(m.rates["npv"]),
        ]
        for m in met
    ]
    return (
        Table(
            "What is called at each operating point",
            [
                "Operating point",
                "Threshold",
                "True positives",
                "False positives",
                "False negatives",
                "True negatives",
            ],
            counts,
            note=f"{of_what}. Thresholds were chosen on {decisions.n:,} validation images of "
            f"{decisions.groups:,} {counted}, and are only applied here.{told}",
        ),
        Table(
            "How well each operating point holds",
            [
                "Operating point",
                "Sensitivity",
                "on validation",
                "Specificity",
                "on validation",
                "Precision (PPV)",
                "NPV",
            ],
            rates,
            note=f"With 95 % intervals from resampled {counted}, the threshold being fixed. What "
            "was reached on validation flatters, for the threshold was chosen there. Precision and "
            f"NPV hold for the share of positive images here only.{width}",
        ),
    )


def _sentences(met: list[Met]) -> tuple[str, ...]:
    """Say in one sentence what the first promise came to, where one class is looked for."""
    kept = [m for m in met if promised(m.point.rule)]
    if not kept or len({m.name for m in met}) > 1:
        return ()
    first = kept[0]
    return (
        f"At the threshold set for {first.point.rule} on validation images, it finds "
        f"{format_value(first.rates['sensitivity'].value)} of {first.name} and spares "
        f"{format_value(first.rates['specificity'].value)} of the rest.",
    )


def _warnings(judged: Judged, decisions: Decisions, met: list[Met], counted: str) -> Iterator[str]:
    """Say where a promise was not kept, cannot be checked, or was judged where it was made."""
    frame = judged.images.manifest.frame
    rows = judged.scores.rows
    if "split" in frame and len(rows) == decisions.n and (frame["split"].iloc[rows] == "val").all():
        yield (
            "Thresholds and temperature were chosen on these very images: what they reach here "
            "says little about other images."
        )
    few: dict[str, list[str]] = {}
    for m in met:
        asked = promised(m.point.rule)
        if asked is None:
            continue
        rate, least = asked
        reached = m.rates[rate]
        if reached.high < least:
            yield (
                f"{m.label} was not kept: {rate} here is {shown(reached)}, with its whole "
                f"interval below {least:g}. Choose thresholds on more images, or on images like "
                "these."
            )
        patients = m.patients[0 if rate == "sensitivity" else 1]
        if patients * (1 - least) < 1:
            few.setdefault(m.point.rule, []).append(f"{m.name} ({patients})")
    for rule, names in few.items():
        yield (
            f"Whether {rule} holds cannot be told here: too few {counted} "
            f"{'with' if rule.startswith('sensitivity') else 'without'} the finding, for "
            f"{listed(names)}."
        )


def _temperatures(judged: Judged, decisions: Decisions) -> object:
    if judged.classifier.kind == "single":
        return f"{decisions.temperature[0]:.4g}"
    pairs = zip(judged.classifier.classes, decisions.temperature, strict=True)
    return {name: f"{value:.4g}" for name, value in pairs}
