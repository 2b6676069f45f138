"""Lines, table and figure that say whether two classifiers differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medglean.classify.between import MEAN, Paired
from medglean.classify.dots import dots
from medglean.measure.delong import AurocComparison
from medglean.runs.report import Figure, Table
from medglean.runs.tables import UNDEFINED, format_interval, format_value


def lines_of(paired: Paired) -> list[str]:
    """Say in lines for a terminal what two runs differ by."""
    told = [f"{paired.first.path} and {paired.second.path} on {_shared(paired)}:"]
    for name, one in paired.differences.items():
        text = (
            f"    AUROC, {name}: {format_value(one.first)} and {format_value(one.second)}; "
            f"difference {_difference(one)}; {_p(one.p)}"
        )
        adjusted = _p(paired.adjusted[name])
        if adjusted != _p(one.p):
            text += f", {adjusted} adjusted (Holm)"
        told.append(text + (f"; {one.note}" if one.note else ""))
    return told


def table_of(paired: Paired) -> Table:
    """Return AUROC of both runs, class by class, with their difference."""
    rows: list[list[object]] = []
    for name, one in paired.differences.items():
        counts = "-" if name == MEAN else f"{one.positives:,} of {len(paired.first.ids):,}"
        rows.append(
            [
                name[:1].upper() + name[1:] if name == MEAN else name,
                counts,
                one.first,
                one.second,
                _difference(one),
                one.p,
                paired.adjusted[name],
            ]
        )
    return Table(
        f"{paired.first.path} and {paired.second.path} on the same images",
        ["Class", "Images", "First", "Second", "First less second", "p", "p, adjusted"],
        rows,
        note=f"AUROC on {_shared(paired)}. Differences with 95 % intervals, and p, by DeLong's "
        "test clustered by patient (Obuchowski 1997); that of the mean takes the covariance of the "
        "classes into account. Adjusted by Holm: the first row for how many runs are compared, the "
        "others for all classes of all of them.",
    )


def pairs_figure(pairs: Sequence[Paired]) -> Figure:
    """Draw the differences from the first run, 0 as a line."""
    rows = {}
    for paired in pairs:
        for name, one in paired.differences.items():
            label = f"{paired.second.path.name}: {name}"
            rows[label if label not in rows else f"{paired.second.path}: {name}"] = one
    first = pairs[0].first.path
    drawn = dots(
        {label: (_Shown(one),) for label, one in rows.items()},
        series=("difference",),
        axis=f"AUROC of {first.name} less that of the other run",
        title=f"{first.name} beside other runs, on the same images",
        line=0.0,
        line_name="no difference",
    )
    told = "; ".join(f"{label} {format_value(one.difference)}" for label, one in rows.items())
    return Figure(
        "Whether the runs differ",
        f"To the right of the line {first} is better, to the left the other run. With 95 % "
        "intervals by DeLong's variance, over patients; not adjusted for several comparisons.",
        drawn,
        "svg",
        alt=f"Differences in AUROC from {first}: {told}.",
    )


class _Shown:
    """A difference as a dot."""

    def __init__(self, one: AurocComparison) -> None:
        self.value, self.low, self.high = one.difference, one.low, one.high


def _shared(paired: Paired) -> str:
    scores = paired.first
    text = f"{len(scores.ids):,} test images that both have"
    if scores.counted == "images":
        return text
    return f"{text}, of {len(np.unique(scores.groups.astype(str))):,} {scores.counted}"


def _difference(one: AurocComparison) -> str:
    span = format_interval(one.low, one.high)
    text = format_value(one.difference)
    return text if span == UNDEFINED else f"{text} (95 % CI {span})"


def _p(p: float) -> str:
    return f"p {'< 0.001' if p < 0.001 else format_value(p)}"
