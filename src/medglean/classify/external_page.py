"""Sentence, tables and figure that set the run's own test part beside other images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from medglean.classify.dots import Ranged, dots
from medglean.classify.drop import AurocChange, Change
from medglean.classify.stored_scores import StoredScores
from medglean.runs.report import Figure, Table
from medglean.runs.tables import format_measured, format_value

OWN = "the run's own test part"
HERE = "these images"
_LOSSES = ("Brier score", "calibration error", "Hamming loss")


def sentence(name: str, found: Change, over: str) -> str:
    """Say what became of a measure, for the first page.

    Parameters
    ----------
    name
        Of the measure; higher is better.
    found
        On both sets.
    over
        Which classes it is over, where these are not all, with a blank in front.
    """
    change = found.change
    if math.isnan(change.value):
        return f"Its {name} cannot be compared with that of {OWN}{over}."
    values = f"{format_value(found.home.value)} on {OWN} to {format_value(found.here.value)} on"
    sign = -1.0 if change.value < 0 else 1.0
    over += "," if over else ""
    verb, noun = ("falls", "drop") if change.value < 0 else ("rises", "gain")
    size = f"{noun} {format_value(abs(change.value))}"
    if math.isfinite(change.low):
        low, high = sorted((sign * change.low, sign * change.high))
        size += f", 95 % CI {format_value(low)} to {format_value(high)}"
        if not found.is_clear:
            size += ": it may be chance"
    return f"{name[:1].upper()}{name[1:]}{over} {verb} from {values} {HERE} ({size})."


def headline_table(
    found: Mapping[str, Change], home: StoredScores, here: StoredScores, over: str
) -> Table:
    """Return the headline measures of both sets with their changes."""
    note = (
        f"With 95 % intervals. {_told('Own', home)}; {_told('these', here)}. The patients of both "
        "are resampled independently; where the interval of a change holds 0, it may be chance."
    )
    if over:
        note += f" Measured{over}."
        if home.kind == "single":
            note += " Images of other classes are left out on both sides."
    return Table(
        "What is left of the run's own numbers",
        ["Measure", "Own test part", "These images", "Change"],
        [
            [
                f"{name[:1].upper()}{name[1:]}" + (" (less is better)" if name in _LOSSES else ""),
                _cell(one.home),
                _cell(one.here),
                _cell(one.change),
            ]
            for name, one in found.items()
        ],
        note=note,
    )


def class_table(areas: Mapping[str, AurocChange], home: StoredScores, here: StoredScores) -> Table:
    """Return the AUROC of each class on both sets, with DeLong's p."""
    return Table(
        "AUROC of each class at home and here",
        ["Class", "Own images", "These images", "Own AUROC", "AUROC here", "Change", "p"],
        [
            [
                name,
                f"{one.home.positives:,} of {len(home.ids):,}",
                f"{one.here.positives:,} of {len(here.ids):,}",
                _cell(one.home),
                _cell(one.here),
                one.here.value - one.home.value,
                one.p,
            ]
            for name, one in areas.items()
        ],
        note="Intervals and p by DeLong's variance, clustered by patient (Obuchowski 1997), for "
        "two sets that share no patient; p is not adjusted for several classes. Near an AUROC of 1 "
        "these intervals are too short: trust the resampled ones of the table above.",
    )


def points_table(points: Mapping[str, Change]) -> Table:
    """Return what fixed thresholds do on both sets."""
    return Table(
        "What the thresholds chosen at home do here",
        ["Threshold", "Own test part", "These images", "Change"],
        [
            [name, _cell(one.home), _cell(one.here), _cell(one.change)]
            for name, one in points.items()
        ],
        note="Thresholds of the probability, chosen on the run's validation part and fixed since. "
        "With 95 % intervals.",
    )


def figure(
    found: Mapping[str, Change],
    areas: Mapping[str, AurocChange],
    home: StoredScores,
    here: StoredScores,
) -> Figure:
    """Draw both sets as dots: measures of which more is better, then AUROC by class."""
    rows: dict[str, tuple[Ranged, Ranged]] = {
        f"{name[:1].upper()}{name[1:]}": (one.home, one.here)
        for name, one in found.items()
        if name not in _LOSSES
    }
    if len(areas) > 1:
        rows |= {f"AUROC, {name}": (one.home, one.here) for name, one in areas.items()}
    drawn = dots(
        rows,
        series=(f"own test part ({_count(home)})", f"these images ({_count(here)})"),
        axis="Higher is better; the axis need not begin at 0",
        title="At home and here",
    )
    told = "; ".join(
        f"{name} {format_value(own.value)} own, {format_value(other.value)} here"
        for name, (own, other) in rows.items()
    )
    return Figure(
        "How much is lost on images from elsewhere",
        "Dots with 95 % intervals over patients. The farther the lower dot of a row lies to the "
        "left of the upper one, the less of the run's own result holds for these images.",
        drawn,
        "svg",
        alt=f"Measures on {OWN} and on {HERE}: {told}.",
    )


def _cell(found: Ranged) -> str:
    return format_measured(found.value, found.low, found.high)


def _told(who: str, scores: StoredScores) -> str:
    return f"{who}: {_count(scores)}"


def _count(scores: StoredScores) -> str:
    groups = len(np.unique(scores.groups.astype(str)))
    told = f"{len(scores.ids):,} images"
    return told if scores.counted == "images" else f"{told} of {groups:,} {scores.counted}"
