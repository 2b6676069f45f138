"""Probabilities before and after temperature scaling, on images that are judged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medglean.classify.decisions import Decisions, calibrated
from medglean.classify.parts import Judged
from medglean.measure import weighted
from medglean.measure.calibration import nll_of_classes, nll_of_findings, reliability
from medglean.measure.intervals import Interval, cluster_bootstrap_many
from medglean.measure.weighted import Statistic
from medglean.runs import curves
from medglean.runs.report import Figure, Table
from medglean.runs.tables import format_measured

BEFORE, AFTER = "as the network gives them", "after temperature scaling"


def probabilities_of(judged: Judged, decisions: Decisions) -> dict[str, np.ndarray]:
    """Return probabilities (n, k) before and, where there is a temperature, after scaling."""
    classifier = judged.classifier
    kind, logits = classifier.kind, judged.scores.logits
    tables = {
        BEFORE: calibrated(logits, Decisions.none(kind, classifier.classes), kind=kind),
    }
    if decisions.is_calibrated:
        tables[AFTER] = calibrated(logits, decisions, kind=kind)
    return tables


def calibration_of(
    judged: Judged, decisions: Decisions, tables: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Interval]]:
    """Measure probabilities before and after scaling, and the change, on the same resamples."""
    each: dict[str, dict[str, Statistic]] = {}
    for name, probability in tables.items():
        temperature = np.asarray(decisions.temperature if name == AFTER else 1.0)
        each[name] = _statistics(judged, probability, judged.scores.logits / temperature)
    if AFTER in each:
        each["change"] = {
            measure: _difference(after, each[BEFORE][measure])
            for measure, after in each[AFTER].items()
        }
    flat = {f"{name}/{measure}": one for name, of in each.items() for measure, one in of.items()}
    found = intervals_of(judged, flat)
    return {
        name: {measure: found[f"{name}/{measure}"] for measure in of} for name, of in each.items()
    }


def _statistics(
    judged: Judged, probability: np.ndarray, logits: np.ndarray
) -> dict[str, Statistic]:
    truth, scores = judged.found.truth, logits.astype(np.float64)
    gap = (probability - truth) ** 2
    if judged.classifier.kind == "multi":
        losses, squares = nll_of_findings(scores, truth), gap.mean(axis=1)
        error = weighted.calibration_error(truth, probability)
    else:
        losses, squares = nll_of_classes(scores, truth.argmax(axis=1)), gap.sum(axis=1)
        error = weighted.calibration_error(*_called(judged, probability))
    return {
        "negative log-likelihood": weighted.mean(losses),
        "Brier score": weighted.mean(squares),
        "calibration error": error,
    }


def _called(judged: Judged, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the called class is right, and how probable it was said to be."""
    called = probability.argmax(axis=1)
    right = np.take_along_axis(judged.found.truth, called[:, None], axis=1)[:, 0]
    return right, probability.max(axis=1)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        change: np.ndarray = first(weights) - second(weights)
        return change

    return statistic


def calibration_table(
    measured: Mapping[str, Mapping[str, Interval]], decisions: Decisions
) -> Table:
    """Return likelihood, Brier score and calibration error, before and after, as a table."""
    columns = [name[0].upper() + name[1:] for name in measured]
    rows = [
        [measure[0].upper() + measure[1:], *(shown(of[measure]) for of in measured.values())]
        for measure in next(iter(measured.values()))
    ]
    low, high = min(decisions.temperature), max(decisions.temperature)
    told = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}, one for each finding"
    how = (
        f"Logits are divided by {told}, as fitted on the validation images; above 1 the network "
        "was too sure. "
        if decisions.is_calibrated
        else "No temperature is applied. "
    )
    return Table(
        "Whether probabilities mean what they say",
        ["Measure", *columns],
        rows,
        note=how + "Less is better in every row; the change is of the same resamples. Chance alone "
        "adds to a calibration error, and resampling adds again: its intervals lie rather high.",
    )


def reliability_figure(
    judged: Judged,
    tables: Mapping[str, np.ndarray],
    measured: Mapping[str, Mapping[str, Interval]],
) -> Figure:
    """Draw what was predicted against what came true, before and after."""
    several = judged.classifier.kind == "multi"
    panels = []
    for name, probability in tables.items():
        if several:
            told, share = judged.found.truth.reshape(-1), probability.reshape(-1)
        else:
            told, share = _called(judged, probability)
        bins, error = reliability(told, share), measured[name]["calibration error"]
        panels.append(
            curves.Panel(
                name[0].upper() + name[1:],
                bins.edges,
                bins.count,
                bins.predicted,
                bins.observed,
                error.value,
                error.low,
                error.high,
            )
        )
    what = "Each finding of each image is a case. " if several else "Each image is a case. "
    return Figure(
        "Calibration: whether probabilities come true",
        what + "On the dotted line, what is said to be 80 % probable is so in 80 %. Points below "
        f"it: more sure than right. Hollow points rest on fewer than {curves.FEW_CASES} cases and "
        "scatter by chance.",
        curves.reliability(
            panels,
            predicted_name="Predicted probability"
            + (" of the finding" if several else " of the called class"),
            observed_name="Share that has the finding" if several else "Share that was right",
        ),
        "svg",
    )


def intervals_of(judged: Judged, statistics: Mapping[str, Statistic]) -> dict[str, Interval]:
    """Return an interval for each statistic, from the resamples that the preset asks for."""
    return cluster_bootstrap_many(
        statistics,
        judged.groups,
        replicates=judged.classifier.preset.measure.replicates,
        seed=judged.seed,
    )


def shown(interval: Interval) -> str:
    """Write a value and its interval for a cell or a sentence."""
    return format_measured(interval.value, interval.low, interval.high)
