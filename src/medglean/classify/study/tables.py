"""The tables of the report's networks: beside the constant answer, and beside one another.

The constant answer has the first row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from medglean.classify.assess import Assessment
from medglean.classify.study.compared import (
    CONSTANT,
    GAIN,
    TITLES,
    Average,
    Compared,
    averaged,
    shared_constant,
    upper,
    with_interval,
)
from medglean.classify.study.gains import (
    auroc_name,
    bound_of,
    comparable,
    delong,
    difference,
    groups_of,
    has_scores,
    main_measure,
)
from medglean.classify.study.told import answer_of
from medglean.measure.comparisons import LEVEL, holm
from medglean.measure.labels import counts_of_labels
from medglean.runs.report import Table
from medglean.runs.tables import UNDEFINED, format_measured, format_value

AVERAGED = ("precision", "recall", "F1")
_UNDEFINED = "n/a: no test image has a class, or the training diverged and has no scores."

_MEANS: dict[Average, str] = {
    "macro": "Macro averages count every class alike, rare or frequent.",
    "weighted": "Weighted averages count each class as often as it occurs, so that a frequent "
    "class hides the rare ones.",
    "micro": "Micro averages pool all decisions.",
}

_Row = Callable[[str, Assessment, str], list[object]]
"""From label, assessment and gain to the cells of a row."""


def networks_table(cells: Sequence[Compared], *, counted: str, average: Average = "macro") -> Table:
    """Return the report's main table: accuracy, precision, recall, F1 and AUROC.

    Parameters
    ----------
    cells
        Of the report's networks.
    counted
        What intervals are over, such as ``"patients"``.
    average
        Of precision, recall and F1 over the classes.
    """
    kind = cells[0].trained.found.kind
    area = auroc_name(cells[0].trained.found)
    names = [main_measure(kind), *(["Hamming loss"] if kind == "multi" else [])]
    shown = [f"{upper(average)} {name}" for name in AVERAGED]
    columns = ["Network", upper(names[0]), GAIN, *map(upper, names[1:]), upper(area), *shown]

    def row(label: str, found: Assessment, gain: str) -> list[object]:
        measures = averaged(found, average)
        return [
            label,
            with_interval(found.headline[names[0]]),
            gain,
            *(with_interval(found.headline[name]) for name in names[1:]),
            with_interval(found.headline[area]),
            *(with_interval(measures.get(name)) for name in AVERAGED),
        ]

    rows = _rows_beside_constant(cells, row)
    n, groups = cells[0].trained.found.n, cells[0].trained.found.groups
    said = (
        "A finding is called from the threshold on; an image is an exact match only if every "
        "finding is right. Of the Hamming loss, the share of single findings that are wrong, less "
        "is better. "
        if kind == "multi"
        else "The class with the highest probability is called. "
    )
    of = "" if counted == "images" else f" of {groups:,} {counted}"
    note = (
        f"{n:,} test images{of}, with 95 % intervals over {counted}. {said}"
        f"{_MEANS[average]} Classes without a test image are left out; the precision of a class "
        "that was never called counts 0. The gain over the constant answer is a paired difference "
        f"on the same resampled {counted}: an interval that holds 0 shows no gain. "
        f"{_undefined_told(rows)}"
    )
    return Table(TITLES["networks"], columns, rows, note=note.strip())


def averages_table(cells: Sequence[Compared], *, apart_from: Average = "macro") -> Table | None:
    """Return the averages that the main table does not show; None where none was measured."""
    single = cells[0].trained.found.kind == "single"
    kinds = [
        kind
        for kind in _MEANS
        if kind not in (apart_from, "micro" if single else "")
        and any(averaged(one.trained.found, kind).keys() >= set(AVERAGED) for one in cells)
    ]
    if not kinds:
        return None
    columns = ["Network", *(f"{upper(kind)} {name}" for kind in kinds for name in AVERAGED)]

    def row(label: str, found: Assessment, _: str) -> list[object]:
        measured = [averaged(found, kind).get(name) for kind in kinds for name in AVERAGED]
        return [label, *map(with_interval, measured)]

    rows = _rows_beside_constant(cells, row)
    note = " ".join(_MEANS[kind] for kind in kinds)
    if single:
        note += (
            " With one class per image micro precision, recall and F1 are all the accuracy, and so "
            "is weighted recall."
        )
    note += f" {_undefined_told(rows)}"
    return Table("The same with other averages", columns, rows, note=note.strip())


def classes_table(cells: Sequence[Compared]) -> Table:
    """Return the AUROC of each class for each network."""
    first = cells[0].trained.found
    rows: list[list[object]] = []
    for j, (name, support) in enumerate(zip(first.classes, first.support, strict=True)):
        areas = [with_interval(one.trained.found.per_class[j]["AUROC"]) for one in cells]
        rows.append([name, support, *areas])
    heading = "Finding" if first.kind == "multi" else "Class"
    note = (
        "Each against all others, with 95 % intervals; n/a where all or none of the test images "
        "have it."
    )
    columns = [heading, "Test images", *(one.trained.cell.label for one in cells)]
    return Table(f"AUROC of each {heading.lower()}", columns, rows, note=note)


def differences_table(cells: Sequence[Compared]) -> Table | None:
    """Return the paired differences between all pairs of networks; None for fewer than two.

    Accuracy and the mean AUROC have bootstrap intervals. AUROCs are tested by DeLong's method,
    class by class, patients kept together, and p is corrected for all tests of the table (Holm).
    """
    pairs = [
        (first, second)
        for first, second in itertools.combinations(cells, 2)
        if comparable(first.trained.found, second.trained.found)
    ]
    if not pairs:
        return None
    name, area = main_measure(cells[0].trained.found.kind), auroc_name(cells[0].trained.found)
    tests = [
        delong(first.trained.found, second.trained.found, groups_of(first.trained))
        for first, second in pairs
    ]
    adjusted = iter(holm([one.p for found in tests for one in found.values()]))
    rows: list[list[object]] = []
    for (first, second), found in zip(pairs, tests, strict=True):
        corrected = {each: next(adjusted) for each in found}
        if area == "AUROC" and found:
            (only,) = found.values()
            change = format_measured(only.difference, only.low, only.high)
        else:
            change = with_interval(difference(first.own, second.own, area))
        rows.append(
            [
                f"{first.trained.cell.label} less {second.trained.cell.label}",
                with_interval(difference(first.own, second.own, name)),
                change,
                _tested(corrected),
            ]
        )
    count = sum(len(found) for found in tests)
    how = "DeLong's" if area == "AUROC" else "resampled; DeLong's test is of each class by itself"
    note = (
        "Two-sided and paired: both networks on the same images. The interval of accuracy or exact "
        f"match is from resampled patients, that of AUROC {how}. Patients' images are kept "
        f"together, and p is corrected for the {count:,} tests of this table (Holm). An interval "
        "that holds 0, or p above 0.05, shows no difference; it does not show that there is none."
    )
    heading = "p of the AUROC (DeLong)" if area == "AUROC" else "Classes whose AUROC differs"
    columns = ["Difference", upper(name), upper(area), heading]
    return Table("Differences between networks", columns, rows, note=note)


def _tested(corrected: Mapping[str, float]) -> str:
    """Say which classes differ; of a single test only its p."""
    known = {name: p for name, p in corrected.items() if not math.isnan(p)}
    if not known:
        return UNDEFINED
    if len(corrected) == 1:
        return format_value(next(iter(known.values())))
    told = [f"{name} (p = {format_value(p)})" for name, p in known.items() if p < LEVEL]
    if told:
        return ", ".join(told)
    return f"none of {len(known)}; smallest p = {format_value(min(known.values()))}"


def arithmetic_table(cells: Sequence[Compared]) -> Table:
    """Return the check that no macro F1 exceeds what its precision and recall allow."""

    def row(label: str, found: Assessment, _: str) -> list[object]:
        bound = bound_of(found)
        holds = None if math.isnan(bound.f1) else bound.holds
        return [label, bound.precision, bound.recall, bound.most, bound.f1, holds]

    rows = _rows_beside_constant(cells, row)
    note = (
        "F1 of a class is the harmonic mean of its precision and recall, which is never above "
        "their arithmetic mean; so the mean over classes cannot exceed (macro precision + macro "
        "recall) / 2. A table where it does was not computed from one set of predictions; two "
        "values of the 2022 report are such. Nor can the F1 of macro precision and macro recall, "
        "which some papers call macro F1."
    )
    columns = [
        "Network",
        "Macro precision",
        "Macro recall",
        "Half their sum",
        "Macro F1",
        "Within it",
    ]
    return Table("A check by arithmetic", columns, rows, note=note)


def calls_table(cells: Sequence[Compared]) -> Table:
    """Return true and false positives and negatives of each finding for each network."""
    first = cells[0].trained
    constant = shared_constant(cells)
    shown = [(CONSTANT, constant.constant)] if constant else []
    shown += [(one.trained.cell.label, one.trained.found) for one in cells]
    counts = [counts_of_labels(found.truth, found.called) for _, found in shown]
    rows: list[list[object]] = []
    for j, (name, support) in enumerate(zip(first.found.classes, first.found.support, strict=True)):
        told = [
            f"{one.true_positives[j]:,} / {one.false_positives[j]:,} / "
            f"{one.false_negatives[j]:,} / {one.true_negatives[j]:,}"
            if has_scores(found)
            else UNDEFINED
            for one, (_, found) in zip(counts, shown, strict=True)
        ]
        rows.append([name, support, *told])
    return Table(
        "Right and wrong calls of each finding",
        ["Finding", "Test images", *(label for label, _ in shown)],
        rows,
        note="True positives / false positives / false negatives / true negatives.",
    )


def _rows_beside_constant(cells: Sequence[Compared], row: _Row) -> list[list[object]]:
    """Return the constant answer's row first, then one for each cell."""
    alike = shared_constant(cells)
    rows = [row(named(alike.constant), alike.constant, "0")] if alike else []
    for one in cells:
        if not alike:
            name = f"{CONSTANT} beside {one.trained.cell.label}"
            rows.append(row(name, one.trained.constant, "0"))
        label = one.trained.cell.label + (" (diverged)" if one.trained.note else "")
        rows.append(row(label, one.trained.found, with_interval(one.gain)))
    return rows


def named(constant: Assessment) -> str:
    """Return the constant answer's name in a table."""
    return f"{CONSTANT}: {answer_of(constant)}"


def _undefined_told(rows: Sequence[Sequence[object]]) -> str:
    return _UNDEFINED if any(UNDEFINED in row for row in rows) else ""
