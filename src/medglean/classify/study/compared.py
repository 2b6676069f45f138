"""A cell of the study beside the constant answer, as tables and figures compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medglean.classify.assess import Assessment
from medglean.classify.study.gains import (
    Resampled,
    comparable,
    difference,
    groups_of,
    has_scores,
    main_measure,
    resampled,
)
from medglean.classify.study.rows import Theme, Trained
from medglean.measure.intervals import Interval
from medglean.runs.tables import UNDEFINED, format_measured

Average = Literal["macro", "weighted", "micro"]
"""How one number stands for all classes."""

CONSTANT = "Constant answer"
GAIN = "Gain"
"""Over the constant answer."""
TITLES: Mapping[Theme, str] = {
    "networks": "The networks",
    "learning-rate": "Learning rate",
    "batch-size": "Batch size",
    "optimizer": "Optimizer",
    "classes": "Number of classes",
    "images": "Number of training images",
}
"""Themes, in the order of the page."""


@dataclass(frozen=True)
class Compared:
    """A cell with what paired differences need.

    Attributes
    ----------
    trained
        The cell.
    own, constant
        Its measures and those of the constant answer, on the same resamples.
    """

    trained: Trained
    own: Resampled
    constant: Resampled

    @property
    def gain(self) -> Interval:
        """Accuracy (or exact match) less that of the constant answer."""
        return difference(self.own, self.constant, main_measure(self.trained.found.kind))


def compared(one: Trained, *, replicates: int, seed: int) -> Compared:
    """Resample a cell and its constant answer alike."""
    groups = groups_of(one)
    networks = one.cell.theme == "networks"  # only these are compared with one another
    return Compared(
        one,
        resampled(one.found, groups, areas=networks, replicates=replicates, seed=seed),
        resampled(one.constant, groups, areas=False, replicates=replicates, seed=seed),
    )


def with_interval(found: Interval | None) -> str:
    """Return a value and its interval for a cell of a table."""
    return UNDEFINED if found is None else format_measured(found.value, found.low, found.high)


def averaged(found: Assessment, average: str) -> Mapping[str, Interval]:
    """Return precision, recall and F1 of one kind of average; nothing without scores."""
    return found.averages.get(average, {}) if has_scores(found) else {}


def shared_constant(cells: Sequence[Compared]) -> Trained | None:
    """Return a cell whose constant answer is that of all cells; None where they differ."""
    if not cells:
        return None
    first = cells[0].trained
    alike = all(
        comparable(first.constant, one.trained.constant)
        and np.array_equal(first.constant.called, one.trained.constant.called)
        for one in cells
    )
    return first if alike else None


def unique(trained: Sequence[Trained]) -> list[Trained]:
    """Return one of each training: the same may stand in several tables, under one name."""
    return list({one.cell.name: one for one in reversed(trained)}.values())[::-1]


def full_label(one: Trained) -> str:
    """Name a cell so that it can be told apart outside its table.

    Examples
    --------
    In the table of learning rates ``"0.1"``, elsewhere ``"Learning rate 0.1"``.
    """
    theme, label = one.cell.theme, one.cell.label
    alone = theme in ("networks", "classes", "images")
    return label if alone else f"{TITLES[theme]} {label}"


def upper(name: str) -> str:
    """Return a name with a large first letter, as a column's heading."""
    return name[:1].upper() + name[1:]
