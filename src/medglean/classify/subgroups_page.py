"""Table, figure and warnings on subgroups of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medglean.classify.assess import Assessment
from medglean.classify.dots import dots
from medglean.measure.intervals import Interval
from medglean.measure.subgroups import UNKNOWN, SubgroupTable
from medglean.runs.report import Figure
from medglean.runs.tables import format_measured, format_value

_MOST_TOLD = 5


def numbers_of(
    found: Assessment, classes: Sequence[int], rows: np.ndarray, *, one: bool
) -> int | str:
    """Return how many images have the class, or each class by name, the most frequent first."""
    if one:
        return int(found.truth[rows, classes[0]].sum())
    named = sorted(range(len(found.classes)), key=lambda j: -int(found.truth[rows, j].sum()))
    told = [f"{found.classes[j]} {int(found.truth[rows, j].sum()):,}" for j in named[:_MOST_TOLD]]
    return ", ".join(told) + (", ..." if len(named) > _MOST_TOLD else "")


def cell(found: Interval) -> str:
    """Write a number with its interval."""
    return format_measured(found.value, found.low, found.high)


def what_of(found: Assessment, classes: Sequence[int]) -> str:
    """Say what the averages are over."""
    if found.kind == "single" and len(found.classes) == 2:
        return f"of {found.classes[1]}"
    if not classes:
        return "of no class: none has images with and without it in every large subgroup"
    names = ", ".join(found.classes[j] for j in classes)
    if len(classes) == len(found.classes):
        return "mean of all classes"
    return f"mean of {names}, which every large subgroup has" if len(classes) > 1 else f"of {names}"


def note_of(what: str, areas: SubgroupTable) -> str:
    """Return the table's note, with the largest gap."""
    text = f"Measures are the {what}" if what.startswith("mean") else f"Measures are {what}"
    text += ", with 95 % intervals from resampled patients."
    gap = areas.gap
    if gap is None:
        return f"{text} Largest gap: not told, since {areas.note.removeprefix('no gap: ')}."
    low, high = gap.interval.low, gap.interval.high
    text += (
        f" Largest gap in AUROC: {gap.higher} above {gap.lower} by "
        f"{format_measured(gap.interval.value, low, high)}"
    )
    if gap.pairs > 1:
        text += (
            f", an interval of {100 * gap.interval.level:.3g} % since these two of {gap.pairs} "
            "pairs were chosen for being farthest apart"
        )
    return f"{text}." + (f" {capital(gap.note)}." if gap.note else "")


def figures_of(name: str, areas: SubgroupTable, overall: Interval, what: str) -> tuple[Figure, ...]:
    """Draw AUROC by subgroup; nothing where it is undefined in all of them."""
    if all(math.isnan(row.interval.value) for row in areas.rows):
        return ()
    rows = {f"{row.name} (n = {row.interval.n:,})": row.interval for row in areas.rows}
    drawn = dots(
        {label: (interval,) for label, interval in rows.items()},
        series=("AUROC",),
        axis=f"AUROC ({what}); the axis need not begin at 0",
        title=f"AUROC by {name}",
        line=overall.value,
        line_name="all images",
    )
    told = "; ".join(f"{label} {format_value(one.value)}" for label, one in rows.items())
    return (
        Figure(
            f"By {name}: whether it does equally well for all",
            "Dots with 95 % intervals over patients. Wide intervals say that a subgroup is small, "
            "not that it is treated alike.",
            drawn,
            "svg",
            alt=f"AUROC by {name}: {told}.",
        ),
    )


def too_few(name: str, reasons: dict[str, str]) -> list[str]:
    """Warn of subgroups from which nothing follows."""
    small = [group for group, why in reasons.items() if why and group != UNKNOWN]
    if not small:
        return []
    known = sum(group != UNKNOWN for group in reasons)
    told = ", ".join(small[:_MOST_TOLD]) + (", ..." if len(small) > _MOST_TOLD else "")
    return [
        f"By {name}, {len(small)} of {known} subgroups {'is' if len(small) == 1 else 'are'} too "
        f"small to say anything about ({told}): it may do badly there without these numbers "
        "showing it."
    ]


def gap_warnings(name: str, areas: SubgroupTable, what: str) -> list[str]:
    """Warn of a gap whose interval leaves out 0."""
    gap = areas.gap
    if gap is None or not gap.interval.low > 0.0:
        return []
    values = {row.name: row.interval.value for row in areas.rows}
    span = f"{100 * gap.interval.level:.3g} % CI {format_value(gap.interval.low)} to "
    return [
        f"AUROC ({what}) differs by {name}: {format_value(values[gap.higher])} for {gap.higher}, "
        f"{format_value(values[gap.lower])} for {gap.lower} (gap "
        f"{format_value(gap.interval.value)}, {span}{format_value(gap.interval.high)})."
    ]


def one_sided(name: str, found: Assessment, positions: dict[str, np.ndarray]) -> list[str]:
    """Warn of classes all of whose images are of one subgroup: they can be told by it."""
    known = {group: rows for group, rows in positions.items() if group != UNKNOWN}
    if len(known) < 2:
        return []
    confined = []
    for j, one in enumerate(found.classes):
        holding = [group for group, rows in positions.items() if found.truth[rows, j].any()]
        if len(holding) == 1 and holding[0] in known and found.support[j] > 1:
            confined.append(f"{one} of {holding[0]}")
    if not confined:
        return []
    told = ", ".join(confined[:_MOST_TOLD]) + (", ..." if len(confined) > _MOST_TOLD else "")
    return [
        f"All images of a class have the same {name} ({told}): what tells {name} apart tells the "
        "class apart, and these numbers cannot say which of the two the network has learnt."
    ]


def capital(text: str) -> str:
    """Return a text with its first letter capital."""
    return text[:1].upper() + text[1:]
