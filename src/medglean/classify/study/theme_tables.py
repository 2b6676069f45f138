"""The tables of the 2022 study's ablations, and what all trainings took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medglean.classify.assess import Assessment
from medglean.classify.study.compared import (
    CONSTANT,
    GAIN,
    TITLES,
    Compared,
    full_label,
    shared_constant,
    unique,
    upper,
    with_interval,
)
from medglean.classify.study.curves import epoch_of_step
from medglean.classify.study.gains import auroc_name, main_measure
from medglean.classify.study.rows import Theme, Trained
from medglean.classify.study.tables import named
from medglean.runs.report import Table
from medglean.runs.tables import format_value


def theme_table(theme: Theme, cells: Sequence[Compared]) -> Table:
    """Return the table of an ablation."""
    first = cells[0].trained.found
    name, area = main_measure(first.kind), auroc_name(first)
    alike = None if theme in ("classes", "images") else shared_constant(cells)
    learnt = {one.trained.learnt for one in cells}
    diverged = any(one.trained.note for one in cells)
    areas = {auroc_name(one.trained.found) for one in cells}
    columns = [
        TITLES[theme],
        *(["Images learnt from"] if len(learnt) > 1 else []),
        *([] if alike else [CONSTANT]),
        upper(name),
        GAIN,
        upper(area) if len(areas) == 1 else "Mean AUROC",
        "Macro F1",
    ]

    def row(found: Assessment, label: str, images: int | None, *cells: str) -> list[object]:
        counted = [images] if len(learnt) > 1 else []
        always, gain = cells
        return [
            label,
            *counted,
            *([] if alike else [always]),
            with_interval(found.headline[name]),
            gain,
            with_interval(found.headline[auroc_name(found)]),
            with_interval(found.headline["macro F1"]),
        ]

    rows = [row(alike.constant, named(alike.constant), None, "", "0")] if alike else []
    for one in cells:
        trained = one.trained
        always = with_interval(trained.constant.headline[name])
        label = trained.cell.label + (" (diverged)" if trained.note else "")
        gain = with_interval(one.gain)
        rows.append(row(trained.found, label, trained.learnt, always, gain))
    note = (
        f"With 95 % intervals from resampled patients. The gain is in {name}, over the constant "
        "answer."
    )
    if len(learnt) == 1:
        note += f" Each learnt from {learnt.pop():,} images."
    if theme == "classes":
        note += (
            " Fewer classes are easier by chance alone: compare the gain over the constant answer,"
            " not the accuracy. Rows are of different test images."
        )
    elif theme == "images":
        note += " All are tested on the same images; whole patients were left out of training."
    if diverged:
        note += " A training that diverged has no scores (n/a); the warnings say why."
    return Table(f"Ablation: {TITLES[theme].lower()}", columns, rows, note=note)


def cost_table(trained: Sequence[Trained]) -> Table:
    """Return what each training took; one that stands in several tables has one row."""
    themes: dict[str, list[str]] = {}
    for one in trained:
        themes.setdefault(one.cell.name, []).append(TITLES[one.cell.theme])
    rows: list[list[object]] = []
    for one in unique(trained):
        kept = epoch_of_step(one.history, one.best_step)
        rows.append(
            [
                full_label(one),
                ", ".join(themes[one.cell.name]),
                one.weights,
                one.learnt,
                one.epochs,
                "last" if kept is None else kept,
                _seconds(one.seconds),
                _seconds(one.seconds / one.epochs if one.epochs else math.nan),
            ]
        )
    columns = [
        "Training",
        "Stands in",
        "Weights",
        "Images",
        "Epochs",
        "Epoch kept",
        "Seconds",
        "Seconds per epoch",
    ]
    note = (
        "Trainable weights; seconds in the training loop, validation included, decoding of images "
        "not. Seconds compare only between trainings on the same machine."
    )
    return Table("Cost", columns, rows, note=note, section="training")


def _seconds(value: float) -> str:
    return format_value(round(value)) if value >= 100 else format_value(value, digits=1)
