"""How the audit names and writes its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medglean.classify.shortcuts.result import Audit
from medglean.measure.intervals import Interval
from medglean.runs.tables import format_measured, format_value


def area_name(audit: Audit) -> str:
    """Return what the report calls the area over all classes."""
    two = audit.ground.kind == "single" and len(audit.ground.classes) == 2
    return "AUROC" if two else "macro AUROC"


def right_name(audit: Audit) -> str:
    """Return what the report calls the share of images that are right altogether."""
    return "accuracy" if audit.ground.kind == "single" else "exact match"


def learnt(audit: Audit) -> str:
    """Say what baselines learnt from."""
    truth = audit.ground.learn_truth
    if truth is None:
        return (
            "cross-validated in five parts over the patients that are judged, because the images "
            "that the network learnt from are not at hand; so they learn from these few, which "
            "favours the network"
        )
    return f"learnt from the {len(truth):,} images that the network learnt from"


def signed(interval: Interval) -> str:
    """Write a difference with its interval, such as ``0.012, 95 % CI -0.020 to 0.041``."""
    return (
        f"{format_value(interval.value)}, {100 * interval.level:g} % CI "
        f"{format_value(interval.low)} to {format_value(interval.high)}"
    )


def listed(names: Sequence[str]) -> str:
    """Return names in words, such as ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def cell(interval: Interval) -> str:
    """Write a number with its interval, alone where that is a point."""
    if interval.low == interval.high:
        return format_value(interval.value)
    return format_measured(interval.value, interval.low, interval.high)


def difference(interval: Interval) -> str:
    """Write a difference with its interval for a cell of a table."""
    if math.isnan(interval.value):
        return "n/a"
    if math.isnan(interval.low):
        return format_value(interval.value)
    span = f"{format_value(interval.low)} to {format_value(interval.high)}"
    return f"{format_value(interval.value)} ({span})"
