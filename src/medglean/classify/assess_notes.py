"""What a careful reader should know about a classifier's numbers, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medglean.classify.promises import listed
from medglean.measure.intervals import Interval

FEW_GROUPS = 30
MANY_DROPPED = 0.5
"""Share of lost resamples from which intervals are called unreliable."""


def notes_on(
    classes: Sequence[str],
    truth: np.ndarray,
    called: np.ndarray,
    groups: int,
    per_class: Sequence[Mapping[str, Interval]],
    macro: Mapping[str, Interval],
) -> tuple[str, ...]:
    """Return what a careful reader should know about the numbers of an assessment.

    Parameters
    ----------
    classes
        k names.
    truth, called
        Which classes each image has, and is called; shape (n, k).
    groups
        Patients, or what stands for them.
    per_class, macro
        Measures of each class, and their macro averages.
    """
    present, everywhere = np.asarray(truth.any(axis=0)), np.asarray(truth.all(axis=0))
    notes = []
    if not present.all():
        notes.append(
            f"Averages over classes leave out {_those(classes, ~present)}: no image here has it, "
            "so its measures are undefined."
        )
    if (present & everywhere).any():
        notes.append(
            f"Macro AUROC, average precision and specificity leave out "
            f"{_those(classes, present & everywhere)}: all images here have it."
        )
    silent = present & ~np.asarray(called.any(axis=0))
    if silent.any():
        loud = [per_class[j]["precision"].value for j in np.flatnonzero(present & ~silent).tolist()]
        without = f"; left out, macro precision would be {np.mean(loud):.3f}" if loud else ""
        notes.append(
            f"No image was called {_those(classes, silent)}: precision is undefined and counts "
            f"0 in macro and weighted precision{without}."
        )
    kept, dropped = macro["recall"].replicates, macro["recall"].dropped
    if dropped > MANY_DROPPED * (kept + dropped):
        notes.append(
            f"Intervals of macro averages rest on {kept:,} of {kept + dropped:,} resamples: the "
            "others lack a class. Do not rely on them."
        )
    if groups < FEW_GROUPS:
        notes.append(
            f"Only {groups} patients or groups: intervals from so few are too narrow rather than "
            "too wide."
        )
    return tuple(notes)


def _those(classes: Sequence[str], chosen: np.ndarray) -> str:
    return listed(name for name, one in zip(classes, chosen, strict=True) if one)
